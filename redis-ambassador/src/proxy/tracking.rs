//! `CLIENT TRACKING` in front of a Redis Cluster: every server tells of the keys that it has, and the client hears of
//! all of them over its one connection.
//!
//! A client that tracks has shared connections that nobody shares with it (a lane of its own). What a server pushes
//! over one of them keeps its place behind the answers that came over it, so that no answer passes the news that it is
//! old. When such a connection ends, the client is told to forget all that it has cached, as Redis tells at FLUSHALL.
//!
//! Protocol: <https://redis.io/docs/latest/develop/reference/client-side-caching/>.

use super::client::{Client, ClientState, Switching};
use super::hub::Hub;
use crate::command::{Classified, Effect, Kind, Request};
use crate::proxy::process::Outcome;
use crate::resp::write_multibulk;
use crate::upstream::Link;
use std::collections::VecDeque;
use std::rc::Rc;

const NO_REDIRECT: &[u8] =
    b"-ERR CLIENT TRACKING with REDIRECT is not possible in front of a Redis Cluster, where a \
    client's keys are with many servers; use RESP3 without REDIRECT\r\n";
const NO_STREAM: &[u8] =
    b"-ERR subscriptions and MONITOR are not possible on a connection with CLIENT TRACKING in front \
    of a Redis Cluster; use another connection\r\n";
const BOTH: &[u8] = b"-ERR You can't specify both OPTIN mode and OPTOUT mode\r\n";
const NOT_BROADCAST: &[u8] = b"-ERR OPTIN and OPTOUT are not compatible with BCAST\r\n";
const OTHER_CHOICE: &[u8] =
    b"-ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and \
    then re-enabling it with a different mode.\r\n";
const NO_CHOICE: &[u8] =
    b"-ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
    OPTOUT mode enabled\r\n";
const NO_OPTIN: &[u8] = b"-ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.\r\n";
const NO_OPTOUT: &[u8] = b"-ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.\r\n";
const SYNTAX: &[u8] = b"-ERR syntax error\r\n";
/// Forget everything: what Redis pushes at FLUSHALL.
const FORGET: &[u8] = b">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// Whether a client names what it caches, or what it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    In,
    Out,
}

/// A client's `CLIENT TRACKING`.
#[derive(Debug, Default)]
pub(super) struct Tracking {
    /// The requests that every connection begins with.
    told: Vec<Vec<Vec<u8>>>,
    /// The last of them has no answer yet.
    asked: bool,
    broadcasts: bool,
    choice: Option<Choice>,
    /// What servers have pushed, and the number of the request whose answer it has to follow.
    news: VecDeque<(u64, Vec<u8>)>,
}

/// Whose a lane is, and what its connections begin with.
#[derive(Debug, Clone)]
pub(super) struct Tracker {
    client: Rc<Client>,
    told: Vec<Vec<Vec<u8>>>,
    broadcasts: bool,
}

/// What a request for tracking asks for.
struct Wish {
    words: Vec<Vec<u8>>,
    broadcasts: bool,
    choice: Option<Choice>,
}

impl Wish {
    /// # Errors
    /// The answer to what cannot be.
    fn new(request: &Request<'_>, before: Option<&Tracking>) -> Result<Self, &'static [u8]> {
        let mut wish = Self { words: Vec::new(), broadcasts: false, choice: None };
        let mut at = 0;
        while let Some(word) = request.arg(at) {
            let option = at > 2;
            let is = |known: &str| option && word.eq_ignore_ascii_case(known.as_bytes());
            if is("REDIRECT") {
                return Err(NO_REDIRECT);
            }
            let choice = if is("OPTIN") {
                Some(Choice::In)
            } else if is("OPTOUT") {
                Some(Choice::Out)
            } else {
                None
            };
            wish.broadcasts |= is("BCAST");
            match (choice, wish.choice) {
                // Servers are asked to track all that is read: a client does not mind news of what it has not cached.
                (Some(_), None) => wish.choice = choice,
                (Some(one), Some(other)) if one != other => return Err(BOTH),
                (Some(_), Some(_)) => {}
                (None, _) => wish.words.push(word.to_vec()),
            }
            at += 1;
            if is("PREFIX") {
                wish.words.extend(request.arg(at).map(<[u8]>::to_vec));
                at += 1;
            }
        }
        let before = before.and_then(|before| before.choice);
        match wish.choice {
            Some(_) if wish.broadcasts => Err(NOT_BROADCAST),
            Some(now) if before.is_some_and(|before| before != now) => Err(OTHER_CHOICE),
            _ => Ok(wish),
        }
    }
}

impl Hub {
    /// `CLIENT TRACKING`, `CLIENT CACHING`, and what such a client cannot do. `Some` when that is all there is to do.
    pub(super) fn track(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        request: &Request<'_>,
        classified: &Classified<'_>,
    ) -> Option<Outcome> {
        if state.tracking.as_ref().is_some_and(|tracking| tracking.told.is_empty()) {
            // It was refused.
            state.tracking = None;
            self.enter_lane(state);
        }
        if matches!(classified.kind, Kind::Subscribe | Kind::Stream) && state.tracking.is_some() {
            state.answer(NO_STREAM);
            return Some(Outcome::Taken);
        }
        if classified.kind != Kind::Client {
            return None;
        }
        if request.is(1, "CACHING") && request.len() == 3 {
            state.answer(caching(state.tracking.as_deref(), request));
            return Some(Outcome::Taken);
        }
        if !request.is(1, "TRACKING") || request.len() < 3 {
            return None;
        }
        if request.is(2, "OFF") {
            state.tracking = None;
            self.enter_lane(state);
            state.answer(b"+OK\r\n");
            return Some(Outcome::Taken);
        }
        if !request.is(2, "ON") {
            state.answer(SYNTAX);
            return Some(Outcome::Taken);
        }
        match Wish::new(request, state.tracking.as_deref()) {
            Ok(wish) => self.track_everywhere(client, state, wish),
            Err(refusal) => state.answer(refusal),
        }
        Some(Outcome::Taken)
    }

