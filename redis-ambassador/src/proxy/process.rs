//! What clients send: framed, classified, planned and dispatched.

use super::client::{Client, ClientState, HIGH_WATER, LOW_WATER, Mode};
use super::hub::Hub;
use crate::command::{Classified, Effect, Kind, Request, visit_keys};
use crate::resp::{RequestFramer, Step, inline_to_multibulk};
use crate::session::{Plan, Profile, Switch};
use crate::upstream::{Credentials, Waiter};
use common::secret::SecretString;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Carried out or on its way.
    Taken,
    /// Not yet: earlier requests have to be answered first.
    Later,
}

impl Hub {
    /// Reads what a client has sent and carries it out; 0 is the end of the stream.
    pub(super) fn read_client(
        self: &Rc<Self>,
        client: &Rc<Client>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut scratch = self.scratch.borrow_mut();
        let count = ready!(client.socket.poll_read(cx, &mut scratch))?;
        self.now();
        let mut state = client.state.borrow_mut();
        let state = &mut *state;
        if state.input.is_empty() {
            let taken = self.process(client, state, &scratch[..count]);
            state.input.extend_from_slice(&scratch[taken..count]);
        } else {
            state.input.extend_from_slice(&scratch[..count]);
            self.process_input(client, state);
        }
        drop(scratch);
        self.settle_client(client, state);
        Poll::Ready(Ok(count))
    }

    /// Goes on with parked input; false while it has to stay parked.
    pub(super) fn resume(self: &Rc<Self>, client: &Rc<Client>) -> bool {
        let mut state = client.state.borrow_mut();
        let state = &mut *state;
        if !self.has_room(state, true) {
            return false;
        }
        state.parked = false;
        self.process_input(client, state);
        self.settle_client(client, state);
        !state.parked
    }

    fn process_input(self: &Rc<Self>, client: &Rc<Client>, state: &mut ClientState) {
        let mut input = std::mem::take(&mut state.input);
        let taken = self.process(client, state, &input);
        input.drain(..taken);
        if input.is_empty() && input.capacity() > LOW_WATER {
            input = Vec::new();
        }
        state.input = input;
    }

    /// Has locally made answers written with the others of this turn.
    fn settle_client(&self, client: &Rc<Client>, state: &mut ClientState) {
        if !state.out.is_empty() && !state.dirty && !state.blocked {
            state.dirty = true;
            let first = self.dirty_clients.borrow().is_empty();
            self.dirty_clients.borrow_mut().push(Rc::clone(client));
            if first && let Some(flusher) = self.flusher.borrow().as_ref() {
                flusher.wake_by_ref();
            }
        }
    }

    /// Whether more of this client's requests may be taken on.
    fn has_room(&self, state: &ClientState, resuming: bool) -> bool {
        let (pipeline, output) = match resuming {
            true => (self.settings.max_pipeline / 2 + 1, LOW_WATER),
            false => (self.settings.max_pipeline, HIGH_WATER),
        };
        state.slots.len() < pipeline
            && state.out.len() < output
            && state.own.as_ref().is_none_or(|link| link.backlog() < output)
    }

    /// Carries out the requests at the start of `bytes` and returns how many bytes they took.
    fn process(self: &Rc<Self>, client: &Rc<Client>, state: &mut ClientState, bytes: &[u8]) -> usize {
        let mut at = 0;
        loop {
            if state.closing || state.closed {
                return bytes.len();
            }
            if state.parked || !self.has_room(state, false) {
                state.parked = true;
                if !state.streaming {
                    state.framer.reset();
                }
                return at;
            }
            let step = match state.framer.advance(&bytes[at..]) {
                Ok(step) => step,
                Err(error) => {
                    self.protocol_error(client, state, &error.to_string());
                    return bytes.len();
                }
            };
            if state.streaming {
                at += self.stream_on(state, &bytes[at..], step);
                if step == Step::Incomplete {
                    return at;
                }
                continue;
            }
            match step {
                Step::Nothing(length) => {
                    at += length;
                    state.framer.reset();
                }
                Step::Request(length) => {
                    let frame = &bytes[at..at + length];
                    // Lent out, so that the state can change while the arguments are looked at.
                    let limits = self.settings.limits;
                    let framer = std::mem::replace(&mut state.framer, RequestFramer::new(limits));
                    let outcome = self.take_on(client, state, &Request::new(frame, framer.args()), frame);
                    state.framer = framer;
                    state.framer.reset();
                    match outcome {
                        Outcome::Taken => at += length,
                        Outcome::Later => state.parked = true,
                    }
                }
                Step::Inline(length) => {
                    if self.take_inline(client, state, &bytes[at..at + length]) == Outcome::Later {
                        state.parked = true;
                    } else {
                        at += length;
                    }
                    state.framer.reset();
                }
                Step::Incomplete => {
                    at += self.begin_stream(client, state, &bytes[at..]);
                    return at;
                }
            }
        }
    }

