//! What is counted while lines are taken in.

use std::collections::HashMap;

use crate::mapping::MetricType;
use crate::statsd::Reason;

/// Totals since the start.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Lines, empty ones included.
    pub lines: u64,
    /// Samples seen, valid or not.
    pub samples: u64,
    /// Samples with tags.
    pub tagged: u64,
    /// Tags skipped.
    pub tag_errors: u64,
    /// Lines and samples refused, by [`Reason`].
    pub rejected: [u64; Reason::ALL.len()],
    /// Events that reached a series, by [`MetricType`].
    pub events: [u64; 3],
    /// Events no mapping matched.
    pub unmapped: u64,
    /// Events a mapping gave a name.
    pub mapped: u64,
    /// Events a mapping dropped.
    pub dropped: u64,
    /// Events whose mapping gave an empty name.
    pub empty_names: u64,
    /// Counters that were to go down.
    pub negative_counters: u64,
    /// Events with a label name that is reserved.
    pub reserved_labels: u64,
    /// Events for a new series beyond the limit on series.
    pub series_limited: u64,
    /// Events for a new series beyond the limit on memory.
    pub memory_limited: u64,
    /// Events whose name belongs to another type.
    pub conflicts: Conflicts,
    /// Look-ups in the mapping cache, those spared by the line cache included.
    pub cache_gets: u64,
    /// Those that were answered.
    pub cache_hits: u64,
    /// DogStatsD events.
    pub dogstatsd_events: u64,
    /// DogStatsD service checks.
    pub dogstatsd_service_checks: u64,
    /// Batches of lines applied.
    pub batches: u64,
}

/// Conflicts by type and name; names beyond a bound are counted together.
#[derive(Clone, Debug, Default)]
pub struct Conflicts {
    named: HashMap<(MetricType, Box<str>), u64>,
    others: HashMap<MetricType, u64>,
}

/// Names told apart.
const MAX_NAMES: usize = 1000;

impl Conflicts {
    /// Counts one.
    pub fn add(&mut self, kind: MetricType, name: &str, times: u64) {
        let known = self.named.len();
        if known >= MAX_NAMES && !self.named.contains_key(&(kind, name.into())) {
            *self.others.entry(kind).or_default() += times;
        } else {
            *self.named.entry((kind, name.into())).or_default() += times;
        }
    }

    /// Type, name and count; what is counted together has the name `(other)`.
    pub fn iter(&self) -> impl Iterator<Item = (MetricType, &str, u64)> {
        let named = self.named.iter().map(|((kind, name), count)| (*kind, &**name, *count));
        named.chain(self.others.iter().map(|(kind, count)| (*kind, "(other)", *count)))
    }
}
