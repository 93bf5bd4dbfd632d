//! One watcher per server asks for its role; what they learn becomes a [`Topology`] that everybody can watch.

use super::cluster::Views;
use super::decide::Evidence;
use super::distance::Distance;
use super::lag::LagClock;
use super::name::Name;
use super::observation::{carry_over, describe, is_promotion, role_changed};
use super::observe::{self, refusal};
use super::{Observation, Topology, commands, decide, prober};
use crate::address::ServerAddr;
use crate::config::MaxLag;
use crate::metrics::{Failover, Metrics, now};
use crate::route::Fence;
use crate::upstream::Access;
use common::shutdown::Shutdown;
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// More servers than this are not taken in.
const MAX_SERVERS: usize = 256;
/// Pause between questions while something is going on.
const HURRY: Duration = Duration::from_millis(20);
/// How long that lasts.
const ALERT: Duration = Duration::from_secs(5);
/// How long writes wait for a switch that a Sentinel has announced.
const HOLD: Duration = Duration::from_secs(5);

/// How servers are asked.
#[derive(Debug, Clone)]
pub(crate) struct MonitorSettings {
    /// The configured primary first, when there is one.
    pub(crate) servers: Vec<ServerAddr>,
    /// Whether the first server is a configured primary.
    pub(crate) primary_configured: bool,
    /// Whether servers that others name are asked as well.
    pub(crate) explore: bool,
    /// They are nodes of a Redis Cluster.
    pub(crate) cluster: bool,
    pub(crate) access: Arc<Access>,
    pub(crate) interval: Duration,
    /// Pause between two look-ups of a server's name.
    pub(crate) resolve: Duration,
    pub(crate) timeout: Duration,
    /// A replica further behind than this gets no reads.
    pub(crate) max_lag: MaxLag,
    /// A replica that takes longer to answer gets no reads; zero is no limit.
    pub(crate) max_latency: Duration,
    /// Asks at once instead of at the next interval.
    pub(crate) probe_now: Arc<Notify>,
}

/// A primary's number and connection, and those of its replicas.
pub(super) type Shard = (usize, Option<MultiplexedConnection>, Vec<(usize, MultiplexedConnection)>);

/// The shared state of the watchers.
pub(crate) struct Monitor {
    settings: MonitorSettings,
    shutdown: Shutdown,
    state: Mutex<State>,
    publish: watch::Sender<Arc<Topology>>,
    metrics: Metrics,
    pub(super) fence: Option<Arc<Fence>>,
    pub(super) signal: Arc<prober::WriteSignal>,
    /// A new primary was taken: what was known of offsets is void.
    pub(super) history: std::sync::atomic::AtomicU64,
}

pub(super) struct State {
    pub(super) servers: Vec<Arc<ServerAddr>>,
    pub(super) observations: Vec<Observation>,
    /// No longer named; the number may be given to another.
    pub(super) retired: Vec<bool>,
    connections: Vec<Option<MultiplexedConnection>>,
    /// Offsets that servers last had as replicas.
    replica_offsets: Vec<Option<u64>>,
    /// What the configuration names.
    configured: Vec<ServerAddr>,
    /// By the primary's number; one that is not in a cluster has its own.
    clocks: HashMap<usize, LagClock>,
    pub(super) cluster: Views,
    lags: Vec<Duration>,
    /// Round trips of the probes.
    distances: Vec<Distance>,
    /// Replicas that take too long to answer.
    slow: Vec<bool>,
    /// Replicas that are too far behind to serve reads.
    lagging: Vec<bool>,
    pub(super) evidence: Evidence,
    /// What each Sentinel says: configuration epoch and server.
    opinions: Vec<(u64, usize)>,
    /// Until then everybody is asked often.
    alert_until: Option<Instant>,
    /// A primary that the Sentinels are about to replace, and until when it gets no writes.
    held: Option<(usize, Instant)>,
    /// When the primary was lost.
    lost_at: Option<Instant>,
    table: Option<Arc<crate::command::Table>>,
    table_from: Option<usize>,
}

