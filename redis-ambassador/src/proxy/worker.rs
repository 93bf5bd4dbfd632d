//! One thread that moves data.

use super::client::Client;
use super::hub::Hub;
use super::notes::Notes;
use super::register::Register;
use super::stock::slow_from;
use crate::command::Table;
use crate::config::{Config, Consistency};
use crate::metrics::{Metrics, WorkerMetrics};
use crate::resp::RequestLimits;
use crate::route::{Fence, Policy, ReadRules};
use crate::topology::{Topology, WriteSignal};
use crate::upstream::{Access, Link, Socket, TlsSocket};
use crate::users::ClientUsers;
use common::shutdown::Shutdown;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, watch};

/// What every worker is told.
#[derive(Debug, Clone)]
pub(crate) struct WorkerSettings {
    pub(crate) consistency: Consistency,
    pub(crate) access: Arc<Access>,
    /// Clients authenticate here, as these.
    pub(crate) users: Option<Arc<ClientUsers>>,
    /// The servers are nodes of a Redis Cluster.
    pub(crate) clustered: bool,
    pub(crate) register: Arc<Register>,
    pub(crate) notes: Arc<Notes>,
    pub(crate) fence: Arc<Fence>,
    /// There is one worker.
    pub(crate) alone: bool,
    pub(crate) signal: Arc<WriteSignal>,
    pub(crate) probe_now: Arc<Notify>,
    pub(crate) drain: Duration,
    /// What may change while it runs.
    pub(crate) tuning: watch::Receiver<Arc<Tuning>>,
    /// The topology, changed or not.
    pub(crate) latest: watch::Receiver<Arc<Topology>>,
}

/// What may change while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Tuning {
    pub(crate) live: Live,
    pub(crate) deny: Vec<String>,
    pub(crate) reads: ReadRules,
}

/// Times and limits that may change while it runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Live {
    pub(crate) failover_wait: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) limits: RequestLimits,
    pub(crate) max_pipeline: usize,
    /// Bytes of a client's unanswered requests from which on it is not read.
    pub(crate) max_pipeline_bytes: usize,
    /// Most bytes of requests and answers that are kept for all clients of this thread together.
    pub(crate) max_buffered: usize,
    pub(crate) client_output_limit: usize,
    /// Zero: never.
    pub(crate) client_idle_timeout: Duration,
    pub(crate) client_write_timeout: Duration,
    /// Most bytes of requests that wait for a server.
    pub(crate) max_queued: usize,
    /// A replica that takes longer gets no reads for a while; zero: no limit.
    pub(crate) max_latency: Duration,
    /// Commands that take longer are remembered; zero: none.
    pub(crate) slow_log: Duration,
}

impl Tuning {
    pub(crate) fn of(config: &Config) -> Arc<Self> {
        let limits = RequestLimits {
            max_args: config.max_arguments,
            max_bulk: config.max_bulk,
            max_request: config.max_request,
            ..RequestLimits::default()
        };
        let live = Live {
            failover_wait: config.failover_wait,
            connect_timeout: config.connect_timeout,
            limits,
            max_pipeline: config.max_pipeline,
            max_pipeline_bytes: config.max_pipeline_bytes,
            max_buffered: config.max_buffered,
            client_output_limit: config.client_output_limit,
            client_idle_timeout: config.client_idle_timeout,
            client_write_timeout: config.client_write_timeout,
            max_queued: config.max_queued,
            max_latency: config.max_latency,
            slow_log: config.slow_log,
        };
        Arc::new(Self { live, deny: config.deny.clone(), reads: config.reads.clone() })
    }
}

impl WorkerSettings {
    /// The table with the denied commands marked.
    pub(super) fn restrict(&self, table: &Arc<Table>) -> Arc<Table> {
        let tuning = self.tuning.borrow();
        if tuning.deny.is_empty() {
            return Arc::clone(table);
        }
        let mut table = Table::clone(table);
        table.deny(&tuning.deny);
        Arc::new(table)
    }
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) enum Workload {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    Tls(std::net::TcpStream, Arc<rustls::ServerConfig>),
}

/// A running worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) connections: mpsc::Sender<Workload>,
    pub(crate) ended: tokio::sync::oneshot::Receiver<()>,
}