    fn take_inline(self: &Rc<Self>, client: &Rc<Client>, state: &mut ClientState, line: &[u8]) -> Outcome {
        match inline_to_multibulk(line) {
            Ok(None) => Outcome::Taken,
            Ok(Some(frame)) => {
                let mut framer = RequestFramer::new(self.settings.limits);
                match framer.advance(&frame) {
                    Ok(Step::Request(_)) => {
                        self.take_on(client, state, &Request::new(&frame, framer.args()), &frame)
                    }
                    _ => Outcome::Taken,
                }
            }
            Err(_) => {
                self.protocol_error(client, state, "Protocol error: unbalanced quotes in request");
                Outcome::Taken
            }
        }
    }

    pub(super) fn protocol_error(&self, client: &Rc<Client>, state: &mut ClientState, error: &str) {
        tracing::warn!(client = client.id, error, "client sent what is no request");
        self.metrics.protocol_errors.inc();
        state.answer(format!("-ERR {error}\r\n").as_bytes());
        state.closing = true;
    }

    /// Carries out one complete request.
    fn take_on(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        request: &Request<'_>,
        frame: &[u8],
    ) -> Outcome {
        let table = self.table.borrow();
        let classified = table.classify(request);
        if must_wait(state, &classified) {
            return Outcome::Later;
        }
        let plan = state.session.plan(&table, request, &classified, state.own_busy > 0);
        match plan {
            Plan::Shared(effect) => return self.share(client, state, request, &classified, effect, frame),
            Plan::Own => self.send_own(client, state, request, &classified, frame),
            Plan::Raw => self.send_raw(client, state, request, &classified, frame),
            Plan::Switch(switch, replacement) => {
                let frame = if replacement.is_empty() { frame } else { &replacement[..] };
                self.switch(client, state, &switch, frame);
            }
            Plan::Wait => {
                self.adopt_shared(client, state);
                self.send_own(client, state, request, &classified, frame);
            }
            Plan::Answer(answer) => state.answer(&answer),
            Plan::Reset => {
                if let Some(link) = state.own.take() {
                    link.close();
                }
                state.own_busy = 0;
                state.session.reset();
                state.lane = self.lane(Profile::default());
                state.answer(b"+RESET\r\n");
            }
            Plan::Quit => {
                state.answer(b"+OK\r\n");
                state.closing = true;
            }
        }
        Outcome::Taken
    }

    /// Sends a request over a shared connection: reads to replicas where that keeps the client's own order.
    #[inline]
    fn share(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        request: &Request<'_>,
        classified: &Classified<'_>,
        effect: Effect,
        frame: &[u8],
    ) -> Outcome {
        let keys = self.keys(request, classified, effect);
        let (mode, server) = match effect {
            Effect::Read => match self.replica_for(state, &keys) {
                Some(server) => (Mode::ReplicaRead, Some(server)),
                None => (Mode::Neutral, self.primary()),
            },
            Effect::PrimaryRead => (Mode::Neutral, self.primary()),
            Effect::Write => {
                // A write must not overtake the client's own earlier read of the key on a replica.
                if state.replica_reads > 0 && state.conflicts(keys.single, Mode::ReplicaRead) {
                    return Outcome::Later;
                }
                (Mode::Write, self.primary())
            }
        };
        let epoch = if effect == Effect::Write { self.fence_write(state, &keys) } else { 0 };
        let seq = state.push_slot(keys.single, mode);
        let waiter = Waiter {
            client: Rc::clone(client),
            seq,
            len: 0,
            since: self.clock(),
            epoch,
            read: effect != Effect::Write,
            anywhere: effect == Effect::Read,
            script: classified.kind == Kind::ReadScript,
            abandoned: false,
            attempts: 0,
        };
        self.metrics.sent(mode == Mode::ReplicaRead, effect);
        match server {
            Some(server) if mode == Mode::ReplicaRead || !self.in_limbo() => {
                let link = self.link(state.lane, server);
                self.send(&link, frame, waiter);
            }
            _ => self.hold(waiter, frame.to_vec(), None),
        }
        Outcome::Taken
    }

    /// The replica that may answer a read of these keys for this client, if any.
    #[inline]
    fn replica_for(&self, state: &mut ClientState, keys: &Keys) -> Option<usize> {
        if !keys.complete || (state.writes > 0 && state.conflicts(keys.single, Mode::Write)) {
            return None;
        }
        // One client's reads in flight stay together: its answers then come back in order, in one piece.
        let server = match state.replica_reads {
            0 => self.replica(state.lane)?,
            _ if self.candidates.borrow().contains(&state.last_replica) => state.last_replica,
            _ => self.replica(state.lane)?,
        };
        if !self.fence_passed(state, server, keys) {
            return None;
        }
        state.last_replica = server;
        Some(server)
    }

