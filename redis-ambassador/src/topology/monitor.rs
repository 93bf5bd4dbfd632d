//! One watcher per server asks for its role; what they learn becomes a [`Topology`] that everybody can watch.

use super::observe::{self, refusal};
use super::{Observation, Topology, commands, decide, prober};
use crate::address::ServerAddr;
use crate::metrics::Metrics;
use crate::route::Fence;
use crate::upstream::Credentials;
use common::shutdown::Shutdown;
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// How servers are asked.
#[derive(Debug, Clone)]
pub(crate) struct MonitorSettings {
    /// The configured primary first.
    pub(crate) servers: Vec<ServerAddr>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Asks at once instead of at the next interval.
    pub(crate) probe_now: Arc<Notify>,
}

/// The shared state of the watchers.
pub(crate) struct Monitor {
    settings: MonitorSettings,
    servers: Vec<Arc<ServerAddr>>,
    state: Mutex<State>,
    publish: watch::Sender<Arc<Topology>>,
    metrics: Metrics,
    pub(super) fence: Option<Arc<Fence>>,
    pub(super) signal: Arc<prober::WriteSignal>,
    /// A new primary was taken: what was known of offsets is void.
    pub(super) history: std::sync::atomic::AtomicU64,
}

struct State {
    observations: Vec<Observation>,
    connections: Vec<Option<MultiplexedConnection>>,
    primary: Option<usize>,
    table: Option<Arc<crate::command::Table>>,
    table_from: Option<usize>,
}