/// Accepted connections waiting for their worker.
const QUEUE: usize = 1024;
/// How often counts are published and waiting requests are looked at.
const TICK: Duration = Duration::from_millis(20);
/// Tasks polled before the sockets are looked at again: one flush then serves all clients of a turn.
const TURN: u32 = 512;
/// Time for a client's TLS hand-shake.
const HANDSHAKE: Duration = Duration::from_secs(10);

impl Worker {
    /// Starts a thread.
    ///
    /// # Errors
    /// The system refuses a thread or a runtime.
    pub(crate) fn start(
        index: usize,
        settings: WorkerSettings,
        metrics: Metrics,
        topology: watch::Receiver<Arc<Topology>>,
        shutdown: Shutdown,
    ) -> io::Result<Self> {
        let (connections, incoming) = mpsc::channel(QUEUE);
        let (end, ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .event_interval(TURN)
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    runtime.block_on(serve(index, settings, metrics, topology, incoming, shutdown));
                }
                Err(error) => tracing::error!(%error, "cannot start a worker's runtime"),
            }
            let _ = end.send(());
        })?;
        Ok(Self { connections, ended })
    }
}

async fn serve(
    index: usize,
    settings: WorkerSettings,
    metrics: Metrics,
    mut topology: watch::Receiver<Arc<Topology>>,
    mut incoming: mpsc::Receiver<Workload>,
    shutdown: Shutdown,
) {
    let credentials = settings.access.credentials();
    let mut tuning = settings.tuning.clone();
    let hub = Hub::new(index, settings, WorkerMetrics::new(metrics), credentials);
    // Not in one expression: its guard would be held while the hub looks at the same channel, and a writer that waits
    // in between would wait for ever.
    let latest = Arc::clone(&topology.borrow_and_update());
    hub.update(&latest);
    let flusher = Rc::clone(&hub);
    tokio::task::spawn_local(poll_fn(move |cx| flusher.poll_flush(cx)));
    let ticker = Rc::clone(&hub);
    tokio::task::spawn_local(async move { ticker.tick().await });
    loop {
        tokio::select! {
            accepted = incoming.recv() => match accepted {
                Some(workload) => hub.admit(workload),
                None => break,
            },
            changed = topology.changed() => {
                if changed.is_err() {
                    break;
                }
                let latest = Arc::clone(&topology.borrow_and_update());
                hub.update(&latest);
            }
            changed = tuning.changed() => match changed {
                Ok(()) => {
                    let latest = Arc::clone(&tuning.borrow_and_update());
                    hub.tune(&latest);
                }
                Err(_) => break,
            },
            () = shutdown.triggered() => break,
        }
    }
    hub.drain().await;
}

impl Hub {
    /// Takes over changed settings; connections stay.
    fn tune(&self, tuning: &Tuning) {
        self.live.set(tuning.live);
        self.slow_from.set(slow_from(tuning.live.slow_log));
        self.replicas_only.set(tuning.reads.policy == Policy::Replica);
        *self.reads.borrow_mut() = tuning.reads.clone();
        self.refresh_candidates();
        let told = self.topology.borrow().table.clone();
        let table = told.unwrap_or_else(|| Arc::new(Table::builtin()));
        *self.table.borrow_mut() = self.settings.restrict(&table);
        for client in self.clients.borrow().iter() {
            let mut state = client.state.borrow_mut();
            if !state.locked {
                state.framer.set_limits(tuning.live.limits);
            }
        }
    }

    fn admit(self: &Rc<Self>, workload: Workload) {
        let socket = match workload {
            Workload::Tcp(stream) => TcpStream::from_std(stream).map(Socket::Tcp),
            Workload::Unix(stream) => UnixStream::from_std(stream).map(Socket::Unix),
            Workload::Tls(stream, config) => TcpStream::from_std(stream)
                .and_then(|stream| TlsSocket::server(stream, config))
                .map(|session| Socket::Tls(Box::new(session))),
        };
        let socket = match socket {
            Ok(socket) => socket,
            Err(error) => {
                self.metrics.clients.dec();
                return tracing::warn!(%error, "cannot serve a client connection");
            }
        };
        let id = self.settings.register.next();
        let locked = self.settings.users.is_some();
        let limits = if locked { self.live.get().limits.of_strangers() } else { self.live.get().limits };
        let client = Client::new(id, socket, limits, self.now());
        client.state.borrow_mut().locked = locked;
        self.clients.borrow_mut().push(Rc::clone(&client));
        tokio::task::spawn_local(client.run(Rc::clone(self)));
    }

