//! What all connections of one worker share.

use super::client::{Client, ClientState, Switching};
use super::clustered::Cluster;
use super::cursors::Cursors;
use super::limbo::Limbo;
use super::reads::Health;
use super::stock::slow_from;
use super::tracking::Tracker;
use super::worker::{Live, WorkerSettings};
use crate::command::Table;
use crate::metrics::WorkerMetrics;
use crate::route::{Chooser, Policy, ReadRules, View, Writes};
use crate::session::Profile;
use crate::topology::Topology;
use crate::upstream::{Credentials, Link, Phase, Waiter};
use common::trace::Span;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The shared connections of one profile and name, by server number.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) profile: Profile,
    /// `CLIENT SETNAME`: what the connections are called at the servers.
    pub(super) name: Option<Box<[u8]>>,
    /// It is one client's alone.
    pub(super) tracker: Option<Tracker>,
    /// It was one client's alone, and is nobody's.
    vacant: bool,
    pub(super) links: Vec<Option<Rc<Link>>>,
}

impl Lane {
    fn new(profile: Profile, name: Option<Box<[u8]>>) -> Self {
        Self { profile, name, tracker: None, vacant: false, links: Vec::new() }
    }

    /// Whether it is everybody's with this profile and name.
    fn is_for(&self, profile: Profile, name: Option<&[u8]>) -> bool {
        self.profile == profile && self.name.as_deref() == name && self.tracker.is_none() && !self.vacant
    }
}

/// A user a client may authenticate as, and whether a server has accepted it.
pub(super) type Users = Vec<Option<Credentials>>;

pub(crate) struct Hub {
    /// Number of the worker.
    pub(super) index: usize,
    pub(super) settings: WorkerSettings,
    pub(super) writes: Writes,
    pub(super) live: Cell<Live>,
    /// Commands that take this many microseconds are slow.
    pub(super) slow_from: Cell<u64>,
    pub(super) metrics: WorkerMetrics,
    pub(super) table: RefCell<Arc<Table>>,
    pub(super) topology: RefCell<Arc<Topology>>,
    /// The topology's view, less what this worker has just seen failing.
    pub(super) view: RefCell<View>,
    /// The servers are nodes of a Redis Cluster.
    pub(super) clustered: Cell<bool>,
    pub(super) cluster: RefCell<Cluster>,
    /// Among the fit replicas; rebuilt with the view, and now and then.
    pub(super) chooser: RefCell<Chooser>,
    /// By server number.
    pub(super) health: RefCell<Vec<Health>>,
    pub(super) reads: RefCell<ReadRules>,
    pub(super) replicas_only: Cell<bool>,
    pub(super) dice: Cell<u64>,
    pub(super) lanes: RefCell<Vec<Lane>>,
    pub(super) users: RefCell<Users>,
    pub(super) dirty_links: RefCell<Vec<Rc<Link>>>,
    pub(super) dirty_clients: RefCell<Vec<Rc<Client>>>,
    /// Own connections without an owner, ready for the next.
    pub(super) idle: RefCell<Vec<(u64, Rc<Link>)>>,
    /// Shared connections that get no new requests.
    pub(super) detached: RefCell<Vec<Rc<Link>>>,
    pub(super) limbo: RefCell<Limbo>,
    /// Requests that found no room in limbo.
    pub(super) crowded: RefCell<Vec<Waiter>>,
    pub(super) clients: RefCell<Vec<Rc<Client>>>,
    /// Bytes of requests and answers that are kept for all clients.
    pub(super) buffered: Cell<usize>,
    pub(super) scratch: RefCell<Vec<u8>>,
    pub(super) reply_scratch: RefCell<Vec<u8>>,
    pub(super) flusher: RefCell<Option<Waker>>,
    pub(super) turn: Cell<usize>,
    /// A replica was picked in this turn.
    pub(super) picked: Cell<bool>,
    pub(super) draining: Cell<bool>,
    /// Which server has given which cursor.
    pub(super) cursors: RefCell<Cursors>,
    clock: Cell<u64>,
}

