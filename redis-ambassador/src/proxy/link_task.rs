//! The task of one upstream connection: connects, shakes hands, and reads until the end.

use super::hub::Hub;
use crate::session::Profile;
use crate::upstream::{Handshake, Link, LinkError, Phase, Socket, Told, connect};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Pause between attempts to connect for a client's own requests.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the connection; what happens at its end is [`Hub::link_lost`]'s business.
pub(super) async fn run(hub: Rc<Hub>, link: Rc<Link>) {
    let (socket, told) = match open(&hub, &link).await {
        Ok((socket, told)) => (Rc::new(socket), told),
        Err(error) => {
            hub.metrics.connect_failures.inc();
            return hub.link_lost(&link, &error);
        }
    };
    if link.is_closed() {
        return;
    }
    link.number.set(told.number);
    link.selects.set(told.selects);
    hub.enlist(&link);
    hub.metrics.upstreams.inc();
    {
        let mut state = link.state.borrow_mut();
        state.phase = Phase::Up(Rc::clone(&socket));
        // The time of making the connection says nothing about how quickly the server answers.
        let now = hub.now();
        state.waiters.iter_mut().for_each(|waiter| waiter.leaves(now));
    }
    hub.flush_link(&link);
    let outcome = poll_fn(|cx| poll(&hub, &link, &socket, cx)).await;
    hub.is_deaf(&link);
    hub.metrics.upstreams.dec();
    if let Err(error) = outcome {
        hub.link_lost(&link, &error);
    }
}

async fn open(hub: &Rc<Hub>, link: &Rc<Link>) -> Result<(Socket, Told), LinkError> {
    let started = hub.now();
    if link.hesitates.get() {
        tokio::time::sleep(PAUSE).await;
    }
    loop {
        let outcome = attempt(hub, link).await;
        let waited = Duration::from_micros(hub.now() - started);
        let retry = link.own.get() && !link.is_closed() && waited < hub.live.get().failover_wait;
        match outcome {
            Ok(opened) => return Ok(opened),
            Err(error @ LinkError::Refused(_)) => return Err(error),
            Err(error) if !retry => return Err(error),
            Err(error) => tracing::debug!(%error, "trying again to connect"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn attempt(hub: &Rc<Hub>, link: &Rc<Link>) -> Result<(Socket, Told), LinkError> {
    if link.own.get() {
        // The primary may have changed since the last attempt.
        let target = link.fixed.get().or_else(|| hub.owner(link.slot.get()));
        link.server.set(target.ok_or(LinkError::NoPrimary)?);
    }
    let address = hub.topology.borrow().address(link.server.get()).ok_or(LinkError::NoPrimary)?;
    let credentials = |user: u32| match user {
        0 => hub.settings.access.credentials(),
        user => hub.users.borrow().get(user as usize).cloned().flatten(),
    };
    let Profile { user, selector, .. } = link.profile;
    // Whoever selects for itself may not be allowed to tell the client's name; the default user can try.
    let (credentials, selector) =
        (credentials(user), credentials(if selector == user { 0 } else { selector }));
    let extras = {
        let state = link.state.borrow();
        match &state.owner {
            Some(owner) => owner.state.borrow().session.replay(),
            None => state.told.clone(),
        }
    };
    let mut extras: Vec<Vec<Vec<u8>>> = extras;
    if hub.clustered.get() && !link.own.get() && !hub.view.borrow().is_shard_primary(link.server.get()) {
        // A replica of a cluster sends readers away unless told not to. A primary is not told: when it becomes a
        // replica it must send away the reads behind a write as it does the write, or they would miss it.
        extras.push(vec![b"READONLY".to_vec()]);
    }
    if !link.own.get() && extras.is_empty() && credentials.is_none() && link.profile == Profile::default() {
        // The kernel still completes connections to a process that is being killed. A write sent over one would be
        // lost for nothing, so a server shows that it is there first.
        extras.push(vec![b"PING".to_vec()]);
    }
    let numbered = hub.clustered.get() && link.own.get();
    let handshake = Handshake { profile: link.profile, credentials, selector, numbered, extras };
    connect(&address, &hub.settings.access, &handshake, hub.live.get().connect_timeout).await
}

fn poll(
    hub: &Rc<Hub>,
    link: &Rc<Link>,
    socket: &Socket,
    cx: &mut Context<'_>,
) -> Poll<Result<(), LinkError>> {
    {
        let mut state = link.state.borrow_mut();
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
    }
    loop {
        let (blocked, paused, closed) = {
            let state = link.state.borrow();
            (state.blocked, state.paused, matches!(state.phase, Phase::Closed))
        };
        if closed {
            return Poll::Ready(Ok(()));
        }
        if blocked {
            match socket.poll_writable(cx) {
                Poll::Ready(Ok(())) => {
                    link.state.borrow_mut().blocked = false;
                    hub.flush_link(link);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(LinkError::Io(error))),
                Poll::Pending => {}
            }
        }
        if paused {
            return Poll::Pending;
        }
        let mut scratch = hub.reply_scratch.take();
        let read = socket.poll_read(cx, &mut scratch);
        let outcome = match read {
            Poll::Ready(Ok(0)) => Some(Poll::Ready(Err(LinkError::Closed))),
            Poll::Ready(Ok(count)) => match hub.on_bytes(link, &scratch[..count]) {
                Ok(()) => None,
                Err(error) => Some(Poll::Ready(Err(error))),
            },
            Poll::Ready(Err(error)) => Some(Poll::Ready(Err(LinkError::Io(error)))),
            Poll::Pending => Some(Poll::Pending),
        };
        hub.reply_scratch.replace(scratch);
        if let Some(outcome) = outcome {
            return outcome;
        }
    }
}
