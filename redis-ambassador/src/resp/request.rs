//! Requests: arrays of bulk strings, or inline lines.

use super::integer;
use memchr::memchr;

/// What one request may claim. The defaults are Redis's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimits {
    /// Most arguments of one request.
    pub max_args: usize,
    /// Longest argument, in bytes.
    pub max_bulk: u64,
    /// Longest request, all its arguments and their headers together, in bytes.
    pub max_request: u64,
    /// Longest inline request or header line, in bytes.
    pub max_line: usize,
}

impl RequestLimits {
    /// What a client may claim before it has authenticated itself; the numbers are Redis's own.
    #[must_use]
    pub fn of_strangers(self) -> Self {
        Self { max_args: self.max_args.min(10), max_bulk: self.max_bulk.min(16 << 10), ..self }
    }
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self { max_args: 1024 * 1024, max_bulk: 512 * 1024 * 1024, max_request: 1 << 30, max_line: 64 * 1024 }
    }
}

/// Where an argument lies, in bytes from the start of its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arg {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Arg {
    /// The argument's bytes within its frame.
    pub fn of(self, frame: &[u8]) -> &[u8] {
        &frame[self.start..self.end]
    }
}

/// What [`RequestFramer::advance`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The frame goes on beyond the bytes given.
    Incomplete,
    /// A request of this many bytes; its arguments are in [`RequestFramer::args`].
    Request(usize),
    /// An inline line of this many bytes, line end included.
    Inline(usize),
    /// This many bytes that mean nothing and get no answer (`*0`, `*-1`).
    Nothing(usize),
}

/// Why a request cannot be understood. The text is Redis's own; the connection has to be closed after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The line after `*` is not an acceptable count.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// An argument does not start with `$`.
    #[error("Protocol error: expected '$', got '{}'", printable(*.0))]
    ExpectedDollar(u8),
    /// The line after `$` is not an acceptable length.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// More than [`RequestLimits::max_request`]. Redis closes the connection without a word.
    #[error("Protocol error: too big request")]
    RequestTooBig,
    /// An argument is not followed by CR LF, or a header line is not ended by it.
    #[error("Protocol error: expected CRLF")]
    ExpectedCrlf,
    /// No line end within [`RequestLimits::max_line`].
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    /// An inline request opens a quote and never closes it.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

fn printable(byte: u8) -> char {
    if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    /// A bulk header is expected next.
    Header,
    /// This many bytes of a bulk and its CR LF are still to come.
    Bulk(u64),
}

/// Finds request boundaries in a growing buffer.
///
/// Call [`advance`](Self::advance) with everything from the frame's start on, each time more has arrived; it goes on
/// where it stopped. After a finished frame, [`reset`](Self::reset) and pass the bytes that follow it.
#[derive(Debug)]
pub struct RequestFramer {
    limits: RequestLimits,
    phase: Phase,
    scanned: usize,
    /// Bytes of this frame that were let go of.
    passed: u64,
    args_left: usize,
    args: Vec<Arg>,
    discarded: bool,
}

/// More argument slots than this are not kept between requests.
const KEPT_ARGS: usize = 64;

impl RequestFramer {
    /// A framer at the start of a connection.
    pub fn new(limits: RequestLimits) -> Self {
        Self {
            limits,
            phase: Phase::Start,
            scanned: 0,
            passed: 0,
            args_left: 0,
            args: Vec::new(),
            discarded: false,
        }
    }

    /// What the next frames may claim.
    pub fn set_limits(&mut self, limits: RequestLimits) {
        self.limits = limits;
    }

    /// The complete arguments found so far, relative to the frame's start.
    pub fn args(&self) -> &[Arg] {
        &self.args
    }

    /// Bytes known to be missing until the argument being read is complete; 0 when not inside one.
    pub fn missing(&self) -> u64 {
        match self.phase {
            Phase::Bulk(left) => left,
            _ => 0,
        }
    }

    /// True while a frame has begun and not ended.
    pub fn in_frame(&self) -> bool {
        self.phase != Phase::Start
    }

    /// Forgets the finished frame.
    pub fn reset(&mut self) {
        self.phase = Phase::Start;
        self.scanned = 0;
        self.passed = 0;
        self.args_left = 0;
        self.discarded = false;
        if self.args.capacity() > KEPT_ARGS {
            self.args = Vec::new();
        } else {
            self.args.clear();
        }
    }

    /// The arguments of the finished frame, to be given back with [`take_back`](Self::take_back) before anything else.
    #[inline]
    pub fn lend_args(&mut self) -> Vec<Arg> {
        std::mem::take(&mut self.args)
    }

    /// Forgets the finished frame, and keeps the memory of its arguments.
    #[inline]
    pub fn take_back(&mut self, args: Vec<Arg>) {
        self.args = args;
        self.reset();
    }

    /// Lets go of the bytes looked at so far, for a frame that is passed on before it is complete, and returns how
    /// many they are. The next [`advance`](Self::advance) gets only what follows them. Arguments are no longer
    /// recorded.
    pub fn discard_scanned(&mut self) -> usize {
        self.discarded = true;
        self.args = Vec::new();
        self.passed += self.scanned as u64;
        std::mem::take(&mut self.scanned)
    }

