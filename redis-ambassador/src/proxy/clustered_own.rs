//! Transactions, blocking commands and streams of a cluster: a client's own connection goes to the owner of a slot,
//! and what was sent over it is kept, so that it can be sent again when the slot has moved.

use super::client::{Client, ClientState};
use super::clustered::{ASKING, Slots, slots};
use super::hub::Hub;
use super::process::Outcome;
use crate::cluster::{NO_SLOT, Redirect, everywhere};
use crate::command::{Classified, Effect, Kind, Request};
use crate::upstream::{Link, LinkState, Waiter};
use std::rc::Rc;

const NOT_HERE_ANY_MORE: &[u8] =
    b"-CROSSSLOT Keys in request don't hash to the same slot, or the slot has moved since \
    WATCH; begin the transaction again\r\n";
const SEND_AGAIN: &[u8] =
    b"-TRYAGAIN The slot has just moved to another server; this command was not run\r\n";
/// More bytes than this are not kept; a redirection then reaches the client.
const MAX_KEPT: usize = 4 << 20;
/// More redirections in a row reach the client.
const MAX_REPLAYS: u8 = 100;
const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";

/// What a client has sent over its own connection and may have to be sent again.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// `MULTI` has been answered here and not been sent, since its slot is not known yet.
    pub(super) deferred: bool,
    multi: bool,
    frames: Vec<Vec<u8>>,
    bytes: usize,
    /// It cannot be sent again: too large, or it follows a `WATCH`.
    pub(super) lost: bool,
    replays: u8,
}

impl Kept {
    fn keep(&mut self, frame: &[u8]) {
        self.bytes += frame.len();
        self.lost |= self.bytes > MAX_KEPT;
        if self.lost {
            self.frames = Vec::new();
        } else {
            self.frames.push(frame.to_vec());
        }
    }
}

impl ClientState {
    /// Whether it is in a transaction that can be begun anew on another server.
    pub(super) fn can_begin_again(&mut self) -> bool {
        let kept = &mut self.kept;
        kept.replays = kept.replays.saturating_add(1);
        self.session.in_multi() && kept.multi && !kept.lost && kept.replays < MAX_REPLAYS
    }
}

impl Hub {
    /// What has to be settled before a request is planned; `Some` when it is, or has to wait.
    pub(super) fn before_clustered(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        request: &Request<'_>,
        classified: &Classified<'_>,
        frame: &[u8],
    ) -> Option<Outcome> {
        if state.session.is_raw() || state.session.in_transaction() {
            return None;
        }
        if let Some(outcome) = self.track(client, state, request, classified) {
            return Some(outcome);
        }
        if classified.kind == Kind::Client
            && ["TRACKING", "CACHING", "TRACKINGINFO", "GETREDIR"].iter().any(|word| request.is(1, word))
        {
            return Some(self.share_clustered(
                client,
                state,
                request,
                classified,
                Effect::PrimaryRead,
                frame,
            ));
        }
        if classified.kind == Kind::Wait {
            return Some(self.wait_clustered(client, state, frame));
        }
        // What follows a blocking command may belong to another server; it waits for the answer.
        if state.own_busy > 0 && classified.kind != Kind::Quit {
            return Some(Outcome::Later);
        }
        if classified.kind == Kind::Client && self.ask_of_clients(client, state, request) {
            return Some(Outcome::Taken);
        }
        if classified.blocks && slots(request, classified) == Slots::Several {
            state.answer(b"-CROSSSLOT Keys in request don't hash to the same slot\r\n");
            return Some(Outcome::Taken);
        }
        None
    }

    /// Sends a request over the client's own connection, to the owner of its slot.
    pub(super) fn send_own_clustered(
        self: &Rc<Self>,
        client: &Rc<Client>,
        state: &mut ClientState,
        request: &Request<'_>,
        classified: &Classified<'_>,
        inside: bool,
        frame: &[u8],
    ) -> Outcome {
        let slots = slots(request, classified);
        let slot = if let Slots::One(slot) = slots { Some(slot) } else { None };
        let begins = matches!(classified.kind, Kind::Multi | Kind::Watch);
        let name = classified.command.map_or("", |command| &command.name);
        let shared = slots != Slots::None || everywhere(name, request).is_some();
        if !inside && !begins && !classified.blocks && shared {
            return self.share_clustered(client, state, request, classified, classified.effect, frame);
        }
        if !inside {
            state.kept = Kept { lost: classified.kind == Kind::Watch, ..Kept::default() };
            // A connection that is kept for its identity may be to another server.
            let elsewhere =
                |link: &Link| slot.is_some_and(|slot| self.owner(slot) != Some(link.server.get()));
            if state.own.as_ref().is_some_and(|link| elsewhere(link))
                && let Some(link) = state.own.take()
            {
                link.close();
            }
        }
        if classified.kind == Kind::Multi && !inside && state.own.is_none() {
            state.kept.deferred = true;
            state.answer(b"+OK\r\n");
            return Outcome::Taken;
        }
        if state.own.is_none() {
            state.own_slot = slot.unwrap_or(NO_SLOT);
        }
        if state.kept.deferred {
            state.kept.multi = true;
        }
        state.kept.keep(frame);
        self.send_own(client, state, request, classified, frame);
        let tells_number = request.len() == 2 && (request.is(1, "ID") || request.is(1, "INFO"));
        if classified.kind == Kind::Client && tells_number && !state.session.in_multi() {
            self.name_in_answer(client, state, request);
        }
        Outcome::Taken
    }

