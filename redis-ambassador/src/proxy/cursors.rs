//! `SCAN`, `HSCAN`, `SSCAN`, `ZSCAN`: a cursor means something to the server process that gave it, and to no other.
//!
//! Where each cursor came from is remembered. One that comes back when its server has lost its place begins anew
//! at the server of today: elements may then be told twice, as these commands may anyway, but none is left out.

use super::client::ClientState;
use super::hub::Hub;
use crate::cluster::slot_of;
use crate::command::Request;
use crate::resp::{RequestFramer, Step, parse_integer, write_multibulk};
use std::collections::{HashMap, VecDeque};

/// Cursors remembered at one time; the oldest make room.
const MAX_CURSORS: usize = 16 << 10;

/// Which process of which server has given which cursor.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    given: HashMap<u64, Origin>,
    order: VecDeque<u64>,
    /// By server: how often it may have been started anew.
    lives: Vec<u32>,
}

/// A server, and which of its lives.
type Origin = (usize, u32);

impl Cursors {
    fn origin(&self, server: usize) -> Origin {
        (server, self.lives.get(server).copied().unwrap_or(0))
    }

    fn note(&mut self, cursor: u64, server: usize) {
        if self.given.insert(cursor, self.origin(server)).is_some() {
            return;
        }
        self.order.push_back(cursor);
        if self.order.len() > MAX_CURSORS
            && let Some(oldest) = self.order.pop_front()
        {
            self.given.remove(&oldest);
        }
    }

    /// Whether a cursor is known to be from somewhere else.
    fn is_foreign(&self, cursor: u64, server: usize) -> bool {
        self.given.get(&cursor).is_some_and(|origin| *origin != self.origin(server))
    }

    /// A server has cut a connection: it may come back as another process.
    pub(super) fn begin_life(&mut self, server: usize) {
        if self.lives.len() <= server {
            self.lives.resize(server + 1, 0);
        }
        self.lives[server] = self.lives[server].wrapping_add(1);
    }
}

impl Hub {
    /// Notes that a request goes through something with a cursor. Where the cursor is of another server, the request
    /// that begins anew.
    pub(super) fn note_scan(&self, state: &mut ClientState, request: &Request<'_>) -> Option<Vec<u8>> {
        let server = match self.clustered.get() {
            // It goes from shard to shard, see [`Hub::shard_cursor`].
            true if request.is(0, "SCAN") => return None,
            true => self.owner(slot_of(request.arg(1)?)),
            false => self.primary(),
        };
        state.scan = scan_hash(state.session.profile.db, request);
        begin_anew(&self.cursors.borrow(), state.scan, request, server?)
    }

    /// The cursor with which a `SCAN` of the whole cluster goes on within a shard: its own, unless that is another
    /// server's.
    pub(super) fn shard_cursor(&self, state: &mut ClientState, slot: u16, cursor: u64) -> u64 {
        state.scan = shard_hash(slot);
        let foreign = |server| self.cursors.borrow().is_foreign(mix(state.scan, cursor), server);
        if cursor != 0 && self.owner(slot).is_some_and(foreign) { 0 } else { cursor }
    }

    /// [`Hub::note_scan`] for a request that is sent to another server than at first.
    pub(super) fn rescan(&self, scan: u64, frame: &mut Vec<u8>, server: usize) {
        if scan == 0 {
            return;
        }
        let mut framer = RequestFramer::new(self.live.get().limits);
        let anew = match framer.advance(frame) {
            Ok(Step::Request(_)) => {
                let request = Request::new(frame, framer.args());
                begin_anew(&self.cursors.borrow(), scan, &request, server)
            }
            _ => None,
        };
        if let Some(anew) = anew {
            *frame = anew;
        }
    }

    /// The beginning of an answer with a cursor has come from a server.
    pub(super) fn note_cursor(&self, scan: u64, answer: &[u8], server: usize) {
        if let Some(cursor) = told_cursor(answer) {
            self.cursors.borrow_mut().note(mix(scan, cursor), server);
        }
    }
}

fn begin_anew(cursors: &Cursors, scan: u64, request: &Request<'_>, server: usize) -> Option<Vec<u8>> {
    let at = cursor_argument(request);
    let cursor = request.arg(at).and_then(number)?;
    if cursor == 0 || !cursors.is_foreign(mix(scan, cursor), server) {
        return None;
    }
    tracing::debug!("a scan begins anew: its server has lost its place");
    let mut frame = Vec::new();
    let words = (0..request.len()).map(|index| match index == at {
        true => &b"0"[..],
        false => request.arg(index).unwrap_or_default(),
    });
    write_multibulk(&mut frame, words);
    Some(frame)
}

