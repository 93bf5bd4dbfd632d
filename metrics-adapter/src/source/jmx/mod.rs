//! JMX as a source: JVMs read over RMI on every scrape, by the configuration file of jmx_exporter.
//!
//! ```no_run
//! use common::shutdown::Shutdown;
//! use metrics_adapter::source::jmx::{Config, run};
//!
//! # async fn example() -> Result<(), metrics_adapter::source::jmx::RunError> {
//! let config = Config::load("config.yaml".as_ref())?;
//! run(config, "127.0.0.1:9404", Shutdown::new()).await
//! # }
//! ```

mod basic_auth;
#[doc(hidden)]
pub mod cases;
mod config;
mod explain;
mod export;
mod http;
mod jvm;
mod key_store;
mod otlp;
mod own;
mod session;
mod settings;
mod status;
mod target;
mod text;
mod tls;

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use common::status::Status;
use common::trace::Span;
use futures_util::future::join_all;
use tokio::sync::Mutex;

pub(crate) use self::config::ABOUT_A_PAGE;
pub use self::config::ConfigError;
#[doc(hidden)]
pub use self::explain::{Explained, Explanation, Fate, explain};
pub use self::http::{RunError, push_only, run};
use self::settings::{Settings, TargetSettings};
use self::target::{SharedTarget, Target};
use self::tls::ServerTls;
use super::{CollectError, Collecting, Source};
use crate::family::{Families, Family};
use crate::rule::page::{Page, SharedFamily};

/// Rule sets that come along, for `includes: ["builtin:NAME"]` and `rule_set` in the run mode.
///
/// ```
/// use metrics_adapter::source::jmx::RULE_SETS;
///
/// assert!(RULE_SETS.iter().any(|(name, rules)| *name == "kafka" && rules.contains("kafka")));
/// ```
pub const RULE_SETS: &[(&str, &str)] = &[
    ("activemq", include_str!("../../../rules/activemq.yaml")),
    ("cassandra", include_str!("../../../rules/cassandra.yaml")),
    ("kafka", include_str!("../../../rules/kafka.yaml")),
    ("spark", include_str!("../../../rules/spark.yaml")),
    ("tomcat", include_str!("../../../rules/tomcat.yaml")),
    ("zookeeper", include_str!("../../../rules/zookeeper.yaml")),
];

/// Time for a scrape when neither the configuration nor the client sets one.
const DEFAULT_SCRAPE: Duration = Duration::from_secs(120);
/// Time for making the page of what there is when a JVM was given up.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Probed targets that are remembered, and for how long.
const MAX_PROBES: usize = 64;
const PROBE_MEMORY: Duration = Duration::from_secs(600);

/// A configuration that was read and checked.
///
/// ```
/// use metrics_adapter::source::jmx::Config;
///
/// let config = Config::from_text("hostPort: localhost:9010\nrules: [{pattern: '.*'}]", "config.yaml".as_ref())?;
/// assert!(!config.pushes());
/// # Ok::<(), metrics_adapter::source::jmx::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Config {
    path: PathBuf,
    seen: Seen,
    properties: HashMap<String, String>,
    settings: Settings,
}

impl Config {
    /// Whether it has the key `openTelemetry`, so that the page is pushed.
    ///
    /// ```
    /// # use metrics_adapter::source::jmx::Config;
    /// assert!(!Config::from_text("hostPort: localhost:9010", "config.yaml".as_ref())?.pushes());
    /// # Ok::<(), metrics_adapter::source::jmx::ConfigError>(())
    /// ```
    #[must_use]
    pub fn pushes(&self) -> bool {
        self.settings.open_telemetry.is_some()
    }

    /// Keys that have no meaning where JMX is one source among others.
    pub(crate) fn page_keys(&self) -> &[&'static str] {
        &self.settings.page_keys
    }

