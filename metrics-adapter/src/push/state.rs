//! Counters of one target.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use super::batch::milliseconds;
use super::queue::Queue;
use crate::family::{Family, Kind};

/// What was sent to a target and what was lost, since the start.
#[derive(Debug, Default)]
pub struct State {
    target: String,
    sent: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
    uncollected: AtomicU64,
    waiting_batches: AtomicU64,
    waiting_bytes: AtomicU64,
    last_success: AtomicU64,
    failing: AtomicBool,
}

/// The families of several targets as one set, each name once; give every target a URL of its own.
#[must_use]
pub fn families<'a>(states: impl IntoIterator<Item = &'a State>) -> Vec<Family> {
    let mut all: Vec<Family> = Vec::new();
    for mut family in states.into_iter().flat_map(State::families) {
        match all.iter_mut().find(|known| known.name == family.name) {
            Some(known) => known.samples.append(&mut family.samples),
            None => all.push(family),
        }
    }
    all
}

impl State {
    pub(super) fn new(target: String) -> Self {
        Self { target, ..Self::default() }
    }

    /// The target's URL, without what may be secret in it.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Samples that the receiver took.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Samples that are lost: refused by the receiver, or dropped from a full queue.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.refused.load(Ordering::Relaxed) + self.dropped.load(Ordering::Relaxed)
    }

    /// Whether the last attempt failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failing.load(Ordering::Relaxed)
    }

    /// The counters as families of the page; the label `target` tells several targets apart.
    #[must_use]
    pub fn families(&self) -> Vec<Family> {
        let labels = [("target", self.target.as_str())];
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let family = |name: &str, help: &str, kind, value| {
            Family::new(format!("metrics_adapter_push_{name}"), help, kind).with(&labels, value)
        };
        let lost = Family::new(
            "metrics_adapter_push_samples_lost_total",
            "Samples that the receiver refused, or that a full queue dropped.",
            Kind::Counter,
        );
        let lost = lost
            .with(&[("reason", "queue_full"), labels[0]], number(&self.dropped))
            .with(&[("reason", "refused"), labels[0]], number(&self.refused));
        vec![
            family("samples_total", "Samples that the receiver took.", Kind::Counter, number(&self.sent)),
            family("requests_total", "Requests that were answered.", Kind::Counter, number(&self.requests)),
            family("retries_total", "Attempts that were repeated.", Kind::Counter, number(&self.retries)),
            family(
                "collect_errors_total",
                "Rounds in which there was nothing to push, because collecting failed.",
                Kind::Counter,
                number(&self.uncollected),
            ),
            family(
                "queue_requests",
                "Requests that wait to be sent.",
                Kind::Gauge,
                number(&self.waiting_batches),
            ),
            family("queue_bytes", "Their size, compressed.", Kind::Gauge, number(&self.waiting_bytes)),
            family(
                "last_success_timestamp_seconds",
                "When the receiver last took a request, in seconds since 1970; 0 for never.",
                Kind::Gauge,
                number(&self.last_success) / 1000.0,
            ),
            lost,
        ]
    }

    pub(super) fn taken(&self, samples: u64, refused: u64) {
        self.sent.fetch_add(samples.saturating_sub(refused), Ordering::Relaxed);
        self.refused.fetch_add(refused.min(samples), Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.last_success.store(milliseconds(SystemTime::now()), Ordering::Relaxed);
        if self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(target = self.target, "pushing works again");
        }
    }

    pub(super) fn refused(&self, samples: u64, reason: &str) {
        self.refused.fetch_add(samples, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.failed(reason, "the receiver refused samples");
    }

    pub(super) fn will_retry(&self, reason: &str) {
        self.retries.fetch_add(1, Ordering::Relaxed);
        self.failed(reason, "pushing failed and will be tried again");
    }

    /// Said once, until it works again.
    fn failed(&self, reason: &str, what: &str) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            tracing::warn!(target = self.target, reason, "{what}");
        } else {
            tracing::debug!(target = self.target, reason, "{what}");
        }
    }

    pub(super) fn dropped(&self, samples: u64) {
        if samples > 0 && self.dropped.fetch_add(samples, Ordering::Relaxed) == 0 {
            tracing::warn!(
                target = self.target,
                samples,
                "the queue is full; its oldest samples are dropped"
            );
        }
    }

    pub(super) fn uncollected(&self) {
        self.uncollected.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn waiting(&self, queue: &Queue) {
        let (batches, bytes) = queue.waiting();
        self.waiting_batches.store(batches as u64, Ordering::Relaxed);
        self.waiting_bytes.store(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_targets_share_families() {
        let (one, two) = (State::new("http://one/".to_owned()), State::new("http://two/".to_owned()));
        one.taken(5, 2);
        two.refused(7, "status 400");
        let all = families([&one, &two]);
        let samples = |name: &str| -> Vec<f64> {
            let family = all.iter().find(|family| family.name == name).expect("the family");
            let number = |sample: &crate::family::Sample| match sample.value {
                crate::family::Value::Number(number) => number,
                _ => f64::NAN,
            };
            family.samples.iter().map(number).collect()
        };
        assert_eq!(samples("metrics_adapter_push_samples_total"), [3.0, 0.0]);
        assert_eq!(samples("metrics_adapter_push_samples_lost_total"), [0.0, 2.0, 0.0, 7.0]);
        assert_eq!(all.len(), one.families().len());
        assert!(two.is_failing() && !one.is_failing());
    }
}
