//! One downstream connection: its session, its answers in order, and the task that moves its bytes.

use super::clustered_own::Kept;
use super::consistency::OwnWrites;
use super::hub::Hub;
use super::tracking::Tracking;
use crate::cluster::NO_SLOT;
use crate::resp::{RequestFramer, RequestLimits};
use crate::session::{Profile, Session};
use crate::upstream::{Buffer, Link, Socket};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// More unsent answer bytes than this, and neither this client nor what feeds it is read.
pub(super) const HIGH_WATER: usize = 256 << 10;
/// Below this, reading goes on.
pub(super) const LOW_WATER: usize = 64 << 10;

/// From so many bytes on, a copy costs more than a system call of its own.
const WRITTEN_THROUGH: usize = 4 << 10;

/// The answer to one request, waiting for its turn.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// What came before it was this request's turn.
    pub(super) held: Vec<u8>,
    pub(super) done: bool,
    /// Hash of the one key it touches; 0 for none, several or unknown.
    pub(super) key: u32,
    pub(super) mode: Mode,
    /// Bytes of the request.
    pub(super) len: u32,
    /// The client does not want the answer.
    pub(super) silent: bool,
}

/// What an outstanding request does, for the order of effects within one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Mode {
    #[default]
    Neutral,
    ReplicaRead,
    Write,
}

/// A request that changes its client when it succeeds.
#[derive(Debug)]
pub(super) struct Switching {
    pub(super) seq: u64,
    /// Profile and name from then on; `None` when neither changes.
    pub(super) becomes: Option<(Profile, Option<Box<[u8]>>)>,
}

#[derive(Debug)]
pub(super) struct ClientState {
    pub(super) session: Session,
    /// Number of the hub's lane for the session's profile.
    pub(super) lane: usize,
    pub(super) framer: RequestFramer,
    /// Requests not yet carried out.
    pub(super) input: Vec<u8>,
    pub(super) out: Buffer,
    pub(super) slots: VecDeque<Slot>,
    /// Sequence number of the first slot.
    pub(super) head: u64,
    pub(super) own: Option<Rc<Link>>,
    pub(super) own_busy: u32,
    pub(super) replica_reads: u32,
    pub(super) writes: u32,
    /// Bytes of the requests that have a slot.
    pub(super) unanswered: usize,
    /// Bytes of answers that wait for an earlier one, see [`Slot::held`].
    pub(super) held: usize,
    /// Bytes of answers that wait to be joined with others to one.
    pub(super) joining: usize,
    /// What it counted when the hub's sum was last brought up to date, see [`Hub::account`].
    pub(super) accounted: usize,
    /// Epoch of its last write.
    pub(super) last_write: u64,
    pub(super) own_writes: OwnWrites,
    /// The shared connection to the primary that carried its last request there.
    pub(super) last_primary: u64,
    /// Where the outstanding replica reads went.
    pub(super) last_replica: usize,
    /// `CLIENT TRACKING` in front of a cluster.
    pub(super) tracking: Option<Box<Tracking>>,
    /// Part of the first slot's answer has left.
    pub(super) begun: bool,
    /// It watches the server at work.
    pub(super) monitors: bool,
    /// What the request being taken on goes through with a cursor, see [`Waiter::scan`].
    ///
    /// [`Waiter::scan`]: crate::upstream::Waiter
    pub(super) scan: u64,
    /// What its last request changes when a server agrees.
    pub(super) switching: Option<Switching>,
    /// The request being read is already on its way upstream.
    pub(super) streaming: bool,
    /// Input waits for answers or for room.
    pub(super) parked: bool,
    /// Own connections to a cluster: the slot that the next one is for.
    pub(super) own_slot: u16,
    /// Where the next one goes instead of to that slot's owner.
    pub(super) own_server: Option<usize>,
    pub(super) kept: Kept,
    /// It has to authenticate itself first.
    pub(super) locked: bool,
    /// Nothing more is read; closed when all is answered.
    pub(super) closing: bool,
    pub(super) closed: bool,
    /// The kernel takes no more at the moment.
    pub(super) blocked: bool,
    pub(super) dirty: bool,
    /// Hub clock when something last came from it.
    pub(super) heard: u64,
    /// Hub clock when the kernel last took something for it, or there was nothing to take.
    pub(super) wrote: u64,
    /// A connection that is not read because of this client.
    pub(super) feeder: Option<Rc<Link>>,
    pub(super) waker: Option<Waker>,
}

#[derive(Debug)]
pub(crate) struct Client {
    /// Never the same for two clients of a process.
    pub(super) id: u64,
    /// Hub clock when it connected.
    pub(super) since: u64,
    pub(super) socket: Socket,
    pub(super) state: RefCell<ClientState>,
}