    /// Takes over the profile a request asks for, when a server has agreed to it.
    fn switch(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        switch: &Switch<'_>,
        frame: &[u8],
    ) {
        let mut profile = state.session.profile;
        if let Some(db) = switch.db {
            profile.db = db;
        }
        if let Some(resp3) = switch.resp3 {
            profile.resp3 = resp3;
        }
        if let Some((user, password)) = switch.auth {
            match self.user(user, password) {
                Some(user) => profile.user = user,
                None => {
                    return state
                        .answer(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n");
                }
            }
        }
        if state.own.is_some() {
            let seq = self.send_own_plain(client, state, frame);
            state.switching = Some((seq, profile));
            return;
        }
        let seq = state.push_slot(0, Mode::Neutral);
        state.switching = Some((seq, profile));
        let waiter = Waiter {
            client: Rc::clone(client),
            seq,
            len: 0,
            since: self.clock(),
            epoch: 0,
            read: true,
            anywhere: false,
            script: false,
            abandoned: false,
            attempts: 0,
        };
        match self.primary() {
            Some(server) if !self.in_limbo() => {
                let link = self.link(self.lane(profile), server);
                self.send(&link, frame, waiter);
            }
            _ => self.hold(waiter, frame.to_vec(), None),
        }
    }

    /// The number of a user with this password; `None` when either is no text.
    fn user(&self, user: &[u8], password: &[u8]) -> Option<u32> {
        use common::secret::ExposeSecret;
        let (user, password) = (std::str::from_utf8(user).ok()?, std::str::from_utf8(password).ok()?);
        let mut users = self.users.borrow_mut();
        let same = |known: &Option<Credentials>| {
            known
                .as_ref()
                .is_some_and(|known| known.user == user && known.password.expose_secret() == password)
        };
        if let Some(index) = users.iter().position(same) {
            return Some(index as u32);
        }
        let password = SecretString::from(password.to_owned());
        users.push(Some(Credentials { user: user.to_owned(), password }));
        Some(users.len() as u32 - 1)
    }

    /// Hashes of the keys a request names.
    #[inline]
    fn keys(&self, request: &Request<'_>, classified: &Classified<'_>, effect: Effect) -> Keys {
        let mut keys = Keys::default();
        if effect == Effect::PrimaryRead {
            return keys;
        }
        let Some(command) = classified.command else { return keys };
        let (mut count, hashes) = (0usize, &mut keys.hashes);
        let complete = visit_keys(command, request, |key| {
            if let Some(slot) = hashes.get_mut(count) {
                *slot = key_hash(key);
            }
            count += 1;
        });
        keys.count = count.min(MAX_KEYS);
        keys.complete = complete && count <= MAX_KEYS;
        keys.single = if count == 1 && keys.complete { keys.hashes[0] } else { 0 };
        keys
    }
}

/// Hashes of a request's keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    hashes: [u32; MAX_KEYS],
    count: usize,
    /// The hash of the only key; 0 when there are several, none, or not all are known.
    pub(super) single: u32,
    /// These are all the keys that the request can touch.
    pub(super) complete: bool,
}

/// A request with more keys than this counts as touching any key.
const MAX_KEYS: usize = 32;

impl Keys {
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.hashes[..self.count].iter().copied()
    }
}

/// A hash of a key, never 0. Collisions only cost a read its replica.
#[inline]
pub(super) fn key_hash(key: &[u8]) -> u32 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = key.len() as u64;
    let mut words = key.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        hash = (hash.rotate_left(23) ^ word).wrapping_mul(PRIME);
    }
    for &byte in words.remainder() {
        hash = (hash.rotate_left(9) ^ u64::from(byte)).wrapping_mul(PRIME);
    }
    ((hash ^ (hash >> 29)).wrapping_mul(PRIME) >> 32) as u32 | 1
}

/// Whether a request has to wait until earlier ones are answered, because it moves the client to another connection
/// or changes what the following ones mean.
fn must_wait(state: &ClientState, classified: &Classified<'_>) -> bool {
    if state.slots.is_empty() {
        return false;
    }
    // Its effect on the connection is not known yet.
    if state.switching.is_some() {
        return true;
    }
    let elsewhere = state.slots.len() != state.own_busy as usize;
    match classified.kind {
        // Everything outstanding is on the connection that this one goes to as well.
        Kind::Plain | Kind::StreamRead if classified.blocks => elsewhere,
        Kind::Multi | Kind::Watch => elsewhere,
        Kind::Select
        | Kind::Auth
        | Kind::Hello
        | Kind::Client
        | Kind::Reset
        | Kind::Wait
        | Kind::Subscribe
        | Kind::Stream
        | Kind::Script => !state.session.is_raw() && (elsewhere || !state.session.in_transaction()),
        _ => false,
    }
}
