//! Our own metrics: a registry as a value (no globals, so tests stay apart) and the families that
//! every process has.

#[cfg(target_os = "linux")]
mod process;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, GaugeVec, Opts, TextEncoder};

pub use prometheus::{self, Registry};

use crate::Build;

/// Histogram bounds in seconds for answers on the same machine: 50 µs to 10 s.
pub const LATENCY_SECONDS: &[f64] = &[
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    10.0,
];

/// Histogram bounds in seconds for work that reaches over the network: 5 ms to 2 minutes.
pub const WORK_SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// Content type of [`text`].
pub const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A registry with `process_*` and `<name>_build_info` in it.
#[must_use]
pub fn registry(build: &Build) -> Registry {
    let registry = Registry::new();
    let info = GaugeVec::new(
        Opts::new(
            format!("{}_build_info", build.name.replace('-', "_")),
            "Always 1; the labels say what was built.",
        ),
        &["version", "revision"],
    );
    if let Ok(info) = info {
        info.with_label_values(&[build.version, build.revision]).set(1.0);
        register(&registry, info);
    }
    if crate::trace::counts().is_some() {
        register_traces(&registry, build);
    }
    #[cfg(target_os = "linux")]
    register(&registry, FromFn::new(process::families));
    registry
}

/// What became of spans, for a process that is traced.
fn register_traces(registry: &Registry, build: &Build) {
    let name = format!("{}_trace_spans_total", build.name.replace('-', "_"));
    let family = move || -> Option<Vec<MetricFamily>> {
        let counts = crate::trace::counts()?;
        let help = "Spans, by what became of them: sent, dropped.";
        let counter = prometheus::IntCounterVec::new(Opts::new(name.clone(), help), &["outcome"]).ok()?;
        counter.with_label_values(&["sent"]).inc_by(counts.sent);
        counter.with_label_values(&["dropped"]).inc_by(counts.dropped);
        Some(counter.collect())
    };
    register(registry, FromFn::new(move || family().unwrap_or_default()));
}

/// Registers a collector whose name the caller owns; a second one of that name is logged and left out.
pub fn register<C: Collector + 'static>(registry: &Registry, collector: C) {
    if let Err(error) = registry.register(Box::new(collector)) {
        tracing::error!(%error, "metric not registered");
    }
}

/// All families in the text format 0.0.4. A family that cannot be written is left out and logged,
/// so that it never takes the page with it.
#[must_use]
pub fn text(registry: &Registry) -> Vec<u8> {
    let mut page = Vec::with_capacity(8 << 10);
    for family in registry.gather() {
        let before = page.len();
        if let Err(error) = TextEncoder::new().encode(&[family], &mut page) {
            tracing::warn!(%error, "metric family left out");
            page.truncate(before);
        }
    }
    page
}

/// Computes families at scrape time from a closure, for values that live elsewhere.
pub struct FromFn<F> {
    gather: F,
    /// A registry tells collectors apart by their descriptions, and refuses a second one without any.
    identity: Option<Desc>,
}

impl<F: Fn() -> Vec<MetricFamily> + Send + Sync> FromFn<F> {
    /// Wraps the closure; the families it makes are not checked for duplicate names.
    pub fn new(gather: F) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("from_fn_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let identity = Desc::new(name, "Computed at scrape time".to_owned(), Vec::new(), HashMap::new()).ok();
        Self { gather, identity }
    }
}

impl<F: Fn() -> Vec<MetricFamily> + Send + Sync> Collector for FromFn<F> {
    fn desc(&self) -> Vec<&Desc> {
        self.identity.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        (self.gather)()
    }
}

/// Measures from its making to [`Timer::seconds`].
#[derive(Debug, Clone, Copy)]
pub struct Timer(Instant);

impl Timer {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds since the start.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_build_and_process_families() {
        let build = Build { name: "a-b", version: "1.2.3", revision: "abc" };
        let page = String::from_utf8(text(&registry(&build))).unwrap();
        assert!(page.contains(r#"a_b_build_info{revision="abc",version="1.2.3"} 1"#), "{page}");
        assert!(page.contains("process_resident_memory_bytes"), "{page}");
    }

    #[test]
    fn families_of_several_closures_are_on_one_page() {
        let registry = registry(&Build { name: "a", version: "1", revision: "r" });
        for name in ["first", "second"] {
            let gauge = prometheus::IntGauge::new(name, "One sample").unwrap();
            register(&registry, FromFn::new(move || gauge.collect()));
        }
        let page = String::from_utf8(text(&registry)).unwrap();
        for sample in ["\nfirst 0", "\nsecond 0", "\nprocess_open_fds "] {
            assert!(page.contains(sample), "no {sample} in {page}");
        }
    }

    #[test]
    fn an_empty_family_does_not_fail_the_page() {
        let registry = Registry::new();
        register(
            &registry,
            prometheus::IntCounterVec::new(Opts::new("empty_total", "No samples"), &["x"]).unwrap(),
        );
        register(&registry, prometheus::IntCounter::new("full_total", "One sample").unwrap());
        assert!(String::from_utf8(text(&registry)).unwrap().contains("full_total 0"));
    }
}