/// Profiles with connections at one time; one that nobody uses any more makes room.
const MAX_LANES: usize = 1024;
/// Names that are shown to the servers at one time; clients of further ones share the connections of the nameless.
const MAX_NAMES: usize = 64;

impl Hub {
    pub(super) fn new(
        index: usize,
        settings: WorkerSettings,
        metrics: WorkerMetrics,
        credentials: Option<Credentials>,
    ) -> Rc<Self> {
        let read_buffer = 64 << 10;
        let (live, reads) = {
            let tuning = settings.tuning.borrow();
            (tuning.live, tuning.reads.clone())
        };
        Rc::new(Self {
            index,
            writes: Writes::new(Arc::clone(&settings.fence), settings.alone),
            metrics,
            slow_from: Cell::new(slow_from(live.slow_log)),
            table: RefCell::new(settings.restrict(&Arc::new(Table::builtin()))),
            topology: RefCell::default(),
            view: RefCell::default(),
            clustered: Cell::new(false),
            cluster: RefCell::default(),
            chooser: RefCell::default(),
            health: RefCell::default(),
            replicas_only: Cell::new(reads.policy == Policy::Replica),
            reads: RefCell::new(reads),
            dice: Cell::new(0x9e37_79b9_7f4a_7c15),
            lanes: RefCell::new(vec![Lane::new(Profile::default(), None)]),
            users: RefCell::new(vec![credentials]),
            dirty_links: RefCell::default(),
            dirty_clients: RefCell::default(),
            idle: RefCell::default(),
            detached: RefCell::default(),
            limbo: RefCell::default(),
            crowded: RefCell::default(),
            clients: RefCell::default(),
            buffered: Cell::new(0),
            scratch: RefCell::new(vec![0; read_buffer]),
            reply_scratch: RefCell::new(vec![0; 2 * read_buffer]),
            flusher: RefCell::default(),
            turn: Cell::new(0),
            picked: Cell::new(false),
            draining: Cell::new(false),
            cursors: RefCell::default(),
            live: Cell::new(live),
            settings,
            clock: Cell::new(0),
        })
    }

    /// Microseconds since the ambassador started.
    pub(super) fn now(&self) -> u64 {
        let now = self.settings.notes.now();
        self.clock.set(now);
        now
    }

    /// [`Hub::now`] as of the start of this turn's work on one connection.
    #[inline]
    pub(super) fn clock(&self) -> u64 {
        self.clock.get()
    }

    /// The lane of a profile and name, made when it is new.
    pub(super) fn lane(&self, profile: Profile, name: Option<&[u8]>) -> usize {
        // In front of a cluster names are not shown to the servers.
        let name = if self.clustered.get() { None } else { name };
        let mut lanes = self.lanes.borrow_mut();
        if let Some(known) = lanes.iter().position(|lane| lane.is_for(profile, name)) {
            return known;
        }
        let fresh = Lane::new(profile, name.map(Into::into));
        if name.is_some() {
            let deserted = |(index, lane): (usize, &Lane)| {
                lane.name.is_some() && lane.links.iter().all(Option::is_none) && !self.is_inhabited(index)
            };
            if let Some(free) = lanes.iter().enumerate().position(deserted) {
                lanes[free] = fresh;
                return free;
            }
            if lanes.iter().filter(|lane| lane.name.is_some()).count() >= MAX_NAMES {
                drop(lanes);
                return self.lane(profile, None);
            }
        }
        if lanes.len() >= MAX_LANES {
            let used = self.profiles_in_use(profile);
            let free = |lane: &Lane| {
                lane.name.is_none()
                    && lane.tracker.is_none()
                    && lane.links.iter().all(Option::is_none)
                    && !used.contains(&lane.profile)
            };
            if let Some(free) = lanes.iter().skip(1).position(free) {
                lanes[free + 1] = fresh;
                return free + 1;
            }
        }
        lanes.push(fresh);
        lanes.len() - 1
    }

