//! What connections are called (`CLIENT ID`, `LIST`, `KILL`, `UNBLOCK`): each server numbers its own from 1 on, so its
//! numbers are no names in front of several.

use crate::command::Request;
use crate::resp::{parse_integer, write_multibulk};
use std::collections::HashMap;

/// Set in the numbers of clients of this ambassador; below what a double holds exactly, since some clients read
/// integers into one.
pub(crate) const OURS: u64 = 1 << 52;
/// Bits of another connection's number that tell its shard, by the lowest slot.
const SLOT_BITS: u32 = 14;
/// What stands for a number that no connection of a server has: the greatest that servers take for one.
const NOBODY: &[u8] = b"9223372036854775807";

/// What the connections in one server's answer are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// It is about one, whose number this is.
    One(u64),
    /// It is about connections of the shard with this lowest slot, some of which are clients of this ambassador.
    Shard {
        /// The shard's lowest slot.
        slot: u16,
        /// Clients' numbers by those of the server.
        known: HashMap<u64, u64>,
    },
}

impl Naming {
    fn name(&self, number: u64) -> u64 {
        match self {
            Self::One(name) => *name,
            Self::Shard { slot, known } => {
                known.get(&number).copied().unwrap_or(number << SLOT_BITS | u64::from(*slot))
            }
        }
    }

    /// A server's list of connections with the numbers that its reader knows them by.
    pub(super) fn rename(&self, list: &str) -> String {
        let renamed = |line: &str| {
            let (number, rest) = line.strip_prefix("id=")?.split_once(' ')?;
            Some(format!("id={} {rest}", self.name(number.parse().ok()?)))
        };
        list.split_inclusive('\n').map(|line| renamed(line).unwrap_or_else(|| line.to_owned())).collect()
    }
}

/// The slot whose owner has a connection that is no client of this ambassador, and what that server calls it.
pub fn connection_of(name: u64) -> (u16, u64) {
    ((name & ((1 << SLOT_BITS) - 1)) as u16, name >> SLOT_BITS)
}

/// The words of a request that name connections, with what they name.
pub fn named_connections(request: &Request<'_>) -> Vec<(usize, u64)> {
    let number =
        |at: usize| request.arg(at).and_then(parse_integer).and_then(|number| u64::try_from(number).ok());
    let positive = |at: usize| number(at).filter(|number| *number > 0).map(|number| (at, number));
    if request.is(1, "UNBLOCK") {
        return positive(2).into_iter().collect();
    }
    let mut named = Vec::new();
    let mut listed = false;
    for at in 2..request.len() {
        // One or several of them follow the word.
        match positive(at) {
            Some(found) if listed => named.push(found),
            _ => listed = request.is(at, "ID"),
        }
    }
    named
}

/// A request about connections as one server is asked it: `numbers` has what that server calls those it has.
pub fn ask_about(request: &Request<'_>, named: &[(usize, u64)], numbers: &HashMap<u64, u64>) -> Vec<u8> {
    let words: Vec<Vec<u8>> = (0..request.len())
        .filter_map(|at| {
            let name = named.iter().find(|(known, _)| *known == at).map(|(_, name)| name);
            match name.map(|name| numbers.get(name)) {
                Some(Some(number)) => Some(number.to_string().into_bytes()),
                Some(None) => Some(NOBODY.to_vec()),
                None => request.arg(at).map(<[u8]>::to_vec),
            }
        })
        .collect();
    let mut frame = Vec::new();
    write_multibulk(&mut frame, words.iter().map(Vec::as_slice));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::tests::with_request;
    use proptest::prelude::*;

    fn asked(line: &str, numbers: &[(u64, u64)]) -> String {
        let words: Vec<_> = line.split(' ').collect();
        let numbers = numbers.iter().copied().collect();
        let bytes =
            with_request(&words, |_, request| ask_about(request, &named_connections(request), &numbers));
        let text = String::from_utf8(bytes).unwrap();
        text.split("\r\n").skip(2).step_by(2).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_what_names_a_connection_is_replaced() {
        let numbers = [(70, 7), (80, 8)];
        let nobody = std::str::from_utf8(NOBODY).unwrap();
        for (line, told) in [
            ("CLIENT UNBLOCK 70 ERROR", "CLIENT UNBLOCK 7 ERROR".to_owned()),
            ("CLIENT UNBLOCK 90", format!("CLIENT UNBLOCK {nobody}")),
            ("CLIENT UNBLOCK x", "CLIENT UNBLOCK x".to_owned()),
            ("CLIENT KILL id 80 SKIPME yes", "CLIENT KILL id 8 SKIPME yes".to_owned()),
            ("CLIENT KILL ID 0", "CLIENT KILL ID 0".to_owned()),
            ("CLIENT KILL USER 70 ID 70 MAXAGE 80", "CLIENT KILL USER 70 ID 7 MAXAGE 80".to_owned()),
            ("CLIENT LIST ID 70 90 80", format!("CLIENT LIST ID 7 {nobody} 8")),
            ("CLIENT LIST TYPE normal", "CLIENT LIST TYPE normal".to_owned()),
            ("CLIENT KILL 127.0.0.1:70", "CLIENT KILL 127.0.0.1:70".to_owned()),
        ] {
            assert_eq!(asked(line, &numbers), told, "{line}");
        }
    }

    #[test]
    fn lists_name_clients_and_other_connections() {
        let naming = Naming::Shard { slot: 5461, known: HashMap::from([(7, OURS | 3)]) };
        let list = "id=7 addr=a name=id=7 cmd=blpop\nid=8 addr=b\nnonsense\n";
        let name = 8 << SLOT_BITS | 5461;
        let renamed = format!("id={} addr=a name=id=7 cmd=blpop\nid={name} addr=b\nnonsense\n", OURS | 3);
        assert_eq!(naming.rename(list), renamed);
        assert_eq!(connection_of(name), (5461, 8));
        assert_eq!(Naming::One(9).rename("id=1 a\n"), "id=9 a\n");
    }

    proptest! {
        #[test]
        fn names_lead_back(number in 1u64..1 << 38, slot in 0u16..16384) {
            let naming = Naming::Shard { slot, known: HashMap::new() };
            let name = naming.name(number);
            prop_assert!(name < OURS);
            prop_assert_eq!(connection_of(name), (slot, number));
        }

        #[test]
        fn nonsense_is_survived(list in "(id=[0-9]{0,25} ?|[a-z= ]|\n){0,20}") {
            let naming = Naming::Shard { slot: 1, known: HashMap::new() };
            prop_assert_eq!(naming.rename(&list).lines().count(), list.lines().count());
        }
    }
}
