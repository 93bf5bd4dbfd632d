//! Application statistics as sources: any number of them on one page.
//!
//! A source is whatever implements [`Gather`]; the configuration file makes those that come along, and an embedder
//! adds its own to the [`Config`]. The runner gathers them on a scrape or by an interval, each under its own
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
#[doc(hidden)]
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
#[doc(hidden)]
pub use self::explain::{explain, lint, test};
#[doc(hidden)]
pub use self::probe::{Probed, probe};
pub use self::run::{APP, RunError, run};
#[doc(hidden)]
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
///
/// ```
/// use metrics_adapter::family::{Family, Kind};
/// use metrics_adapter::source::app::{Gather, GatherError, Gathering, Reading};
///
/// struct Disk(std::path::PathBuf);
///
/// impl Gather for Disk {
///     fn gather(&self) -> Gathering<'_> {
///         Box::pin(async {
///             let size = std::fs::metadata(&self.0).map_err(|error| GatherError(error.to_string()))?.len();
///             let family = Family::new("store_bytes", "Size of the store.", Kind::Gauge);
///             Ok(Reading::of(vec![family.with(&[("file", "main")], size as f64)]))
///         })
///     }
///
///     fn down(&self) -> Vec<Family> {
///         vec![Family::new("store_up", "Whether the store is there.", Kind::Gauge).with(&[], 0.0)]
///     }
/// }
/// assert_eq!(Disk("/does/not/exist".into()).down()[0].samples.len(), 1);
/// ```
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
    ///
    /// ```
    /// # use metrics_adapter::family::{Family, Kind};
    /// # use metrics_adapter::source::app::{Gather, GatherError, Gathering, Reading};
    /// struct Load;
    ///
    /// impl Gather for Load {
    ///     fn gather(&self) -> Gathering<'_> {
    ///         let text = std::fs::read("/proc/loadavg").unwrap_or_default();
    ///         Box::pin(async move { self.read(&text).unwrap() })
    ///     }
    ///
    ///     fn read(&self, document: &[u8]) -> Option<Result<Reading, GatherError>> {
    ///         let text = String::from_utf8_lossy(document);
    ///         let load = text.split(' ').next().and_then(|number| number.parse().ok());
    ///         Some(load.map_or(Err("no number".into()), |load| {
    ///             Ok(Reading::of(vec![Family::new("load1", "", Kind::Gauge).with(&[], load)]))
    ///         }))
    ///     }
    /// }
    /// assert_eq!(Load.read(b"0.5 0.4").unwrap().unwrap().samples(), 1);
    /// ```
    fn read(&self, document: &[u8]) -> Option<Result<Reading, GatherError>> {
        let _ = document;
        None
    }

    /// What in its configuration is likely a mistake, one line each. Nothing is connected to.
    ///
    /// ```
    /// # use metrics_adapter::source::app::{Gather, Gathering, Reading};
    /// # struct Orders;
    /// # impl Gather for Orders {
    /// #     fn gather(&self) -> Gathering<'_> {
    /// #         Box::pin(async { Ok(Reading::default()) })
    /// #     }
    /// # }
    ///
    /// assert!(Orders.lint().is_empty(), "nothing to say, unless a source says something");
    /// ```
    fn lint(&self) -> Vec<String> {
        Vec::new()
    }

    /// Starts what has to run in between (listeners, a reader of a growing file), until shutdown.
    ///
    /// ```
    /// # use metrics_adapter::source::app::{Gather, Gathering, Reading};
    /// # struct Orders;
    /// # impl Gather for Orders {
    /// #     fn gather(&self) -> Gathering<'_> {
    /// #         Box::pin(async { Ok(Reading::default()) })
    /// #     }
    /// # }
    /// # use std::sync::Arc;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let nothing_to_start = Arc::new(Orders).start(metrics_adapter::Shutdown::new());
    /// assert_eq!(nothing_to_start.await, Ok(()));
    /// # });
    /// ```
    fn start(self: Arc<Self>, shutdown: Shutdown) -> Starting {
        drop(shutdown);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Why a source could not be gathered: one line for people, without secrets.
///
/// ```
/// use metrics_adapter::source::app::GatherError;
///
/// assert_eq!(GatherError::from("connection refused").to_string(), "connection refused");
/// ```
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
///
/// ```
/// use metrics_adapter::source::app::SourceOptions;
/// use std::time::Duration;
///
/// let mut options = SourceOptions::new("orders", "own");
/// options.interval = Some(Duration::from_secs(30));
/// options.normal.labels.push(("shop".into(), "corner".into()));
/// ```
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
    ///
    /// ```
    /// let options = metrics_adapter::source::app::SourceOptions::new("orders", "own");
    /// assert_eq!(options.interval, None, "on every scrape");
    /// ```
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
