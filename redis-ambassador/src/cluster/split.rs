//! Commands that concern several slots, or all of them.

use super::{Join, SLOTS, slot_of};
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
    /// Any answer will do that is no error.
    FirstGood,
    /// Its answers are put one behind the other.
    Concat,
    /// Its answers are texts with counters.
    Info,
    /// One server after the other, as the cursor says.
    Scan,
}

/// Whether a command (its name in lower case, `container|sub`) is about the whole keyspace or about every server.
pub fn everywhere(name: &str, request: &Request<'_>) -> Option<Everywhere> {
    /// Of `DEBUG`: what changes how a server behaves, or concerns all that it holds.
    const OF_SERVERS: [&str; 5] =
        ["SET-ACTIVE-EXPIRE", "RELOAD", "LOADAOF", "SLEEP", "QUICKLIST-PACKED-THRESHOLD"];
    Some(match name {
        "dbsize" => Everywhere::Sum,
        "keys" => Everywhere::Concat,
        "info" => Everywhere::Info,
        "script|kill" | "function|kill" => Everywhere::FirstGood,
        "randomkey" => Everywhere::FirstFound,
        "scan" => Everywhere::Scan,
        "flushall" | "flushdb" | "script|load" | "script|flush" | "function|load" | "function|delete"
        | "function|flush" | "function|restore" | "config|set" | "config|resetstat" | "config|rewrite"
        | "acl|setuser" | "acl|deluser" | "acl|load" | "acl|save" | "slowlog|reset" | "save" | "bgsave"
        | "bgrewriteaof" | "client|pause" | "client|unpause" => Everywhere::First,
        "debug" if OF_SERVERS.iter().any(|word| request.is(1, word)) => Everywhere::First,
        _ => return None,
    })
}

/// Bits of a cluster-wide cursor that are a server's own cursor; above them stands the lowest slot of its shard plus
/// one, since another server may be in charge of that shard tomorrow.
pub(super) const CURSOR_BITS: u32 = 48;

/// The slot whose owner a cursor belongs to, and that server's own cursor. `shards` are the lowest slots of every
/// primary, in order.
pub fn scan_cursor(cursor: u64, shards: &[u16]) -> Option<(u16, u64)> {
    let own = cursor & ((1 << CURSOR_BITS) - 1);
    match (cursor >> CURSOR_BITS).checked_sub(1) {
        None => Some((*shards.first()?, own)),
        Some(slot) => u16::try_from(slot).ok().filter(|slot| *slot < SLOTS).map(|slot| (slot, own)),
    }
}

/// How the answer of the owner of a slot to `SCAN` is told on.
pub fn scan_next(slot: u16, shards: &[u16]) -> Join {
    let at = |slot: u16| (u64::from(slot) + 1) << CURSOR_BITS;
    let next = shards.iter().find(|known| **known > slot).map_or(0, |next| at(*next));
    Join::Scan { base: at(slot), next }
}
