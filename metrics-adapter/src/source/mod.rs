//! Drivers: what listens, connects and reads files, and is collected on a scrape.

pub mod app;
pub mod jmx;
pub mod statsd;

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use crate::family::Walk;

// What is hidden connects the modes to their pages; a program adds sources by `app::Gather`.

/// A boxed future, so that sources of different kinds live in one list.
#[doc(hidden)]
pub type Collecting<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Walk>, CollectError>> + Send + 'a>>;

/// Something whose families appear on `/metrics`.
#[doc(hidden)]
pub trait Source: Send + Sync {
    /// Names the source in logs and errors, for example `statsd` or `jmx localhost:9010`.
    fn name(&self) -> &str;

    /// Collects the families as they are now.
    ///
    /// A source that can still say something when its target is down returns families that say so (an `up`
    /// gauge); an error makes the whole scrape fail with status 500. Cancel safe: a dropped future leaves
    /// nothing behind.
    fn collect(&self, deadline: Instant) -> Collecting<'_>;
}

/// A scrape that could not be answered.
#[doc(hidden)]
#[derive(Debug, thiserror::Error)]
#[error("collecting from {source_name}")]
pub struct CollectError {
    /// [`Source::name`] of the one that failed.
    pub source_name: String,
    /// Why.
    #[source]
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}
