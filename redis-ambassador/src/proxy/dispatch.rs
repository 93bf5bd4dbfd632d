//! Requests on their way to a server, and what becomes of them when its connection is lost.

use super::client::Client;
use super::hub::Hub;
use super::link_task;
use crate::upstream::{Link, LinkError, Phase, Waiter};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

/// A read is tried on this many connections before its client gets an error.
const MAX_ATTEMPTS: u8 = 6;

/// How a request's connection was lost.
#[derive(Clone, Copy)]
struct Lost {
    /// The server has not seen it.
    unsent: bool,
    /// Part of its answer came.
    begun: bool,
    /// Its client has writes on the connection that will be sent elsewhere.
    between_writes: bool,
}

/// Whose writes have never left, given at which place of the bytes that is so.
fn clients_with_writes(
    waiters: &VecDeque<Waiter>,
    is_unsent: impl Fn(usize) -> bool,
) -> HashSet<*const Client> {
    let mut at = 0;
    let mut clients = HashSet::new();
    for waiter in waiters {
        if !waiter.read && is_unsent(at) {
            clients.insert(Rc::as_ptr(&waiter.client));
        }
        at += waiter.len as usize;
    }
    clients
}

impl Hub {
    /// The shared connection of a lane to a server, made when there is none.
    #[inline]
    pub(super) fn link(self: &Rc<Self>, lane: usize, server: usize) -> Rc<Link> {
        let mut lanes = self.lanes.borrow_mut();
        let lane = &mut lanes[lane];
        if let Some(Some(link)) = lane.links.get(server) {
            return Rc::clone(link);
        }
        if lane.links.len() <= server {
            lane.links.resize(server + 1, None);
        }
        let link = Link::new(server, lane.profile, None);
        if let Some(name) = &lane.name {
            link.state.borrow_mut().told = vec![vec![b"CLIENT".to_vec(), b"SETNAME".to_vec(), name.to_vec()]];
        }
        if let Some(tracker) = &lane.tracker {
            let mut state = link.state.borrow_mut();
            state.told = tracker.told().to_vec();
            state.hearer = Some(Rc::clone(tracker.client()));
        }
        lane.links[server] = Some(Rc::clone(&link));
        tokio::task::spawn_local(link_task::run(Rc::clone(self), Rc::clone(&link)));
        link
    }

    /// Appends a request to a shared connection; it is written at the end of the turn.
    #[inline]
    pub(super) fn send(&self, link: &Rc<Link>, request: &[u8], mut waiter: Waiter) {
        waiter.len = request.len() as u32;
        waiter.leaves(self.clock());
        link.outstanding.set(link.outstanding.get() + 1);
        let mut state = link.state.borrow_mut();
        state.out.extend(request);
        state.waiters.push_back(waiter);
        if !state.dirty {
            state.dirty = true;
            drop(state);
            self.mark_dirty(link);
        }
    }

    /// Sends a request that came back unanswered to wherever it may go now.
    pub(super) fn send_again(
        self: &Rc<Self>,
        waiter: Waiter,
        mut request: Vec<u8>,
        last_error: Option<Vec<u8>>,
    ) {
        if waiter.client.state.borrow().closed {
            return self.fence_done(&waiter);
        }
        leave_order(&waiter);
        if self.clustered.get() {
            return self.send_again_clustered(waiter, request, last_error);
        }
        let lane = self.lane_of(&waiter);
        let fresh = |server: &usize| self.is_fresh(*server, waiter.epoch);
        let replica = match waiter.anywhere {
            true => self
                .replica(lane)
                .filter(fresh)
                .or_else(|| self.chooser.borrow().servers().iter().copied().find(fresh)),
            false => None,
        };
        let waits = waiter.anywhere && self.only_replicas();
        match replica.or_else(|| self.primary().filter(|_| !waits)) {
            Some(server) => {
                self.rescan(waiter.scan, &mut request, server);
                let link = self.link(lane, server);
                self.send(&link, &request, waiter);
            }
            None => self.hold(waiter, request, last_error),
        }
    }

    /// Gives a request its final answer from here.
    pub(super) fn finish(&self, waiter: &Waiter, answer: &[u8]) {
        self.fence_done(waiter);
        let mut state = waiter.client.state.borrow_mut();
        if state.closed {
            return;
        }
        match &waiter.part {
            None => state.reply(waiter.seq, answer, true),
            Some(part) => {
                let mut joined = part.joined.borrow_mut();
                let dropped = joined.restart(part.index);
                state.not_joined(dropped);
                state.joining += answer.len();
                if joined.push(part.index, answer, true) {
                    state.not_joined(joined.bytes());
                    state.reply(waiter.seq, &joined.finish(), true);
                }
            }
        }
        let state = &mut *state;
        if state.switching.as_ref().is_some_and(|switching| switching.seq == waiter.seq) {
            state.switching = None;
            self.tracked(state, false);
        }
        self.mark_client(&waiter.client, &mut state.dirty);
    }