impl Client {
    pub(super) fn new(id: u64, socket: Socket, limits: RequestLimits, now: u64) -> Rc<Self> {
        let state = ClientState {
            session: Session::new(),
            lane: 0,
            framer: RequestFramer::new(limits),
            input: Vec::new(),
            out: Buffer::default(),
            slots: VecDeque::new(),
            head: 0,
            own: None,
            own_busy: 0,
            replica_reads: 0,
            writes: 0,
            unanswered: 0,
            held: 0,
            joining: 0,
            accounted: 0,
            last_write: 0,
            own_writes: OwnWrites::default(),
            last_primary: 0,
            last_replica: 0,
            tracking: None,
            begun: false,
            monitors: false,
            scan: 0,
            switching: None,
            streaming: false,
            parked: false,
            own_slot: NO_SLOT,
            own_server: None,
            kept: Kept::default(),
            locked: false,
            closing: false,
            closed: false,
            blocked: false,
            dirty: false,
            heard: now,
            wrote: now,
            feeder: None,
            waker: None,
        };
        Rc::new(Self { id, since: now, socket, state: RefCell::new(state) })
    }

    /// Serves the connection to its end.
    pub(super) async fn run(self: Rc<Self>, hub: Rc<Hub>) {
        let outcome = poll_fn(|cx| self.poll(&hub, cx)).await;
        if let Err(error) = outcome {
            match self.socket.is_handshaking() {
                true => tracing::info!(client = self.id, %error, "TLS hand-shake with a client failed"),
                false => tracing::debug!(client = self.id, %error, "client connection broke"),
            }
        }
        hub.client_gone(&self);
    }

