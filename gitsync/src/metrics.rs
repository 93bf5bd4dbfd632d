//! What a scrape sees: the families of kubernetes/git-sync under their names, and ours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::metrics::prometheus::proto::{
    Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType, Summary,
};
use common::metrics::{FromFn, Registry, register};

use crate::protocol::ObjectId;

/// A family's name, type and description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Syncs,
    SyncSeconds,
    Fetches,
    FetchedBytes,
    AskpassCalls,
    AppTokens,
    HookRuns,
    Restored,
    Rebuilds,
    Failures,
    LastSuccess,
    Published,
    Webhooks,
    Calls,
    ReusedFiles,
    WrittenFiles,
    SignatureChecks,
    Rollbacks,
    NotFollowed,
    LfsObjects,
    LfsBytes,
}

impl Family {
    fn describe(self) -> (&'static str, MetricType, &'static str) {
        use MetricType::{COUNTER, GAUGE, SUMMARY};
        match self {
            Self::Syncs => ("git_sync_count_total", COUNTER, "Attempts by outcome."),
            Self::SyncSeconds => ("git_sync_duration_seconds", SUMMARY, "Duration of attempts by outcome."),
            Self::Fetches => ("git_fetch_count_total", COUNTER, "Attempts that updated, and the first."),
            Self::FetchedBytes => ("git_sync_fetched_bytes_total", COUNTER, "Bytes of packs received."),
            Self::AskpassCalls => ("git_sync_askpass_calls", COUNTER, "Calls of --askpass-url by outcome."),
            Self::AppTokens => (
                "git_sync_refresh_github_app_token_count",
                COUNTER,
                "GitHub App tokens asked for, by outcome.",
            ),
            Self::HookRuns => ("git_sync_hook_run_count_total", COUNTER, "Hook runs by hook and outcome."),
            Self::Restored => (
                "git_sync_restored_files_total",
                COUNTER,
                "Published files that somebody changed and were restored.",
            ),
            Self::Rebuilds => {
                ("git_sync_store_rebuilds_total", COUNTER, "Times the damaged object store was rebuilt.")
            }
            Self::Failures => ("git_sync_consecutive_failures", GAUGE, "Failures since the last success."),
            Self::LastSuccess => {
                ("git_sync_last_success_timestamp_seconds", GAUGE, "Time of the last success (Unix).")
            }
            Self::Webhooks => {
                ("git_sync_push_webhooks_total", COUNTER, "Push webhooks received, by what became of them.")
            }
            Self::Calls => ("git_sync_api_calls_total", COUNTER, "Calls received, by name and outcome."),
            Self::ReusedFiles => {
                ("git_sync_reused_files_total", COUNTER, "Files taken over from an earlier checkout.")
            }
            Self::WrittenFiles => ("git_sync_written_files_total", COUNTER, "Files written from commits."),
            Self::SignatureChecks => (
                "git_sync_signature_checks_total",
                COUNTER,
                "Updates whose signatures were checked, by outcome.",
            ),
            Self::Rollbacks => {
                ("git_sync_rollbacks_total", COUNTER, "Returns to an earlier commit, by cause: probe, call.")
            }
            Self::NotFollowed => (
                "git_sync_not_followed",
                GAUGE,
                "1 while a pin, roll-back or failed probe overrules the ref.",
            ),
            Self::LfsObjects => (
                "git_sync_lfs_objects_total",
                COUNTER,
                "LFS objects asked for, by outcome: downloaded, failed.",
            ),
            Self::LfsBytes => {
                ("git_sync_lfs_downloaded_bytes_total", COUNTER, "Bytes of LFS objects received.")
            }
            Self::Published => {
                ("git_sync_published_info", GAUGE, "Always 1; the label is the published commit.")
            }
        }
    }
}

/// How an attempt is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Success,
    Noop,
    Error,
}

impl Status {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Noop => "noop",
            Self::Error => "error",
        }
    }
}

type Labels = Vec<(&'static str, String)>;

/// A value; a summary has a count besides.
#[derive(Debug, Clone, Copy, Default)]
struct Value {
    sum: f64,
    count: u64,
}

/// The counters of one sync loop. A labelled series appears with its first event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    all: Arc<Mutex<BTreeMap<(Family, Labels), Value>>>,
    /// One of several loops, whose series have its name.
    source: Option<String>,
}

