//! Application statistics as sources: any number of them on one page.
//!
//! A source is whatever implements [`Gather`]; the configuration file makes those that come along, and an embedder
//! adds its own to the [`Config`]. The [`Runner`] gathers them on a scrape or by an interval, each under its own
//! timeout and apart from the others, and puts what they gave together as one page.

mod address;
mod build;
mod config;
mod exec;
mod explain;
mod fastcgi;
mod file;
mod http;
mod jmx;
mod limits;
pub mod module;
mod own;
mod probe;
mod push;
mod raw;
mod run;
mod runner;
mod statsd;
mod status;
mod tail;
mod tcp;
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use common::shutdown::Shutdown;

pub use self::config::{Config, ConfigError, Options};
pub use self::explain::{explain, lint, test};
pub use self::probe::{Probed, probe};
pub use self::run::{APP, RunError, run};
pub use self::runner::Runner;
use crate::family::Family;
pub use crate::family::normal::Normal;
use crate::reader::ReadError;
pub use crate::reader::Reading;

/// A boxed gathering.
pub type Gathering<'a> = Pin<Box<dyn Future<Output = Result<Reading, GatherError>> + Send + 'a>>;
/// A boxed start.
pub type Starting = Pin<Box<dyn Future<Output = Result<(), GatherError>> + Send>>;

/// A source of families: the trait to implement for a source of one's own.
pub trait Gather: Send + Sync + 'static {
    /// Reads the families as they are now.
    ///
    /// Cancel safe: the future is dropped when the source's timeout has passed. Names need not be valid and
    /// labels need not be sorted; the runner brings everything into one form.
    fn gather(&self) -> Gathering<'_>;

    /// What is shown when gathering failed, for example `nginx_up 0`.
    fn down(&self) -> Vec<Family> {
        Vec::new()
    }

    /// What a document would give: an answer of the peer, lines of a log or of StatsD. For `test` and `explain`;
    /// nothing is fetched, and nothing is kept. `None` where a source reads no documents.
    fn read(&self, document: &[u8]) -> Option<Result<Reading, GatherError>> {
        let _ = document;
        None
    }

    /// What in its configuration is likely a mistake, one line each. Nothing is connected to.
    fn lint(&self) -> Vec<String> {
        Vec::new()
    }

    /// Starts what has to run in between (listeners, a reader of a growing file), until shutdown.
    fn start(self: Arc<Self>, shutdown: Shutdown) -> Starting {
        drop(shutdown);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Why a source could not be gathered: one line for people, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GatherError(pub String);

impl From<String> for GatherError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for GatherError {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<ReadError> for GatherError {
    fn from(error: ReadError) -> Self {
        Self(error.to_string())
    }
}

/// How a source is run, whatever its kind.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// Names it in errors, on the status page and in the label `source` of `metrics_adapter_source_*`.
    pub name: String,
    /// What kind of source it is, for people.
    pub kind: String,
    /// Gathered by itself in this interval; without one on every scrape.
    pub interval: Option<Duration>,
    /// Time for gathering.
    pub timeout: Duration,
    /// Samples that are taken at most.
    pub max_series: usize,
    /// Labels and relabelling.
    pub normal: Normal,
}

impl SourceOptions {
    /// Gathered on a scrape within 5 seconds, at most 100,000 samples, no labels.
    pub fn new(name: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind: kind.into(),
            interval: None,
            timeout: limits::TIMEOUT,
            max_series: limits::SERIES,
            normal: Normal::default(),
        }
    }
}