    /// Asks every primary to track for a client.
    fn track_everywhere(self: &Rc<Self>, client: &Rc<Client>, state: &mut ClientState, wish: Wish) {
        let mut frame = Vec::new();
        write_multibulk(&mut frame, wish.words.iter().map(Vec::as_slice));
        if state.tracking.is_none() {
            state.tracking = Some(Box::default());
            let tracker = Tracker { client: Rc::clone(client), told: Vec::new(), broadcasts: false };
            let before = std::mem::replace(&mut state.lane, self.own_lane(state.session.profile, tracker));
            self.left_lane(before);
        }
        self.ask_primaries(client, state, &frame, Effect::PrimaryRead);
        let seq = state.head + state.slots.len() as u64 - 1;
        state.switching = Some(Switching { seq, becomes: None });
        let Some(tracking) = &mut state.tracking else { return };
        tracking.told.push(wish.words);
        tracking.asked = true;
        tracking.broadcasts |= wish.broadcasts;
        tracking.choice = tracking.choice.or(wish.choice);
        self.retell(state);
    }

    /// Servers have answered a request for tracking.
    pub(super) fn tracked(&self, state: &mut ClientState, good: bool) {
        let Some(tracking) = &mut state.tracking else { return };
        if !std::mem::take(&mut tracking.asked) || good {
            return;
        }
        tracking.told.pop();
        self.retell(state);
    }

    /// Has new connections of a client's lane begin with what it has asked for by now.
    fn retell(&self, state: &ClientState) {
        let mut lanes = self.lanes.borrow_mut();
        let tracker = lanes.get_mut(state.lane).and_then(|lane| lane.tracker.as_mut());
        if let (Some(tracker), Some(tracking)) = (tracker, &state.tracking) {
            tracker.told.clone_from(&tracking.told);
            tracker.broadcasts = tracking.broadcasts;
        }
    }

    /// Connects those who hear of every key to the servers that they have no connection to.
    pub(super) fn listen_everywhere(self: &Rc<Self>) {
        if !self.clustered.get() {
            return;
        }
        let broadcasts = |tracker: &Tracker| tracker.broadcasts;
        let listening: Vec<usize> = {
            let lanes = self.lanes.borrow();
            let all = lanes.iter().enumerate();
            all.filter(|(_, lane)| lane.tracker.as_ref().is_some_and(broadcasts)).map(|(at, _)| at).collect()
        };
        for lane in listening {
            for server in self.primary_servers() {
                self.link(lane, server);
            }
        }
    }

    /// A server has pushed something over a connection of a lane of one client's.
    pub(super) fn hear(&self, client: &Rc<Client>, after: u64, news: &[u8]) {
        let mut state = client.state.borrow_mut();
        if !state.closed {
            state.hear(after, news);
            self.mark_client(client, &mut state.dirty);
        }
    }

    /// A connection over which a client heard of its keys is gone.
    pub(super) fn is_deaf(&self, link: &Link) {
        let client = link.state.borrow_mut().hearer.take();
        if let Some(client) = client {
            let mut state = client.state.borrow_mut();
            if !state.closed && state.forget_cached() {
                self.mark_client(&client, &mut state.dirty);
                drop(state);
                self.flush_clients();
            }
        }
    }
}

impl Tracking {
    pub(super) fn forget_news(&mut self) {
        self.news.clear();
    }

    /// Whether news has to follow the answer to request `seq`, or to a later one.
    pub(super) fn waits_for(&self, seq: u64) -> bool {
        self.news.iter().any(|(due, _)| *due >= seq)
    }
}

impl Tracker {
    pub(super) fn client(&self) -> &Rc<Client> {
        &self.client
    }

    pub(super) fn told(&self) -> &[Vec<Vec<u8>>] {
        &self.told
    }
}

impl ClientState {
    /// Takes news that has to follow the answer to request `after`, where that has not left.
    fn hear(&mut self, after: u64, news: &[u8]) {
        let due = match after >= self.head && !self.slots.is_empty() {
            true => after,
            // Not into the middle of another answer.
            false if self.begun => self.head,
            false => return self.out.extend(news),
        };
        if let Some(tracking) = &mut self.tracking {
            self.held += news.len();
            tracking.news.push_back((due, news.to_vec()));
        }
    }

