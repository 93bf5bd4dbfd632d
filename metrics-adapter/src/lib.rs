//! Turns StatsD, JMX and application statistics into one Prometheus page.
//!
//! The pure rooms hold no socket, clock or file: [`statsd`] reads lines, [`mapping`] names series, [`family`]
//! holds them, [`ingest`] puts these together, [`exposition`] writes pages; [`jmx`] and [`rule`] read Java's
//! management beans. [`source`], [`web`] and [`push`] are the drivers.
//!
//! An embedder makes a [`Config`] and calls [`run`]:
//!
//! ```
//! use metrics_adapter::{Config, Layers, Shutdown, run, source::statsd};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! let mut layers = Layers::new(&statsd::APP);
//! layers.flag("web.listen-address", vec!["127.0.0.1:0".into()]).unwrap();
//! layers.flag("statsd.listen-udp", vec!["127.0.0.1:0".into()]).unwrap();
//! layers.flag("statsd.listen-tcp", vec![String::new()]).unwrap();
//! let config = statsd::Config::from_settings(&layers.finish()).unwrap();
//!
//! let shutdown = Shutdown::new();
//! let running = tokio::spawn(run(Config::Statsd(Box::new(config)), shutdown.clone()));
//! // … until it is time to end:
//! shutdown.trigger();
//! running.await.unwrap().unwrap();
//! # });
//! ```

pub mod explain;
pub mod exposition;
pub mod family;
pub mod ingest;
pub mod jmx;
pub mod mapping;
pub mod push;
pub mod reader;
pub mod rule;
pub mod source;
pub mod statsd;
pub mod web;
mod yaml;

pub use common::config::Layers;
pub use common::shutdown::Shutdown;

/// What to run.
#[derive(Debug)]
#[non_exhaustive]
pub enum Config {
    /// The StatsD mode.
    Statsd(Box<source::statsd::Config>),
    /// Any number of sources on one page.
    Run(Box<source::app::Config>),
    /// The JMX mode.
    Jmx {
        /// What to read, and how.
        config: Box<source::jmx::Config>,
        /// Where to serve the page: `host:port` or `:port`.
        listen: String,
    },
}

/// Why a mode did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The StatsD mode.
    #[error("the statsd mode did not start")]
    Statsd(#[from] source::statsd::Error),
    /// The run mode.
    #[error("the run mode did not start")]
    Run(#[from] source::app::RunError),
    /// The JMX mode.
    #[error("the jmx mode did not start")]
    Jmx(#[from] source::jmx::RunError),
}

/// Runs a mode until shutdown.
///
/// # Errors
/// When it cannot start: an address that is taken, a mapping that is wrong.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    match config {
        Config::Statsd(config) => Ok(source::statsd::run(*config, shutdown).await?),
        Config::Run(config) => Ok(source::app::run(*config, shutdown).await?),
        Config::Jmx { config, listen } => Ok(source::jmx::run(*config, &listen, shutdown).await?),
    }
}