    /// The lane for a request that is sent again: one that asks for another profile goes where that is in use, since
    /// it would change a connection of others.
    pub(super) fn lane_of(&self, waiter: &Waiter) -> usize {
        let state = waiter.client.state.borrow();
        match &state.switching {
            Some(Switching { seq, becomes: Some((profile, name)) }) if *seq == waiter.seq => {
                self.lane(*profile, name.as_deref())
            }
            _ => state.lane,
        }
    }

    /// A lane of one client's alone.
    pub(super) fn own_lane(&self, profile: Profile, tracker: Tracker) -> usize {
        let mut lanes = self.lanes.borrow_mut();
        let fresh = Lane { tracker: Some(tracker), ..Lane::new(profile, None) };
        if let Some(free) = lanes.iter().position(|lane| lane.vacant) {
            lanes[free] = fresh;
            return free;
        }
        lanes.push(fresh);
        lanes.len() - 1
    }

    /// Whether a client uses a lane; the one being served, whose state cannot be looked at, does not count.
    fn is_inhabited(&self, lane: usize) -> bool {
        let clients = self.clients.borrow();
        clients
            .iter()
            .any(|client| client.state.try_borrow().is_ok_and(|state| state.lane == lane && !state.closed))
    }

    /// Has a client use the lane of its session. A name that nobody has any more disappears from the servers.
    pub(super) fn enter_lane(&self, state: &mut ClientState) {
        let before = state.lane;
        let (profile, tracker) = match self.lanes.borrow().get(before) {
            Some(lane) if state.tracking.is_some() => (lane.profile, lane.tracker.clone()),
            _ => (state.session.profile, None),
        };
        state.lane = match tracker {
            Some(_) if profile == state.session.profile => before,
            Some(tracker) => self.own_lane(state.session.profile, tracker),
            None => self.lane(state.session.profile, state.session.name.as_deref()),
        };
        if before != state.lane {
            self.left_lane(before);
        }
    }

    pub(super) fn left_lane(&self, lane: usize) {
        let (named, own) = match self.lanes.borrow().get(lane) {
            Some(lane) => (lane.name.is_some(), lane.tracker.is_some()),
            None => return,
        };
        if !own && (!named || self.is_inhabited(lane)) {
            return;
        }
        let links: Vec<_> = match self.lanes.borrow_mut().get_mut(lane) {
            Some(lane) => {
                lane.vacant = own;
                lane.tracker = None;
                lane.links.iter_mut().filter_map(Option::take).collect()
            }
            None => return,
        };
        links.into_iter().for_each(|link| self.detach_taken(link));
    }

    /// The profiles that clients have or are about to have. `current` is that of the client being served, whose state
    /// cannot be looked at.
    pub(super) fn profiles_in_use(&self, current: Profile) -> Vec<Profile> {
        let mut used = vec![Profile::default(), current];
        for client in self.clients.borrow().iter() {
            if let Ok(state) = client.state.try_borrow() {
                used.push(state.session.profile);
                let becomes = state.switching.as_ref().and_then(|switching| switching.becomes.as_ref());
                used.extend(becomes.map(|(profile, _)| *profile));
            }
        }
        used
    }

    /// Lets go of every connection of a user, whose number is about to mean somebody else.
    pub(super) fn forget_user(&self, user: u32) {
        let mut links = Vec::new();
        let of_user = |profile: Profile| profile.user == user || profile.selector == user;
        for lane in self.lanes.borrow_mut().iter_mut().filter(|lane| of_user(lane.profile)) {
            links.extend(lane.links.iter_mut().filter_map(Option::take));
        }
        for link in links {
            if matches!(link.state.borrow().phase, Phase::Up(_)) {
                self.detach_taken(link);
                continue;
            }
            // It would authenticate as the new user; only clients that are gone can have asked for something.
            let waiters = std::mem::take(&mut link.state.borrow_mut().waiters);
            waiters.iter().for_each(|waiter| self.fence_done(waiter));
            link.close();
        }
        self.idle.borrow_mut().retain(|(_, link)| {
            let keep = !of_user(link.profile);
            if !keep {
                link.close();
            }
            keep
        });
    }

