//! One upstream connection and the requests outstanding on it.

use super::{Buffer, Socket};
use crate::cluster::{Joined, NO_SLOT};
use crate::command::Effect;
use crate::proxy::{Client, Listed};
use crate::resp::{ReplyError, ReplyFramer};
use crate::session::Profile;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

/// Why an upstream connection ended or never came about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LinkError {
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    #[error("no connection in time")]
    ConnectTimeout,
    #[error("server is loading or has no primary")]
    NotReady,
    /// The server's own error line about our hand-shake.
    #[error("server refused the connection: {}", String::from_utf8_lossy(.0).trim_end())]
    Refused(Vec<u8>),
    #[error("no primary is known")]
    NoPrimary,
    #[error("server closed the connection")]
    Closed,
    #[error("connection broke: {0}")]
    Io(#[source] std::io::Error),
    #[error("server sent what is no reply: {0}")]
    Reply(#[from] ReplyError),
    #[error("server answered more than it was asked")]
    Unexpected,
    #[error("server is no longer used: {0}")]
    Retired(&'static str),
}

/// A request that has no answer yet.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) client: Rc<Client>,
    /// Position among all requests of that client.
    pub(crate) seq: u64,
    /// Bytes of it kept in [`LinkState::out`]; 0 on a connection of the client's own.
    pub(crate) len: u32,
    /// Hub clock in microseconds when it was accepted.
    pub(crate) since: u64,
    /// Microseconds until it was sent to where it is now.
    pub(crate) delay: u32,
    /// Writes: the epoch they belong to, 0 for none. Reads: the epoch that a replica must have caught up with.
    pub(crate) epoch: u64,
    /// It changes nothing, so it may be sent again.
    pub(crate) read: bool,
    /// It may go to any server, not only to the primary.
    pub(crate) anywhere: bool,
    /// It may fail for a script that only some servers have.
    pub(crate) script: bool,
    /// It runs a client's code, so its answer may take any time and others would wait behind it.
    pub(crate) runs_code: bool,
    /// It was sent again elsewhere; this answer is dropped.
    pub(crate) abandoned: bool,
    /// Times it was sent before.
    pub(crate) attempts: u8,
    /// The slot of a cluster that it is about.
    pub(crate) slot: u16,
    /// Hash of what it goes through with a cursor; 0 when it does not.
    pub(crate) scan: u64,
    /// Its answer is one of several that become one.
    pub(crate) part: Option<Part>,
}

/// A place in an answer that is made of several.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) joined: Rc<RefCell<Joined>>,
    pub(crate) index: usize,
}

impl Waiter {
    /// Notes that it leaves for a server at this time of the hub's clock.
    #[inline]
    pub(crate) fn leaves(&mut self, now: u64) {
        self.delay = u32::try_from(now.saturating_sub(self.since)).unwrap_or(u32::MAX);
    }

    /// What it does, for the metrics.
    #[inline]
    pub(crate) fn class(&self) -> Effect {
        match (self.read, self.anywhere) {
            (false, _) => Effect::Write,
            (true, true) => Effect::Read,
            (true, false) => Effect::PrimaryRead,
        }
    }

    /// The same request once more.
    pub(crate) fn copy(&self) -> Self {
        Self { client: Rc::clone(&self.client), part: self.part.clone(), ..*self }
    }

    /// A request of our own on behalf of the same client, whose answer nobody waits for.
    pub(crate) fn silent(&self) -> Self {
        Self::internal(&self.client, self.since)
    }

    /// A request of our own, whose answer nobody waits for.
    pub(crate) fn internal(client: &Rc<Client>, since: u64) -> Self {
        Self {
            client: Rc::clone(client),
            seq: 0,
            len: 0,
            since,
            delay: 0,
            epoch: 0,
            read: true,
            anywhere: false,
            script: false,
            runs_code: false,
            abandoned: true,
            attempts: 0,
            slot: NO_SLOT,
            scan: 0,
            part: None,
        }
    }
}

/// Where a connection is in its life.
#[derive(Debug)]
pub(crate) enum Phase {
    Connecting,
    Up(Rc<Socket>),
    Closed,
}

