//! The last two minutes, second by second.

use crate::metrics::{Latencies, Metrics};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Seconds that are kept.
const KEPT: usize = 120;
/// Seconds over which the share of the replicas is told.
const SHARE: usize = 60;
const STEP: Duration = Duration::from_secs(1);

/// One second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Second {
    pub(super) commands: f64,
    /// Seconds; nothing when nobody asked for anything.
    pub(super) median: Option<f64>,
    pub(super) tail: Option<f64>,
    pub(super) upstream: Option<f64>,
    /// Reads by the primary and by replicas.
    reads: (u64, u64),
}

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct History(Arc<Mutex<VecDeque<Second>>>);

impl History {
    /// Looks once a second, for ever. Cancel safe.
    pub(crate) async fn follow(self, metrics: Metrics) {
        let mut before: (Latencies, Latencies, (u64, u64)) = Default::default();
        loop {
            tokio::time::sleep(STEP).await;
            let now = (metrics.command_seconds.all(), metrics.answer_seconds.all(), metrics.reads());
            let (total, upstream) = (now.0.since(&before.0), now.1.since(&before.1));
            let second = Second {
                commands: total.count() as f64,
                median: total.quantile(0.5),
                tail: total.quantile(0.99),
                upstream: upstream.quantile(0.5),
                reads: (now.2.0 - before.2.0, now.2.1 - before.2.1),
            };
            before = now;
            let mut seconds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if seconds.len() == KEPT {
                seconds.pop_front();
            }
            seconds.push_back(second);
            drop(seconds);
            metrics.replica_share.set(self.replica_share().unwrap_or(0.0));
        }
    }

    /// Oldest first.
    pub(super) fn seconds(&self) -> Vec<Second> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// The replicas' share of the reads of the last minute.
    pub(super) fn replica_share(&self) -> Option<f64> {
        let seconds = self.seconds();
        let last = seconds.iter().rev().take(SHARE).map(|second| second.reads);
        let (primary, replica) = last.fold((0, 0), |sum, reads| (sum.0 + reads.0, sum.1 + reads.1));
        (primary + replica > 0).then(|| replica as f64 / (primary + replica) as f64)
    }
}
