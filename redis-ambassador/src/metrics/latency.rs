//! Latencies counted in buckets: plain numbers on the data path, shared ones for whoever looks.

use common::metrics::LATENCY_SECONDS;
use common::metrics::prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

const BOUNDS: usize = LATENCY_SECONDS.len();

/// The bounds in microseconds.
const MICROS: [u64; BOUNDS] = {
    let (mut micros, mut at) = ([0; BOUNDS], 0);
    while at < BOUNDS {
        micros[at] = (LATENCY_SECONDS[at] * 1e6 + 0.5) as u64;
        at += 1;
    }
    micros
};

/// By the number of bits of a value: the first bucket that it can be in.
const START: [u8; 65] = {
    let (mut start, mut bits) = ([0; 65], 1);
    while bits <= 64 {
        let (least, mut at) = (1u64 << (bits - 1), 0);
        while at < BOUNDS && MICROS[at] < least {
            at += 1;
        }
        start[bits] = at as u8;
        bits += 1;
    }
    start
};

/// How many latencies fell into each bucket; the last one has no bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Latencies {
    buckets: [u64; BOUNDS + 1],
    /// Microseconds.
    sum: u64,
}

impl Latencies {
    #[inline]
    pub(crate) fn add(&mut self, micros: u64) {
        let mut at = usize::from(START[(u64::BITS - micros.leading_zeros()) as usize]);
        while at < BOUNDS && MICROS[at] < micros {
            at += 1;
        }
        self.buckets[at] += 1;
        self.sum += micros;
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What was counted since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let mut rest = self.clone();
        rest.buckets
            .iter_mut()
            .zip(before.buckets)
            .for_each(|(now, before)| *now = now.saturating_sub(before));
        rest.sum = rest.sum.saturating_sub(before.sum);
        rest
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, more)| *sum += more);
        self.sum += other.sum;
    }

    /// The latency in seconds that a share of them stayed below, to the precision of the buckets.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = share * count as f64;
        let mut below = 0.0;
        for (at, inside) in self.buckets.iter().enumerate() {
            let inside = *inside as f64;
            if below + inside >= wanted && inside > 0.0 {
                let low = if at == 0 { 0.0 } else { LATENCY_SECONDS[at - 1] };
                let high = LATENCY_SECONDS.get(at).copied().unwrap_or(low);
                return Some(low + (high - low) * ((wanted - below) / inside).clamp(0.0, 1.0));
            }
            below += inside;
        }
        None
    }
}

#[derive(Debug, Default)]
struct Shared {
    buckets: [AtomicU64; BOUNDS + 1],
    sum: AtomicU64,
}

/// One line of a family; clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series(Arc<Shared>);

impl Series {
    /// Adds what was counted, and begins anew.
    pub(crate) fn take(&self, counted: &mut Latencies) {
        if counted.count() == 0 {
            return;
        }
        for (shared, more) in self.0.buckets.iter().zip(&counted.buckets) {
            shared.fetch_add(*more, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(counted.sum, Ordering::Relaxed);
        *counted = Latencies::default();
    }

    pub(crate) fn read(&self) -> Latencies {
        Latencies {
            buckets: std::array::from_fn(|at| self.0.buckets[at].load(Ordering::Relaxed)),
            sum: self.0.sum.load(Ordering::Relaxed),
        }
    }
}

/// A family of histograms with one label. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    series: Arc<RwLock<BTreeMap<String, Series>>>,
}

impl Family {
    pub(crate) fn new(name: &'static str, help: &'static str, label: &'static str) -> Self {
        Self { name, help, label, series: Arc::default() }
    }

    /// The line for a label's value.
    pub(crate) fn with(&self, value: &str) -> Series {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        series.entry(value.to_owned()).or_default().clone()
    }

    /// Everything in it.
    pub(crate) fn all(&self) -> Latencies {
        let mut all = Latencies::default();
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        series.values().for_each(|series| all.merge(&series.read()));
        all
    }

    /// What a scrape gets; nothing while there are no lines.
    pub(crate) fn collect(&self) -> Option<MetricFamily> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if series.is_empty() {
            return None;
        }
        let mut family = MetricFamily::default();
        family.set_name(format!("{}_{}", super::PREFIX, self.name));
        family.set_help(self.help.to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(series.iter().map(|(value, series)| self.line(value, &series.read())).collect());
        Some(family)
    }

    fn line(&self, value: &str, latencies: &Latencies) -> Metric {
        let mut label = LabelPair::default();
        label.set_name(self.label.to_owned());
        label.set_value(value.to_owned());
        let mut below = 0;
        let buckets = LATENCY_SECONDS.iter().zip(&latencies.buckets).map(|(bound, inside)| {
            below += inside;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(below);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(latencies.count());
        histogram.set_sample_sum(latencies.sum as f64 / 1e6);
        let mut metric = Metric::from_label(vec![label]);
        metric.set_histogram(histogram);
        metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_the_bucket_below_its_bound() {
        for bound in MICROS {
            for micros in [bound - 1, bound, bound + 1] {
                let mut latencies = Latencies::default();
                latencies.add(micros);
                let at = latencies.buckets.iter().position(|count| *count == 1).unwrap();
                assert!(at == BOUNDS || micros <= MICROS[at], "{micros}");
                assert!(at == 0 || micros > MICROS[at - 1], "{micros}");
            }
        }
        let mut latencies = Latencies::default();
        [0, 1, u64::MAX / 4].into_iter().for_each(|micros| latencies.add(micros));
        assert_eq!((latencies.buckets[0], latencies.buckets[BOUNDS]), (2, 1));
    }

    #[test]
    fn quantiles_are_within_their_bucket() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        (0..99).for_each(|_| latencies.add(200));
        latencies.add(40_000);
        let (half, most) = (latencies.quantile(0.5).unwrap(), latencies.quantile(0.995).unwrap());
        assert!((0.0001..=0.00025).contains(&half) && (0.025..=0.05).contains(&most), "{half} {most}");
        let before = latencies.clone();
        latencies.add(7);
        assert_eq!(latencies.since(&before).count(), 1);
    }

    #[test]
    fn families_are_cumulative() {
        let (family, mut counted) = (Family::new("x_seconds", "X.", "server"), Latencies::default());
        assert!(family.collect().is_none());
        counted.add(60);
        counted.add(60_000_000);
        family.with("a").take(&mut counted);
        assert_eq!((counted.count(), family.all().count()), (0, 2));
        let page = family.collect().unwrap();
        let histogram = page.get_metric()[0].get_histogram();
        let cumulative: Vec<u64> = histogram
            .get_bucket()
            .iter()
            .map(common::metrics::prometheus::proto::Bucket::cumulative_count)
            .collect();
        assert_eq!((cumulative[0], cumulative[1], cumulative[BOUNDS - 1]), (0, 1, 1));
        assert_eq!(histogram.get_sample_count(), 2);
    }
}