    /// Takes a connection out of use for new requests; it ends when the last of its requests is answered.
    pub(super) fn detach(&self, link: &Rc<Link>) {
        for lane in self.lanes.borrow_mut().iter_mut() {
            for slot in &mut lane.links {
                if slot.as_ref().is_some_and(|known| Rc::ptr_eq(known, link)) {
                    *slot = None;
                }
            }
        }
        if link.detached.get().is_none() {
            self.detach_taken(Rc::clone(link));
        }
    }

    pub(super) fn detach_taken(&self, link: Rc<Link>) {
        let idle = link.state.borrow().waiters.is_empty();
        link.detached.set(Some(self.now()));
        if idle {
            link.close();
        } else {
            self.detached.borrow_mut().push(link);
        }
    }

    /// A connection is gone: reads go elsewhere, what was never written waits for a server, and the rest gets an
    /// error, because the server may have run it.
    pub(super) fn link_lost(self: &Rc<Self>, link: &Rc<Link>, error: &LinkError) {
        if link.is_closed() && link.state.borrow().waiters.is_empty() {
            return;
        }
        let (waiters, out, sent, was_up, never_up, begun, owner) = {
            let mut state = link.state.borrow_mut();
            let was_up = matches!(state.phase, Phase::Up(_));
            let never_up = matches!(state.phase, Phase::Connecting);
            let begun = state.framer.in_reply();
            let owner = state.owner.take();
            (
                std::mem::take(&mut state.waiters),
                std::mem::take(&mut state.out),
                state.sent,
                was_up,
                never_up,
                begun,
                owner,
            )
        };
        link.close();
        link.outstanding.set(0);
        self.forget(link);
        let server = link.server.get();
        let address = self.topology.borrow().name(server);
        if waiters.is_empty() && matches!(error, LinkError::Closed) {
            tracing::debug!(server = %address, "idle connection closed by the server");
        } else {
            tracing::warn!(server = %address, %error, unanswered = waiters.len(), "connection to server lost");
        }
        self.metrics.lost(was_up);
        if !link.own.get() {
            self.cursors.borrow_mut().begin_life(server);
        }
        // A user that it does not know says nothing about the server.
        if !matches!(error, LinkError::Refused(line) if !is_crowded(line)) {
            self.suspend(server);
        }
        // It would have been the client's own, were there no ambassador between.
        let killed = was_up && matches!(error, LinkError::Closed | LinkError::Io(_)) && self.is_killing();
        if killed && let Some(owner) = &owner {
            waiters.iter().for_each(|waiter| self.fence_done(waiter));
            self.own_lost(owner, true);
            return self.flush_clients();
        }
        if let Some(owner) = &owner
            && self.clustered.get()
            && !matches!(error, LinkError::Refused(_))
            && owner.state.borrow_mut().can_begin_again()
        {
            // Nothing of a transaction is run before EXEC, so the next owner of its slot can have it.
            self.replay_on(owner, link.slot.get(), None, waiters.into_iter().collect());
            return;
        }
        // An own connection keeps no request it has written; only one that never came about sent none.
        let is_unsent = |at: usize| if link.own.get() { never_up } else { at >= sent };
        let writing = clients_with_writes(&waiters, is_unsent);
        let mut at = 0;
        for (index, waiter) in waiters.into_iter().enumerate() {
            let end = at + waiter.len as usize;
            let request = out.as_slice().get(at..end).unwrap_or_default();
            let lost = Lost {
                unsent: is_unsent(at),
                begun: begun && index == 0,
                between_writes: writing.contains(&Rc::as_ptr(&waiter.client)),
            };
            self.settle(link, waiter, request, lost, error);
            at = end;
        }
        if let Some(owner) = owner {
            self.own_lost(&owner, false);
        }
        self.flush_clients();
    }

