//! One answer made of several.

use super::{Naming, info};
use crate::resp::{ReplyFramer, parse_integer};

/// How answers become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Join {
    /// The sum of integers.
    Sum,
    /// The least of integers.
    Least,
    /// The first of them, when all are good.
    First,
    /// The first that is not nil.
    FirstFound,
    /// The first that is no error.
    FirstGood,
    /// One array of all elements.
    Concat,
    /// One text with the counters of all (`INFO`).
    Info,
    /// One text with the connections of all (`CLIENT LIST`), each part's named in its way.
    Clients(Vec<Naming>),
    /// This, when all are good.
    Instead(Vec<u8>),
    /// One array with each part's elements at the positions given.
    Place(Vec<Vec<usize>>),
    /// `SCAN` on one server: the cursor tells where to go on. Holds what to tell when this server is done.
    Scan {
        /// Added to the server's own cursor.
        base: u64,
        /// The cursor with which the next server begins; 0 when this is the last.
        next: u64,
    },
}

/// Answers that have come so far.
#[derive(Debug)]
pub struct Joined {
    join: Join,
    parts: Vec<Vec<u8>>,
    missing: usize,
}

impl Joined {
    /// Waits for so many answers.
    pub fn new(join: Join, parts: usize) -> Self {
        Self { join, parts: vec![Vec::new(); parts], missing: parts }
    }

    /// More of one answer; true when it completes the last one that was missing.
    pub fn push(&mut self, part: usize, bytes: &[u8], done: bool) -> bool {
        if let Some(known) = self.parts.get_mut(part) {
            known.extend_from_slice(bytes);
        }
        self.missing = self.missing.saturating_sub(usize::from(done));
        done && self.missing == 0
    }

    /// One of the answers is to be asked for again. Returns how many bytes of it are dropped.
    pub fn restart(&mut self, part: usize) -> usize {
        self.parts.get_mut(part).map_or(0, |known| std::mem::take(known).len())
    }

    /// Bytes of the answers that have come.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Vec::len).sum()
    }

    /// Whether something in the answer so far is missing where it was looked for.
    pub fn has_nil(&self, part: usize, last: &[u8]) -> bool {
        let Some(known) = self.parts.get(part) else { return false };
        let whole = [known, last].concat();
        let Some(elements) = elements(&whole) else { return false };
        elements.iter().any(|element| element.starts_with(b"$-1") || element.starts_with(b"_"))
    }

    /// The one answer: the first error there is, or what the parts make together.
    pub fn finish(&self) -> Vec<u8> {
        let is_error = |part: &&Vec<u8>| part.starts_with(b"-");
        let any_will_do = self.join == Join::FirstGood && !self.parts.iter().all(|part| is_error(&part));
        if let Some(error) = self.parts.iter().find(is_error).filter(|_| !any_will_do) {
            return error.clone();
        }
        self.make().unwrap_or_else(|| b"-ERR servers gave answers that do not fit together\r\n".to_vec())
    }

    fn make(&self) -> Option<Vec<u8>> {
        let first = self.parts.first()?;
        match &self.join {
            Join::First => Some(first.clone()),
            Join::FirstGood => self.parts.iter().find(|part| !part.starts_with(b"-")).cloned(),
            Join::Info => Some(info::join(&self.parts).unwrap_or_else(|| first.clone())),
            Join::Instead(answer) => Some(answer.clone()),
            Join::Clients(namings) => {
                let parts = self.parts.iter().zip(namings);
                let lists = parts.map(|(part, naming)| Some(naming.rename(info::text(part)?)));
                Some(info::in_kind(first, &lists.collect::<Option<String>>()?))
            }
            Join::FirstFound => {
                let found = self.parts.iter().find(|part| !is_nothing(part));
                Some(found.unwrap_or(first).clone())
            }
            Join::Sum | Join::Least => {
                let number = |part: &Vec<u8>| parse_integer(part.strip_prefix(b":")?.strip_suffix(b"\r\n")?);
                let numbers = self.parts.iter().map(number).collect::<Option<Vec<i64>>>()?;
                let joined = match self.join {
                    Join::Sum => numbers.into_iter().try_fold(0, i64::checked_add)?,
                    _ => numbers.into_iter().min()?,
                };
                Some(format!(":{joined}\r\n").into_bytes())
            }
            Join::Concat => {
                let parts = self.parts.iter().map(|part| elements(part)).collect::<Option<Vec<_>>>()?;
                Some(array(parts.concat().into_iter()))
            }
            Join::Place(positions) => {
                let count = positions.iter().map(Vec::len).sum();
                let mut placed: Vec<&[u8]> = vec![&[]; count];
                for (part, positions) in self.parts.iter().zip(positions) {
                    let elements = elements(part)?;
                    if elements.len() != positions.len() {
                        return None;
                    }
                    for (element, at) in elements.into_iter().zip(positions) {
                        *placed.get_mut(*at)? = element;
                    }
                }
                Some(array(placed.into_iter()))
            }
            Join::Scan { base, next } => {
                let [cursor, found] = elements(first)?.try_into().ok()?;
                let digits = cursor.splitn(2, |byte| *byte == b'\n').nth(1)?.strip_suffix(b"\r\n")?;
                let cursor = match std::str::from_utf8(digits).ok()?.parse::<u64>().ok()? {
                    0 => *next,
                    // More keys than fit beside the server's number are not known to exist.
                    cursor if cursor >> super::split::CURSOR_BITS != 0 => return None,
                    cursor => base | cursor,
                }
                .to_string();
                let cursor = format!("${}\r\n{cursor}\r\n", cursor.len()).into_bytes();
                Some(array([cursor.as_slice(), found].into_iter()))
            }
        }
    }
}

/// Whether an answer says that there is nothing: nil, an empty collection, zero.
pub(crate) fn is_nothing(answer: &[u8]) -> bool {
    const NOTHING: [&[u8]; 10] = [
        b"$-1\r\n",
        b"*-1\r\n",
        b"_\r\n",
        b"*0\r\n",
        b"%0\r\n",
        b"~0\r\n",
        b":0\r\n",
        b":-2\r\n",
        b"$0\r\n\r\n",
        b"+none\r\n",
    ];
    NOTHING.contains(&answer)
}

fn array<'a>(elements: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = format!("*{}\r\n", elements.len()).into_bytes();
    elements.for_each(|element| out.extend_from_slice(element));
    out
}

/// The elements of an array or set that is there as a whole.
fn elements(answer: &[u8]) -> Option<Vec<&[u8]>> {
    if !matches!(answer.first()?, b'*' | b'~') {
        return None;
    }
    let end = memchr::memmem::find(answer, b"\r\n")?;
    let count = usize::try_from(parse_integer(&answer[1..end])?).ok()?;
    let mut rest = &answer[end + 2..];
    // Each element has at least three bytes, so a claimed count allocates nothing that is not there.
    let mut found = Vec::with_capacity(count.min(rest.len() / 3));
    for _ in 0..count {
        let mut framer = ReplyFramer::new();
        let chunk = framer.advance(rest).ok().filter(|chunk| chunk.done)?;
        found.push(&rest[..chunk.taken]);
        rest = &rest[chunk.taken..];
    }
    rest.is_empty().then_some(found)
}
