//! A summary over a sliding window: overlapping estimators, the oldest of which answers.

use std::time::Duration;

use super::quantile::Quantiles;
use crate::family;

/// How a summary is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryOptions {
    /// Quantile and allowed error, ascending by quantile.
    pub quantiles: Vec<(f64, f64)>,
    /// The window.
    pub max_age: Duration,
    /// Steps in which the window moves; at least 1.
    pub age_buckets: u32,
    /// Observations collected before they reach the estimators; at least 1.
    pub buffer: usize,
}

impl Default for SummaryOptions {
    fn default() -> Self {
        Self {
            quantiles: vec![(0.5, 0.05), (0.9, 0.01), (0.99, 0.001)],
            max_age: Duration::from_secs(600),
            age_buckets: 5,
            buffer: 500,
        }
    }
}

impl SummaryOptions {
    fn step_ms(&self) -> u64 {
        let step = self.max_age / self.age_buckets.max(1);
        u64::try_from(step.as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

/// Repetitions of one observation that are inserted one by one, as the peer does; more go in as a weight.
const ONE_BY_ONE: u64 = 1000;

/// Sum and count since the start, quantiles over the window.
#[derive(Clone, Debug)]
pub(super) struct Windowed {
    sum: f64,
    count: u64,
    pending: Vec<f64>,
    streams: Vec<Quantiles>,
    head: usize,
    /// When the head estimator has seen a whole window and the next one takes over, in milliseconds.
    turn_at: u64,
}

impl Windowed {
    /// An empty summary.
    pub(super) fn new(options: &SummaryOptions, now: u64) -> Self {
        let streams = vec![Quantiles::default(); options.age_buckets.max(1) as usize];
        let turn_at = now.saturating_add(options.step_ms());
        Self { sum: 0.0, count: 0, pending: Vec::new(), streams, head: 0, turn_at }
    }

    /// Takes a value `times` times.
    pub(super) fn observe(&mut self, value: f64, times: u64, options: &SummaryOptions, now: u64) {
        if now > self.turn_at {
            self.settle(options, now);
        }
        self.count += times;
        self.sum += value * times as f64;
        if times > ONE_BY_ONE {
            self.streams.iter_mut().for_each(|stream| stream.insert_many(value, times, &options.quantiles));
            return;
        }
        for _ in 0..times {
            self.pending.push(value);
            if self.pending.len() >= options.buffer.max(1) {
                self.settle(options, now);
            }
        }
    }

    /// Quantiles as of `now`, `NaN` where the window is empty.
    pub(super) fn read(&mut self, options: &SummaryOptions, now: u64) -> family::Summary {
        self.settle(options, now);
        let head = &mut self.streams[self.head];
        let quantiles = options.quantiles.iter().map(|&(q, _)| (q, head.query(q, &options.quantiles)));
        family::Summary { quantiles: quantiles.collect(), sum: self.sum, count: self.count }
    }

    /// Bytes held on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let streams: usize = self.streams.iter().map(Quantiles::heap_bytes).sum();
        streams
            + self.streams.capacity() * size_of::<Quantiles>()
            + self.pending.capacity() * size_of::<f64>()
    }

    /// Moves what is pending into the estimators, then turns the window up to `now`.
    fn settle(&mut self, options: &SummaryOptions, now: u64) {
        for stream in &mut self.streams {
            self.pending.iter().for_each(|value| stream.insert(*value, &options.quantiles));
        }
        self.pending.clear();
        if now <= self.turn_at {
            return;
        }
        let step = options.step_ms();
        let turns = (now - self.turn_at).div_ceil(step);
        self.turn_at = self.turn_at.saturating_add(turns.saturating_mul(step));
        for _ in 0..turns.min(self.streams.len() as u64) {
            self.streams[self.head].clear();
            self.head = (self.head + 1) % self.streams.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_moves_and_the_count_stays() {
        let options = SummaryOptions { max_age: Duration::from_secs(10), ..SummaryOptions::default() };
        let mut summary = Windowed::new(&options, 0);
        summary.observe(1.0, 3, &options, 0);
        summary.observe(5.0, 1, &options, 9_000);
        assert_eq!(summary.read(&options, 9_500).quantiles[1], (0.9, 5.0));
        // The first observations have left, the last one is still inside.
        assert_eq!(summary.read(&options, 13_000).quantiles[0], (0.5, 5.0));
        let late = summary.read(&options, 60_000);
        assert!(late.quantiles.iter().all(|(_, value)| value.is_nan()));
        assert_eq!((late.sum, late.count), (8.0, 4));
        assert!(summary.read(&options, u64::MAX / 2).quantiles[0].1.is_nan());
    }

    #[test]
    fn floods_of_one_value_cost_no_time() {
        let options = SummaryOptions::default();
        let mut summary = Windowed::new(&options, 0);
        summary.observe(2.0, 1_000_000_000, &options, 0);
        summary.observe(1.0, 1, &options, 0);
        let read = summary.read(&options, 1);
        assert_eq!((read.count, read.quantiles[2].1), (1_000_000_001, 2.0));
    }
}