    async fn tick(self: Rc<Self>) {
        let mut ticks = 0u32;
        loop {
            tokio::time::sleep(TICK).await;
            ticks = ticks.wrapping_add(1);
            self.bypass_stalled();
            if self.has_strays() || !self.crowded.borrow().is_empty() {
                self.retry_limbo(false);
            }
            if ticks.is_multiple_of(5) {
                self.metrics.publish();
                self.weigh_servers();
                self.take_stock(ticks.is_multiple_of(50));
                self.expire_links();
                self.listen_everywhere();
                self.expire_clients();
            }
        }
    }

    /// Closes what nobody needs any more, and what was given up.
    fn expire_links(self: &Rc<Self>) {
        let now = self.now();
        self.expire_spares(now);
        self.give_up_links(now);
    }

    /// Lets go of connections to servers that are out of use and have not answered for too long. Where another server
    /// is primary, that is at once: what the old one answers when it comes back counts no more.
    pub(super) fn give_up_links(self: &Rc<Self>, now: u64) {
        let wait = self.live.get().failover_wait.as_micros() as u64;
        let given_up: Vec<_> = {
            let detached = self.detached.borrow();
            let old = |since: Option<u64>| since.is_some_and(|since| now.saturating_sub(since) > wait);
            let primary = self.primary().filter(|_| !self.clustered.get());
            let replaced = |link: &Link| primary.is_some_and(|primary| primary != link.server.get());
            detached
                .iter()
                .filter(|link| self.is_out_of_use(link) && (replaced(link) || old(link.detached.get())))
                .cloned()
                .collect()
        };
        for link in given_up {
            self.link_lost(&link, &crate::upstream::LinkError::Retired("it has not answered"));
        }
    }

    /// Closes clients that take nothing of what they are answered, and those that have been silent for too long.
    fn expire_clients(self: &Rc<Self>) {
        let now = self.now();
        let over = |since: u64, limit: Duration| now.saturating_sub(since) > limit.as_micros() as u64;
        let (idle, write) = (self.live.get().client_idle_timeout, self.live.get().client_write_timeout);
        let clients = self.clients.borrow().clone();
        for client in clients {
            let (stuck, silent) = {
                let mut state = client.state.borrow_mut();
                if !state.blocked {
                    state.wrote = now;
                }
                let quiet = state.slots.is_empty() && !state.session.is_raw();
                (over(state.wrote, write), !idle.is_zero() && quiet && over(state.heard, idle))
            };
            // Nothing has been heard of it since it connected.
            let mute = client.socket.is_handshaking() && over(client.state.borrow().heard, HANDSHAKE);
            if stuck || silent || mute {
                let why = match (stuck, mute) {
                    (true, _) => "it does not read its answers",
                    (_, true) => "it does not shake hands",
                    _ => "it has been silent",
                };
                self.kick(&client, why);
                client.state.borrow_mut().closed = true;
                client.flush();
            }
        }
    }

    fn is_out_of_use(&self, link: &Link) -> bool {
        let view = self.view.borrow();
        !view.servers.get(link.server.get()).copied().unwrap_or_default().reachable
    }

    /// Finishes what is in flight: nothing new is read, and each client is closed when it has its answers.
    async fn drain(self: Rc<Self>) {
        self.draining.set(true);
        let clients = self.clients.borrow().clone();
        for client in clients {
            let mut state = client.state.borrow_mut();
            state.closing = true;
            if let Some(waker) = &state.waker {
                waker.wake_by_ref();
            }
        }
        let deadline = tokio::time::Instant::now() + self.settings.drain;
        while !self.clients.borrow().is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.metrics.publish();
        let left = self.clients.borrow().len();
        if left > 0 {
            tracing::warn!(clients = left, "clients were still waiting for answers at the deadline");
        }
    }
}
