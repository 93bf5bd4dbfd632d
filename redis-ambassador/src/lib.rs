//! Makes a Redis primary and its replicas look like one plain Redis on localhost.
//!
//! Applications connect to it as to any Redis server. Reads are spread over the replicas, everything else goes to
//! the primary; what a client has written it reads back; a lost replica goes unnoticed.
//!
//! ```
//! use redis_ambassador::{Config, Listen, ListenAddr, Shutdown, run};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let mut config = Config::new("127.0.0.1:7001".parse()?, vec!["127.0.0.1:7002".parse()?]);
//! config.listen = vec![Listen::Tcp(ListenAddr::loopback(0))];
//! let shutdown = Shutdown::new();
//! let stop = shutdown.clone();
//! // Servers may come later; clients wait for them. `trigger` ends it after a drain.
//! # tokio::spawn(async move { tokio::time::sleep(std::time::Duration::from_millis(50)).await;
//! stop.trigger();
//! # });
//! run(config, shutdown).await?;
//! # Ok(()) })
//! # }
//! ```
//!
//! Settings by name, as the binary takes them from flags, variables and a file, are [`Layers`] over [`APP`].
//!
//! The map: `resp`, `command`, `route` and `session` are pure; `upstream` holds connections to servers,
//! `proxy` moves the bytes, `topology` asks the servers who they are.

mod address;
mod app;
// The hidden modules are reached by the binary, the fuzz targets and the tests of this crate only: they may change
// with any version.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod cluster;
#[doc(hidden)]
pub mod command;
mod config;
mod discovery;
mod error;
mod explain;
mod metrics;
mod proxy;
mod reach;
mod reload;
#[doc(hidden)]
pub mod resp;
#[doc(hidden)]
pub mod route;
#[doc(hidden)]
pub mod session;
mod status;
mod tls;
#[doc(hidden)]
pub mod topology;
mod upstream;
mod users;

pub use common::config::{ConfigError, FromSetting, Layers, ListenAddr, Settings};
pub use common::shutdown::Shutdown;

pub use address::{InvalidAddr, ServerAddr};
pub use app::{Listening, check, run, run_reloading, run_with};
pub use config::{APP, Config, Consistency, Listen, MaxLag};
pub use discovery::Discover;
pub use error::Error;
pub use explain::explain;
#[doc(hidden)]
pub use metrics::Metrics;
pub use route::{Policy, ReadRules, Rule};
pub use tls::{ClientTls, TlsError, UpstreamTls, Verify};
pub use users::UsersError;
