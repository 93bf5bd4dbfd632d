//! The listeners without the mode's HTTP side, for a page that has other sources too.

use std::sync::Arc;

use common::shutdown::Shutdown;

use super::config::Config;
use super::drops::KernelDrops;
use super::relay::Relay;
use super::run::{Error, Receivers, join, keep_house};
use super::shared::Shared;
use super::{reload, tcp, unixgram};
use crate::family::Family;
use crate::family::store::StoreWalk;
use crate::mapping::Mapping;

/// Running listeners and their series.
pub struct Embedded {
    shared: Arc<Shared>,
    drops: KernelDrops,
    _socket_file: Option<unixgram::SocketFile>,
}

impl Embedded {
    /// The series as they are now.
    #[must_use]
    pub fn walk(&self) -> StoreWalk {
        self.shared.walk()
    }

    /// The listeners' own families.
    #[must_use]
    pub fn own_families(&self) -> Vec<Family> {
        self.shared.own_families(&common::build!(), self.drops.total())
    }
}

/// Starts the listeners; they run until shutdown. Settings about HTTP have no effect.
///
/// # Errors
/// A listener or the mapping cannot start.
pub async fn embed(config: Config, shutdown: Shutdown) -> Result<Embedded, Error> {
    let watch = reload::watch(config.mapping.as_ref());
    let mapping = match &config.mapping {
        Some(path) => Mapping::load(path)?,
        None => Mapping::default(),
    };
    let relay = config.relay.as_ref().map(|to| Arc::new(Relay::new(to.address.clone(), to.packet_length)));
    let shared = Arc::new(Shared::new(config.ingest, config.limits, mapping, relay.clone()));
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
    let until = shutdown.clone();
    shutdown.spawn(async move {
        until.triggered().await;
        join(threads).await;
    });
    if let Some(relay) = relay {
        shutdown.spawn(relay.run(shutdown.clone()));
    }
    let (path, again) = (config.mapping.clone(), config.reload.clone());
    shutdown.spawn(reload::run(path, watch, Arc::clone(&shared), again, shutdown.clone()));
    shutdown.spawn(keep_house(Arc::clone(&shared), config.memory_limit, shutdown.clone()));
    Ok(Embedded { shared, drops, _socket_file: socket_file })
}
