//! Makes a Redis primary and its replicas look like one plain Redis on localhost.
//!
//! Applications connect to it as to any Redis server. Reads are spread over the replicas, everything else goes to
//! the primary; what a client has written it reads back; a lost replica goes unnoticed.
//!
//! ```no_run
//! use common::shutdown::Shutdown;
//! use redis_ambassador::{Config, run};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::new("10.0.0.1:6379".parse()?, vec!["10.0.0.2:6379".parse()?]);
//! let shutdown = Shutdown::new();
//! // `shutdown.trigger()` from elsewhere ends it after a drain.
//! run(config, shutdown).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The map: [`resp`], [`command`], [`route`] and [`session`] are pure; `upstream` holds connections to servers,
//! `proxy` moves the bytes, [`topology`] asks the servers who they are.

mod address;
mod app;
#[cfg(feature = "cli")]
pub mod cli;
pub mod command;
mod config;
mod error;
mod explain;
mod metrics;
mod proxy;
pub mod resp;
pub mod route;
pub mod session;
mod status;
pub mod topology;
mod upstream;

pub use address::{InvalidAddr, ServerAddr};
pub use app::{Listening, check, run, run_with};
pub use config::{APP, Config, Consistency, Listen};
pub use error::Error;
pub use explain::explain;
pub use metrics::Metrics;
