//! Quantiles of a stream within stated errors, in little memory.
//!
//! The estimator is the one of Cormode, Korn, Muthukrishnan and Srivastava, "Effective Computation of Biased
//! Quantiles over Data Streams" (ICDE 2005), with targeted quantiles, compressed once per full buffer. Buffer
//! size and rounding are those of the Go library the peer uses, so that equal input gives equal quantiles.

/// Observations kept raw before they are merged.
const BUFFER: usize = 500;

/// A stored observation: `width` observations at most `value`, known to within `delta` ranks.
#[derive(Clone, Copy, Debug)]
struct Entry {
    value: f64,
    width: f64,
    delta: f64,
}

/// Estimator of the quantiles it is asked for on every call, given as (quantile, error).
#[derive(Clone, Debug, Default)]
pub(super) struct Quantiles {
    entries: Vec<Entry>,
    /// Observations inside `entries`.
    merged: f64,
    buffer: Vec<f64>,
}

impl Quantiles {
    /// Takes an observation.
    pub(super) fn insert(&mut self, value: f64, targets: &[(f64, f64)]) {
        self.buffer.push(value);
        if self.buffer.len() == BUFFER {
            self.merge(targets);
        }
    }

    /// Takes many equal observations at once.
    pub(super) fn insert_many(&mut self, value: f64, times: u64, targets: &[(f64, f64)]) {
        self.merge(targets);
        // An entry answers for the highest of its ranks, so the lowest needs one of its own.
        let ends = [(value, 1.0), (value, times.saturating_sub(1) as f64)];
        self.insert_sorted(ends.into_iter(), targets);
        self.compress(targets);
    }

    /// Forgets everything but its memory.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.buffer.clear();
        self.merged = 0.0;
    }

    /// The value at a quantile, `NaN` when there was no observation.
    pub(super) fn query(&mut self, quantile: f64, targets: &[(f64, f64)]) -> f64 {
        if self.entries.is_empty() {
            self.buffer.sort_unstable_by(f64::total_cmp);
            let rank = (self.buffer.len() as f64 * quantile).ceil() as usize;
            return self.buffer.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN);
        }
        self.merge(targets);
        self.rank(quantile, targets)
    }

    /// Bytes held on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.buffer.capacity() * size_of::<f64>()
    }

    fn rank(&self, quantile: f64, targets: &[(f64, f64)]) -> f64 {
        let wanted = (quantile * self.merged).ceil();
        let limit = wanted + (slack(targets, self.merged, wanted) / 2.0).ceil();
        let mut rank = 0.0;
        for pair in self.entries.windows(2) {
            rank += pair[0].width;
            if rank + pair[1].width + pair[1].delta > limit {
                return pair[0].value;
            }
        }
        self.entries.last().map_or(f64::NAN, |last| last.value)
    }

    fn merge(&mut self, targets: &[(f64, f64)]) {
        if self.buffer.is_empty() {
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.sort_unstable_by(f64::total_cmp);
        self.insert_sorted(buffer.iter().map(|value| (*value, 1.0)), targets);
        buffer.clear();
        self.buffer = buffer;
        self.compress(targets);
    }

    /// Merges ascending (value, width) pairs into the ascending entries in one pass.
    fn insert_sorted(&mut self, new: impl ExactSizeIterator<Item = (f64, f64)>, targets: &[(f64, f64)]) {
        let mut old = std::mem::take(&mut self.entries).into_iter().peekable();
        let mut merged = Vec::with_capacity(old.len() + new.len());
        let mut rank = 0.0;
        for (value, width) in new {
            while let Some(entry) = old.next_if(|entry| entry.value <= value || value.is_nan()) {
                rank += entry.width;
                merged.push(entry);
            }
            let delta = match old.peek() {
                Some(_) => (slack(targets, self.merged, rank).floor() - 1.0).max(0.0),
                None => 0.0,
            };
            merged.push(Entry { value, width, delta });
            self.merged += width;
            rank += width;
        }
        merged.extend(old);
        self.entries = merged;
    }

    /// Joins neighbours as far as the errors allow.
    fn compress(&mut self, targets: &[(f64, f64)]) {
        let Some(last) = self.entries.last().copied() else { return };
        let mut kept = last;
        let mut write = self.entries.len() - 1;
        let mut rank = self.merged - 1.0 - last.width;
        for read in (0..self.entries.len() - 1).rev() {
            let entry = self.entries[read];
            if entry.width + kept.width + kept.delta <= slack(targets, self.merged, rank) {
                kept.width += entry.width;
            } else {
                self.entries[write] = kept;
                write -= 1;
                kept = entry;
            }
            rank -= entry.width;
        }
        self.entries[write] = kept;
        self.entries.drain(..write);
        if self.entries.capacity() > 2 * self.entries.len() + 64 {
            self.entries.shrink_to(self.entries.len() + 64);
        }
    }
}

/// By how much the rank `rank` of `count` observations may be off.
fn slack(targets: &[(f64, f64)], count: f64, rank: f64) -> f64 {
    let allowed = |&(quantile, error): &(f64, f64)| {
        if quantile * count <= rank {
            2.0 * error * rank / quantile
        } else {
            2.0 * error * (count - rank) / (1.0 - quantile)
        }
    };
    targets.iter().map(allowed).fold(f64::MAX, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGETS: &[(f64, f64)] = &[(0.5, 0.05), (0.9, 0.01), (0.99, 0.001)];

    #[test]
    fn few_observations_are_exact() {
        let mut quantiles = Quantiles::default();
        assert!(quantiles.query(0.5, TARGETS).is_nan());
        (1..=10).rev().for_each(|n| quantiles.insert(f64::from(n), TARGETS));
        assert_eq!([0.5, 0.9, 0.99].map(|q| quantiles.query(q, TARGETS)), [5.0, 9.0, 10.0]);
        quantiles.clear();
        assert!(quantiles.query(0.5, TARGETS).is_nan());
    }

    #[test]
    fn many_observations_stay_small() {
        let mut quantiles = Quantiles::default();
        for n in 0..1_000_000_u64 {
            quantiles.insert((n.wrapping_mul(7_919) % 1_000_000) as f64, TARGETS);
        }
        for (quantile, error) in TARGETS {
            let value = quantiles.query(*quantile, TARGETS) / 1e6;
            assert!((value - quantile).abs() <= error * 1.05, "{quantile}: {value}");
        }
        assert!(quantiles.heap_bytes() < 32_000, "{}", quantiles.heap_bytes());
        quantiles.insert_many(2e6, 9_000_000, TARGETS);
        assert_eq!(quantiles.query(0.5, TARGETS), 2e6);
    }

    proptest! {
        #[test]
        fn errors_hold(mut values in prop::collection::vec(-1e6..1e6f64, 1..3000)) {
            let mut quantiles = Quantiles::default();
            values.iter().for_each(|v| quantiles.insert(*v, TARGETS));
            values.sort_by(f64::total_cmp);
            for (quantile, error) in TARGETS {
                let found = quantiles.query(*quantile, TARGETS);
                let rank = values.partition_point(|v| *v < found) as f64;
                let off = (rank - quantile * values.len() as f64).abs();
                prop_assert!(off <= 2.0 * error * values.len() as f64 + 2.0, "{} off by {} of {}", quantile, off, values.len());
            }
        }
    }
}