impl State {
    /// Whether a watcher's server is still the one of that number.
    pub(super) fn is_current(&self, server: usize, address: &Arc<ServerAddr>) -> bool {
        !self.retired[server] && Arc::ptr_eq(&self.servers[server], address)
    }

    /// Why a server that answers gets no reads as a replica, by server number.
    fn unfit(&self) -> Vec<Option<&'static str>> {
        let why = |server: usize| match (&self.observations[server], self.lagging[server], self.slow[server])
        {
            (Observation::Loading, ..) => Some("loading"),
            (Observation::Replica { link, .. }, ..) if link == "sync" => Some("being synchronised"),
            (Observation::Replica { link, .. }, ..) if link != "connected" => Some("without its primary"),
            (Observation::Replica { .. }, true, _) => Some("too far behind"),
            (Observation::Replica { .. }, _, true) => Some("too slow"),
            _ => None,
        };
        (0..self.servers.len()).map(why).collect()
    }

    /// Gives a number to a server about which nothing is known.
    fn place(&mut self, server: usize, address: &Arc<ServerAddr>) {
        if server == self.servers.len() {
            self.servers.push(Arc::clone(address));
            self.retired.push(false);
            self.observations.push(Observation::Unknown);
            self.connections.push(None);
            self.replica_offsets.push(None);
            self.lags.push(Duration::ZERO);
            self.lagging.push(false);
            self.distances.push(Distance::default());
            self.slow.push(false);
            return;
        }
        self.servers[server] = Arc::clone(address);
        self.retired[server] = false;
        self.observations[server] = Observation::Unknown;
        self.replica_offsets[server] = None;
        self.lags[server] = Duration::ZERO;
        self.lagging[server] = false;
        self.distances[server] = Distance::default();
        self.slow[server] = false;
        if self.table_from == Some(server) {
            self.table_from = None;
        }
        if self.evidence.previous == Some(server) {
            self.evidence.previous = None;
        }
    }
}

impl Monitor {
    /// A monitor that has not asked anybody yet. A fence is given when writes have to be followed to the replicas.
    pub(crate) fn new(
        settings: MonitorSettings,
        metrics: Metrics,
        fence: Option<Arc<Fence>>,
        signal: Arc<prober::WriteSignal>,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        let configured = settings.primary_configured.then_some(0);
        let state = State {
            servers: Vec::new(),
            observations: Vec::new(),
            retired: Vec::new(),
            connections: Vec::new(),
            replica_offsets: Vec::new(),
            configured: settings.servers.clone(),
            clocks: HashMap::new(),
            cluster: Views::default(),
            lags: Vec::new(),
            distances: Vec::new(),
            slow: Vec::new(),
            lagging: Vec::new(),
            evidence: Evidence { configured, ..Evidence::default() },
            opinions: Vec::new(),
            alert_until: None,
            held: None,
            lost_at: None,
            table: None,
            table_from: None,
        };
        Arc::new(Self {
            settings,
            shutdown,
            state: Mutex::new(state),
            publish: watch::Sender::new(Arc::new(Topology::default())),
            metrics,
            fence,
            signal,
            history: std::sync::atomic::AtomicU64::new(0),
        })
    }

    /// Makes the servers be asked at once instead of at the next interval.
    pub(crate) fn probe_now(&self) -> Arc<Notify> {
        Arc::clone(&self.settings.probe_now)
    }

    /// How servers are reached.
    pub(super) fn access(&self) -> &Access {
        &self.settings.access
    }