    /// Adds the news that had to wait until now.
    #[cold]
    pub(super) fn tell_news(&mut self) {
        let Some(tracking) = &mut self.tracking else { return };
        let (head, out, held) = (self.head, &mut self.out, &mut self.held);
        tracking.news.retain(|(due, news)| {
            let waits = *due >= head;
            if !waits {
                out.extend(news);
                *held = held.saturating_sub(news.len());
            }
            waits
        });
    }

    /// Tells the client that all that it has cached may be old; false when it does not track.
    pub(super) fn forget_cached(&mut self) -> bool {
        let tracks = self.tracking.is_some() && self.session.profile.resp3;
        if tracks {
            let last = (self.head + self.slots.len() as u64).saturating_sub(1);
            self.hear(last, FORGET);
        }
        tracks
    }
}

/// The answer to `CLIENT CACHING`. There is nothing to do: servers track all that is read.
fn caching(tracking: Option<&Tracking>, request: &Request<'_>) -> &'static [u8] {
    let choice = tracking.and_then(|tracking| tracking.choice);
    match choice {
        None => NO_CHOICE,
        Some(Choice::Out) if request.is(2, "YES") => NO_OPTIN,
        Some(Choice::In) if request.is(2, "NO") => NO_OPTOUT,
        Some(_) if request.is(2, "YES") || request.is(2, "NO") => b"+OK\r\n",
        Some(_) => SYNTAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::{RequestFramer, RequestLimits, Step};

    fn wish(line: &str, before: Option<&Tracking>) -> Result<(String, bool, Option<Choice>), &'static [u8]> {
        let mut frame = Vec::new();
        write_multibulk(&mut frame, line.split(' ').map(str::as_bytes).collect::<Vec<_>>().into_iter());
        let mut framer = RequestFramer::new(RequestLimits::default());
        assert!(matches!(framer.advance(&frame), Ok(Step::Request(_))));
        let wish = Wish::new(&Request::new(&frame, framer.args()), before)?;
        let words: Vec<_> =
            wish.words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        Ok((words.join(" "), wish.broadcasts, wish.choice))
    }

    #[test]
    fn servers_are_told_all_but_the_choice() {
        for (line, told, broadcasts, choice) in [
            ("CLIENT TRACKING ON", "CLIENT TRACKING ON", false, None),
            ("client tracking on optin noloop", "client tracking on noloop", false, Some(Choice::In)),
            ("CLIENT TRACKING ON OPTOUT OPTOUT", "CLIENT TRACKING ON", false, Some(Choice::Out)),
            (
                "CLIENT TRACKING ON bcast PREFIX a PREFIX OPTIN",
                "CLIENT TRACKING ON bcast PREFIX a PREFIX OPTIN",
                true,
                None,
            ),
            ("CLIENT TRACKING ON PREFIX", "CLIENT TRACKING ON PREFIX", false, None),
            ("CLIENT TRACKING ON nonsense", "CLIENT TRACKING ON nonsense", false, None),
        ] {
            assert_eq!(wish(line, None), Ok((told.to_owned(), broadcasts, choice)), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_in_redis_words() {
        assert_eq!(wish("CLIENT TRACKING ON BCAST REDIRECT 5", None), Err(NO_REDIRECT));
        assert_eq!(wish("CLIENT TRACKING ON OPTIN OPTOUT", None), Err(BOTH));
        assert_eq!(wish("CLIENT TRACKING ON OPTIN BCAST", None), Err(NOT_BROADCAST));
        let before = Tracking { choice: Some(Choice::In), ..Tracking::default() };
        assert_eq!(wish("CLIENT TRACKING ON OPTOUT", Some(&before)), Err(OTHER_CHOICE));
        assert!(wish("CLIENT TRACKING ON OPTIN", Some(&before)).is_ok());
    }

    #[test]
    fn caching_is_allowed_where_it_means_something() {
        let said = |choice, word: &str| {
            let mut frame = Vec::new();
            write_multibulk(&mut frame, [&b"CLIENT"[..], b"CACHING", word.as_bytes()].into_iter());
            let mut framer = RequestFramer::new(RequestLimits::default());
            assert!(matches!(framer.advance(&frame), Ok(Step::Request(_))));
            let tracking = Tracking { choice, ..Tracking::default() };
            caching(Some(&tracking), &Request::new(&frame, framer.args()))
        };
        assert_eq!(said(None, "YES"), NO_CHOICE);
        assert_eq!(said(Some(Choice::In), "yes"), b"+OK\r\n");
        assert_eq!(said(Some(Choice::In), "NO"), NO_OPTOUT);
        assert_eq!(said(Some(Choice::Out), "NO"), b"+OK\r\n");
        assert_eq!(said(Some(Choice::Out), "YES"), NO_OPTIN);
        assert_eq!(said(Some(Choice::Out), "MAYBE"), SYNTAX);
    }
}
