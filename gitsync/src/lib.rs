//! Keeps a shared folder equal to a git ref: a drop-in for kubernetes/git-sync, without a git
//! program, as a library and a binary.
//!
//! A new commit is fetched, checked out beside the published one, and published by moving one
//! symlink, so a reader sees the old or the new tree and never a mix.
//!
//! ```no_run
//! use common::shutdown::Shutdown;
//! use gitsync::Config;
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), gitsync::Error> {
//! let mut config = Config::new("https://example.org/site.git", "/srv/volume");
//! config.reference = "main".to_owned();
//! config.period = Duration::from_secs(5);
//! let shutdown = Shutdown::new();
//! // Somewhere else: shutdown.trigger();
//! gitsync::run(config, shutdown).await
//! # }
//! ```
//!
//! The rooms: [`protocol`] and [`sync`] are pure; [`transport`], [`repo`], [`publish`] and the
//! hooks are drivers; `engine` is one attempt, `app` the loop around it.

mod app;
pub mod auth;
mod config;
mod endpoint;
mod engine;
mod error;
mod fetcher;
mod from_settings;
mod hook;
mod keyring;
mod metrics;
pub mod protocol;
pub mod publish;
mod redact;
pub mod repo;
mod settings;
pub mod ssh;
mod submodule;
pub mod sync;
pub mod transport;
mod view;

pub use app::{Trigger, run, run_triggered};
pub use config::{Config, Credentials, ExecHook, Hooks, Http, Submodules, Tidy, WebHook};
pub use error::{Error, SyncError};
pub use hook::HookError;
pub use redact::url as redact_url;
pub use settings::{APP, DEPRECATED};

/// Version and revision of this build.
pub const BUILD: common::Build = common::build!();
