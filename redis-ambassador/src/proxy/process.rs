//! What clients send: framed, classified, planned and dispatched.

use super::client::{Client, ClientState, HIGH_WATER, LOW_WATER, Mode};
use super::clustered::{Slots, slots};
use super::clustered_own::Kept;
use super::hub::Hub;
use super::keys::Keys;
use crate::cluster::NO_SLOT;
use crate::command::{Classified, Effect, Kind, Request};
use crate::resp::{RequestFramer, Step, inline_to_multibulk};
use crate::session::Plan;
use crate::upstream::Waiter;
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
        state_touched(client, self.now());
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
        self.account(state);
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
        self.account(state);
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
        let live = self.live.get();
        let (pipeline, output) = match resuming {
            true => (live.max_pipeline / 2 + 1, LOW_WATER),
            false => (live.max_pipeline, HIGH_WATER),
        };
        state.slots.len() < pipeline
            && state.unanswered < live.max_pipeline_bytes
            && state.unread() + state.joining < output
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
                    let args = state.framer.lend_args();
                    let outcome = self.take_on(client, state, &Request::new(frame, &args), frame);
                    state.framer.take_back(args);
                    if state.locked {
                        state.framer.set_limits(self.live.get().limits.of_strangers());
                    }
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
                let mut framer = RequestFramer::new(self.live.get().limits);
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
        if classified.command.is_some_and(|command| command.denied) {
            self.deny(client, state, &classified);
            return Outcome::Taken;
        }
        if state.locked && !self.is_open_to_strangers(state, request, classified.kind) {
            return Outcome::Taken;
        }
        let inside = state.session.in_transaction();
        if self.clustered.get()
            && let Some(outcome) = self.before_clustered(client, state, request, &classified, frame)
        {
            return outcome;
        }
        let paused = self.is_paused();
        if paused && state.slots.len() != state.own_busy as usize {
            return Outcome::Later;
        }
        if !matches!(classified.kind, Kind::Plain)
            && let Some(changed) = self.note(state, request, &classified)
        {
            drop(table);
            return self.take_changed(client, state, &changed);
        }
        let plan = state.session.plan(&table, request, &classified, state.own_busy > 0);
        let plan = match plan {
            // Whoever has to wait does so alone.
            Plan::Shared(effect) if effect != Effect::Read && paused && !self.clustered.get() => Plan::Own,
            plan => plan,
        };
        match plan {
            Plan::Shared(effect) if self.clustered.get() => {
                return self.share_clustered(client, state, request, &classified, effect, frame);
            }
            Plan::Own if self.clustered.get() => {
                return self.send_own_clustered(client, state, request, &classified, inside, frame);
            }
            Plan::Shared(effect) => return self.share(client, state, request, &classified, effect, frame),
            // A server that is busy with a script selects no database, and needs none to stop it.
            Plan::Own if classified.kind == Kind::Script && state.own.is_none() => {
                let db = std::mem::take(&mut state.session.profile.db);
                self.send_own(client, state, request, &classified, frame);
                state.session.profile.db = db;
            }
            Plan::Own => self.send_own(client, state, request, &classified, frame),
            Plan::Raw if self.clustered.get() && state.own.is_none() => {
                if let Slots::One(slot) = slots(request, &classified) {
                    state.own_slot = slot;
                }
                self.send_raw(client, state, request, &classified, frame);
            }
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
            Plan::Nothing => {}
            Plan::Reset => {
                if let Some(link) = state.own.take() {
                    link.close();
                }
                state.own_busy = 0;
                state.kept = Kept::default();
                state.tracking = None;
                state.session.reset();
                state.locked = self.settings.users.is_some();
                self.enter_lane(state);
                state.answer(b"+RESET\r\n");
            }
            Plan::Quit => {
                state.answer(b"+OK\r\n");
                state.closing = true;
            }
        }
        Outcome::Taken
    }

    /// Carries out a request in place of the one that came.
    fn take_changed(self: &Rc<Self>, client: &Rc<Client>, state: &mut ClientState, frame: &[u8]) -> Outcome {
        let mut framer = RequestFramer::new(self.live.get().limits);
        match framer.advance(frame) {
            Ok(Step::Request(_)) => self.take_on(client, state, &Request::new(frame, framer.args()), frame),
            _ => Outcome::Taken,
        }
    }

    /// Refuses a command that the operator does not want.
    fn deny(self: &Rc<Self>, client: &Rc<Client>, state: &mut ClientState, classified: &Classified<'_>) {
        self.metrics.denied.inc();
        if state.session.in_multi() {
            // The server has to know, so that EXEC fails: it gets something that it refuses.
            self.send_own_plain(client, state, b"*1\r\n$20\r\ndenied-by-ambassador\r\n");
            return;
        }
        let name = classified.command.map_or("", |command| &command.name);
        state.answer(format!("-NOPERM the ambassador does not allow the '{name}' command\r\n").as_bytes());
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
        let needed = if effect == Effect::Read { self.fence_needed(state, &keys) } else { 0 };
        let mut alone = false;
        let (mode, server) = match effect {
            Effect::Read => match self.replica_for(state, &keys, needed) {
                Some(server) => (Mode::ReplicaRead, Some(server)),
                None if self.only_replicas() => {
                    // It waits for the client's own write, and then for a replica that has it.
                    if state.writes > 0 && state.conflicts(keys.single, Mode::Write) {
                        return Outcome::Later;
                    }
                    alone = true;
                    (Mode::ReplicaRead, None)
                }
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
        if mode != Mode::ReplicaRead && self.would_overtake(state) {
            return Outcome::Later;
        }
        let epoch = if effect == Effect::Write { self.fence_write(state, &keys) } else { needed };
        let seq = state.push_slot(keys.single, mode, frame.len());
        let waiter = Waiter {
            client: Rc::clone(client),
            seq,
            len: 0,
            since: self.clock(),
            delay: 0,
            epoch,
            read: effect != Effect::Write,
            anywhere: effect == Effect::Read,
            script: classified.kind == Kind::ReadScript,
            runs_code: classified.command.is_some_and(|command| command.runs_code),
            abandoned: false,
            attempts: 0,
            slot: NO_SLOT,
            scan: std::mem::take(&mut state.scan),
            part: None,
        };
        self.metrics.sent(mode == Mode::ReplicaRead, effect);
        match server {
            Some(server) if !alone && (mode == Mode::ReplicaRead || !self.in_limbo()) => {
                let link = self.link(state.lane, server);
                if mode != Mode::ReplicaRead {
                    state.last_primary = link.id;
                }
                self.send(&link, frame, waiter);
            }
            _ => self.hold(waiter, frame.to_vec(), None),
        }
        Outcome::Taken
    }

    /// The replica that may answer a read of these keys for this client, if any.
    #[inline]
    fn replica_for(&self, state: &mut ClientState, keys: &Keys, needed: u64) -> Option<usize> {
        if self.needs_primary()
            || (!keys.complete && !self.only_replicas())
            || (state.writes > 0 && state.conflicts(keys.single, Mode::Write))
        {
            return None;
        }
        // One client's reads in flight stay together: its answers then come back in order, in one piece.
        let server = match state.replica_reads {
            0 => self.replica(state.lane)?,
            _ if self.chooser.borrow().servers().contains(&state.last_replica) => state.last_replica,
            _ => self.replica(state.lane)?,
        };
        if !self.is_fresh(server, needed) {
            self.metrics.fenced.inc();
            return None;
        }
        state.last_replica = server;
        Some(server)
    }
}

/// Notes that a client has sent something.
fn state_touched(client: &Client, now: u64) {
    client.state.borrow_mut().heard = now;
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
