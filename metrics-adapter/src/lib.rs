//! Turns StatsD, JMX and application statistics into one Prometheus page.
//!
//! The modes are [`source::statsd`], [`source::jmx`] and [`source::app`] (`run`), where a program adds sources of its
//! own. [`jmx::client`] is a JMX client without a JVM; [`statsd`] and [`mapping`] read lines and name series, [`family`]
//! holds them: these three do no input or output.
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

// The hidden modules are reached by the binary, the fuzz targets and the tests of this crate only: they may change
// with any version.
#[doc(hidden)]
pub mod explain;
#[doc(hidden)]
pub mod exposition;
pub mod family;
#[doc(hidden)]
pub mod ingest;
pub mod jmx;
pub mod mapping;
#[doc(hidden)]
pub mod push;
#[doc(hidden)]
pub mod reader;
#[doc(hidden)]
pub mod rule;
pub mod source;
pub mod statsd;
#[doc(hidden)]
pub mod web;
mod yaml;

pub use common::config::{ConfigError as SettingError, Layers, ListenAddr, Settings};
pub use common::shutdown::Shutdown;

/// What to run.
///
/// ```no_run
/// use metrics_adapter::{Config, Shutdown, run, source::jmx};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let config = Box::new(jmx::Config::load("config.yaml".as_ref())?);
/// run(Config::Jmx { config, listen: ":9404".into() }, Shutdown::new()).await?;
/// # Ok(()) }
/// ```
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
///
/// ```
/// use metrics_adapter::{Config, Error, Shutdown, run, source::jmx};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let config = Box::new(jmx::Config::from_text("hostPort: localhost:9010", "config.yaml".as_ref()).unwrap());
/// let error = run(Config::Jmx { config, listen: "nowhere".into() }, Shutdown::new()).await.unwrap_err();
/// assert!(matches!(error, Error::Jmx(jmx::RunError::Listen { .. })));
/// # });
/// ```
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
///
/// ```
/// use metrics_adapter::{Config, ListenAddr, Shutdown, run, source::app};
///
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// let config = app::Config::new().listen(ListenAddr::loopback(0));
/// let shutdown = Shutdown::new();
/// shutdown.trigger(); // a program does so when its own work is done
/// run(Config::Run(Box::new(config)), shutdown).await.unwrap();
/// # });
/// ```
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    match config {
        Config::Statsd(config) => Ok(source::statsd::run(*config, shutdown).await?),
        Config::Run(config) => Ok(source::app::run(*config, shutdown).await?),
        Config::Jmx { config, listen } => Ok(source::jmx::run(*config, &listen, shutdown).await?),
    }
}
