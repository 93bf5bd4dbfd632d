//! Connections of a client's own, and requests too large to be held whole.

use super::client::{Client, ClientState, Mode};
use super::clustered::{Slots, slots};
use super::clustered_own::Kept;
use super::hub::Hub;
use super::link_task;
use crate::cluster::NO_SLOT;
use crate::command::{Classified, Effect, Kind, Request};
use crate::resp::Step;
use crate::session::Plan;
use crate::upstream::{Link, Waiter};
use std::rc::Rc;

/// An incomplete request of more than this is passed on while it arrives.
const STREAMED: usize = 64 << 10;
/// A request that cannot be passed on while it arrives may be this large.
const MAX_BUFFERED: usize = 64 << 20;
/// In front of a cluster a request of up to this many bytes is held whole.
const MAX_HELD: u64 = 16 << 20;

impl Hub {
    /// The client's own connection to the primary, taken from those waiting or made.
    pub(super) fn own(self: &Rc<Self>, client: &Rc<Client>, state: &mut ClientState) -> Rc<Link> {
        if let Some(link) = &state.own {
            return Rc::clone(link);
        }
        let server = match self.clustered.get() {
            true => state.own_server.or_else(|| self.owner(state.own_slot)),
            false => self.primary(),
        };
        let link = match self.take_spare(client, &state.session, server) {
            Some(link) => link,
            None => {
                let link = Link::new(server.unwrap_or(0), state.session.profile, Some(Rc::clone(client)));
                link.state.borrow_mut().told = state.session.replay();
                tokio::task::spawn_local(link_task::run(Rc::clone(self), Rc::clone(&link)));
                link
            }
        };
        if !self.clustered.get() {
            self.top_up(state.session.profile);
        }
        state.own = Some(Rc::clone(&link));
        if self.clustered.get() {
            link.slot.set(std::mem::replace(&mut state.own_slot, NO_SLOT));
            link.fixed.set(state.own_server);
            self.begin_own_clustered(client, state, &link);
        }
        link
    }

    /// Makes the shared connection that carried the client's writes its own; others get a new one.
    pub(super) fn adopt_shared(&self, client: &Rc<Client>, state: &mut ClientState) {
        let Some(server) = self.primary() else { return };
        if state.own.is_some() {
            return;
        }
        let link = {
            let mut lanes = self.lanes.borrow_mut();
            lanes.get_mut(state.lane).and_then(|lane| lane.links.get_mut(server)).and_then(Option::take)
        };
        let Some(link) = link else { return };
        {
            let mut link_state = link.state.borrow_mut();
            let sent = link_state.sent;
            link_state.out.consume(sent);
            link_state.sent = 0;
            // Answers of others may still be due on it; their requests are no longer kept.
            link_state.waiters.iter_mut().for_each(|waiter| waiter.len = 0);
            link_state.owner = Some(Rc::clone(client));
        }
        link.own.set(true);
        state.own = Some(link);
    }

    /// Sends a request over the client's own connection.
    pub(super) fn send_own(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        request: &Request<'_>,
        classified: &Classified<'_>,
        frame: &[u8],
    ) {
        self.fence_own(state, request, classified);
        self.metrics.sent(false, classified.effect);
        self.send_own_plain(client, state, frame);
        self.name_own(state, classified);
    }

    /// Notes what a client's own connection is busy with, for the slow log.
    fn name_own(&self, state: &ClientState, classified: &Classified<'_>) {
        let Some(link) = &state.own else { return };
        let mut link = link.state.borrow_mut();
        let (name, waits) = &mut link.last;
        name.clear();
        name.push_str(classified.command.map_or("(unknown)", |command| &command.name));
        *waits = classified.blocks || classified.kind == Kind::Wait;
    }

    pub(super) fn send_own_plain(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        frame: &[u8],
    ) -> u64 {
        let link = self.own(client, state);
        let seq = state.push_slot(0, Mode::Neutral, frame.len());
        self.expect_own(client, state, &link, seq);
        self.append_own(&link, frame);
        seq
    }

    fn expect_own(&self, client: &Rc<Client>, state: &mut ClientState, link: &Rc<Link>, seq: u64) {
        state.own_busy += 1;
        link.outstanding.set(link.outstanding.get() + 1);
        link.state.borrow_mut().waiters.push_back(Waiter {
            client: Rc::clone(client),
            seq,
            len: 0,
            since: self.clock(),
            delay: 0,
            epoch: 0,
            read: false,
            anywhere: false,
            script: false,
            runs_code: false,
            abandoned: false,
            attempts: 0,
            slot: NO_SLOT,
            scan: std::mem::take(&mut state.scan),
            part: None,
        });
    }

    pub(super) fn append_own(&self, link: &Rc<Link>, bytes: &[u8]) {
        let mut state = link.state.borrow_mut();
        state.out.extend(bytes);
        if !state.dirty {
            state.dirty = true;
            drop(state);
            self.mark_dirty(link);
        }
    }