    /// Reads a configuration file of jmx_exporter.
    ///
    /// # Errors
    /// It cannot be read, is no YAML, or asks for something that is not there.
    ///
    /// ```no_run
    /// let config = metrics_adapter::source::jmx::Config::load("config.yaml".as_ref())?;
    /// # Ok::<(), metrics_adapter::source::jmx::ConfigError>(())
    /// ```
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, HashMap::new())
    }

    /// Takes a configuration that is a part of another file, for example of an embedder. Files that it names are
    /// looked for beside `path`, errors name it, and lines count within the text. It is never read again.
    ///
    /// # Errors
    /// As [`Config::load`], and also for unknown keys and for those that are about a page of its own (`httpServer`,
    /// `openTelemetry`, `probeTargets`).
    ///
    /// ```
    /// use metrics_adapter::source::jmx::Config;
    ///
    /// let config = Config::from_text("{hostPort: 'localhost:9010', includes: ['builtin:kafka']}", "config.yaml".as_ref())?;
    /// # Ok::<(), metrics_adapter::source::jmx::ConfigError>(())
    /// ```
    pub fn from_text(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let settings = config::from_text(text, path, &|name| std::env::var(name).ok())?;
        Ok(Self { path: PathBuf::new(), seen: Seen::default(), properties: HashMap::new(), settings })
    }

    /// [`Config::load`] with Java system properties (`-Dkey=value`) that stand in for missing keys.
    ///
    /// # Errors
    /// As [`Config::load`].
    ///
    /// ```no_run
    /// use metrics_adapter::source::jmx::Config;
    ///
    /// let properties = [("javax.net.ssl.trustStore".to_owned(), "/etc/trust.p12".to_owned())];
    /// let config = Config::load_with("config.yaml".as_ref(), properties.into())?;
    /// # Ok::<(), metrics_adapter::source::jmx::ConfigError>(())
    /// ```
    pub fn load_with(path: &Path, properties: HashMap<String, String>) -> Result<Self, ConfigError> {
        let modified = modified(path);
        let environment = |name: &str| properties.get(name).cloned().or_else(|| std::env::var(name).ok());
        let settings = config::load(path, &environment)?;
        let seen = Seen { modified, stores: stores(&settings.stores) };
        Ok(Self { path: path.to_owned(), seen, properties, settings })
    }
}

/// What tells a changed configuration.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// As with the peer, the file has to become newer.
    modified: Option<SystemTime>,
    /// A store behind a link may be replaced by one that is older than the file: any other one counts.
    stores: Vec<Option<(SystemTime, u64)>>,
}

impl Seen {
    fn is_newer_than(&self, earlier: &Self) -> bool {
        self.modified > earlier.modified || self.stores != earlier.stores
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn stores(paths: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let identity = |path: &PathBuf| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.ino()))
    };
    paths.iter().map(identity).collect()
}

/// All JVMs of a configuration.
#[derive(Debug)]
#[doc(hidden)]
pub struct JmxSource {
    current: ArcSwap<Current>,
    /// Of the page's own port; its certificates may be renewed.
    server_tls: ArcSwapOption<ServerTls>,
    properties: HashMap<String, String>,
    started: Instant,
    counts: Counts,
    /// What was pushed, where `openTelemetry` is configured.
    pushed: OnceLock<Arc<crate::push::State>>,
    probes: Mutex<HashMap<String, (SharedTarget, Instant)>>,
    /// Held during a scrape; whoever waited for it takes its result.
    running: Mutex<Option<Finished>>,
}

#[derive(Debug, Default)]
struct Counts {
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
    timeouts: AtomicU64,
    rejected: AtomicU64,
}

/// What a reload replaces.
#[derive(Debug)]
struct Current {
    path: PathBuf,
    seen: Seen,
    settings: Arc<Settings>,
    targets: Vec<SharedTarget>,
    /// Name and look of each target, in the same order.
    looks: Vec<(String, Arc<status::Look>)>,
}

#[derive(Debug)]
struct Finished {
    at: Instant,
    page: Arc<Vec<SharedFamily>>,
}

impl Current {
    fn new(config: Config) -> Self {
        let targets: Vec<Target> =
            config.settings.targets.iter().map(|settings| Target::new(settings.clone())).collect();
        let looks =
            targets.iter().map(|target| (target.settings.name.clone(), Arc::clone(&target.look))).collect();
        let targets = targets.into_iter().map(|target| Arc::new(Mutex::new(target))).collect();
        let (path, seen) = (config.path, config.seen);
        Self { path, seen, settings: Arc::new(config.settings), targets, looks }
    }
}

/// A scrape that cannot be answered with a page.
#[doc(hidden)]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScrapeError {
    /// `startDelaySeconds` has not passed yet.
    #[error("collection starts in {0:?} (startDelaySeconds)")]
    StartDelay(Duration),
    /// The first scrape took longer than `scrapeTimeoutSeconds`, and there is no earlier page.
    #[error("the scrape took longer than {0:?}")]
    Timeout(Duration),
    /// `/probe` was asked for a target that `probeTargets` does not list.
    #[error("`{0}` is not one of `probeTargets`")]
    NotAllowed(String),
    /// `/probe` was asked for something that is no address.
    #[error("the target is no address: {0}")]
    NoTarget(String),
}

impl JmxSource {
    /// Sets a source up; nothing is connected to before the first scrape.
    #[must_use]
    pub fn new(mut config: Config) -> Self {
        let properties = std::mem::take(&mut config.properties);
        let server_tls = config.settings.server_tls.take();
        Self {
            server_tls: ArcSwapOption::from(server_tls.map(Arc::new)),
            current: ArcSwap::from_pointee(Current::new(config)),
            properties,
            started: Instant::now(),
            counts: Counts::default(),
            pushed: OnceLock::new(),
            probes: Mutex::default(),
            running: Mutex::default(),
        }
    }