/// `SCAN cursor …`, but `HSCAN key cursor …`.
fn cursor_argument(request: &Request<'_>) -> usize {
    if request.is(0, "SCAN") { 1 } else { 2 }
}

/// Redis's cursors are unsigned; the framer's integers are not.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The cursor at the beginning of an answer; `None` for the last one.
fn told_cursor(answer: &[u8]) -> Option<u64> {
    let rest = answer.strip_prefix(b"*2\r\n$")?;
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    let length = usize::try_from(parse_integer(rest.get(..end)?)?).ok()?;
    let start = end + 2;
    number(rest.get(start..start.checked_add(length)?)?).filter(|cursor| *cursor != 0)
}

/// A hash of what is gone through, never 0.
fn scan_hash(db: u32, request: &Request<'_>) -> u64 {
    let key = if cursor_argument(request) == 1 { &b""[..] } else { request.arg(1).unwrap_or_default() };
    let first = request.name().first().map_or(0, u8::to_ascii_lowercase);
    let seed = u64::from(db) << 8 | u64::from(first);
    (key.iter().fold(mix(seed, key.len() as u64), |hash, byte| mix(hash, u64::from(*byte)))) | 1
}

/// [`scan_hash`] of a `SCAN` within one shard of a cluster.
fn shard_hash(slot: u16) -> u64 {
    mix(u64::from(slot), 0) | 1
}

fn mix(hash: u64, value: u64) -> u64 {
    let mixed = (hash.rotate_left(29) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(words: &[&str]) -> Vec<u8> {
        let mut frame = Vec::new();
        write_multibulk(&mut frame, words.iter().map(|word| word.as_bytes()));
        frame
    }

    fn asked(cursors: &Cursors, words: &[&str], server: usize) -> Option<Vec<u8>> {
        let frame = frame(words);
        let mut framer = RequestFramer::new(crate::resp::RequestLimits::default());
        assert!(matches!(framer.advance(&frame), Ok(Step::Request(_))));
        let request = Request::new(&frame, framer.args());
        begin_anew(cursors, scan_hash(0, &request), &request, server)
    }

    fn given(cursors: &mut Cursors, words: &[&str], cursor: u64, server: usize) {
        let frame = frame(words);
        let mut framer = RequestFramer::new(crate::resp::RequestLimits::default());
        assert!(matches!(framer.advance(&frame), Ok(Step::Request(_))));
        let scan = scan_hash(0, &Request::new(&frame, framer.args()));
        cursors.note(mix(scan, cursor), server);
    }

    #[test]
    fn a_cursor_of_another_server_begins_anew() {
        let mut cursors = Cursors::default();
        given(&mut cursors, &["HSCAN", "k", "0"], 17, 0);
        assert_eq!(asked(&cursors, &["hscan", "k", "17", "COUNT", "5"], 0), None);
        let anew = Some(frame(&["hscan", "k", "0", "COUNT", "5"]));
        assert_eq!(asked(&cursors, &["hscan", "k", "17", "COUNT", "5"], 1), anew);
        assert_eq!(asked(&cursors, &["hscan", "other", "17"], 1), None, "nobody has given that one");
        cursors.begin_life(0);
        assert_eq!(asked(&cursors, &["hscan", "k", "17", "COUNT", "5"], 0), anew);
    }

    #[test]
    fn what_is_no_cursor_is_left_to_the_server() {
        let cursors = Cursors::default();
        for words in [&["SCAN"][..], &["SCAN", "x"], &["HSCAN", "k"], &["SCAN", "-1"], &["SCAN", "0"]] {
            assert_eq!(asked(&cursors, words, 0), None);
        }
    }

    #[test]
    fn cursors_are_read_from_answers() {
        assert_eq!(told_cursor(b"*2\r\n$2\r\n17\r\n*0\r\n"), Some(17));
        let largest = format!("*2\r\n$20\r\n{}\r\n*0\r\n", u64::MAX);
        assert_eq!(told_cursor(largest.as_bytes()), Some(u64::MAX));
        for none in [
            &b"*2\r\n$1\r\n0\r\n*0\r\n"[..],
            b"*2\r\n$2\r\n1",
            b"-ERR\r\n",
            b"*2\r\n$-1\r\n",
            b"*2\r\n$99999999999999999999\r\n1",
        ] {
            assert_eq!(told_cursor(none), None);
        }
    }

    #[test]
    fn the_oldest_make_room() {
        let mut cursors = Cursors::default();
        (0..2 * MAX_CURSORS as u64).for_each(|cursor| cursors.note(cursor, 0));
        assert_eq!((cursors.given.len(), cursors.order.len()), (MAX_CURSORS, MAX_CURSORS));
        assert!(!cursors.is_foreign(0, 1) && cursors.is_foreign(2 * MAX_CURSORS as u64 - 1, 1));
    }
}