    /// Sends a request on a connection that from now on is a plain stream.
    pub(super) fn send_raw(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        request: &Request<'_>,
        classified: &Classified<'_>,
        frame: &[u8],
    ) {
        self.fence_own(state, request, classified);
        self.metrics.sent(false, classified.effect);
        let link = self.own(client, state);
        {
            let mut link_state = link.state.borrow_mut();
            // Answers that are still due are in front of whatever the stream brings.
            link_state.raw = true;
            link_state.waiters.clear();
        }
        link.outstanding.set(0);
        state.forget_slots();
        state.own_busy = 0;
        self.append_own(&link, state.session.quiet_stream());
        self.append_own(&link, frame);
    }

    /// Gives an own connection back when nothing needs it any more.
    pub(super) fn release_own(&self, link: &Rc<Link>) {
        let Some(owner) = link.state.borrow().owner.clone() else { return };
        let mut state = owner.state.borrow_mut();
        let mine = state.own.as_ref().is_some_and(|own| Rc::ptr_eq(own, link));
        if !mine || state.own_busy > 0 || state.streaming || state.session.keeps_own() {
            return;
        }
        state.own = None;
        if state.forget_cached() {
            let state = &mut *state;
            self.mark_client(&owner, &mut state.dirty);
        }
        let clean =
            state.session.replay() == link.state.borrow().told && state.session.profile == link.profile;
        drop(state);
        {
            let mut link = link.state.borrow_mut();
            link.owner = None;
            link.listed = None;
        }
        if clean && self.keep_spare(link) {
            return;
        }
        link.close();
    }

    /// Looks at a request that has not wholly arrived: a large one is passed on as it comes. Returns the bytes that
    /// are no longer needed.
    pub(super) fn begin_stream(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        bytes: &[u8],
    ) -> usize {
        if bytes.len() < STREAMED {
            return 0;
        }
        if bytes.len() > MAX_BUFFERED {
            self.protocol_error(client, state, "Protocol error: request too large for this command");
            return bytes.len();
        }
        let args: Vec<_> = state.framer.complete_args().to_vec();
        if args.is_empty() {
            return 0;
        }
        let request = Request::new(bytes, &args);
        let table = self.table.borrow();
        let classified = table.classify(&request);
        let plain = matches!(classified.kind, Kind::Plain | Kind::Script | Kind::ReadScript | Kind::Bitfield)
            || state.session.is_raw();
        let (slot, streamable) = match self.clustered.get().then(|| slots(&request, &classified)) {
            None | Some(Slots::None) => (NO_SLOT, true),
            Some(Slots::One(slot)) => {
                (slot, classified.command.is_some_and(|command| command.only_key.is_some()))
            }
            Some(Slots::Several) => (NO_SLOT, false),
        };
        if !streamable && !state.session.is_raw() {
            return 0;
        }
        // What is passed on while it arrives cannot be sent again when its slot moves.
        let whole = bytes.len() as u64 + state.framer.missing();
        if self.clustered.get() && !state.session.is_raw() && whole <= MAX_HELD {
            return 0;
        }
        let refused = state.locked || classified.command.is_some_and(|command| command.denied);
        if !plain || refused {
            return 0;
        }
        if !state.session.is_raw() && state.slots.len() != state.own_busy as usize {
            state.parked = true;
            state.framer.reset();
            return 0;
        }
        let plan = state.session.plan(&table, &request, &classified, true);
        if self.clustered.get() && !state.session.in_transaction() && plan != Plan::Raw {
            if let Some(link) = state.own.take() {
                link.close();
            }
            state.own_slot = slot;
            state.kept = Kept::default();
        } else if state.own.is_none() {
            state.own_slot = slot;
        }
        state.kept.lost = true;
        let link = self.own(client, state);
        if plan != Plan::Raw {
            let seq = state.push_slot(0, Mode::Neutral, 0);
            self.expect_own(client, state, &link, seq);
            self.fence_own(state, &request, &classified);
            self.metrics.sent(false, Effect::Write);
        }
        state.streaming = true;
        let scanned = state.framer.discard_scanned();
        self.append_own(&link, &bytes[..scanned]);
        scanned
    }

    /// Passes on more of a large request and returns how many bytes that took.
    pub(super) fn stream_on(self: &Rc<Self>, state: &mut ClientState, bytes: &[u8], step: Step) -> usize {
        let (length, done) = match step {
            Step::Request(length) => (length, true),
            _ => (state.framer.discard_scanned(), false),
        };
        if let Some(link) = state.own.clone() {
            self.append_own(&link, &bytes[..length]);
        }
        if done {
            state.streaming = false;
            state.framer.reset();
        }
        length
    }
}