    /// Reads the configuration again when its file has become newer.
    async fn reload(&self) {
        let current = self.current.load_full();
        if current.path.as_os_str().is_empty() {
            return;
        }
        let seen = Seen { modified: modified(&current.path), stores: stores(&current.settings.stores) };
        if !seen.is_newer_than(&current.seen) {
            return;
        }
        match Config::load_with(&current.path, self.properties.clone()) {
            Ok(mut config) => {
                if let Some(tls) = config.settings.server_tls.take() {
                    self.server_tls.store(Some(Arc::new(tls)));
                }
                tracing::info!(path = %current.path.display(), "configuration read again");
                self.counts.reloads.fetch_add(1, Ordering::Relaxed);
                self.current.store(Arc::new(Current::new(config)));
                for target in &current.targets {
                    target.lock().await.close().await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "configuration not read again; the old one stays");
                self.counts.failed_reloads.fetch_add(1, Ordering::Relaxed);
                // Not again before the file changes once more.
                self.current.rcu(|now| {
                    Arc::new(Current {
                        path: now.path.clone(),
                        seen: seen.clone(),
                        settings: Arc::clone(&now.settings),
                        targets: now.targets.clone(),
                        looks: now.looks.clone(),
                    })
                });
            }
        }
    }

    /// Scrapes all targets. Concurrent callers share one run.
    ///
    /// # Errors
    /// See [`ScrapeError`]. A JVM that cannot be reached is no error but `jmx_scrape_error 1` on the page.
    pub async fn scrape(&self, deadline: Option<Instant>) -> Result<Arc<Vec<SharedFamily>>, ScrapeError> {
        let arrived = Instant::now();
        let mut running = self.running.lock().await;
        if let Some(finished) = running.as_ref().filter(|finished| finished.at >= arrived) {
            return Ok(Arc::clone(&finished.page));
        }
        self.reload().await;
        let current = self.current.load_full();
        let waiting = (self.started + current.settings.start_delay).saturating_duration_since(arrived);
        if !waiting.is_zero() {
            return Err(ScrapeError::StartDelay(waiting));
        }
        let limit = current.settings.scrape_timeout.unwrap_or(DEFAULT_SCRAPE);
        let soonest = deadline.map_or(arrived + limit, |deadline| deadline.min(arrived + limit));
        // Whoever asks gives up then, and shall have the other JVMs by that time. With `scrapeTimeoutSeconds` it is
        // the page as a whole that times out, as with the peer.
        let (end, afterwards) = match current.settings.scrape_timeout {
            Some(_) => (deadline, Duration::ZERO),
            None => (Some(soonest), AFTERWARDS),
        };
        let work = self.scrape_all(&current, soonest, end);
        match tokio::time::timeout_at((arrived + limit + afterwards).into(), work).await {
            Ok(page) => {
                let page = Arc::new(page);
                *running = Some(Finished { at: Instant::now(), page: Arc::clone(&page) });
                Ok(page)
            }
            Err(_) => {
                self.counts.timeouts.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(?limit, "scrape timed out; the last good page is served");
                match running.as_ref() {
                    Some(finished) => Ok(Arc::clone(&finished.page)),
                    None => Err(ScrapeError::Timeout(limit)),
                }
            }
        }
    }

    async fn scrape_all(
        &self,
        current: &Current,
        deadline: Instant,
        end: Option<Instant>,
    ) -> Vec<SharedFamily> {
        let collection = &current.settings.collection;
        let mut page = Page::new(collection.name_style);
        // At the same time, so that a JVM that does not answer delays nobody else's samples.
        let scrapes = current.targets.iter().map(async |shared| {
            let mut own = Page::new(collection.name_style);
            let mut target = shared.lock().await;
            let mut span = Span::start("jmx");
            target.scrape(collection, Some(deadline), end, &mut own).await;
            let report = target.report();
            report.trace(&mut span);
            if target.assumes() {
                tokio::spawn(verify(Arc::clone(shared), Arc::clone(&current.settings)));
            }
            (own, report)
        });
        let mut reports = Vec::with_capacity(current.targets.len());
        for (own, report) in join_all(scrapes).await {
            page.merge(own);
            reports.push(report);
        }
        let mut families = page.finish_shared();
        families.extend(own::scrape_families(&reports).into_iter().map(SharedFamily::from));
        families
    }