    /// Looks at `buf`, which begins where the frame begins (or where the discarded part of it ended).
    ///
    /// # Errors
    /// [`ProtocolError`] when no further byte could make this a request. The framer must not be used afterwards.
    #[inline]
    pub fn advance(&mut self, buf: &[u8]) -> Result<Step, ProtocolError> {
        if self.phase == Phase::Start {
            match buf.first() {
                None => return Ok(Step::Incomplete),
                Some(b'*') => match self.begin(buf)? {
                    Step::Request(_) => {}
                    other => return Ok(other),
                },
                Some(_) => return self.inline(buf),
            }
        }
        self.bulks(buf)
    }

    fn begin(&mut self, buf: &[u8]) -> Result<Step, ProtocolError> {
        let Some((count, end)) = number(buf, 1, ProtocolError::MultibulkLength)? else {
            return Ok(Step::Incomplete);
        };
        if count <= 0 {
            return Ok(Step::Nothing(end));
        }
        let count = usize::try_from(count).map_err(|_| ProtocolError::MultibulkLength)?;
        if count > self.limits.max_args {
            return Err(ProtocolError::MultibulkLength);
        }
        self.args_left = count;
        self.phase = Phase::Header;
        self.scanned = end;
        Ok(Step::Request(0))
    }

    fn bulks(&mut self, buf: &[u8]) -> Result<Step, ProtocolError> {
        loop {
            match self.phase {
                Phase::Bulk(left) => {
                    let there = (buf.len() - self.scanned) as u64;
                    if there < left {
                        // With the CR there, only the LF is missing.
                        if left - there == 1 && there > 0 && buf[buf.len() - 1] != b'\r' {
                            return Err(ProtocolError::ExpectedCrlf);
                        }
                        self.scanned = buf.len();
                        self.phase = Phase::Bulk(left - there);
                        return Ok(Step::Incomplete);
                    }
                    self.scanned += left as usize;
                    if buf[self.scanned - 1] != b'\n' || (left > 1 && buf[self.scanned - 2] != b'\r') {
                        return Err(ProtocolError::ExpectedCrlf);
                    }
                    self.phase = Phase::Header;
                    self.args_left -= 1;
                }
                Phase::Header | Phase::Start => {
                    if self.args_left == 0 {
                        return Ok(Step::Request(self.scanned));
                    }
                    match buf.get(self.scanned) {
                        None => return Ok(Step::Incomplete),
                        Some(b'$') => {}
                        Some(&other) => return Err(ProtocolError::ExpectedDollar(other)),
                    }
                    let Some((length, end)) = number(buf, self.scanned + 1, ProtocolError::BulkLength)?
                    else {
                        return Ok(Step::Incomplete);
                    };
                    let length = u64::try_from(length)
                        .ok()
                        .filter(|&length| length <= self.limits.max_bulk)
                        .ok_or(ProtocolError::BulkLength)?;
                    if self.passed + end as u64 + length + 2 > self.limits.max_request {
                        return Err(ProtocolError::RequestTooBig);
                    }
                    if !self.discarded {
                        self.args.push(Arg { start: end, end: end + length as usize });
                    }
                    self.scanned = end;
                    self.phase = Phase::Bulk(length + 2);
                }
            }
        }
    }

    fn inline(&mut self, buf: &[u8]) -> Result<Step, ProtocolError> {
        match memchr(b'\n', &buf[self.scanned..]) {
            Some(at) if self.scanned + at < self.limits.max_line => Ok(Step::Inline(self.scanned + at + 1)),
            None if buf.len() < self.limits.max_line => {
                self.scanned = buf.len();
                Ok(Step::Incomplete)
            }
            _ => Err(ProtocolError::InlineTooBig),
        }
    }

    /// The arguments that have wholly arrived, for a frame that has not.
    pub fn complete_args(&self) -> &[Arg] {
        match self.phase {
            Phase::Bulk(_) => self.args.split_last().map_or(&[], |(_, complete)| complete),
            _ => &self.args,
        }
    }
}

/// The number between `from` and its CR LF, and the position behind that. Anything else there is `error`.
#[inline]
fn number(buf: &[u8], from: usize, error: ProtocolError) -> Result<Option<(i64, usize)>, ProtocolError> {
    // Nearly all have one or two digits.
    match *buf.get(from..).unwrap_or_default() {
        [ones @ b'0'..=b'9', b'\r', b'\n', ..] => return Ok(Some((i64::from(ones - b'0'), from + 3))),
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n', ..] => {
            return Ok(Some((i64::from(tens - b'0') * 10 + i64::from(ones - b'0'), from + 4)));
        }
        _ => {}
    }
    let Some((line, end)) = header(buf, from, error)? else { return Ok(None) };
    Ok(Some((integer::parse(line).ok_or(error)?, end)))
}

/// A number line between `from` and its CR LF, and the position behind that. Longer than any number is `error`.
fn header(buf: &[u8], from: usize, error: ProtocolError) -> Result<Option<(&[u8], usize)>, ProtocolError> {
    /// The longest acceptable number has 18 digits and a sign.
    const LONGEST: usize = 20;
    let window = &buf[from..buf.len().min(from + LONGEST)];
    match window.iter().position(|&byte| byte == b'\r') {
        None if window.len() == LONGEST => Err(error),
        None => Ok(None),
        Some(at) => match buf.get(from + at + 1) {
            None => Ok(None),
            Some(b'\n') => Ok(Some((&window[..at], from + at + 2))),
            Some(_) => Err(ProtocolError::ExpectedCrlf),
        },
    }
}