impl Metrics {
    /// Counters that begin at zero, registered.
    pub(crate) fn register(registry: &Registry) -> Self {
        let metrics = Self::for_several(registry);
        metrics.begin();
        metrics
    }

    /// Those of several loops, registered; each has [`Metrics::of`].
    pub(crate) fn for_several(registry: &Registry) -> Self {
        let metrics = Self::default();
        let shared = metrics.clone();
        register(registry, FromFn::new(move || shared.gather()));
        metrics
    }

    /// Those of one source among several.
    pub(crate) fn of(&self, source: &str) -> Self {
        let metrics = Self { all: Arc::clone(&self.all), source: Some(source.to_owned()) };
        metrics.begin();
        metrics
    }

    /// Removes the series of a source that is gone.
    pub(crate) fn forget(&self) {
        let own = self.labels(vec![]);
        self.lock().retain(|(_, labels), _| !labels.starts_with(&own));
    }

    fn begin(&self) {
        for family in
            [Family::Fetches, Family::FetchedBytes, Family::Restored, Family::Rebuilds, Family::Failures]
        {
            self.add(family, vec![], 0.0);
        }
    }

    pub(crate) fn sync(&self, status: Status, took: Duration, failures: u32) {
        let labels = vec![("status", status.text().to_owned())];
        self.add(Family::Syncs, labels.clone(), 1.0);
        self.add(Family::SyncSeconds, labels, took.as_secs_f64());
        self.set(Family::Failures, vec![], f64::from(failures));
        if status != Status::Error {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.set(Family::LastSuccess, vec![], now.as_secs_f64());
        }
    }

    pub(crate) fn fetch(&self) {
        self.add(Family::Fetches, vec![], 1.0);
    }

    pub(crate) fn fetched(&self, bytes: u64) {
        #[allow(clippy::cast_precision_loss)]
        self.add(Family::FetchedBytes, vec![], bytes as f64);
    }

    pub(crate) fn askpass(&self, status: Status) {
        self.add(Family::AskpassCalls, vec![("status", status.text().to_owned())], 1.0);
    }

    pub(crate) fn app_token(&self, status: Status) {
        self.add(Family::AppTokens, vec![("status", status.text().to_owned())], 1.0);
    }

    pub(crate) fn hook(&self, name: &'static str, status: Status) {
        self.add(
            Family::HookRuns,
            vec![("name", name.to_owned()), ("status", status.text().to_owned())],
            1.0,
        );
    }

    pub(crate) fn restored(&self, files: usize) {
        #[allow(clippy::cast_precision_loss)]
        self.add(Family::Restored, vec![], files as f64);
    }

    pub(crate) fn rebuilt(&self) {
        self.add(Family::Rebuilds, vec![], 1.0);
    }

    pub(crate) fn published(&self, commit: ObjectId) {
        let own = self.labels(vec![]);
        self.lock().retain(|(family, labels), _| *family != Family::Published || !labels.starts_with(&own));
        self.set(Family::Published, vec![("hash", commit.to_string())], 1.0);
    }

    pub(crate) fn signature_check(&self, outcome: &str) {
        self.add(Family::SignatureChecks, vec![("outcome", outcome.to_owned())], 1.0);
    }

    pub(crate) fn rolled_back(&self, cause: &str) {
        self.add(Family::Rollbacks, vec![("cause", cause.to_owned())], 1.0);
    }

    pub(crate) fn not_followed(&self, overruled: bool) {
        self.set(Family::NotFollowed, vec![], f64::from(u8::from(overruled)));
    }

    pub(crate) fn lfs_object(&self, outcome: &str) {
        self.add(Family::LfsObjects, vec![("outcome", outcome.to_owned())], 1.0);
    }

    pub(crate) fn lfs_bytes(&self, bytes: u64) {
        #[allow(clippy::cast_precision_loss)]
        self.add(Family::LfsBytes, vec![], bytes as f64);
    }

    pub(crate) fn webhook(&self, outcome: &str) {
        self.add(Family::Webhooks, vec![("outcome", outcome.to_owned())], 1.0);
    }

