//! The families that jmx_exporter has about itself.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Counts;
use super::target::Report;
use crate::family::{Family, Kind};

/// About the last scrape of each target.
pub(super) fn scrape_families(reports: &[Report]) -> Vec<Family> {
    let mut duration =
        Family::new("jmx_scrape_duration_seconds", "Time this JMX scrape took, in seconds.", Kind::Gauge);
    let mut error = Family::new("jmx_scrape_error", "Non-zero if this scrape failed.", Kind::Gauge);
    let mut beans = Family::new(
        "jmx_scrape_cached_beans",
        "Number of beans whose description is remembered.",
        Kind::Gauge,
    );
    for report in reports {
        let labels = &report.labels;
        duration.push(labels.clone(), report.duration.as_secs_f64());
        error.push(labels.clone(), if report.error.is_some() { 1.0 } else { 0.0 });
        #[expect(clippy::cast_precision_loss, reason = "bounded far below 2^53")]
        beans.push(labels.clone(), report.beans as f64);
    }
    vec![duration, error, beans]
}

/// About the process.
pub(super) fn process_families(counts: &Counts) -> Vec<Family> {
    #[expect(clippy::cast_precision_loss, reason = "counters are floats on every page")]
    let counter = |name: &str, help: &str, count: &AtomicU64| {
        Family::new(name, help, Kind::Counter).with(&[], count.load(Ordering::Relaxed) as f64)
    };
    let version = env!("CARGO_PKG_VERSION");
    vec![
        counter(
            "jmx_config_reload_success_total",
            "Number of times configuration have successfully been reloaded.",
            &counts.reloads,
        ),
        counter(
            "jmx_config_reload_failure_total",
            "Number of times configuration have failed to be reloaded.",
            &counts.failed_reloads,
        ),
        counter(
            "jmx_scrape_timeout_total",
            "Scrapes that took longer than scrapeTimeoutSeconds.",
            &counts.timeouts,
        ),
        counter("jmx_http_requests_rejected_total", "HTTP requests answered with 429.", &counts.rejected),
        Family::new("jmx_exporter_build_info", "Build information about the JMX exporter.", Kind::Gauge)
            // Dashboards and alerts tell by this name in which of its two forms the exporter runs.
            .with(&[("name", "jmx_prometheus_standalone"), ("version", version)], 1.0),
    ]
}