    pub(super) fn primary(&self) -> Option<usize> {
        self.view.borrow().primary
    }

    /// Takes over a new topology.
    pub(super) fn update(self: &Rc<Self>, topology: &Arc<Topology>) {
        let promoted = topology
            .view
            .primary
            .filter(|_| topology.view.cluster.is_none())
            .filter(|primary| self.primary() != Some(*primary));
        let changed: Vec<usize> = {
            let view = self.view.borrow();
            let servers = 0..topology.servers.len();
            servers
                .filter(|server| view.is_shard_primary(*server) != topology.view.is_shard_primary(*server))
                .collect()
        };
        let before = self.topology.replace(Arc::clone(topology));
        *self.view.borrow_mut() = topology.view.clone();
        self.forgive();
        self.update_cluster(topology);
        self.refresh_candidates();
        self.metrics.name_servers(topology.servers.iter().map(ToString::to_string));
        if let Some(table) = &topology.table {
            *self.table.borrow_mut() = self.settings.restrict(table);
        }
        self.retire_links();
        self.give_up_links(self.now());
        for (server, (now, before)) in topology.servers.iter().zip(&before.servers).enumerate() {
            if !Arc::ptr_eq(now, before) {
                self.metrics.rename_server(server, &now.to_string());
                self.forget_health(server);
                self.renew_links(server);
            }
        }
        if let Some(primary) = promoted {
            self.renew_links(primary);
        }
        // Whether a server of a cluster was told that its readers know it is a replica.
        for server in changed {
            self.renew_links(server);
        }
        self.listen_everywhere();
        self.retry_limbo(true);
    }

    /// A server that has just become primary closes the connections it had as a replica: writes need new ones.
    fn renew_links(&self, server: usize) {
        let old: Vec<_> = {
            let mut lanes = self.lanes.borrow_mut();
            lanes.iter_mut().filter_map(|lane| lane.links.get_mut(server)?.take()).collect()
        };
        old.into_iter().for_each(|link| self.detach_taken(link));
    }

    /// Lets go of the shared connections to servers that are out of use.
    fn retire_links(self: &Rc<Self>) {
        let view = self.view.borrow().clone();
        let mut unreachable = Vec::new();
        let mut demoted = Vec::new();
        for lane in self.lanes.borrow_mut().iter_mut() {
            for (server, link) in lane.links.iter_mut().enumerate() {
                let standing = view.servers.get(server).copied().unwrap_or_default();
                if view.uses(server) {
                    continue;
                }
                let Some(link) = link.take() else { continue };
                if standing.reachable { demoted.push(link) } else { unreachable.push(link) }
            }
        }
        for link in demoted {
            self.detach_taken(link);
        }
        for link in unreachable {
            // A primary that does not answer a probe may still be about to answer what it was sent.
            if link.state.borrow().waiters.iter().any(|waiter| !waiter.read) {
                self.detach_taken(link);
            } else {
                self.link_lost(&link, &crate::upstream::LinkError::Retired("it does not answer"));
            }
        }
        let kept = |link: &Link| {
            let server = link.server.get();
            view.primary == Some(server) || view.is_owner(server)
        };
        self.idle.borrow_mut().retain(|(_, link)| {
            let keep = kept(link);
            if !keep {
                link.close();
            }
            keep
        });
    }

    /// Marks output to be written at the end of this turn.
    #[inline]
    pub(super) fn mark_dirty(&self, link: &Rc<Link>) {
        let mut dirty = self.dirty_links.borrow_mut();
        if dirty.is_empty()
            && let Some(flusher) = self.flusher.borrow().as_ref()
        {
            flusher.wake_by_ref();
        }
        dirty.push(Rc::clone(link));
    }

