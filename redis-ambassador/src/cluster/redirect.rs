//! What a node says when it does not run a command because of where the data is.

use crate::resp::parse_integer;

/// An error that proves that nothing was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirect<'a> {
    /// The slot belongs to another node for good.
    Moved(u16, &'a str, u16),
    /// This key may have moved already; ask there, this once.
    Ask(u16, &'a str, u16),
    /// Some of the keys have moved and some have not, or the slot has no owner at the moment.
    Later,
}

impl<'a> Redirect<'a> {
    /// Reads an error line. The host may be empty, which is the host of the node that said it.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        if line.starts_with(b"-TRYAGAIN") || line.starts_with(b"-CLUSTERDOWN") {
            return Some(Self::Later);
        }
        if !line.starts_with(b"-MOVED ") && !line.starts_with(b"-ASK ") {
            return None;
        }
        let mut words = std::str::from_utf8(line).ok()?.trim_end().split(' ');
        let kind = words.next()?;
        let slot = u16::try_from(parse_integer(words.next()?.as_bytes())?).ok()?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        let port = port.parse().ok()?;
        if slot >= super::SLOTS {
            return None;
        }
        Some(if kind == "-MOVED" { Self::Moved(slot, host, port) } else { Self::Ask(slot, host, port) })
    }
}
