//! How a process of the pattern containers lives: configuration, logging, shutdown, admin HTTP,
//! metrics, retries, watching, files. Nothing in here knows Git, Redis, JMX or StatsD.
//!
//! Each room is small and used by all three crates:
//!
//! * [`config`]: settings as data; defaults < YAML file < environment < flags; values that remember
//!   where they came from, so that every error names its place.
//! * [`shutdown`]: a token that comes in as an argument and a tracker that is awaited under a deadline.
//! * `admin`, `server`, `status`: the only hyper server; `/metrics`, `/livez`, `/readyz` and the status page.
//! * `client` (feature `client`): the only hyper client and the only TLS settings for one.
//! * `metrics`: registry, bucket ladders, process and build metrics.
//! * [`retry`]: the only backoff. [`secret`]: secrets from files. `watch`: "read it again". `fs`: atomic files and links.
//! * `trace`: spans for a collector of OpenTelemetry's, when somebody asks for them.
//! * `cli`, `runtime`, `telemetry` (feature `cli`): what only a binary needs.

// What is hidden serves the three crates and their tests only: it may change with any version.
#[doc(hidden)]
pub mod admin;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(feature = "client")]
#[doc(hidden)]
pub mod client;
pub mod config;
pub mod error;
#[doc(hidden)]
pub mod fs;
#[doc(hidden)]
pub mod metrics;
pub mod retry;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod runtime;
pub mod secret;
#[doc(hidden)]
pub mod server;
pub mod shutdown;
#[doc(hidden)]
pub mod status;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod telemetry;
#[doc(hidden)]
pub mod trace;
#[doc(hidden)]
pub mod watch;

/// The version and revision that a binary was built from.
///
/// ```
/// let build: common::Build = common::build!();
/// println!("{} {} ({})", build.name, build.version, build.revision);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// Name of the binary.
    pub name: &'static str,
    /// The crate's version.
    pub version: &'static str,
    /// The git revision, or `unknown`; `-dirty` is appended for an uncommitted tree.
    pub revision: &'static str,
}

/// Makes the [`Build`] of the calling crate; the revision comes from `BUILD_REVISION` at compile time.
///
/// ```
/// const BUILD: common::Build = common::build!();
/// assert!(!BUILD.version.is_empty());
/// ```
#[macro_export]
macro_rules! build {
    () => {
        $crate::Build {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            revision: match option_env!("BUILD_REVISION") {
                Some(revision) => revision,
                None => "unknown",
            },
        }
    };
}
