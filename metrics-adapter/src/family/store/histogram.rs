//! Histograms in both forms: classic buckets and the native (exponential) ones.

use crate::family::{self, NativeHistogram, NativeSide};

/// How a histogram is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramOptions {
    /// Upper bounds of the classic buckets, strictly ascending, without infinity.
    pub buckets: Vec<f64>,
    /// Largest growth from one native bucket to the next; 1 or less means no native form.
    pub native_factor: f64,
    /// Native buckets kept before their resolution is halved; 0 means no bound.
    pub native_max_buckets: u32,
}

impl Default for HistogramOptions {
    fn default() -> Self {
        let buckets = vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        Self { buckets, native_factor: 1.1, native_max_buckets: 256 }
    }
}

/// Values no further from zero than this are in the zero bucket: 2^-128, the default of Go's client.
const ZERO_THRESHOLD: f64 = 2.938_735_877_055_719e-39;

/// Counts of one histogram series.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    sum: f64,
    count: u64,
    classic: Box<[u64]>,
    native: Option<Box<NativeHistogram>>,
}

impl Buckets {
    /// An empty histogram.
    pub(super) fn new(options: &HistogramOptions) -> Self {
        let native = (options.native_factor > 1.0).then(|| {
            let schema = schema_for(options.native_factor);
            Box::new(NativeHistogram { schema, zero_threshold: ZERO_THRESHOLD, ..NativeHistogram::default() })
        });
        Self { sum: 0.0, count: 0, classic: vec![0; options.buckets.len()].into(), native }
    }

    /// Takes a value `times` times.
    pub(super) fn observe(&mut self, value: f64, times: u64, options: &HistogramOptions) {
        if times == 0 {
            return;
        }
        self.count += times;
        self.sum += value * times as f64;
        let at = options.buckets.partition_point(|bound| value > *bound);
        if let Some(bucket) = self.classic.get_mut(at).filter(|_| !value.is_nan()) {
            *bucket += times;
        }
        if let Some(native) = &mut self.native {
            native.observe(value, times);
            let populated = native.positive.len() + native.negative.len();
            if options.native_max_buckets > 0 && populated > options.native_max_buckets as usize {
                native.halve_resolution();
            }
        }
    }

    /// The current counts.
    pub(super) fn read(&self, options: &HistogramOptions) -> family::Histogram {
        let mut total = 0;
        let cumulative = options.buckets.iter().zip(&self.classic).map(|(bound, count)| {
            total += count;
            (*bound, total)
        });
        family::Histogram {
            buckets: cumulative.collect(),
            sum: self.sum,
            count: self.count,
            native: self.native.clone(),
        }
    }

    /// Bytes held on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        let native = self.native.as_ref().map_or(0, |native| {
            let entries = native.positive.capacity() + native.negative.capacity();
            size_of::<NativeHistogram>() + entries * size_of::<(i32, u64)>()
        });
        native + self.classic.len() * size_of::<u64>()
    }
}

/// The finest resolution whose buckets still grow by at least `factor`.
fn schema_for(factor: f64) -> i32 {
    let floor = factor.log2().log2().floor();
    (-floor).clamp(-4.0, 8.0) as i32
}

impl NativeHistogram {
    fn observe(&mut self, value: f64, times: u64) {
        if value.is_nan() {
            return;
        }
        if value.abs() <= self.zero_threshold {
            self.zero_count += times;
            return;
        }
        let index = index_of(value.abs(), self.schema);
        let side = if value > 0.0 { &mut self.positive } else { &mut self.negative };
        match side.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(at) => side[at].1 += times,
            Err(at) => side.insert(at, (index, times)),
        }
    }

    fn halve_resolution(&mut self) {
        if self.schema == -4 {
            return;
        }
        self.schema -= 1;
        for side in [&mut self.positive, &mut self.negative] {
            let mut halved = NativeSide::with_capacity(side.len() / 2 + 1);
            for &(index, count) in side.iter() {
                // Bucket i covers (base^(i-1), base^i]; two neighbours with an even upper one join.
                let index = (index + 1).div_euclid(2);
                match halved.last_mut() {
                    Some((last, total)) if *last == index => *total += count,
                    _ => halved.push((index, count)),
                }
            }
            *side = halved;
        }
    }
}

