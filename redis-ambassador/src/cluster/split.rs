//! Commands that concern several slots, or all of them.

use super::{Join, slot_of};
use crate::command::Request;
use crate::resp::write_multibulk;

/// One of the requests that a request is split into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it goes.
    pub slot: u16,
    /// Its bytes.
    pub frame: Vec<u8>,
}

/// Splits a request by slot, and says how the answers are joined. `None` for what one server has to do at once.
pub fn split(name: &str, request: &Request<'_>) -> Option<(Join, Vec<Part>)> {
    // Arguments per key.
    let step = match name {
        "mget" | "del" | "unlink" | "touch" | "exists" => 1,
        "mset" => 2,
        _ => return None,
    };
    if request.len() < 2 || !(request.len() - 1).is_multiple_of(step) {
        // The server says what is wrong with it.
        return None;
    }
    let mut groups: Vec<(u16, Vec<usize>)> = Vec::new();
    for (position, at) in (1..request.len()).step_by(step).enumerate() {
        let slot = slot_of(request.arg(at)?);
        match groups.iter_mut().find(|(known, _)| *known == slot) {
            Some((_, positions)) => positions.push(position),
            None => groups.push((slot, vec![position])),
        }
    }
    let parts = groups
        .iter()
        .map(|(slot, positions)| {
            let at =
                positions.iter().flat_map(|position| (0..step).map(move |more| 1 + position * step + more));
            let words: Vec<&[u8]> = std::iter::once(0).chain(at).filter_map(|at| request.arg(at)).collect();
            let mut frame = Vec::new();
            write_multibulk(&mut frame, words.into_iter());
            Part { slot: *slot, frame }
        })
        .collect();
    let join = match name {
        "mget" => Join::Place(groups.into_iter().map(|(_, positions)| positions).collect()),
        "mset" => Join::First,
        _ => Join::Sum,
    };
    Some((join, parts))
}

/// A command that is about every primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Everywhere {
    /// Its answers are added.
    Sum,
    /// Its answers are all the same.
    First,
    /// Any answer will do that says something.
    FirstFound,
    /// Its answers are put one behind the other.
    Concat,
    /// One server after the other, as the cursor says.
    Scan,
}

/// Whether a command (lower case, `container|sub`) is about the whole keyspace or about every server.
pub fn everywhere(name: &str) -> Option<Everywhere> {
    Some(match name {
        "dbsize" => Everywhere::Sum,
        "keys" => Everywhere::Concat,
        "randomkey" => Everywhere::FirstFound,
        "scan" => Everywhere::Scan,
        "flushall" | "flushdb" | "script|load" | "script|flush" | "function|load" | "function|delete"
        | "function|flush" | "function|restore" | "config|set" | "config|resetstat" | "config|rewrite" => {
            Everywhere::First
        }
        _ => return None,
    })
}

/// Bits of a cluster-wide cursor that are a server's own cursor; above them stands the server's number plus one.
pub(super) const CURSOR_BITS: u32 = 48;

/// The server that a cursor belongs to, and that server's own cursor.
pub fn scan_cursor(cursor: u64, primaries: &[usize]) -> Option<(usize, u64)> {
    match cursor {
        0 => Some((*primaries.first()?, 0)),
        cursor => {
            let server = usize::try_from(cursor >> CURSOR_BITS).ok()?.checked_sub(1)?;
            let own = cursor & ((1 << CURSOR_BITS) - 1);
            match primaries.contains(&server) {
                true => Some((server, own)),
                // That server is no longer a primary: its keys are with another, which is scanned from the start.
                false => Some((*primaries.iter().find(|known| **known > server).or(primaries.last())?, 0)),
            }
        }
    }
}

/// How the answer of one server to `SCAN` is told on.
pub fn scan_next(server: usize, primaries: &[usize]) -> Join {
    let at = |server: usize| (server as u64 + 1) << CURSOR_BITS;
    let next = primaries.iter().find(|known| **known > server).map_or(0, |next| at(*next));
    Join::Scan { base: at(server), next }
}
