//! Starting and ending the mode.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use common::shutdown::Shutdown;

use super::config::Config;
use super::datagram::Receiver;
use super::drops::KernelDrops;
use super::relay::Relay;
use super::shared::{Shared, lock};
use super::{listen, reload, status, tcp, unixgram};
use crate::mapping::{Mapping, MappingError};
use crate::web::{self, Page, WebError};

/// Why the mode did not start.
///
/// ```
/// use metrics_adapter::{Layers, Shutdown, source::statsd};
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let mut config = statsd::Config::from_settings(&Layers::new(&statsd::APP).finish()).unwrap();
/// config.mapping = Some("/does/not/exist.yaml".into());
/// let error = statsd::run(config, Shutdown::new()).await.unwrap_err();
/// assert!(matches!(error, statsd::Error::Mapping(_)));
/// # });
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A socket could not be bound; the text names its address.
    #[error("{0}")]
    Listen(#[source] io::Error),
    /// The mapping file is missing or wrong.
    #[error("the mapping was not loaded")]
    Mapping(#[from] MappingError),
    /// The state machine could not be written.
    #[error("cannot write {}", path.display())]
    Dump {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The HTTP side could not start.
    #[error("the HTTP server did not start")]
    Web(#[from] WebError),
}

/// Runs until shutdown.
///
/// # Errors
/// When a listener, the mapping or the HTTP server cannot start. Once it runs it does not fail.
///
/// ```no_run
/// use metrics_adapter::{Layers, Shutdown, source::statsd};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config = statsd::Config::from_settings(&Layers::new(&statsd::APP).finish())?;
/// statsd::run(config, Shutdown::new()).await?;
/// # Ok(()) }
/// ```
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    let watch = reload::watch(config.mapping.as_ref());
    let mapping = match &config.mapping {
        Some(path) => Mapping::load(path)?,
        None => Mapping::default(),
    };
    if let Some(path) = &config.dump_fsm {
        std::fs::write(path, mapping.to_dot())
            .map_err(|source| Error::Dump { path: path.clone(), source })?;
    }
    for (name, why) in &config.idle_settings {
        tracing::info!("--{name} changes nothing: {why}");
    }
    let relay = config.relay.as_ref().map(|to| Arc::new(Relay::new(to.address.clone(), to.packet_length)));
    let shared = Arc::new(Shared::new(config.ingest, config.limits, mapping, relay.clone()));

    // Everything that can fail is bound before anything runs.
    let web = web::Server::bind(&config.web_listen, config.web_config.as_deref()).await?;
    let mut receivers = Receivers::default();
    receivers.udp(&config, &shared)?;
    let socket_file = receivers.unixgram(&config, &shared)?;
    if let Some(address) = &config.tcp {
        let listener = common::server::bind(address).await.map_err(Error::Listen)?;
        tracing::info!(address = %listener.local_addr().map_err(Error::Listen)?, "taking StatsD lines over TCP");
        shutdown.spawn(tcp::serve(listener, Arc::clone(&shared), shutdown.clone()));
    }
    let drops = receivers.drops.clone();
    let threads = receivers.start(&shutdown);
    if let Some(relay) = relay {
        shutdown.spawn(relay.run(shutdown.clone()));
    }
    shutdown.spawn(reload::run(
        config.mapping.clone(),
        watch,
        Arc::clone(&shared),
        config.reload.clone(),
        shutdown.clone(),
    ));
    shutdown.spawn(keep_house(Arc::clone(&shared), config.memory_limit, shutdown.clone()));
    let history = status::History::default();
    shutdown.spawn(history.clone().record(Arc::clone(&shared), drops.clone(), shutdown.clone()));

    let page = page(&config, &shared, &drops, history);
    tracing::info!(address = %web.address(), path = config.telemetry_path, "serving metrics");
    web.serve(page, &shutdown).await;
    shutdown.drain(Duration::from_secs(5)).await;
    join(threads).await;
    drop(socket_file);
    Ok(())
}

fn page(config: &Config, shared: &Arc<Shared>, drops: &KernelDrops, history: status::History) -> Page {
    let build = common::build!();
    let registry = common::metrics::registry(&build);
    let (own, own_drops) = (Arc::clone(shared), drops.clone());
    let status =
        status::Look { shared: Arc::clone(shared), drops: drops.clone(), config: config.clone(), history };
    Page {
        build,
        mode: "statsd",
        path: config.telemetry_path.clone(),
        lifecycle: config.lifecycle,
        reload: {
            let reload = config.reload.clone();
            Box::new(move || reload.ask())
        },
        own: Box::new(move || {
            let mut families = own.own_families(&build, own_drops.total());
            families.extend(super::own::convert(&registry.gather()));
            families
        }),
        status: Arc::new(move || status.look()),
        sources: vec![Arc::new(super::StatsdSource(Arc::clone(shared)))],
    }
}

/// Datagram sockets that are bound but not read yet.
#[derive(Default)]
pub(super) struct Receivers {
    ready: Vec<(String, Receiver)>,
    pub(super) drops: KernelDrops,
}

impl Receivers {
    pub(super) fn udp(&mut self, config: &Config, shared: &Arc<Shared>) -> Result<(), Error> {
        let Some(address) = &config.udp else { return Ok(()) };
        let sockets = listen::udp(address, config.udp_sockets, config.read_buffer).map_err(Error::Listen)?;
        for (at, socket) in sockets.into_iter().enumerate() {
            if at == 0 {
                let local = socket.local_addr().map_err(Error::Listen)?;
                let address = local.as_socket().map(|address| address.to_string()).unwrap_or_default();
                let buffer = socket.recv_buffer_size().unwrap_or_default();
                tracing::info!(address, buffer, sockets = config.udp_sockets, "taking StatsD lines over UDP");
            }
            self.drops.watch(&socket);
            let receiver = Receiver::new(socket, Arc::clone(shared), config.udp_queue, |shared| {
                &shared.traffic.udp_packets
            });
            self.ready.push((format!("udp-{at}"), receiver.map_err(Error::Listen)?));
        }
        Ok(())
    }

    pub(super) fn unixgram(
        &mut self,
        config: &Config,
        shared: &Arc<Shared>,
    ) -> Result<Option<unixgram::SocketFile>, Error> {
        let Some(name) = &config.unixgram else { return Ok(None) };
        let (socket, file) =
            unixgram::bind(name, config.unix_mode, config.read_buffer).map_err(Error::Listen)?;
        tracing::info!(name, "taking StatsD lines over a unix socket");
        let receiver = Receiver::new(socket, Arc::clone(shared), config.udp_queue, |shared| {
            &shared.traffic.unixgram_packets
        });
        self.ready.push(("unixgram".to_owned(), receiver.map_err(Error::Listen)?));
        Ok(Some(file))
    }

    pub(super) fn start(self, shutdown: &Shutdown) -> Vec<JoinHandle<()>> {
        let start = |(name, receiver): (String, Receiver)| {
            let shutdown = shutdown.clone();
            let thread = std::thread::Builder::new().name(name).spawn(move || receiver.run(&shutdown));
            thread.inspect_err(|error| tracing::error!(%error, "no thread for a listener")).ok()
        };
        self.ready.into_iter().filter_map(start).collect()
    }
}

/// Waits for the listeners' threads, which look for shutdown a few times a second.
pub(super) async fn join(threads: Vec<JoinHandle<()>>) {
    let joined = tokio::task::spawn_blocking(move || {
        threads.into_iter().for_each(|thread| {
            let _ = thread.join();
        });
    });
    let _ = tokio::time::timeout(Duration::from_secs(2), joined).await;
}

/// Once a second: removes what expired, and looks whether memory allows new series.
pub(super) async fn keep_house(shared: Arc<Shared>, memory_limit: usize, shutdown: Shutdown) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    let mut squeezed = false;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shutdown.triggered() => return,
        }
        shared.expire();
        let full = resident_bytes().is_some_and(|bytes| bytes > memory_limit / 10 * 9);
        if full != squeezed {
            squeezed = full;
            lock(&shared.store).squeeze(full);
            if full {
                tracing::warn!(memory_limit, "memory is nearly used up; no new series are taken");
            } else {
                tracing::info!("new series are taken again");
            }
        }
    }
}

/// Resident memory of this process.
fn resident_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten()?;
    pages.checked_mul(usize::try_from(page).ok()?)
}
