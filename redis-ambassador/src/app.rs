//! Wires everything together and runs it.

use crate::config::{Config, Listen};
use crate::discovery;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::proxy::{Tuning, Worker, WorkerSettings, Workload};
use crate::reach::Reach;
use crate::reload;
use crate::route::Fence;
use crate::status;
use crate::tls::TowardsClients;
use crate::topology::{
    Monitor, MonitorSettings, Observation, SentinelSettings, WriteSignal, describe, follow_sentinels,
};
use common::admin::{self, Readiness};
use common::shutdown::Shutdown;
use common::{metrics, server};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};

/// Runs the ambassador until `shutdown` is triggered and what is in flight is finished.
///
/// Must be called within a tokio runtime; the data path runs on threads of its own.
///
/// # Errors
/// An address cannot be listened on, or a secret file cannot be read. Servers that cannot be reached are no error:
/// they are tried again.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use redis_ambassador::{Config, Listen, ListenAddr, Shutdown, run};
///
/// let mut config = Config::new("127.0.0.1:7001".parse()?, vec![]);
/// config.listen = vec![Listen::Tcp(ListenAddr::loopback(0))];
/// let shutdown = Shutdown::new();
/// shutdown.trigger(); // a program does so when its own work is done
/// run(config, shutdown).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    run_with(config, shutdown, |_| ()).await
}

/// Like [`run`], and tells where it listens once it does: the first TCP port, and the admin port.
///
/// # Errors
/// As [`run`].
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use redis_ambassador::{Config, Listen, ListenAddr, Shutdown, run_with};
///
/// let mut config = Config::new("127.0.0.1:7001".parse()?, vec![]);
/// config.listen = vec![Listen::Tcp(ListenAddr::loopback(0))];
/// let shutdown = Shutdown::new();
/// let stop = shutdown.clone();
/// run_with(config, shutdown, move |at| {
///     println!("clients connect to port {:?}", at.client);
///     stop.trigger();
/// })
/// .await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn run_with(
    config: Config,
    shutdown: Shutdown,
    listening: impl FnOnce(Listening),
) -> Result<(), Error> {
    let unchanging = tokio::sync::watch::Sender::new(config);
    run_reloading(unchanging.subscribe(), shutdown, listening).await
}