    /// Tells a fresh connection of a client what has been answered already.
    pub(super) fn begin_own_clustered(&self, client: &Rc<Client>, state: &mut ClientState, link: &Rc<Link>) {
        if std::mem::take(&mut state.kept.deferred) {
            self.tell(link, MULTI, Waiter::internal(client, self.clock()));
        }
    }

    /// Sends a request over a client's own connection, which keeps none of its bytes.
    fn tell(&self, link: &Rc<Link>, frame: &[u8], waiter: Waiter) {
        link.outstanding.set(link.outstanding.get() + 1);
        link.state.borrow_mut().waiters.push_back(waiter);
        self.append_own(link, frame);
    }

    /// Whether an answer over a client's own connection says that nothing was run here and can be elsewhere.
    pub(super) fn is_redirected(&self, link: &Link, line: &[u8], own: &LinkState) -> bool {
        let Some(redirect) = Redirect::parse(line) else { return false };
        let Some(owner) = &own.owner else { return false };
        let mut state = owner.state.borrow_mut();
        let kept = &mut state.kept;
        let again = !kept.lost && !kept.frames.is_empty() && kept.replays < MAX_REPLAYS;
        if let (NO_SLOT, Redirect::Moved(slot, ..) | Redirect::Ask(slot, ..)) = (link.slot.get(), redirect) {
            link.slot.set(slot);
        }
        // Inside a transaction another slot is the client's mistake, and the first one's owner is right.
        let foreign = matches!(redirect, Redirect::Moved(slot, ..) | Redirect::Ask(slot, ..) if slot != link.slot.get());
        kept.replays = kept.replays.saturating_add(1);
        again && !foreign
    }

    /// What a client is told of a redirection that cannot be followed for it.
    pub(super) fn shown<'a>(&self, link: &Link, own: &LinkState, line: &'a [u8]) -> &'a [u8] {
        let Some(redirect @ (Redirect::Moved(..) | Redirect::Ask(..))) = Redirect::parse(line) else {
            return line;
        };
        self.follow(link, &redirect);
        let transaction = own.owner.as_ref().is_some_and(|owner| owner.state.borrow().kept.multi);
        if transaction { NOT_HERE_ANY_MORE } else { SEND_AGAIN }
    }

    /// Sends what a client had on its own connection over another one.
    pub(super) fn replay(self: &Rc<Self>, link: &Rc<Link>, error: &[u8]) {
        let Some(redirect) = Redirect::parse(error) else { return };
        let target = self.follow(link, &redirect);
        let asking = matches!(redirect, Redirect::Ask(..));
        let (waiters, owner) = {
            let mut state = link.state.borrow_mut();
            (std::mem::take(&mut state.waiters), state.owner.take())
        };
        link.close();
        let Some(owner) = owner else { return };
        let waiters = waiters.into_iter().collect();
        // At once, so that what the client says meanwhile comes behind it; the connection itself may hesitate.
        let fresh = self.replay_on(&owner, link.slot.get(), target.filter(|_| asking), waiters);
        if let (None, Some(fresh)) = (target, fresh) {
            fresh.hesitates.set(true);
        }
    }

    /// Opens another connection for a client and sends everything again; answers that it has had are dropped.
    pub(super) fn replay_on(
        self: &Rc<Self>,
        client: &Rc<Client>,
        slot: u16,
        ask: Option<usize>,
        waiters: Vec<Waiter>,
    ) -> Option<Rc<Link>> {
        let mut state = client.state.borrow_mut();
        let state = &mut *state;
        if state.closed {
            return None;
        }
        let due: Vec<Waiter> = waiters.into_iter().filter(|waiter| !waiter.abandoned).collect();
        state.own = None;
        state.own_slot = slot;
        state.own_server = ask;
        state.kept.deferred = false;
        let link = self.own(client, state);
        state.own_server = None;
        if ask.is_some() {
            self.tell(&link, ASKING, Waiter::internal(client, self.clock()));
        }
        if state.kept.multi {
            self.tell(&link, MULTI, Waiter::internal(client, self.clock()));
        }
        let answered = state.kept.frames.len().saturating_sub(due.len());
        for frame in &state.kept.frames[..answered] {
            self.tell(&link, frame, Waiter::internal(client, self.clock()));
        }
        for (frame, waiter) in state.kept.frames[answered..].iter().zip(due) {
            self.tell(&link, frame, waiter);
        }
        Some(link)
    }
}
