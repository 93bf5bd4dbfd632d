//! Keeps a shared folder equal to a git ref: a drop-in for kubernetes/git-sync, without a git
//! program, as a library and a binary.
//!
//! A new commit is fetched, checked out beside the published one, and published by moving one
//! symlink, so a reader sees the old or the new tree and never a mix.
//!
//! ```
//! use gitsync::{Config, Shutdown};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let place = tempfile::tempdir()?;
//! # let (site, volume) = (place.path().join("site.git"), place.path().join("volume"));
//! # let repository = git2::Repository::init_bare(&site)?;
//! # let who = git2::Signature::now("A Tester", "tester@localhost")?;
//! # let tree = repository.find_tree(repository.treebuilder(None)?.write()?)?;
//! # repository.commit(Some("HEAD"), &who, &who, "first", &tree, &[])?;
//! # let site = site.display().to_string();
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let mut config = Config::new(site, &volume); // a path or any URL
//! config.one_time = true; // without it: until somebody calls `shutdown.trigger()`
//! let shutdown = Shutdown::new();
//! gitsync::run(config, shutdown).await?;
//! assert!(volume.join("site.git").is_symlink());
//! # Ok(()) })
//! # }
//! ```
//!
//! Several repositories at once are [`Sources`] of a file, run by [`run_sources`]; [`Trigger`] starts a sync at once.
//! Settings by name, as the binary takes them from flags, variables and a file, are [`Layers`] over [`APP`].
//!
//! The rooms: `protocol` and `sync` are pure; `transport`, `repo`, `publish` and the
//! hooks are drivers; `engine` is one attempt, `app` the loop around it, `hub` the remote that several
//! loops share, `many` several sources in one process.

mod app;
// The hidden modules are reached by the fuzz targets and by tests of this crate only: they may change with any
// version. What of them a configuration consists of is named below.
#[doc(hidden)]
pub mod auth;
mod board;
mod config;
mod endpoint;
mod engine;
mod error;
mod fetcher;
mod from_settings;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod git_options;
mod hook;
mod hub;
mod keyring;
mod lfs;
mod many;
mod memory;
mod metrics;
mod news;
mod orders;
mod probe;
#[doc(hidden)]
pub mod protocol;
#[doc(hidden)]
pub mod publish;
mod redact;
#[doc(hidden)]
pub mod repo;
mod settings;
#[doc(hidden)]
pub mod ssh;
mod submodule;
#[doc(hidden)]
pub mod sync;
#[doc(hidden)]
pub mod transport;
mod trigger;
mod verify;
mod view;

pub use common::client::TlsOptions;
pub use common::config::{ConfigError, Layers, ListenAddr, Settings};
pub use common::shutdown::Shutdown;

pub use app::{Trigger, run, run_triggered};
pub use auth::git_config::GitConfig;
pub use auth::github_app::{App as GithubApp, PrivateKey};
pub use auth::store::{Credential, Password};
pub use config::{Config, Credentials, ExecHook, Hooks, Http, Probe, Submodules, Tidy, WebHook};
pub use error::{Error, SyncError};
pub use hook::HookError;
pub use many::{Sources, run_sources};
pub use publish::{Codec, Mode, Strip, Web};
pub use redact::url as redact_url;
pub use repo::Reuse;
pub use settings::{APP, DEPRECATED};
pub use ssh::{HostKeys, Options as SshOptions};
pub use transport::HttpOptions;
pub use trigger::Triggers;
pub use verify::{Unverified, Verification, Verify};

/// Version and revision of this build.
///
/// ```
/// let build = gitsync::BUILD;
/// println!("gitsync {} ({})", build.version, build.revision);
/// ```
pub const BUILD: common::Build = common::build!();