    pub(crate) fn call(&self, name: &str, outcome: &str) {
        self.add(Family::Calls, vec![("call", name.to_owned()), ("outcome", outcome.to_owned())], 1.0);
    }

    pub(crate) fn checkout(&self, files: usize, written: usize) {
        #[allow(clippy::cast_precision_loss)]
        let counts = ((files - written.min(files)) as f64, written as f64);
        self.add(Family::ReusedFiles, vec![], counts.0);
        self.add(Family::WrittenFiles, vec![], counts.1);
    }

    fn labels(&self, others: Labels) -> Labels {
        let source = self.source.iter().map(|source| ("source", source.clone()));
        source.chain(others).collect()
    }

    fn add(&self, family: Family, labels: Labels, amount: f64) {
        let labels = self.labels(labels);
        let mut all = self.lock();
        let value = all.entry((family, labels)).or_default();
        value.sum += amount;
        value.count += 1;
    }

    fn set(&self, family: Family, labels: Labels, amount: f64) {
        let labels = self.labels(labels);
        self.lock().insert((family, labels), Value { sum: amount, count: 1 });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Family, Labels), Value>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gather(&self) -> Vec<MetricFamily> {
        let mut families: Vec<(Family, MetricFamily)> = Vec::new();
        for ((family, labels), value) in self.lock().iter() {
            let metric = metric(*family, labels, *value);
            match families.last_mut().filter(|(last, _)| last == family) {
                Some((_, made)) => made.mut_metric().push(metric),
                None => {
                    let (name, kind, help) = family.describe();
                    let mut made = MetricFamily::default();
                    made.set_name(name.to_owned());
                    made.set_help(help.to_owned());
                    made.set_field_type(kind);
                    made.set_metric(vec![metric]);
                    families.push((*family, made));
                }
            }
        }
        families.into_iter().map(|(_, family)| family).collect()
    }
}

fn metric(family: Family, labels: &Labels, value: Value) -> Metric {
    let mut metric = Metric::default();
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.clone());
        pair
    });
    metric.set_label(pairs.collect());
    match family.describe().1 {
        MetricType::SUMMARY => {
            let mut summary = Summary::default();
            summary.set_sample_count(value.count);
            summary.set_sample_sum(value.sum);
            metric.set_summary(summary);
        }
        MetricType::GAUGE => {
            let mut gauge = Gauge::default();
            gauge.set_value(value.sum);
            metric.set_gauge(gauge);
        }
        _ => {
            let mut counter = Counter::default();
            counter.set_value(value.sum);
            metric.set_counter(counter);
        }
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_peer() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry);
        metrics.sync(Status::Success, Duration::from_millis(500), 0);
        metrics.sync(Status::Noop, Duration::from_millis(1), 0);
        metrics.fetch();
        metrics.hook("exechook", Status::Error);
        metrics.published("1".repeat(40).parse().unwrap());
        metrics.published("2".repeat(40).parse().unwrap());
        let page = String::from_utf8(common::metrics::text(&registry)).unwrap();
        for line in [
            "git_sync_count_total{status=\"success\"} 1",
            "git_sync_duration_seconds_sum{status=\"success\"} 0.5",
            "git_sync_duration_seconds_count{status=\"noop\"} 1",
            "git_fetch_count_total 1",
            "git_sync_hook_run_count_total{name=\"exechook\",status=\"error\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
        assert_eq!(page.matches("git_sync_published_info{").count(), 1);
    }

    #[test]
    fn sources_have_series_of_their_own() {
        let registry = Registry::new();
        let metrics = Metrics::for_several(&registry);
        let (a, b) = (metrics.of("a"), metrics.of("b"));
        a.published("1".repeat(40).parse().unwrap());
        b.published("2".repeat(40).parse().unwrap());
        b.sync(Status::Error, Duration::from_millis(1), 1);
        let page = || String::from_utf8(common::metrics::text(&registry)).unwrap();
        assert_eq!(page().matches("git_sync_published_info{").count(), 2);
        assert!(page().contains("git_sync_count_total{source=\"b\",status=\"error\"} 1"));
        b.forget();
        assert!(!page().contains("source=\"b\"") && page().contains("git_fetch_count_total{source=\"a\"} 0"));
    }
}
