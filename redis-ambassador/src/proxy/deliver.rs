//! Answers on their way to the clients that wait for them.

use super::client::{Client, HIGH_WATER};
use super::hub::Hub;
use crate::cluster::{Redirect, is_nothing};
use crate::session::Profile;
use crate::upstream::{Link, LinkError, LinkState, Waiter};
use std::rc::Rc;

/// A request whose answer proves that nothing was run, to be sent again.
struct Healed {
    waiter: Waiter,
    request: Vec<u8>,
    error: Vec<u8>,
}

/// What a batch of answers asks for besides delivering it.
#[derive(Default)]
struct Aftermath {
    healed: Vec<Healed>,
    redirected: Option<Vec<u8>>,
    congested: Option<Rc<Client>>,
    released: bool,
    /// What clients wanted to become and were refused.
    refused: Vec<(Profile, Option<Box<[u8]>>)>,
}

impl Hub {
    /// Takes bytes from a server and hands them to the clients that wait for them.
    ///
    /// # Errors
    /// The bytes are no answers to what was asked; the connection is unusable.
    pub(super) fn on_bytes(self: &Rc<Self>, link: &Rc<Link>, bytes: &[u8]) -> Result<(), LinkError> {
        let mut aftermath = Aftermath::default();
        let outcome = {
            let mut state = link.state.borrow_mut();
            if state.input.is_empty() {
                let taken = self.deliver(link, &mut state, bytes, &mut aftermath)?;
                state.input.extend_from_slice(&bytes[taken..]);
            } else {
                let mut input = std::mem::take(&mut state.input);
                input.extend_from_slice(bytes);
                let taken = self.deliver(link, &mut state, &input, &mut aftermath)?;
                input.drain(..taken);
                state.input = input;
            }
            state.waiters.is_empty()
        };
        self.flush_clients();
        for healed in aftermath.healed {
            self.heal(link, healed);
        }
        for (profile, name) in aftermath.refused {
            // The connections that were to have this name may be nobody's.
            self.left_lane(self.lane(profile, name.as_deref()));
        }
        if let Some(client) = aftermath.congested {
            self.congested(link, &client);
        }
        if let Some(error) = aftermath.redirected {
            self.replay(link, &error);
        } else if aftermath.released {
            self.release_own(link);
            self.flush_clients();
        }
        if outcome && link.detached.get().is_some() && !link.own.get() {
            link.close();
            self.detached.borrow_mut().retain(|detached| !Rc::ptr_eq(detached, link));
        }
        Ok(())
    }

    fn deliver(
        &self,
        link: &Rc<Link>,
        state: &mut LinkState,
        bytes: &[u8],
        aftermath: &mut Aftermath,
    ) -> Result<usize, LinkError> {
        if state.raw {
            if let Some(owner) = &state.owner {
                self.pass_on(owner, bytes, aftermath);
            }
            return Ok(bytes.len());
        }
        let now = self.now();
        let mut at = 0;
        while at < bytes.len() {
            let fresh = !state.framer.in_reply();
            let chunk = state.framer.advance(&bytes[at..])?;
            if chunk.taken == 0 {
                break;
            }
            let mut data = &bytes[at..at + chunk.taken];
            at += chunk.taken;
            if state.framer.is_push() {
                if let Some(owner) = &state.owner {
                    self.pass_on(owner, data, aftermath);
                } else if let Some(client) = &state.hearer {
                    state.news.extend_from_slice(data);
                    if chunk.done {
                        self.hear(client, state.answered, &state.news);
                        state.news.clear();
                    }
                }
                continue;
            }
            let Some(waiter) = state.waiters.front() else { return Err(LinkError::Unexpected) };
            if fresh && chunk.done && data[0] == b'-' {
                self.metrics.error_replies.inc();
                if self.clustered.get() && link.own.get() && self.is_redirected(link, data, state) {
                    aftermath.redirected = Some(data.to_vec());
                    return Ok(bytes.len());
                }
                if self.clustered.get() && link.own.get() {
                    data = self.shown(link, state, data);
                }
                let redirected = self.clustered.get() && Redirect::parse(data).is_some();
                if !waiter.abandoned && !link.own.get() && (redirected || proves_nothing_ran(waiter, data)) {
                    let Some(waiter) = state.waiters.pop_front() else { break };
                    let request = state.out.as_slice()[..waiter.len as usize].to_vec();
                    self.consumed(link, state, waiter.len);
                    aftermath.healed.push(Healed { waiter, request, error: data.to_vec() });
                    continue;
                }
            }
            if self.clustered.get() && chunk.done && self.is_doubtful(link, waiter, data, fresh) {
                let Some(mut waiter) = state.waiters.pop_front() else { break };
                waiter.anywhere = false;
                let request = state.out.as_slice()[..waiter.len as usize].to_vec();
                self.consumed(link, state, waiter.len);
                aftermath.healed.push(Healed { waiter, request, error: Vec::new() });
                continue;
            }
            let succeeded = !fresh || data[0] != b'-';
            if fresh && waiter.scan != 0 {
                self.note_cursor(waiter.scan, data, link.server.get());
            }
            self.answer(link, waiter, data, chunk.done, fresh && succeeded, aftermath);
            if chunk.done
                && let Some(waiter) = state.waiters.pop_front()
            {
                self.fence_done(&waiter);
                if !waiter.abandoned {
                    state.answered = waiter.seq;
                    self.measure(link, state, &waiter, now, succeeded);
                }
                self.consumed(link, state, waiter.len);
                aftermath.released |= link.own.get() && state.waiters.is_empty();
            }
        }
        Ok(at)
    }

