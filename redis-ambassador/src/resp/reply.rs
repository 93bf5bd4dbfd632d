//! Replies: any RESP2 or RESP3 value, of any size.

use super::integer;
use memchr::memchr;

/// Why a server's bytes are not a reply. The connection cannot be used any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The byte that should name a type does not.
    #[error("reply starts with byte 0x{0:02x}, which is no RESP type")]
    UnknownType(u8),
    /// A length or count is not a number in range.
    #[error("reply has an invalid length or count")]
    Length,
    /// A line or bulk is not ended by CR LF.
    #[error("reply is not ended by CRLF")]
    ExpectedCrlf,
    /// A line is longer than [`MAX_LINE`] bytes.
    #[error("reply line exceeds {MAX_LINE} bytes")]
    LineTooLong,
    /// Streamed aggregates are nested deeper than [`MAX_STREAMED_DEPTH`].
    #[error("streamed reply is nested deeper than {MAX_STREAMED_DEPTH}")]
    TooDeep,
    /// An end marker or chunk stands where none may.
    #[error("reply has a stray stream marker")]
    StrayMarker,
}

/// Longest simple string, error or number, in bytes. Anything longer comes as a bulk string.
pub const MAX_LINE: usize = 1024 * 1024;
/// Nesting bound of RESP3 aggregates of unknown length. Counted aggregates need no bound: only their sum is kept.
pub const MAX_STREAMED_DEPTH: usize = 32;
/// More elements than this in one reply are refused.
const MAX_ELEMENTS: u64 = 1 << 40;
const MAX_BULK: i64 = 1 << 40;

/// What [`ReplyFramer::advance`] took from the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Bytes of the current reply that may be passed on now.
    pub taken: usize,
    /// Whether the reply ends with them.
    pub done: bool,
}

/// Finds the end of replies in a stream, without waiting for the whole of one.
///
/// Counted aggregates are tracked by one number, the elements still to come, so that depth costs nothing.
#[derive(Debug, Default)]
pub struct ReplyFramer {
    /// Elements still to come; 0 between replies.
    elements: u64,
    /// Bytes of a bulk and its CR LF still to come.
    bulk: u64,
    /// Inside a `$?` string.
    chunked: bool,
    /// For each open `*?`-like aggregate the count outside it.
    streamed: Vec<u64>,
    push: bool,
}

/// What is counted while inside an aggregate of unknown length: never reaches zero.
const UNTIL_MARKER: u64 = u64::MAX / 2;

impl ReplyFramer {
    /// A framer between two replies.
    pub fn new() -> Self {
        Self::default()
    }

    /// True when a reply has begun and not ended.
    pub fn in_reply(&self) -> bool {
        self.elements != 0
    }

    /// Whether the reply being read, or the one that just ended, is a RESP3 push (out of band).
    pub fn is_push(&self) -> bool {
        self.push
    }

    /// Takes as much of the current reply as `buf` has, up to the reply's end.
    ///
    /// An incomplete line is not taken: pass it again with what follows.
    ///
    /// # Errors
    /// [`ReplyError`] when the bytes are no reply. The framer must not be used afterwards.
    #[inline]
    pub fn advance(&mut self, buf: &[u8]) -> Result<Chunk, ReplyError> {
        let mut at = 0;
        if self.elements == 0 {
            let Some(&first) = buf.first() else { return Ok(Chunk { taken: 0, done: false }) };
            // Nothing of a reply is taken before its first line is complete, so the type is seen only once.
            let Some((text, end)) = typed_line(buf, first)? else {
                return Ok(Chunk { taken: 0, done: false });
            };
            self.push = first == b'>';
            self.elements = 1;
            self.take_line(first, text)?;
            at = end;
        }
        while self.elements != 0 {
            if self.bulk != 0 {
                at += self.take_bulk(&buf[at..])?;
                if self.bulk != 0 {
                    return Ok(Chunk { taken: at, done: false });
                }
                continue;
            }
            match self.take_header(&buf[at..])? {
                0 => return Ok(Chunk { taken: at, done: false }),
                taken => at += taken,
            }
        }
        Ok(Chunk { taken: at, done: true })
    }

    fn take_bulk(&mut self, buf: &[u8]) -> Result<usize, ReplyError> {
        let there = buf.len() as u64;
        if there < self.bulk {
            // With the CR there, only the LF is missing.
            if self.bulk - there == 1 && buf.last().is_some_and(|last| *last != b'\r') {
                return Err(ReplyError::ExpectedCrlf);
            }
            self.bulk -= there;
            return Ok(buf.len());
        }
        let end = self.bulk as usize;
        if buf[end - 1] != b'\n' || (end > 1 && buf[end - 2] != b'\r') {
            return Err(ReplyError::ExpectedCrlf);
        }
        self.bulk = 0;
        if !self.chunked {
            self.element_done();
        }
        Ok(end)
    }