    /// The topology, now and whenever it changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Topology>> {
        self.publish.subscribe()
    }

    /// The topology now.
    pub(crate) fn current(&self) -> Arc<Topology> {
        Arc::clone(&self.publish.borrow())
    }

    /// Starts the watchers.
    pub(crate) fn start(self: &Arc<Self>) {
        for address in self.settings.servers.clone() {
            self.add(&address);
        }
        if let Some(fence) = self.fence.clone() {
            self.spawn(prober::run(Arc::clone(self), fence));
        }
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.shutdown.clone();
        self.shutdown.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.triggered() => {}
            }
        });
    }

    /// The number of a server; one that is new is asked from now on.
    pub(crate) fn add(self: &Arc<Self>, address: &ServerAddr) -> Option<usize> {
        let address = Arc::new(address.clone());
        let server = {
            let mut state = self.lock();
            let known = state.servers.iter().position(|known| **known == *address);
            if let Some(known) = known.filter(|known| !state.retired[*known]) {
                return Some(known);
            }
            let free = known.or_else(|| state.retired.iter().position(|retired| *retired));
            let server = free.unwrap_or(state.servers.len());
            if server >= MAX_SERVERS {
                return None;
            }
            state.place(server, &address);
            if let Some(fence) = &self.fence {
                fence.forget(server);
            }
            self.decide(&mut state);
            server
        };
        let monitor = Arc::clone(self);
        self.spawn(async move { monitor.watch(server, address).await });
        Some(server)
    }

    /// Takes in a server that the configuration names from now on.
    pub(crate) fn configure(self: &Arc<Self>, address: &ServerAddr) {
        self.lock().configured.push(address.clone());
        self.add(address);
    }

    /// Lets go of a server that the configuration names no more.
    pub(crate) fn unconfigure(&self, address: &ServerAddr) {
        self.lock().configured.retain(|known| known != address);
        self.remove(address);
    }

    /// Lets go of a server that nobody names any more, unless the configuration does.
    pub(crate) fn remove(&self, address: &ServerAddr) {
        let mut state = self.lock();
        if state.configured.contains(address) {
            return;
        }
        let known = state.servers.iter().position(|known| **known == *address);
        let Some(server) = known.filter(|known| !state.retired[*known]) else { return };
        state.retired[server] = true;
        state.connections[server] = None;
        state.observations[server] = Observation::Unreachable("no longer named".to_owned());
        self.metrics.observed(&address.to_string(), &state.observations[server]);
        state.evidence.promoted = state.evidence.promoted.filter(|promoted| *promoted != server);
        self.decide(&mut state);
    }

    /// A server's name means another machine now: everybody connects anew.
    fn moved(&self, server: usize, address: &mut Arc<ServerAddr>) {
        let mut state = self.lock();
        if !state.is_current(server, address) {
            return;
        }
        tracing::info!(server = %address, "the name has another address; connecting anew");
        *address = Arc::new(ServerAddr::clone(address));
        state.servers[server] = Arc::clone(address);
        self.decide(&mut state);
    }

    /// What a Sentinel says: who is primary, as of which configuration epoch.
    pub(super) fn appoint(self: &Arc<Self>, sentinel: usize, epoch: u64, address: &ServerAddr) {
        let Some(server) = self.add(address) else { return };
        let mut state = self.lock();
        if state.opinions.len() <= sentinel {
            state.opinions.resize(sentinel + 1, (0, server));
        }
        state.opinions[sentinel] = (epoch, server);
        let appointed = state.opinions.iter().max_by_key(|(epoch, _)| *epoch).map(|(_, server)| *server);
        if appointed != state.evidence.appointed {
            tracing::info!(primary = %address, epoch, "the Sentinels name the primary");
            state.evidence.appointed = appointed;
            self.decide(&mut state);
            drop(state);
            self.alert();
        }
    }

    /// Something is going on: everybody is asked often for a while.
    pub(super) fn alert(&self) {
        self.lock().alert_until = Some(Instant::now() + ALERT);
        self.settings.probe_now.notify_waiters();
    }

    /// The Sentinels are about to promote a replica of this primary.
    pub(super) fn hold_writes(&self, primary: &ServerAddr) {
        let mut state = self.lock();
        let known = state.servers.iter().position(|known| **known == *primary);
        let Some(server) = known.or(state.evidence.previous) else { return };
        if state.held.is_none_or(|(held, _)| held != server) {
            tracing::warn!(%primary, "a Sentinel is switching the primary; writes wait");
        }
        state.held = Some((server, Instant::now() + HOLD));
        self.decide(&mut state);
        drop(state);
        self.alert();
    }

    /// The switch did not happen.
    pub(super) fn release_writes(&self) {
        let mut state = self.lock();
        state.held = None;
        self.decide(&mut state);
    }

    async fn watch(self: Arc<Self>, server: usize, mut address: Arc<ServerAddr>) {
        let mut connection = None;
        let mut name = Name::new(&address, self.settings.resolve);
        while self.lock().is_current(server, &address) {
            if name.has_moved().await {
                connection = None;
                self.moved(server, &mut address);
            }
            let limit = self.settings.timeout;
            let (open, asked) = (connection.is_some(), Instant::now());
            let observation = match tokio::time::timeout(limit, self.ask(&address, &mut connection)).await {
                Ok(observation) => observation,
                Err(_) => {
                    connection = None;
                    Observation::Unreachable(format!("no answer within {limit:?}"))
                }
            };
            if self.settings.explore {
                self.explore(&observation);
            }
            if self.settings.cluster {
                self.learn_nodes(server, &address, &mut connection).await;
            }
            // A hand-shake says nothing about how long an answer takes.
            let trip = (open && connection.is_some()).then(|| asked.elapsed());
            self.measure_distance(server, &address, trip);
            if self.learn(server, &address, observation, connection.clone())
                && let Some(connection) = &mut connection
            {
                self.learn_commands(server, connection).await;
            }
            tokio::select! {
                () = tokio::time::sleep(self.pause()) => {}
                () = self.settings.probe_now.notified() => {}
            }
        }
    }

    /// How long until a server is asked again: not long while no primary is known.
    fn pause(&self) -> Duration {
        let state = self.lock();
        let lost = {
            let view = &self.publish.borrow().view;
            view.primary.is_none()
                || view.cluster.as_ref().is_some_and(|map| {
                    !map.is_complete() || map.primaries().iter().any(|primary| !view.is_owner(*primary))
                })
        };
        let alert = state.alert_until.is_some_and(|until| Instant::now() < until);
        if alert || lost { HURRY.min(self.settings.interval) } else { self.settings.interval }
    }

    /// Takes in servers that others know.
    fn explore(self: &Arc<Self>, observation: &Observation) {
        let named = match observation {
            Observation::Replica { primary, .. } => std::slice::from_ref(primary),
            Observation::Primary { replicas, .. } => replicas.as_slice(),
            _ => &[],
        };
        for (host, port) in named.iter().filter(|(host, port)| *port != 0 && !host.is_empty()) {
            self.add(&ServerAddr::Tcp { host: host.clone(), port: *port });
        }
    }

    async fn ask(&self, address: &ServerAddr, connection: &mut Option<MultiplexedConnection>) -> Observation {
        if connection.is_none() {
            match observe::connect(address, &self.settings.access, self.settings.timeout).await {
                Ok(fresh) => *connection = Some(fresh),
                Err(error) => {
                    return refusal(&error).unwrap_or_else(|| Observation::Unreachable(error.to_string()));
                }
            }
        }
        let Some(open) = connection else { return Observation::Unknown };
        match observe::role(open).await {
            Ok(observation) => observation,
            Err(error) => {
                *connection = None;
                Observation::Unreachable(error.to_string())
            }
        }
    }

    /// Takes over what a server said; true when its command table should be asked for.
    fn learn(
        &self,
        server: usize,
        address: &Arc<ServerAddr>,
        observation: Observation,
        connection: Option<MultiplexedConnection>,
    ) -> bool {
        let mut state = self.lock();
        if !state.is_current(server, address) {
            return false;
        }
        state.connections[server] = connection;
        let before = &state.observations[server];
        let observation = carry_over(before, observation);
        self.metrics.observed(&address.to_string(), &observation);
        if role_changed(before, &observation) {
            tracing::info!(server = %address, role = %describe(&observation), "server role");
        }
        let is_primary = matches!(observation, Observation::Primary { .. });
        if is_promotion(state.replica_offsets[server], before, &observation) {
            state.evidence.promoted = Some(server);
            state.held = None;
        } else if !is_primary && state.evidence.promoted == Some(server) {
            state.evidence.promoted = None;
        }
        state.slow[server] &= !is_primary;
        state.replica_offsets[server] = match &observation {
            Observation::Replica { offset, .. } => *offset,
            Observation::Primary { .. } => None,
            _ => state.replica_offsets[server],
        };
        self.measure_lag(&mut state, server, &observation);
        state.observations[server] = observation;
        self.decide(&mut state);
        self.publish.borrow().view.primary == Some(server) && state.table_from != Some(server)
    }

    /// A replica that takes long to answer every time gets no reads until it is clearly quicker again.
    fn measure_distance(&self, server: usize, address: &Arc<ServerAddr>, trip: Option<Duration>) {
        let mut state = self.lock();
        let Some(trip) = trip.filter(|_| state.is_current(server, address)) else { return };
        state.distances[server].add(trip);
        let followed = match &state.cluster.map {
            Some(map) => map.followed(server),
            None => state.evidence.previous,
        };
        if followed == Some(server) {
            return;
        }
        let primary = followed.and_then(|primary| state.distances.get(primary)?.get());
        let slow = state.distances[server].judge(self.settings.max_latency, primary);
        if slow != state.slow[server] {
            state.slow[server] = slow;
            tracing::warn!(server = %address, ?trip, slow, "time a replica takes to answer");
            if slow {
                self.metrics.ejected(&address.to_string(), "slow");
            }
        }
    }

    /// A replica that is too far behind gets no reads until it is clearly nearer again.
    fn measure_lag(&self, state: &mut State, server: usize, observation: &Observation) {
        let now = Instant::now();
        match observation {
            Observation::Primary { offset, .. }
                if self.settings.cluster || state.evidence.previous == Some(server) =>
            {
                state.clocks.entry(server).or_default().add(now, *offset);
                state.lags[server] = Duration::ZERO;
            }
            Observation::Replica { offset: Some(offset), .. } => {
                let followed = match &state.cluster.map {
                    Some(map) => map.followed(server),
                    None => state.evidence.previous,
                };
                let clock = followed.and_then(|primary| state.clocks.get(&primary));
                let lag = clock.map_or(Duration::ZERO, |clock| clock.lag(now, *offset));
                let ahead = followed.and_then(|primary| state.observations.get(primary));
                let bytes = match ahead {
                    Some(Observation::Primary { offset: primary, .. }) => primary.saturating_sub(*offset),
                    _ => 0,
                };
                let MaxLag { time: limit, bytes: most } = self.settings.max_lag;
                let half = if state.lagging[server] { 2 } else { 1 };
                let lagging =
                    (!limit.is_zero() && lag > limit / half) || (most != 0 && bytes > most / u64::from(half));
                let address = state.servers[server].to_string();
                if lagging != state.lagging[server] {
                    tracing::warn!(server = address, ?lag, bytes, lagging, "replication lag");
                    if lagging {
                        self.metrics.ejected(&address, "lagging");
                    }
                }
                state.lags[server] = lag;
                state.lagging[server] = lagging;
                self.metrics.lag(&address, lag, bytes);
            }
            _ => {}
        }
    }

    /// Draws the conclusions from what is known now, and publishes them.
    pub(super) fn decide(&self, state: &mut State) {
        state.held = state.held.filter(|(_, until)| Instant::now() < *until);
        state.evidence.held = state.held.map(|(server, _)| server);
        if state.evidence.appointed.is_some() && state.evidence.appointed == state.evidence.promoted {
            // The Sentinels have caught up with what was seen; from here on they lead.
            state.evidence.promoted = None;
        }
        let mut view = match self.settings.cluster {
            false => decide::decide(state.evidence, &state.observations),
            true => state.decide_cluster(),
        };
        // Without a primary there is nothing fresher to turn to.
        if view.primary.is_some() {
            for (server, standing) in view.servers.iter_mut().enumerate() {
                standing.fit &= !state.lagging[server] && !state.slow[server];
            }
        }
        for (standing, address) in view.servers.iter().zip(&state.servers) {
            self.metrics.fit(&address.to_string(), standing.fit);
        }
        match view.primary {
            Some(primary) if state.evidence.previous != Some(primary) => self.change_primary(state, primary),
            Some(_) => self.regained(state),
            None => {
                state.lost_at.get_or_insert_with(Instant::now);
            }
        }
        self.metrics.primary_known.set(i64::from(view.primary.is_some()));
        let topology = Topology {
            servers: state.servers.clone(),
            observations: state.observations.clone(),
            lags: state.lags.clone(),
            distances: state.distances.iter().map(Distance::get).collect(),
            unfit: state.unfit(),
            table: state.table.clone(),
            aliases: Arc::clone(&state.cluster.aliases),
            view,
        };
        let changed = {
            let published = self.publish.borrow();
            let same = |(now, before): (&Arc<ServerAddr>, &Arc<ServerAddr>)| Arc::ptr_eq(now, before);
            topology.view != published.view
                || topology.servers.len() != published.servers.len()
                || !topology.servers.iter().zip(&published.servers).all(same)
        };
        if changed {
            // A replica that comes into use has to catch up, even when nobody writes.
            self.signal.raise();
        }
        self.publish.send_if_modified(|current| {
            // Who looks sees the latest; who waits is woken only when there is something to act on.
            *current = Arc::new(topology);
            changed
        });
    }

    fn change_primary(&self, state: &mut State, primary: usize) {
        if let Some(previous) = state.evidence.previous {
            let (from, to) = (&state.servers[previous], &state.servers[primary]);
            tracing::warn!(%from, %to, "primary changed");
            self.metrics.failovers.inc();
            self.metrics.journal.failover(Failover {
                at: now(),
                from: from.to_string(),
                to: to.to_string(),
                outage: state.lost_at.map_or(0.0, |lost| lost.elapsed().as_secs_f64()),
            });
        }
        self.regained(state);
        state.held = None;
        state.evidence.previous = Some(primary);
        if self.settings.cluster {
            return;
        }
        state.clocks.clear();
        self.void_offsets();
    }

    /// What was known of offsets means nothing any more.
    pub(super) fn void_offsets(&self) {
        self.history.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        if let Some(fence) = &self.fence {
            // Offsets start over: every key counts as just written.
            fence.mark_all();
            self.signal.raise();
        }
    }

    fn regained(&self, state: &mut State) {
        if let Some(lost) = state.lost_at.take()
            && state.evidence.previous.is_some()
        {
            self.metrics.outage.observe(lost.elapsed().as_secs_f64());
        }
    }

    async fn learn_commands(&self, server: usize, connection: &mut MultiplexedConnection) {
        let answer = redis::cmd("COMMAND").query_async::<Value>(connection).await;
        let table = match answer {
            Ok(value) => commands::read_table(&value),
            Err(error) => {
                tracing::warn!(server, %error, "no command table from the server; using the built-in one");
                None
            }
        };
        let mut state = self.lock();
        state.table_from = Some(server);
        let Some(table) = table else { return };
        tracing::info!(server = %state.servers[server], commands = table.len(), "command table read");
        state.table = Some(Arc::new(table));
        let topology = Topology { table: state.table.clone(), ..Topology::clone(&self.publish.borrow()) };
        self.publish.send_replace(Arc::new(topology));
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections to each primary and to its fit replicas, with the primary's and the replicas' numbers.
    pub(super) fn shards(&self) -> Vec<Shard> {
        let topology = self.current();
        let state = self.lock();
        let open = |server: usize| state.connections.get(server).cloned().flatten();
        let fit = |server: &usize| topology.view.servers.get(*server).is_some_and(|standing| standing.fit);
        let with =
            |servers: &[usize]| servers.iter().filter_map(|server| Some((*server, open(*server)?))).collect();
        match &topology.view.cluster {
            None => {
                let replicas: Vec<usize> = topology.view.replicas().collect();
                let primary = topology.view.primary;
                vec![(primary.unwrap_or(0), primary.and_then(open), with(&replicas))]
            }
            Some(map) => map
                .primaries()
                .iter()
                .map(|primary| {
                    let fit: Vec<usize> = map.replicas(*primary).iter().copied().filter(fit).collect();
                    (*primary, open(*primary), with(&fit))
                })
                .collect(),
        }
    }
}