    /// Whether a replica's answer says that a key is not there: it does not know what is just being moved elsewhere.
    fn is_doubtful(&self, link: &Link, waiter: &Waiter, data: &[u8], fresh: bool) -> bool {
        if !waiter.anywhere || waiter.abandoned || self.owner(waiter.slot) == Some(link.server.get()) {
            return false;
        }
        match &waiter.part {
            None => fresh && is_nothing(data),
            Some(part) => {
                let mut joined = part.joined.borrow_mut();
                let doubtful = joined.has_nil(part.index, data);
                if doubtful {
                    waiter.client.state.borrow_mut().not_joined(joined.restart(part.index));
                }
                doubtful
            }
        }
    }

    /// Counts an answer, and remembers it when it took long.
    #[inline]
    fn measure(&self, link: &Link, state: &LinkState, waiter: &Waiter, now: u64, ok: bool) {
        let total = now.saturating_sub(waiter.since);
        let upstream = total.saturating_sub(u64::from(waiter.delay));
        self.metrics.answered(link.server.get(), waiter.class(), ok, upstream, total);
        if total >= self.slow_from.get() {
            self.note_slow(link, state, waiter, upstream, total, ok);
        }
    }

    fn consumed(&self, link: &Link, state: &mut LinkState, len: u32) {
        link.outstanding.set(link.outstanding.get().saturating_sub(1));
        let len = len as usize;
        if len != 0 {
            state.out.consume(len);
            state.sent = state.sent.saturating_sub(len);
        }
    }

    #[inline]
    fn answer(
        &self,
        link: &Rc<Link>,
        waiter: &Waiter,
        data: &[u8],
        done: bool,
        succeeded: bool,
        aftermath: &mut Aftermath,
    ) {
        let client = &waiter.client;
        let mut state = client.state.borrow_mut();
        let state = &mut *state;
        if state.closed || waiter.abandoned {
            return;
        }
        if state.closing && state.slots.is_empty() {
            return;
        }
        let mut succeeded = succeeded;
        match &waiter.part {
            None => {
                let written = client.write_through(state, waiter.seq, data);
                state.reply(waiter.seq, &data[written..], done);
            }
            Some(part) => {
                let mut joined = part.joined.borrow_mut();
                state.joining += data.len();
                if !joined.push(part.index, data, done) {
                    return self.account(state);
                }
                state.not_joined(joined.bytes());
                let whole = joined.finish();
                succeeded = !whole.starts_with(b"-");
                state.reply(waiter.seq, &whole, true);
            }
        }
        if done && link.own.get() && state.own.as_ref().is_some_and(|own| Rc::ptr_eq(own, link)) {
            state.own_busy = state.own_busy.saturating_sub(1);
            self.fence_own_answered(state);
        }
        if done && let Some(switching) = state.switching.take_if(|switching| switching.seq == waiter.seq) {
            self.tracked(state, succeeded);
            if !succeeded {
                aftermath.refused.extend(switching.becomes);
            } else {
                if state.locked {
                    state.locked = false;
                    state.framer.set_limits(self.live.get().limits);
                }
                if let Some((mut profile, name)) = switching.becomes {
                    if link.selects.get() && !link.own.get() && profile.db != 0 {
                        // Whoever did before may not be allowed to any more.
                        profile.selector = profile.user;
                    }
                    state.session.profile = profile;
                    state.session.name = name;
                    self.enter_lane(state);
                }
            }
        }
        self.mark_client(client, &mut state.dirty);
        if state.unread() > HIGH_WATER {
            aftermath.congested = Some(Rc::clone(client));
        }
    }

    fn pass_on(&self, client: &Rc<Client>, data: &[u8], aftermath: &mut Aftermath) {
        let mut state = client.state.borrow_mut();
        let state = &mut *state;
        self.fence_own_answered(state);
        state.out.extend(data);
        self.mark_client(client, &mut state.dirty);
        if state.out.len() > HIGH_WATER {
            aftermath.congested = Some(Rc::clone(client));
        }
    }