    fn element_done(&mut self) {
        self.elements -= 1;
    }

    /// Takes one type byte and its line; 0 when the line is incomplete.
    fn take_header(&mut self, buf: &[u8]) -> Result<usize, ReplyError> {
        let Some(&kind) = buf.first() else { return Ok(0) };
        if self.chunked {
            let Some((text, end)) = line(buf, 1)? else { return Ok(0) };
            return self.take_chunk_header(kind, text, end);
        }
        let Some((text, end)) = typed_line(buf, kind)? else { return Ok(0) };
        self.take_line(kind, text)?;
        Ok(end)
    }

    #[inline]
    fn take_line(&mut self, kind: u8, text: &[u8]) -> Result<(), ReplyError> {
        match kind {
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => self.element_done(),
            b'$' | b'!' | b'=' => match text {
                b"?" if kind == b'$' => self.chunked = true,
                _ => match length(text, MAX_BULK)? {
                    Some(length) => self.bulk = length + 2,
                    None => self.element_done(),
                },
            },
            b'*' | b'~' | b'>' | b'%' | b'|' => self.take_aggregate(kind, text)?,
            b'.' => self.elements = self.streamed.pop().ok_or(ReplyError::StrayMarker)? - 1,
            other => return Err(ReplyError::UnknownType(other)),
        }
        Ok(())
    }

    fn take_aggregate(&mut self, kind: u8, text: &[u8]) -> Result<(), ReplyError> {
        if text == b"?" && matches!(kind, b'*' | b'~' | b'%') {
            if self.streamed.len() == MAX_STREAMED_DEPTH {
                return Err(ReplyError::TooDeep);
            }
            self.streamed.push(self.elements);
            self.elements = UNTIL_MARKER;
            return Ok(());
        }
        let count = length(text, MAX_ELEMENTS as i64)?.unwrap_or(0);
        let inside = if matches!(kind, b'%' | b'|') { count * 2 } else { count };
        // An attribute stands before an element and is none itself.
        let own = u64::from(kind != b'|');
        let elements = self.elements - own + inside;
        let base = if self.streamed.is_empty() { 0 } else { UNTIL_MARKER };
        if elements.saturating_sub(base) > MAX_ELEMENTS {
            return Err(ReplyError::Length);
        }
        self.elements = elements;
        Ok(())
    }

    fn take_chunk_header(&mut self, kind: u8, text: &[u8], end: usize) -> Result<usize, ReplyError> {
        if kind != b';' {
            return Err(ReplyError::StrayMarker);
        }
        match length(text, MAX_BULK)? {
            None => return Err(ReplyError::Length),
            Some(0) => {
                self.chunked = false;
                self.element_done();
            }
            Some(length) => self.bulk = length + 2,
        }
        Ok(end)
    }
}

/// The line behind a type byte. What is of no type is refused at once: its line may never end.
#[inline]
fn typed_line(buf: &[u8], kind: u8) -> Result<Option<(&[u8], usize)>, ReplyError> {
    match line(buf, 1) {
        Ok(Some(found)) => Ok(Some(found)),
        _ if !b"+-:_#,($!=*~>%|.".contains(&kind) => Err(ReplyError::UnknownType(kind)),
        other => other,
    }
}

/// The text between `from` and CR LF, and the position behind it.
#[inline]
fn line(buf: &[u8], from: usize) -> Result<Option<(&[u8], usize)>, ReplyError> {
    let text = &buf[from.min(buf.len())..];
    // Most lines are a few digits: look at those by hand before calling the vectorised search.
    let near = &text[..text.len().min(8)];
    let found = near.iter().position(|&byte| byte == b'\r').or_else(|| memchr(b'\r', text));
    match found {
        Some(at) if at <= MAX_LINE => match text.get(at + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(Some((&text[..at], from + at + 2))),
            Some(_) => Err(ReplyError::ExpectedCrlf),
        },
        None if text.len() <= MAX_LINE => Ok(None),
        _ => Err(ReplyError::LineTooLong),
    }
}

/// A length; `None` for the null `-1`.
fn length(text: &[u8], max: i64) -> Result<Option<u64>, ReplyError> {
    match integer::parse(text) {
        Some(-1) => Ok(None),
        Some(length) if (0..=max).contains(&length) => Ok(Some(length as u64)),
        _ => Err(ReplyError::Length),
    }
}
