//! What a command does and where its keys are.
//!
//! The table comes from the server itself (`COMMAND`, see [`Table`]), so that modules and later
//! versions are known; [`Table::builtin`] stands in until a server has answered. Whatever the table does not say to
//! be a read is taken for a write.

mod builtin;
mod kind;
mod table;
#[cfg(test)]
pub(crate) mod tests;

pub use kind::Kind;
pub use table::{Begin, Command, Find, Flags, KeySpec, Table};

use crate::resp::{Arg, parse_integer};

/// One request, as the framer found it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    frame: &'a [u8],
    args: &'a [Arg],
}

impl<'a> Request<'a> {
    /// A request with at least one argument, its name.
    pub fn new(frame: &'a [u8], args: &'a [Arg]) -> Self {
        Self { frame, args }
    }

    /// Number of arguments, the name included.
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Never true for a framed request.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// Argument `index`; 0 is the name.
    pub fn arg(&self, index: usize) -> Option<&'a [u8]> {
        self.args.get(index).map(|arg| arg.of(self.frame))
    }

    /// The command's name as written.
    pub fn name(&self) -> &'a [u8] {
        self.arg(0).unwrap_or_default()
    }

    /// Whether argument `index` is `word` (in capitals), whatever its case.
    pub fn is(&self, index: usize, word: &str) -> bool {
        self.arg(index).is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
    }

    fn has_after(&self, from: usize, words: &[&str]) -> bool {
        (from..self.len()).any(|index| words.iter().any(|word| self.is(index, word)))
    }
}

/// What a request may do to the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Reads only the keys it names: any server that is fresh enough may answer.
    Read,
    /// Changes no data, but its answer depends on the server (keyspace order, encodings, clocks, the server
    /// itself): the primary answers.
    PrimaryRead,
    /// May change data, or is not known.
    Write,
}

/// Everything routing has to know about one request.
#[derive(Debug, Clone, Copy)]
pub struct Classified<'t> {
    /// The table's entry; `None` for a command nobody has declared.
    pub command: Option<&'t Command>,
    /// What needs more than forwarding.
    pub kind: Kind,
    /// What it may do.
    pub effect: Effect,
    /// Whether it may wait on the server for other clients.
    pub blocks: bool,
}

impl Table {
    /// Classifies a request. `request` may be a frame's beginning, as long as the name is complete.
    #[inline]
    pub fn classify(&self, request: &Request<'_>) -> Classified<'_> {
        let Some(command) = self.find(request.name()) else {
            // Redis 7.0 does not list QUIT.
            let kind = if request.is(0, "QUIT") { Kind::Quit } else { Kind::Plain };
            return Classified { command: None, kind, effect: Effect::Write, blocks: false };
        };
        let command = match (command.has_subcommands(), request.arg(1)) {
            (true, Some(word)) => command.subcommand(word).unwrap_or(command),
            _ => command,
        };
        if command.kind == Kind::Plain {
            return Classified {
                command: Some(command),
                kind: Kind::Plain,
                effect: command.effect,
                blocks: command.flags.blocking,
            };
        }
        let (effect, blocks) = by_arguments(command, request);
        Classified { command: Some(command), kind: command.kind, effect, blocks }
    }
}

/// The commands whose effect depends on their arguments.
fn by_arguments(command: &Command, request: &Request<'_>) -> (Effect, bool) {
    let blocks = command.flags.blocking;
    match command.kind {
        // BY and GET read keys that the request does not name.
        Kind::Sort if request.has_after(2, &["STORE"]) => (Effect::Write, blocks),
        Kind::Sort if request.has_after(2, &["BY", "GET"]) => (Effect::PrimaryRead, blocks),
        Kind::Sort => (Effect::Read, blocks),
        Kind::GeoRadius if request.has_after(5, &["STORE", "STOREDIST"]) => (Effect::Write, blocks),
        Kind::GeoRadius => (Effect::Read, blocks),
        Kind::Bitfield => {
            let reads = (2..request.len()).step_by(3).all(|at| request.is(at, "GET"));
            (if reads { Effect::Read } else { Effect::Write }, blocks)
        }
        Kind::StreamRead => {
            let blocks = request.has_after(1, &["BLOCK"]);
            (if blocks { Effect::PrimaryRead } else { command.effect }, blocks)
        }
        _ => (command.effect, blocks),
    }
}

/// Calls `visit` with every key that `request` names and says whether those are all it can touch.
pub fn visit_keys<'a>(command: &Command, request: &Request<'a>, mut visit: impl FnMut(&'a [u8])) -> bool {
    if let Some(index) = command.only_key {
        return request.arg(index).map(&mut visit).is_some();
    }
    let mut complete = !command.specs.is_empty();
    for spec in &command.specs {
        complete &= !spec.incomplete && visit_spec(spec, request, &mut visit).is_some();
    }
    complete
}

/// `None` when the specification cannot be applied to these arguments.
fn visit_spec<'a>(spec: &KeySpec, request: &Request<'a>, visit: &mut impl FnMut(&'a [u8])) -> Option<()> {
    let len = request.len();
    let first = match &spec.begin {
        Begin::Index(index) => *index,
        Begin::Keyword { word, from } => match find_keyword(request, word, *from) {
            Some(at) => at + 1,
            // An optional keyword that is absent names no keys.
            None => return Some(()),
        },
        Begin::Unknown => return None,
    };
    let (first, last, step) = match spec.find {
        Find::Range { last, step, limit } => {
            let last = match last {
                // Counted from the end; with a limit, only that part of what remains is keys.
                -1 if limit >= 2 => first + (len.checked_sub(first)? / limit).checked_sub(1)?,
                last if last < 0 => len.checked_sub(last.unsigned_abs() as usize)?,
                last => first.checked_add(last as usize)?,
            };
            (first, last, step)
        }
        Find::Counted { count, first: offset, step } => {
            let keys = usize::try_from(parse_integer(request.arg(first.checked_add(count)?)?)?).ok()?;
            if keys == 0 {
                return None;
            }
            let start = first.checked_add(offset)?;
            (start, start.checked_add((keys - 1).checked_mul(step)?)?, step)
        }
        Find::Unknown => return None,
    };
    if last >= len || first > last {
        return None;
    }
    for index in (first..=last).step_by(step.max(1)) {
        visit(request.arg(index)?);
    }
    Some(())
}

fn find_keyword(request: &Request<'_>, word: &str, from: i32) -> Option<usize> {
    let len = request.len();
    if from >= 0 {
        (from as usize..len).find(|&index| request.is(index, word))
    } else {
        let start = len.checked_sub(from.unsigned_abs() as usize)?;
        (1..=start).rev().find(|&index| request.is(index, word))
    }
}