impl Monitor {
    /// A monitor that has not asked anybody yet. A fence is given when writes have to be followed to the replicas.
    pub(crate) fn new(
        settings: MonitorSettings,
        metrics: Metrics,
        fence: Option<Arc<Fence>>,
        signal: Arc<prober::WriteSignal>,
    ) -> Arc<Self> {
        let servers: Vec<_> = settings.servers.iter().cloned().map(Arc::new).collect();
        let observations = vec![Observation::Unknown; servers.len()];
        let topology = Topology {
            servers: servers.clone(),
            view: decide::decide(None, &observations),
            observations: observations.clone(),
            table: None,
        };
        let connections = servers.iter().map(|_| None).collect();
        let state = State { observations, connections, primary: None, table: None, table_from: None };
        Arc::new(Self {
            settings,
            servers,
            state: Mutex::new(state),
            publish: watch::Sender::new(Arc::new(topology)),
            metrics,
            fence,
            signal,
            history: std::sync::atomic::AtomicU64::new(0),
        })
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
    pub(crate) fn start(self: &Arc<Self>, shutdown: &Shutdown) {
        for server in 0..self.servers.len() {
            let (monitor, stop) = (Arc::clone(self), shutdown.clone());
            shutdown.spawn(async move {
                tokio::select! {
                    () = monitor.watch(server) => {}
                    () = stop.triggered() => {}
                }
            });
        }
        if let Some(fence) = self.fence.clone() {
            let (monitor, stop) = (Arc::clone(self), shutdown.clone());
            shutdown.spawn(async move {
                tokio::select! {
                    () = prober::run(monitor, fence) => {}
                    () = stop.triggered() => {}
                }
            });
        }
    }

    async fn watch(&self, server: usize) {
        let mut connection = None;
        loop {
            let limit = self.settings.timeout;
            let observation = match tokio::time::timeout(limit, self.ask(server, &mut connection)).await {
                Ok(observation) => observation,
                Err(_) => {
                    connection = None;
                    Observation::Unreachable(format!("no answer within {limit:?}"))
                }
            };
            if self.learn(server, observation, connection.clone())
                && let Some(connection) = &mut connection
            {
                self.learn_commands(server, connection).await;
            }
            tokio::select! {
                () = tokio::time::sleep(self.settings.interval) => {}
                () = self.settings.probe_now.notified() => {}
            }
        }
    }

    async fn ask(&self, server: usize, connection: &mut Option<MultiplexedConnection>) -> Observation {
        if connection.is_none() {
            let credentials = self.settings.credentials.as_ref();
            match observe::connect(&self.servers[server], credentials, self.settings.timeout).await {
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
        observation: Observation,
        connection: Option<MultiplexedConnection>,
    ) -> bool {
        let mut state = self.lock();
        state.connections[server] = connection;
        let observation = carry_over(&state.observations[server], observation);
        self.metrics.observed(&self.servers[server].to_string(), &observation);
        let changed = role_changed(&state.observations[server], &observation);
        if changed {
            tracing::info!(server = %self.servers[server], role = %describe(&observation), "server role");
        }
        state.observations[server] = observation;
        let view = decide::decide(state.primary, &state.observations);
        if view.primary.is_some() && view.primary != state.primary {
            if let Some(previous) = state.primary {
                let (from, to) =
                    (&self.servers[previous], view.primary.map(|primary| &self.servers[primary]));
                tracing::warn!(%from, to = to.map(ToString::to_string), "primary changed");
                self.metrics.failovers.inc();
            }
            state.primary = view.primary;
            self.history.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if let Some(fence) = &self.fence {
                // Offsets start over: every key counts as just written.
                fence.mark(None::<std::iter::Empty<u32>>);
                self.signal.raise();
            }
        }
        let published = self.publish.borrow().view.clone();
        let topology = Topology {
            servers: self.servers.clone(),
            observations: state.observations.clone(),
            table: state.table.clone(),
            view,
        };
        self.metrics.primary_known.set(i64::from(topology.view.primary.is_some()));
        let ask = topology.view.primary == Some(server) && state.table_from != Some(server);
        if topology.view != published {
            self.publish.send_replace(Arc::new(topology));
        } else {
            // Nobody has to act on it, but who looks sees the latest.
            self.publish.send_if_modified(|current| {
                *current = Arc::new(topology);
                false
            });
        }
        ask
    }

    async fn learn_commands(&self, server: usize, connection: &mut MultiplexedConnection) {
        let answer = redis::cmd("COMMAND").query_async::<Value>(connection).await;
        let table = match answer {
            Ok(value) => commands::read_table(&value),
            Err(error) => {
                tracing::warn!(server = %self.servers[server], %error, "no command table from the server; using the built-in one");
                None
            }
        };
        let mut state = self.lock();
        state.table_from = Some(server);
        let Some(table) = table else { return };
        tracing::info!(server = %self.servers[server], commands = table.len(), "command table read");
        state.table = Some(Arc::new(table));
        let topology = Topology { table: state.table.clone(), ..Topology::clone(&self.publish.borrow()) };
        self.publish.send_replace(Arc::new(topology));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections to the primary and to the fit replicas, with their server numbers.
    pub(super) fn connections(&self) -> (Option<MultiplexedConnection>, Vec<(usize, MultiplexedConnection)>) {
        let topology = self.current();
        let state = self.lock();
        let open = |server: usize| state.connections.get(server).cloned().flatten();
        let replicas = topology.view.replicas().filter_map(|server| Some((server, open(server)?))).collect();
        (topology.view.primary.and_then(open), replicas)
    }
}

/// A replica that has lost its primary tells no offset, but keeps the data it had.
fn carry_over(before: &Observation, mut after: Observation) -> Observation {
    if let (Observation::Replica { offset: known @ Some(_), .. }, Observation::Replica { offset, link, .. }) =
        (before, &mut after)
        && offset.is_none()
        && link != "sync"
    {
        *offset = *known;
    }
    after
}

fn role_changed(before: &Observation, after: &Observation) -> bool {
    match (before, after) {
        (Observation::Primary { .. }, Observation::Primary { .. }) => false,
        (Observation::Replica { primary, link, .. }, Observation::Replica { primary: p, link: l, .. }) => {
            (primary, link) != (p, l)
        }
        (Observation::Unreachable(_), Observation::Unreachable(_)) => false,
        (before, after) => before != after,
    }
}

/// One line about a server, for logs and the status page.
pub(crate) fn describe(observation: &Observation) -> String {
    match observation {
        Observation::Unknown => "not asked yet".to_owned(),
        Observation::Unreachable(why) => format!("unreachable: {why}"),
        Observation::Silent(why) => format!("does not tell its role ({why})"),
        Observation::Loading => "loading its data".to_owned(),
        Observation::Primary { replicas, .. } => format!("primary with {replicas} replicas"),
        Observation::Replica { primary: (host, port), link, .. } => {
            format!("replica of {host}:{port}, link {link}")
        }
    }
}