    /// The flusher: woken by the first output of a turn, it runs after the tasks that were woken before it.
    pub(super) fn poll_flush(self: &Rc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut flusher = self.flusher.borrow_mut();
            if !flusher.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *flusher = Some(cx.waker().clone());
            }
        }
        // Another replica comes first in the next turn, if this one has used any.
        if self.picked.take() {
            self.turn.set(self.turn.get().wrapping_add(1));
        }
        self.flush_links();
        self.flush_clients();
        if self.buffered.get() > self.live.get().max_buffered {
            self.relieve();
            self.flush_clients();
        }
        Poll::Pending
    }

    /// Writes in the order in which requests came: what a client sent after another one does not overtake it on its
    /// way to one server, unless the server itself lets it.
    fn flush_links(self: &Rc<Self>) {
        loop {
            let mut links = self.dirty_links.take();
            if links.is_empty() {
                return;
            }
            links.drain(..).for_each(|link| self.flush_link(&link));
            // The memory is kept for the next turn.
            let mut dirty = self.dirty_links.borrow_mut();
            if dirty.is_empty() {
                *dirty = links;
                return;
            }
        }
    }

    pub(super) fn flush_link(self: &Rc<Self>, link: &Rc<Link>) {
        if let Err(error) = link.flush() {
            self.link_lost(link, &error);
        }
        // Whoever streams a request waits for this to drain.
        if link.own.get() && link.backlog() < super::client::LOW_WATER {
            let owner = link.state.borrow().owner.clone();
            if let Some(owner) = owner
                && owner.state.borrow().parked
                && let Some(waker) = &owner.state.borrow().waker
            {
                waker.wake_by_ref();
            }
        }
    }

    /// Writes every client that has got answers since the last call.
    pub(super) fn flush_clients(&self) {
        loop {
            let Some(client) = self.dirty_clients.borrow_mut().pop() else { return };
            client.flush();
            self.account(&mut client.state.borrow_mut());
        }
    }

    /// Brings the sum of what is kept for clients up to date with one of them.
    #[inline]
    pub(super) fn account(&self, state: &mut ClientState) {
        let now = state.kept_bytes();
        let before = std::mem::replace(&mut state.accounted, now);
        self.buffered.set(self.buffered.get() + now - before);
    }

    /// While more is kept for clients than may be, closes the one that most is kept for.
    pub(super) fn relieve(&self) {
        let limit = self.live.get().max_buffered;
        while self.buffered.get() > limit {
            let largest = {
                let clients = self.clients.borrow();
                let open = clients.iter().filter(|client| !client.state.borrow().closed);
                open.max_by_key(|client| client.state.borrow().accounted).cloned()
            };
            let Some(client) = largest else { return };
            self.kick(&client, "all clients together keep more than --max-buffered, this one the most");
            let mut state = client.state.borrow_mut();
            state.closed = true;
            state.out.clear();
            self.account(&mut state);
        }
    }

    pub(super) fn mark_client(&self, client: &Rc<Client>, dirty: &mut bool) {
        if !*dirty {
            *dirty = true;
            self.dirty_clients.borrow_mut().push(Rc::clone(client));
        }
    }

    /// Forgets a client; what it had of its own goes with it.
    pub(super) fn client_gone(&self, client: &Rc<Client>) {
        let (own, feeder, lane) = {
            let mut state = client.state.borrow_mut();
            if state.monitors {
                self.settings.notes.left_monitor();
            }
            state.closed = true;
            state.waker = None;
            state.forget_slots();
            state.out.clear();
            state.input = Vec::new();
            self.account(&mut state);
            (state.own.take(), state.feeder.take(), state.lane)
        };
        if let Some(link) = own {
            link.close();
        }
        if let Some(link) = feeder {
            link.state.borrow_mut().paused = false;
            link.wake();
        }
        {
            let mut clients = self.clients.borrow_mut();
            if let Some(at) = clients.iter().position(|known| Rc::ptr_eq(known, client)) {
                clients.swap_remove(at);
            }
        }
        self.left_lane(lane);
        self.metrics.clients.dec();
        let lived = Duration::from_micros(self.now().saturating_sub(client.since));
        Span::record("connection", lived, |span| span.set("client", client.id));
    }
}
