//! Plain owned values: a family, its samples and their values.

use std::fmt;

use super::PackedLabels;

/// What a family holds, as written in its `# TYPE` line.
///
/// ```
/// use metrics_adapter::family::Kind;
///
/// assert_eq!((Kind::Untyped.as_text(), Kind::Untyped.as_open_metrics()), ("untyped", "unknown"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Only grows, until its process restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Quantiles over a window, with sum and count.
    Summary,
    /// Counts per bucket, with sum and count.
    Histogram,
    /// Nothing is known (`untyped` in text 0.0.4, `unknown` in OpenMetrics).
    Untyped,
    /// A constant 1 whose labels are the information (a gauge in text 0.0.4).
    Info,
}

impl Kind {
    /// The word of the Prometheus text format 0.0.4.
    ///
    /// ```
    /// assert_eq!(metrics_adapter::family::Kind::Info.as_text(), "gauge");
    /// ```
    #[must_use]
    pub const fn as_text(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge | Self::Info => "gauge",
            Self::Summary => "summary",
            Self::Histogram => "histogram",
            Self::Untyped => "untyped",
        }
    }

    /// The word of OpenMetrics 1.0.
    ///
    /// ```
    /// assert_eq!(metrics_adapter::family::Kind::Info.as_open_metrics(), "info");
    /// ```
    #[must_use]
    pub const fn as_open_metrics(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
            Self::Histogram => "histogram",
            Self::Untyped => "unknown",
            Self::Info => "info",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_text())
    }
}

/// All samples of one name.
///
/// The name is the one of text 0.0.4: a counter whose samples end in `_total` carries that suffix here, and
/// the OpenMetrics writer takes it off where that format wants it.
///
/// ```
/// use metrics_adapter::family::{Family, Kind};
///
/// let mut orders = Family::new("orders_total", "Orders taken.", Kind::Counter).with(&[("shop", "corner")], 7.0);
/// orders.push([("shop", "station")].as_slice(), 9.0);
/// assert_eq!(orders.samples.len(), 2);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// A valid metric name (`[a-zA-Z_:][a-zA-Z0-9_:]*`).
    pub name: String,
    /// Free text; the writers escape it. Empty means no `# HELP` line.
    pub help: String,
    /// The type of every sample in it.
    pub kind: Kind,
    /// The samples, no two with the same labels.
    pub samples: Vec<Sample>,
}

impl Family {
    /// A family without samples.
    ///
    /// ```
    /// use metrics_adapter::family::{Family, Kind};
    ///
    /// assert!(Family::new("orders_total", "", Kind::Counter).samples.is_empty());
    /// ```
    pub fn new(name: impl Into<String>, help: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), help: help.into(), kind, samples: Vec::new() }
    }

    /// Adds one number under these labels.
    pub fn push(&mut self, labels: impl Into<PackedLabels>, value: f64) {
        self.samples.push(Sample { labels: labels.into(), value: Value::Number(value) });
    }

    /// The same, for building in one expression.
    #[must_use]
    pub fn with(mut self, labels: &[(&str, &str)], value: f64) -> Self {
        self.push(labels, value);
        self
    }
}

/// One sample: labels and a value.
///
/// ```
/// use metrics_adapter::family::{PackedLabels, Sample, Value};
///
/// let sample = Sample { labels: PackedLabels::new([("shop", "corner")]), value: Value::Number(7.0) };
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name and value pairs in the order they are written; names are valid label names and unique.
    pub labels: PackedLabels,
    /// What was measured.
    pub value: Value,
}

/// The value of a sample; its variant fits the family's [`Kind`].
///
/// ```
/// use metrics_adapter::family::{Summary, Value};
///
/// let value = Value::Summary(Summary { quantiles: vec![(0.5, 0.1)], sum: 3.0, count: 20 });
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Counter, gauge, untyped and info.
    Number(f64),
    /// Summary.
    Summary(Summary),
    /// Histogram.
    Histogram(Histogram),
}

/// Quantiles over a window, sum and count since the start.
///
/// ```
/// use metrics_adapter::family::Summary;
///
/// let latency = Summary { quantiles: vec![(0.5, 0.1), (0.99, 0.4)], sum: 3.0, count: 20 };
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Quantile (0 to 1) and its value, ascending.
    pub quantiles: Vec<(f64, f64)>,
    /// Sum of all observations.
    pub sum: f64,
    /// Number of all observations.
    pub count: u64,
}

/// Classic buckets and, where kept, the native (exponential) form of the same observations.
///
/// ```
/// use metrics_adapter::family::Histogram;
///
/// // 12 took up to 0.1 s, 19 of 20 up to a second.
/// let latency = Histogram { buckets: vec![(0.1, 12), (1.0, 19)], sum: 5.5, count: 20, native: None };
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Upper bound and *cumulative* count, ascending, without the `+Inf` bucket (that is `count`).
    pub buckets: Vec<(f64, u64)>,
    /// Sum of all observations.
    pub sum: f64,
    /// Number of all observations.
    pub count: u64,
    /// The native form; only the protobuf exposition can carry it.
    pub native: Option<Box<NativeHistogram>>,
}

/// A native histogram: buckets at powers of `2^(2^-schema)`.
///
/// ```
/// use metrics_adapter::family::NativeHistogram;
///
/// let native = NativeHistogram { schema: 3, positive: vec![(-4, 12), (9, 1)], ..NativeHistogram::default() };
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NativeHistogram {
    /// Resolution, from -4 to 8.
    pub schema: i32,
    /// Width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: u64,
    /// Buckets of negative observations.
    pub negative: NativeSide,
    /// Buckets of positive observations.
    pub positive: NativeSide,
}

/// The populated buckets of one sign: bucket index and count, ascending by index.
pub type NativeSide = Vec<(i32, u64)>;