#[derive(Debug)]
pub(crate) struct LinkState {
    pub(crate) phase: Phase,
    /// Shared: every byte from the oldest unanswered request on, so that what is lost can be sent again where that
    /// is safe. Own: the bytes not yet written.
    pub(crate) out: Buffer,
    /// How much of `out` the kernel has taken.
    pub(crate) sent: usize,
    pub(crate) waiters: VecDeque<Waiter>,
    pub(crate) framer: ReplyFramer,
    /// An incomplete line.
    pub(crate) input: Vec<u8>,
    /// The kernel takes no more at the moment.
    pub(crate) blocked: bool,
    /// Not read, because whom it answers does not read.
    pub(crate) paused: bool,
    pub(crate) dirty: bool,
    pub(crate) waker: Option<Waker>,
    /// Own connections: whose.
    pub(crate) owner: Option<Rc<Client>>,
    /// Own connections to a cluster: other clients know whose it is.
    pub(crate) listed: Option<Listed>,
    /// A client's that tracks keys: who hears of them.
    pub(crate) hearer: Option<Rc<Client>>,
    /// News of which only a part has come.
    pub(crate) news: Vec<u8>,
    /// Number of the request that was answered last.
    pub(crate) answered: u64,
    /// Own connections: the command sent last, and whether it waits for others.
    pub(crate) last: (String, bool),
    /// A stream: nothing is matched to requests.
    pub(crate) raw: bool,
    /// Own connections: what the server was told besides the profile, see [`crate::session::Session::replay`].
    pub(crate) told: Vec<Vec<Vec<u8>>>,
}

#[derive(Debug)]
pub(crate) struct Link {
    /// Never the same for two connections of a worker.
    pub(crate) id: u64,
    pub(crate) server: Cell<usize>,
    pub(crate) profile: Profile,
    /// Own connections to a cluster: the slot whose owner they go to.
    pub(crate) slot: Cell<u16>,
    /// Own connections to a cluster: where they go instead.
    pub(crate) fixed: Cell<Option<usize>>,
    /// It is not opened at once.
    pub(crate) hesitates: Cell<bool>,
    /// What the server calls an own connection to a cluster, where it has told.
    pub(crate) number: Cell<Option<u64>>,
    /// Its user may select its database.
    pub(crate) selects: Cell<bool>,
    /// Belongs to one client.
    pub(crate) own: Cell<bool>,
    /// Takes no new requests; closed when the last is answered. Holds the hub clock of when that began.
    pub(crate) detached: Cell<Option<u64>>,
    pub(crate) outstanding: Cell<u32>,
    pub(crate) state: RefCell<LinkState>,
}

impl Link {
    pub(crate) fn new(server: usize, profile: Profile, owner: Option<Rc<Client>>) -> Rc<Self> {
        thread_local!(static LAST: Cell<u64> = const { Cell::new(0) });
        Rc::new(Self {
            id: LAST.with(|last| {
                last.set(last.get() + 1);
                last.get()
            }),
            server: Cell::new(server),
            profile,
            slot: Cell::new(NO_SLOT),
            fixed: Cell::new(None),
            hesitates: Cell::new(false),
            number: Cell::new(None),
            selects: Cell::new(false),
            own: Cell::new(owner.is_some()),
            detached: Cell::new(None),
            outstanding: Cell::new(0),
            state: RefCell::new(LinkState {
                phase: Phase::Connecting,
                out: Buffer::default(),
                sent: 0,
                waiters: VecDeque::new(),
                framer: ReplyFramer::new(),
                input: Vec::new(),
                blocked: false,
                paused: false,
                dirty: false,
                waker: None,
                owner,
                listed: None,
                hearer: None,
                news: Vec::new(),
                answered: 0,
                last: (String::new(), false),
                raw: false,
                told: Vec::new(),
            }),
        })
    }

    /// Has its task look again.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &self.state.borrow().waker {
            waker.wake_by_ref();
        }
    }

    /// Writes what the kernel takes.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn flush(&self) -> Result<(), LinkError> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.dirty = false;
        let Phase::Up(socket) = &state.phase else { return Ok(()) };
        while !state.blocked && state.sent < state.out.len() {
            let rest = &state.out.as_slice()[state.sent..];
            match socket.try_write(rest) {
                Ok(count) => {
                    state.blocked = count < rest.len() || socket.is_backed_up();
                    state.sent += count;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => state.blocked = true,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(LinkError::Io(error)),
            }
        }
        if self.own.get() {
            state.out.consume(state.sent);
            state.sent = 0;
        }
        if state.blocked
            && let Some(waker) = &state.waker
        {
            waker.wake_by_ref();
        }
        Ok(())
    }

    /// Bytes that the kernel has not taken yet.
    pub(crate) fn backlog(&self) -> usize {
        let state = self.state.borrow();
        state.out.len() - state.sent
    }

    /// Ends it; its task notices.
    pub(crate) fn close(&self) {
        let mut state = self.state.borrow_mut();
        state.phase = Phase::Closed;
        state.owner = None;
        state.listed = None;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.state.borrow().phase, Phase::Closed)
    }
}