    /// Scrapes one JVM that the request names, if `probeTargets` allows it.
    ///
    /// # Errors
    /// See [`ScrapeError`].
    pub async fn probe(
        &self,
        name: &str,
        deadline: Option<Instant>,
    ) -> Result<Vec<SharedFamily>, ScrapeError> {
        let current = self.current.load_full();
        let allowed = |pattern: &String| settings::may_probe(pattern, name);
        if !current.settings.probe_targets.iter().any(allowed) {
            return Err(ScrapeError::NotAllowed(name.to_owned()));
        }
        let settings = settings::probed(&current.settings, name).map_err(ScrapeError::NoTarget)?;
        let shared = self.probed(name, settings).await;
        let mut target = shared.lock().await;
        let mut page = Page::new(current.settings.collection.name_style);
        let limit = current.settings.scrape_timeout.unwrap_or(DEFAULT_SCRAPE);
        let work = target.scrape(&current.settings.collection, deadline, deadline, &mut page);
        if tokio::time::timeout(limit, work).await.is_err() {
            self.counts.timeouts.fetch_add(1, Ordering::Relaxed);
            return Err(ScrapeError::Timeout(limit));
        }
        if target.assumes() {
            tokio::spawn(verify(Arc::clone(&shared), Arc::clone(&current.settings)));
        }
        let mut families = page.finish_shared();
        families.extend(own::scrape_families(&[target.report()]).into_iter().map(SharedFamily::from));
        Ok(families)
    }

    /// The remembered target of this name, or a new one in place of the one that was unused for longest.
    async fn probed(&self, name: &str, settings: TargetSettings) -> SharedTarget {
        let mut probes = self.probes.lock().await;
        let now = Instant::now();
        probes.retain(|_, (_, used)| now.duration_since(*used) < PROBE_MEMORY);
        if !probes.contains_key(name) && probes.len() >= MAX_PROBES {
            let oldest = probes.iter().min_by_key(|(_, (_, used))| *used).map(|(name, _)| name.clone());
            probes.remove(&oldest.unwrap_or_default());
        }
        let entry = probes.entry(name.to_owned());
        let entry = entry.or_insert_with(|| (Arc::new(Mutex::new(Target::new(settings))), now));
        entry.1 = now;
        Arc::clone(&entry.0)
    }

    /// What the rules make of values in the form of `explain`, and what went wrong with some. No JVM is asked.
    pub fn read<'t>(&self, values: impl Iterator<Item = &'t str>) -> (Vec<Family>, Vec<String>) {
        let (families, failed) = cases::families(&self.current.load().settings, values);
        (families.iter().map(SharedFamily::to_family).collect(), failed)
    }

    /// Why the last scrape of the first JVM that failed did so.
    pub async fn last_error(&self) -> Option<String> {
        for target in &self.current.load_full().targets {
            if let Some(error) = target.lock().await.report().error {
                return Some(error);
            }
        }
        None
    }

    /// Ends all sessions.
    pub async fn close(&self) {
        for target in &self.current.load_full().targets {
            target.lock().await.close().await;
        }
        for (target, _) in self.probes.lock().await.values() {
            target.lock().await.close().await;
        }
    }

    /// The state of all targets, for the page; never waits for a scrape.
    #[must_use]
    pub fn status(&self) -> Status {
        let current = self.current.load();
        status::status(current.looks.iter().map(|(name, look)| (name.as_str(), &**look)))
    }

    fn own_families(&self) -> Vec<Family> {
        let mut families = own::process_families(&self.counts);
        if let Some(pushed) = self.pushed.get() {
            families.extend(pushed.families());
        }
        families
    }

    /// Everything that is on the page.
    async fn families(&self, deadline: Instant) -> Result<Vec<Family>, ScrapeError> {
        let scraped = self.scrape(Some(deadline)).await?;
        let mut families: Vec<Family> = scraped.iter().map(SharedFamily::to_family).collect();
        families.extend(self.own_families());
        Ok(families)
    }
}

/// Lets beans describe themselves that were taken to be like others, some at a time, so that no scrape has to wait
/// for more than these. What differs is right at the next scrape; an error shows there, too.
async fn verify(target: SharedTarget, settings: Arc<Settings>) {
    while let Ok(true) = target.lock().await.verify(&settings.collection).await {}
}

impl Source for JmxSource {
    fn name(&self) -> &str {
        "jmx"
    }

    fn collect(&self, deadline: Instant) -> Collecting<'_> {
        Box::pin(async move {
            let families = self.families(deadline).await;
            let families = families
                .map_err(|error| CollectError { source_name: "jmx".to_owned(), cause: Box::new(error) })?;
            let walk: Box<dyn crate::family::Walk> = Box::new(Families::sorted(families));
            Ok(walk)
        })
    }
}