    fn heal(self: &Rc<Self>, link: &Rc<Link>, healed: Healed) {
        let Healed { mut waiter, request, error } = healed;
        waiter.attempts = waiter.attempts.saturating_add(1);
        super::dispatch::leave_order(&waiter);
        self.metrics.healed.inc();
        if error.is_empty() {
            return self.send_again(waiter, request, None);
        }
        let (mut waiter, request, error) = match self.clustered.get() {
            false => (waiter, request, error),
            true => match self.redirect(link, waiter, request, error) {
                Some(other) => other,
                None => return,
            },
        };
        if error.starts_with(b"-NOSCRIPT") {
            // The primary is where scripts are loaded.
            waiter.anywhere = false;
            waiter.script = false;
            self.send_again(waiter, request, Some(error));
            return;
        }
        self.suspend(link.server.get());
        self.settings.probe_now.notify_waiters();
        if waiter.anywhere && self.primary() != Some(link.server.get()) {
            self.send_again(waiter, request, Some(error));
        } else {
            self.hold(waiter, request, Some(error));
        }
    }

    /// A client does not read as fast as it is answered, or is answered in another order than it asked. Only what
    /// answers it may wait.
    fn congested(self: &Rc<Self>, link: &Rc<Link>, client: &Rc<Client>) {
        let unread = {
            let state = client.state.borrow();
            if state.unread() <= HIGH_WATER || state.closed || state.feeder.is_some() {
                return;
            }
            state.unread()
        };
        if !link.own.get() {
            self.detach(link);
            // Somebody's write is behind it and cannot be moved, or what this client waits for is: read on.
            if self.evacuate(link, client) || is_awaited(link, client) {
                if unread > self.live.get().client_output_limit {
                    self.kick(client, "it does not read its answers, and others wait behind it");
                    client.state.borrow_mut().closed = true;
                }
                return;
            }
        }
        client.state.borrow_mut().feeder = Some(Rc::clone(link));
        link.state.borrow_mut().paused = true;
    }

    /// Sends the reads of others that wait behind a slow client over another connection; true when something that
    /// cannot be sent again has to wait on.
    pub(super) fn evacuate(self: &Rc<Self>, link: &Rc<Link>, slow: &Rc<Client>) -> bool {
        // Whoever has a write in front of a read here has to read behind it.
        let (mut moved, mut writers) = (Vec::new(), Vec::<Rc<Client>>::new());
        {
            let mut state = link.state.borrow_mut();
            let LinkState { waiters, out, .. } = &mut *state;
            let mut at = 0;
            for waiter in waiters.iter_mut() {
                let request = at..at + waiter.len as usize;
                at = request.end;
                if Rc::ptr_eq(&waiter.client, slow) || waiter.abandoned {
                    continue;
                }
                let wrote = writers.iter().any(|writer| Rc::ptr_eq(writer, &waiter.client));
                if !waiter.read || wrote {
                    if !wrote {
                        writers.push(Rc::clone(&waiter.client));
                    }
                    continue;
                }
                waiter.abandoned = true;
                moved.push((Waiter { abandoned: false, ..waiter.copy() }, out.as_slice()[request].to_vec()));
            }
        }
        // Who waits for little comes first: who waits for much may be the next that does not read.
        moved.sort_by_key(|(waiter, _)| waiter.client.state.borrow().slots.len());
        for (waiter, request) in moved {
            self.send_again(waiter, request, None);
        }
        !writers.is_empty()
    }
}

/// Whether answers that a client has got already wait for one that is still to come over this connection: a read that
/// was sent again stands behind later ones.
fn is_awaited(link: &Link, client: &Rc<Client>) -> bool {
    let state = link.state.borrow();
    let mine = state.waiters.iter().filter(|waiter| Rc::ptr_eq(&waiter.client, client) && !waiter.abandoned);
    mine.map(|waiter| waiter.seq).min().is_some_and(|first| client.state.borrow().waits_behind(first))
}

/// Whether the server's refusal means that the request had no effect and may succeed elsewhere or later.
fn proves_nothing_ran(waiter: &Waiter, line: &[u8]) -> bool {
    const MAX_HEALS: u8 = 100;
    if waiter.attempts >= MAX_HEALS {
        return false;
    }
    line.starts_with(b"-LOADING ")
        || line.starts_with(b"-MASTERDOWN ")
        // A script's refusal has more words; parts of it may have run.
        || line == b"-READONLY You can't write against a read only replica.\r\n"
        || (waiter.script && line.starts_with(b"-NOSCRIPT "))
}