/// Like [`run_with`], and takes over a changed configuration while it runs, without closing a connection: servers,
/// Sentinels' replicas, limits, times and the deny list. What can only be set at the start is named in a log line.
///
/// # Errors
/// As [`run`].
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use redis_ambassador::{Config, Listen, ListenAddr, Shutdown, run_reloading};
///
/// let mut config = Config::new("127.0.0.1:7001".parse()?, vec![]);
/// config.listen = vec![Listen::Tcp(ListenAddr::loopback(0))];
/// let configs = tokio::sync::watch::Sender::new(config);
/// let shutdown = Shutdown::new();
/// let (changing, stop) = (configs.clone(), shutdown.clone());
/// run_reloading(configs.subscribe(), shutdown, move |_| {
///     changing.send_modify(|config| config.deny.push("FLUSHALL".into()));
///     stop.trigger();
/// })
/// .await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn run_reloading(
    mut configs: tokio::sync::watch::Receiver<Config>,
    shutdown: Shutdown,
    listening: impl FnOnce(Listening),
) -> Result<(), Error> {
    let mut config = configs.borrow_and_update().clone();
    let build = common::build!();
    let registry = metrics::registry(&build);
    let counts = Metrics::default();
    counts.register(&registry);
    let readiness = Readiness::new();
    let (has_primary, accepting) = (readiness.condition("primary"), readiness.condition("listening"));

    let fence = Arc::new(Fence::default());
    let signal = Arc::new(WriteSignal::default());
    // Bound before anything is started, so that a wrong address ends the process at once.
    let listeners = bind(&config).await?;
    let admin_listener = match &config.admin_listen {
        Some(address) => Some(server::bind(address).await.map_err(Error::Listen)?),
        None => None,
    };
    if let Some(at) = admin_listener.as_ref().and_then(|listener| listener.local_addr().ok()) {
        tracing::info!(address = %at, "admin port");
    }
    listening(Listening {
        client: listeners.iter().find_map(Listener::port),
        admin: admin_listener.as_ref().and_then(|listener| listener.local_addr().ok()).map(|at| at.port()),
    });
    let followed = config.consistency.uses_fence().then(|| Arc::clone(&fence));
    let reach = Reach::new(&config)?;
    reach.follow_files(&config, &shutdown);
    let monitor = monitor(&config, &reach, &counts, followed, Arc::clone(&signal), &shutdown);

    let tuning = tokio::sync::watch::Sender::new(Tuning::of(&config));
    let max_clients = Arc::new(AtomicUsize::new(config.max_clients));
    let settings = WorkerSettings {
        consistency: config.consistency,
        access: Arc::clone(&reach.servers),
        users: reach.users.clone(),
        tuning: tuning.subscribe(),
        latest: monitor.subscribe(),
        clustered: !config.cluster.is_empty(),
        register: Arc::default(),
        notes: Arc::default(),
        fence,
        alone: config.threads == 1,
        signal,
        probe_now: monitor.probe_now(),
        drain: config.drain,
    };
    let workers = (0..config.threads)
        .map(|index| {
            Worker::start(index, settings.clone(), counts.clone(), monitor.subscribe(), shutdown.clone())
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::Thread)?;
    if let Some(listener) = admin_listener {
        let history = status::History::default();
        monitor.spawn(history.clone().follow(counts.clone()));
        let sources = vec![status::Source {
            name: String::new(),
            monitor: Arc::clone(&monitor),
            metrics: counts.clone(),
            history,
            config: config.clone(),
        }];
        let routes = admin::routes(build, registry, readiness.clone(), status::page(sources.clone()));
        let routes = routes.route("/slowlog", move |request: server::Request| {
            let refused = server::require_method(&request, &server::Method::GET);
            let response = refused.unwrap_or_else(|| status::slow_log(&sources));
            async move { response }
        });
        shutdown.spawn(server::serve(
            listener,
            Arc::new(routes),
            server::Limits::default(),
            shutdown.clone(),
        ));
    }
    for listener in listeners {
        let senders = workers.iter().map(|worker| worker.connections.clone()).collect();
        let tls = reach.clients.clone();
        shutdown.spawn(accept(
            listener,
            tls,
            senders,
            counts.clone(),
            Arc::clone(&max_clients),
            shutdown.clone(),
        ));
    }
    accepting.met();

    let mut topology = monitor.subscribe();
    loop {
        match topology.borrow_and_update().view.lacks() {
            None => has_primary.met(),
            Some(reason) => has_primary.unmet(reason),
        }
        tokio::select! {
            changed = topology.changed() => if changed.is_err() { break },
            Ok(()) = configs.changed() => {
                let fresh = configs.borrow_and_update().clone();
                reload::servers(&monitor, &config, &fresh);
                max_clients.store(fresh.max_clients, Ordering::Relaxed);
                tuning.send_replace(Tuning::of(&fresh));
                config = fresh;
            }
            () = shutdown.triggered() => break,
        }
    }
    accepting.unmet("stopping");
    let deadline = config.drain + Duration::from_millis(500);
    for worker in workers {
        let _ = tokio::time::timeout(deadline, worker.ended).await;
    }
    for listen in &config.listen {
        if let Listen::Unix(path) = listen {
            let _ = std::fs::remove_file(path);
        }
    }
    shutdown.drain(Duration::from_secs(1)).await;
    Ok(())
}

/// Asks every server for its role and tells what it says; true when all answer and one of them is primary.
///
/// # Errors
/// A secret file cannot be read.
///
/// ```
/// use redis_ambassador::{Config, Shutdown, check};
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let mut config = Config::new("127.0.0.1:1".parse()?, vec![]);
/// config.probe_timeout = Duration::from_millis(10);
/// let (text, is_well) = check(config, Shutdown::new()).await?;
/// assert!(!is_well, "nobody listens there: {text}");
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn check(config: Config, shutdown: Shutdown) -> Result<(String, bool), Error> {
    let reach = Reach::new(&config)?;
    let monitor = monitor(&config, &reach, &Metrics::default(), None, Arc::default(), &shutdown);
    // Twice the time of a question, so that servers named by others are asked as well.
    let patience = config.probe_timeout * 2 + Duration::from_millis(500);
    let settled = async {
        loop {
            let topology = monitor.current();
            let asked =
                !topology.observations.is_empty() && !topology.observations.contains(&Observation::Unknown);
            if asked && topology.view.primary.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(patience, settled).await;
    shutdown.trigger();
    let topology = monitor.current();
    let mut text = String::new();
    for (server, observation) in topology.observations.iter().enumerate() {
        text.push_str(&format!("{}: {}\n", topology.name(server), describe(observation)));
    }
    let answering = topology.view.servers.iter().all(|standing| standing.reachable);
    let primary = topology.view.primary.map_or_else(|| "none".to_owned(), |primary| topology.name(primary));
    text.push_str(&format!(
        "primary: {primary}; {} replicas serve reads\n",
        topology.view.replicas().count()
    ));
    Ok((text, answering && topology.view.primary.is_some()))
}

/// Starts asking the servers.
fn monitor(
    config: &Config,
    reach: &Reach,
    counts: &Metrics,
    fence: Option<Arc<Fence>>,
    signal: Arc<WriteSignal>,
    shutdown: &Shutdown,
) -> Arc<Monitor> {
    let sentinels = SentinelSettings {
        sentinels: config.sentinels.clone(),
        name: config.sentinel_name.clone(),
        access: Arc::clone(&reach.sentinels),
    };
    let fixed = config.primary.iter().chain(&config.replicas).chain(&config.seeds).chain(&config.cluster);
    let settings = MonitorSettings {
        servers: fixed.cloned().collect(),
        primary_configured: config.primary.is_some(),
        explore: !config.seeds.is_empty(),
        cluster: !config.cluster.is_empty(),
        access: Arc::clone(&reach.servers),
        interval: config.probe_interval,
        resolve: config.discover_interval,
        timeout: config.probe_timeout,
        max_lag: config.max_lag,
        max_latency: config.max_latency,
        probe_now: Arc::default(),
    };
    let monitor = Monitor::new(settings, counts.clone(), fence, signal, shutdown.clone());
    monitor.start();
    follow_sentinels(&monitor, &sentinels);
    for source in &config.discover {
        monitor.spawn(discovery::follow(Arc::clone(&monitor), source.clone(), config.discover_interval));
    }
    monitor
}

/// Where a running ambassador listens.
///
/// ```no_run
/// # async fn example(config: redis_ambassador::Config) -> Result<(), redis_ambassador::Error> {
/// let shutdown = redis_ambassador::Shutdown::new();
/// redis_ambassador::run_with(config, shutdown, |listening| {
///     println!("clients: {:?}, admin: {:?}", listening.client, listening.admin);
/// })
/// .await
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Listening {
    /// Port of the first TCP listener for clients.
    pub client: Option<u16>,
    /// Port of the admin listener.
    pub admin: Option<u16>,
}

enum Listener {
    Tcp(TcpListener),
    Tls(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener) => listener.local_addr().ok().map(|at| at.port()),
            Self::Unix(_) => None,
        }
    }

    async fn accept(&self, tls: Option<&TowardsClients>) -> std::io::Result<Workload> {
        match self {
            Self::Tcp(listener) | Self::Tls(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                let stream = stream.into_std()?;
                Ok(match (self, tls) {
                    (Self::Tls(_), Some(tls)) => Workload::Tls(stream, tls.config()),
                    _ => Workload::Tcp(stream),
                })
            }
            Self::Unix(listener) => listener.accept().await?.0.into_std().map(Workload::Unix),
        }
    }
}

async fn bind(config: &Config) -> Result<Vec<Listener>, Error> {
    let mut listeners = Vec::new();
    for listen in &config.listen {
        listeners.push(match listen {
            Listen::Tcp(address) => Listener::Tcp(server::bind(address).await.map_err(Error::Listen)?),
            Listen::Tls(address) => Listener::Tls(server::bind(address).await.map_err(Error::Listen)?),
            Listen::Unix(path) => Listener::Unix(bind_unix(path)?),
        });
        let bound = match (listen, listeners.last()) {
            (_, Some(Listener::Tcp(listener) | Listener::Tls(listener))) => {
                listener.local_addr().map(|at| at.to_string()).ok()
            }
            (Listen::Unix(path), _) => Some(format!("unix:{}", path.display())),
            _ => None,
        };
        tracing::info!(address = bound, "listening for clients");
    }
    Ok(listeners)
}

/// Binds a unix socket; one that a former process has left behind is replaced.
fn bind_unix(path: &Path) -> Result<UnixListener, Error> {
    if std::os::unix::net::UnixStream::connect(path).is_err() {
        use std::os::unix::fs::FileTypeExt;
        let stale = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
        if stale {
            let _ = std::fs::remove_file(path);
        }
    }
    UnixListener::bind(path).map_err(|error| {
        Error::Listen(std::io::Error::new(
            error.kind(),
            format!("cannot listen on unix:{}: {error}", path.display()),
        ))
    })
}

async fn accept(
    listener: Listener,
    tls: Option<Arc<TowardsClients>>,
    workers: Vec<tokio::sync::mpsc::Sender<Workload>>,
    counts: Metrics,
    max_clients: Arc<AtomicUsize>,
    shutdown: Shutdown,
) {
    let mut turn = 0usize;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(tls.as_deref()) => accepted,
            () = shutdown.triggered() => return,
        };
        match accepted {
            Ok(workload) if counts.clients.get() >= max_clients.load(Ordering::Relaxed) as i64 => {
                counts.rejected.inc();
                tracing::warn!(
                    max_clients = max_clients.load(Ordering::Relaxed),
                    "client refused: too many connections"
                );
                refuse(workload);
            }
            Ok(workload) => {
                counts.accepted.inc();
                counts.clients.inc();
                turn = turn.wrapping_add(1);
                if workers[turn % workers.len()].send(workload).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed; trying again in 100 ms");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn refuse(workload: Workload) {
    use std::io::Write;
    let answer = b"-ERR max number of clients reached\r\n";
    let _ = match workload {
        Workload::Tcp(mut stream) => stream.write(answer),
        Workload::Unix(mut stream) => stream.write(answer),
        // It would have to shake hands first.
        Workload::Tls(..) => Ok(0),
    };
}