/// The native bucket of a positive value: the smallest `i` with `value <= 2^(i / 2^schema)`.
fn index_of(value: f64, schema: i32) -> i32 {
    let (value, beyond) = if value.is_infinite() { (f64::MAX, 1) } else { (value, 0) };
    let (fraction, exponent) = split(value);
    let index = if schema > 0 {
        let per_doubling = 1 << schema;
        // The guess is off by at most one where rounding meets a bound.
        let bound = |i: i32| 0.5 * 2_f64.powf(f64::from(i) / f64::from(per_doubling));
        let guess = ((fraction * 2.0).log2() * f64::from(per_doubling)).ceil() as i32;
        let up = if bound(guess) < fraction { guess + 1 } else { guess };
        let within = if up > 0 && bound(up - 1) >= fraction { up - 1 } else { up };
        within + (exponent - 1) * per_doubling
    } else {
        let power = if fraction == 0.5 { exponent - 1 } else { exponent };
        let offset = (1 << -schema) - 1;
        (power + offset) >> -schema
    };
    index + beyond
}

/// `value = fraction * 2^exponent` with the fraction in [0.5, 1).
fn split(value: f64) -> (f64, i32) {
    const MANTISSA: u64 = (1 << 52) - 1;
    let (value, shifted) = if value < f64::MIN_POSITIVE { (value * 2_f64.powi(64), -64) } else { (value, 0) };
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1022;
    (f64::from_bits((bits & MANTISSA) | (1022 << 52)), exponent + shifted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn classic_buckets_are_cumulative() {
        let options = HistogramOptions { buckets: vec![1.0, 2.0], native_factor: 1.0, native_max_buckets: 0 };
        let mut buckets = Buckets::new(&options);
        for (value, times) in [(0.5, 1), (1.0, 2), (1.5, 1), (9.0, 1), (f64::NAN, 1)] {
            buckets.observe(value, times, &options);
        }
        let read = buckets.read(&options);
        assert_eq!((read.buckets, read.count, read.native), (vec![(1.0, 3), (2.0, 4)], 6, None));
    }

    #[test]
    fn the_default_factor_gives_schema_three() {
        assert_eq!(schema_for(1.1), 3);
        assert_eq!(schema_for(2.0), 0);
        assert_eq!(schema_for(1.000_001), 8);
        assert_eq!(schema_for(1e30), -4);
    }

    #[test]
    fn indexes_at_the_bounds() {
        for schema in [-2, 0, 3, 8] {
            assert_eq!(index_of(1.0, schema), 0, "{schema}");
        }
        assert_eq!([1.001, 2.0, 2.001, 0.5].map(|v| index_of(v, 0)), [1, 1, 2, -1]);
        assert_eq!([1.01, 2.0, 4.0].map(|v| index_of(v, 3)), [1, 8, 16]);
        assert_eq!(index_of(5e-324, 0), -1074);
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let options = HistogramOptions { native_max_buckets: 20, ..HistogramOptions::default() };
        let mut buckets = Buckets::new(&options);
        for n in -150..150 {
            buckets.observe(2_f64.powi(n), 1, &options);
            buckets.observe(-2_f64.powi(n), 1, &options);
        }
        let native = buckets.read(&options).native.unwrap();
        assert!(native.positive.len() + native.negative.len() <= 40);
        let total: u64 = native.positive.iter().chain(&native.negative).map(|(_, n)| n).sum();
        assert_eq!(total + native.zero_count, 600);
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(value in prop::num::f64::POSITIVE | prop::num::f64::SUBNORMAL, schema in -4..=8i32) {
            let (index, value) = (index_of(value.abs(), schema), value.abs());
            let bound = |i: i32| f64::from(i) * 2_f64.powi(-schema);
            let log = value.log2();
            prop_assert!(log <= bound(index) + 1e-9 && log > bound(index - 1) - 1e-9, "{} {}", log, index);
        }
    }
}
