//! What the run mode says about itself and its sources.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use super::runner::{Runner, Slot, Snapshot};
use crate::family::union::Reason;
use crate::family::{Family, Kind};

fn load(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

/// Families about the sources, with the label `source`.
pub(super) fn families(
    slots: &[Arc<Slot>],
    snapshots: &[Arc<Snapshot>],
    conflicts: &BTreeMap<(String, Reason), u64>,
    runner: &Runner,
) -> Vec<Family> {
    let family = |name: &str, kind, help: &str| Family::new(format!("metrics_adapter_{name}"), help, kind);
    let mut up = family("source_up", Kind::Gauge, "Whether the source could be gathered.");
    let mut duration = family("source_duration_seconds", Kind::Gauge, "Time the last gathering took.");
    let mut samples = family("source_samples", Kind::Gauge, "Samples the last gathering gave.");
    let mut last =
        family("source_last_gathered_timestamp_seconds", Kind::Gauge, "When the source was gathered last.");
    let mut gathered = family("source_gathered_total", Kind::Counter, "Times the source was gathered.");
    let mut errors = family("source_errors_total", Kind::Counter, "Times the source could not be gathered.");
    let mut skipped =
        family("source_skipped_samples_total", Kind::Counter, "Values that could not be taken.");
    for (slot, snapshot) in slots.iter().zip(snapshots) {
        let labels = vec![
            ("source".to_owned(), slot.options.name.clone()),
            ("type".to_owned(), slot.options.kind.clone()),
        ];
        let at = snapshot.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        up.push(labels.clone(), f64::from(u8::from(snapshot.error.is_none())));
        duration.push(labels.clone(), snapshot.took.as_secs_f64());
        samples.push(labels.clone(), snapshot.samples as f64);
        last.push(labels.clone(), at.as_secs_f64());
        gathered.push(labels.clone(), load(&slot.gathered));
        errors.push(labels.clone(), load(&slot.errors));
        skipped.push(labels, load(&slot.skipped));
    }
    let help = "Samples left out of pages because an earlier source has the series or the name, by source.";
    let mut lost = family("conflicting_samples_total", Kind::Counter, help);
    for ((source, reason), count) in conflicts {
        let labels =
            vec![("source".to_owned(), source.clone()), ("reason".to_owned(), reason.as_str().to_owned())];
        lost.push(labels, *count as f64);
    }
    let reloads = family("config_reloads_total", Kind::Counter, "Reloads of the configuration, by outcome.")
        .with(&[("outcome", "success")], load(&runner.reloads))
        .with(&[("outcome", "failure")], load(&runner.failed_reloads));
    vec![up, duration, samples, last, gathered, errors, skipped, lost, reloads]
}