    fn settle(
        self: &Rc<Self>,
        link: &Rc<Link>,
        mut waiter: Waiter,
        request: &[u8],
        lost: Lost,
        error: &LinkError,
    ) {
        let Lost { unsent, begun, between_writes } = lost;
        if waiter.abandoned {
            return;
        }
        if begun && waiter.client.state.borrow().closed {
            return self.fence_done(&waiter);
        }
        if let Some(part) = &waiter.part {
            let dropped = part.joined.borrow_mut().restart(part.index);
            waiter.client.state.borrow_mut().not_joined(dropped);
        } else if begun && waiter.client.has_begun(waiter.seq) {
            // Half an answer is on its way to the client and its rest will never come.
            self.kick(&waiter.client, "connection to the server was lost in the middle of an answer");
            return self.fence_done(&waiter);
        }
        if let LinkError::Refused(line) = error
            && (!waiter.anywhere
                || self.primary() == Some(link.server.get())
                || waiter.attempts >= MAX_ATTEMPTS)
        {
            self.finish(&waiter, line);
        } else if link.own.get() && unsent {
            self.metrics.refused.inc();
            let address = self.topology.borrow().name(link.server.get());
            let line =
                format!("-NOPRIMARY no connection to {address}: {error}; this command was not run\r\n");
            self.finish(&waiter, line.as_bytes());
        } else if link.own.get() {
            self.metrics.unanswered(link.server.get(), waiter.class());
            self.finish(&waiter, &self.lost_answer(link));
        } else if waiter.read && waiter.attempts < MAX_ATTEMPTS {
            waiter.attempts += 1;
            leave_order(&waiter);
            self.metrics.retried.inc();
            if matches!(error, LinkError::Refused(line) if !is_crowded(line)) && !self.only_replicas() {
                // Users are not replicated: the primary is the one to ask.
                waiter.anywhere = false;
            }
            if between_writes && !self.only_replicas() {
                // It waits in their midst, since it may neither overtake them nor be overtaken.
                waiter.anywhere = false;
                self.hold(waiter, request.to_vec(), None);
            } else if waiter.anywhere || !self.in_limbo() {
                self.send_again(waiter, request.to_vec(), None);
            } else {
                self.hold(waiter, request.to_vec(), None);
            }
        } else if unsent {
            self.hold(waiter, request.to_vec(), None);
        } else {
            self.metrics.unanswered(link.server.get(), waiter.class());
            self.finish(&waiter, &self.lost_answer(link));
        }
    }

    fn lost_answer(&self, link: &Link) -> Vec<u8> {
        let address = self.topology.borrow().name(link.server.get());
        let line = format!(
            "-LOSTREPLY connection to {address} was lost before this command was answered; it may have been run\r\n"
        );
        line.into_bytes()
    }

    /// Removes every reference of the hub to a connection.
    fn forget(&self, link: &Rc<Link>) {
        for lane in self.lanes.borrow_mut().iter_mut() {
            for slot in &mut lane.links {
                if slot.as_ref().is_some_and(|known| Rc::ptr_eq(known, link)) {
                    *slot = None;
                }
            }
        }
        self.idle.borrow_mut().retain(|(_, idle)| !Rc::ptr_eq(idle, link));
        self.detached.borrow_mut().retain(|detached| !Rc::ptr_eq(detached, link));
    }

    /// A client's own connection is gone. Where that cannot be hidden, or somebody wanted it, the client is closed, as
    /// a server would do.
    fn own_lost(&self, client: &Rc<Client>, killed: bool) {
        let dies = {
            let mut state = client.state.borrow_mut();
            state.own = None;
            state.own_busy = 0;
            if state.forget_cached() {
                let state = &mut *state;
                self.mark_client(client, &mut state.dirty);
            }
            killed || state.session.dies_with_own() || state.streaming
        };
        if dies {
            let why = if killed { "CLIENT KILL" } else { "connection to the server was lost" };
            self.kick(client, why);
        }
    }

    /// Closes a client once what it has been answered is written.
    pub(super) fn kick(&self, client: &Rc<Client>, why: &str) {
        let mut state = client.state.borrow_mut();
        let state = &mut *state;
        tracing::warn!(client = client.id, "client closed: {why}");
        self.metrics.kicked.inc();
        state.closing = true;
        state.forget_slots();
        state.input = Vec::new();
        self.mark_client(client, &mut state.dirty);
    }
}

/// Whether a server refuses a connection because it has too many.
fn is_crowded(line: &[u8]) -> bool {
    line.starts_with(b"-ERR max number of clients")
}

/// Notes that a request is sent again or waits for that: a read is then not ahead of what its client sends to the
/// primary after it, so that writes of its key have to wait for its answer.
pub(super) fn leave_order(waiter: &Waiter) {
    if waiter.read && !waiter.abandoned {
        waiter.client.state.borrow_mut().read_from_replica(waiter.seq);
    }
}

impl Client {
    /// Whether part of the answer to request `seq` has left or is about to.
    fn has_begun(&self, seq: u64) -> bool {
        let state = self.state.borrow();
        let index = (seq - state.head) as usize;
        index == 0 || state.slots.get(index).is_some_and(|slot| !slot.held.is_empty())
    }
}