    fn poll(self: &Rc<Self>, hub: &Rc<Hub>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        {
            let mut state = self.state.borrow_mut();
            if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
        }
        loop {
            if self.state.borrow().blocked {
                match self.socket.poll_writable(cx) {
                    Poll::Ready(Ok(())) => {
                        {
                            let mut state = self.state.borrow_mut();
                            state.blocked = false;
                            state.wrote = hub.clock();
                        }
                        self.flush();
                        hub.account(&mut self.state.borrow_mut());
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => {}
                }
            }
            let (finished, parked, closing) = {
                let state = self.state.borrow();
                let finished =
                    state.closing && state.slots.is_empty() && state.out.is_empty() && !state.blocked;
                (finished || state.closed, state.parked, state.closing)
            };
            if finished {
                return Poll::Ready(Ok(()));
            }
            if closing {
                return Poll::Pending;
            }
            if parked && !hub.resume(self) {
                return Poll::Pending;
            }
            match hub.read_client(self, cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes a large answer without copying it first, where it is the only one that is due. Returns how many bytes
    /// the kernel has taken.
    #[inline]
    pub(super) fn write_through(&self, state: &mut ClientState, seq: u64, bytes: &[u8]) -> usize {
        let due = state.slots.len() == 1 && seq == state.head && state.out.is_empty();
        if bytes.len() < WRITTEN_THROUGH
            || !due
            || state.blocked
            || state.slots.front().is_some_and(|slot| slot.silent)
        {
            return 0;
        }
        match self.socket.try_write(bytes) {
            Ok(count) => {
                state.blocked = count < bytes.len() || self.socket.is_backed_up();
                count
            }
            // Whatever is wrong shows again when the answer is written with the others of this turn.
            Err(_) => 0,
        }
    }

    /// Writes what the kernel takes, and wakes the task where something is left to do for it.
    pub(super) fn flush(&self) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.dirty = false;
        while !state.blocked && !state.out.is_empty() {
            let bytes = state.out.as_slice();
            let whole = bytes.len();
            match self.socket.try_write(bytes) {
                Ok(count) => {
                    state.blocked = count < whole || self.socket.is_backed_up();
                    state.out.consume(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => state.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    state.closed = true;
                    state.out.clear();
                }
            }
        }
        if state.unread() < LOW_WATER
            && let Some(link) = state.feeder.take()
        {
            link.state.borrow_mut().paused = false;
            link.wake();
        }
        if (state.blocked || state.parked || state.closing || state.closed)
            && let Some(waker) = &state.waker
        {
            waker.wake_by_ref();
        }
    }
}

impl ClientState {
    /// Adds a request's place in the order of answers and returns its number.
    #[inline]
    pub(super) fn push_slot(&mut self, key: u32, mode: Mode, len: usize) -> u64 {
        match mode {
            Mode::Write => self.writes += 1,
            Mode::ReplicaRead => self.replica_reads += 1,
            Mode::Neutral => {}
        }
        self.unanswered += len;
        let silent = self.session.takes_no_answer();
        self.slots.push_back(Slot { held: Vec::new(), done: false, key, mode, len: len as u32, silent });
        self.head + self.slots.len() as u64 - 1
    }

    /// The read `seq` is not, or no longer, in the order of the primary's connection: a replica answers it, or it
    /// waits for a server or is sent again. Writes of its key wait for its answer.
    pub(super) fn read_from_replica(&mut self, seq: u64) {
        let index = seq.wrapping_sub(self.head) as usize;
        if let Some(slot) = self.slots.get_mut(index)
            && slot.mode == Mode::Neutral
        {
            slot.mode = Mode::ReplicaRead;
            self.replica_reads += 1;
        }
    }

    /// Answers the next request without asking anybody.
    pub(super) fn answer(&mut self, bytes: &[u8]) {
        let bytes = if self.session.takes_no_answer() { &[] } else { bytes };
        if self.slots.is_empty() {
            self.head += 1;
            self.out.extend(bytes);
            if self.tracking.is_some() {
                self.tell_news();
            }
        } else {
            self.held += bytes.len();
            self.slots.push_back(Slot { held: bytes.to_vec(), done: true, ..Slot::default() });
        }
    }

    /// Passes on bytes of the answer to request `seq`; `done` with the last of them.
    #[inline]
    pub(super) fn reply(&mut self, seq: u64, bytes: &[u8], done: bool) {
        let Some(index) = seq.checked_sub(self.head).filter(|index| *index < self.slots.len() as u64) else {
            // The client was closed meanwhile.
            return;
        };
        let index = index as usize;
        if index != 0 {
            if let Some(slot) = self.slots.get_mut(index) {
                slot.done = done;
                if !slot.silent {
                    slot.held.extend_from_slice(bytes);
                    self.held += bytes.len();
                }
            }
            return;
        }
        if !self.slots[0].silent {
            self.out.extend(bytes);
        }
        if !done {
            self.begun = true;
            return;
        }
        self.pop_slot();
        while let Some(slot) = self.slots.front() {
            self.out.extend(&slot.held);
            self.held -= slot.held.len();
            if !slot.done {
                self.begun = !slot.held.is_empty();
                if let Some(slot) = self.slots.front_mut() {
                    slot.held = Vec::new();
                }
                return;
            }
            self.pop_slot();
        }
    }

    #[inline]
    fn pop_slot(&mut self) {
        self.head += 1;
        let Some(slot) = self.slots.pop_front() else { return };
        self.unanswered -= slot.len as usize;
        match slot.mode {
            Mode::Write => self.writes -= 1,
            Mode::ReplicaRead => self.replica_reads -= 1,
            Mode::Neutral => {}
        }
        self.begun = false;
        if self.tracking.is_some() {
            self.tell_news();
        }
    }

    /// Bytes of answers that the client has not been sent.
    #[inline]
    pub(super) fn unread(&self) -> usize {
        self.out.len() + self.held
    }

    /// Bytes of requests and answers that are kept for the client.
    #[inline]
    pub(super) fn kept_bytes(&self) -> usize {
        self.unread() + self.joining + self.unanswered + self.input.len()
    }

    /// So many bytes no longer wait to be joined.
    pub(super) fn not_joined(&mut self, count: usize) {
        self.joining = self.joining.saturating_sub(count);
    }

    /// Gives up every answer that has not begun to leave.
    pub(super) fn forget_slots(&mut self) {
        self.slots.clear();
        (self.unanswered, self.held, self.joining) = (0, 0, 0);
        if let Some(tracking) = &mut self.tracking {
            tracking.forget_news();
        }
    }

    /// Whether answers to later requests than `seq`, or news that have to follow them, wait for their turn.
    pub(super) fn waits_behind(&self, seq: u64) -> bool {
        let index = seq.saturating_sub(self.head) as usize;
        self.slots.iter().skip(index + 1).any(|slot| !slot.held.is_empty())
            || self.tracking.as_ref().is_some_and(|tracking| tracking.waits_for(seq))
    }

    /// Whether an outstanding request of that mode may touch the same key.
    pub(super) fn conflicts(&self, key: u32, mode: Mode) -> bool {
        /// Longer pipelines are not searched: they count as touching everything.
        const SEARCHED: usize = 64;
        if key == 0 || self.slots.len() > SEARCHED {
            return true;
        }
        self.slots.iter().any(|slot| slot.mode == mode && (slot.key == key || slot.key == 0))
    }
}
