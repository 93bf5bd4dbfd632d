//! OTLP metrics: `opentelemetry.proto.collector.metrics.v1.ExportMetricsServiceRequest`, compressed with gzip.
//!
//! Counters become monotonic cumulative sums, untyped and information samples gauges. The names stay those of the
//! page; a receiver that adds `_total` to sums leaves names that have it alone. A series that ended is told once, as a
//! point with the flag `NO_RECORDED_VALUE`.
//!
//! <https://opentelemetry.io/docs/specs/otlp/>

use std::io::Write as _;
use std::time::SystemTime;

use flate2::write::GzEncoder;

use super::batch::{Batch, Encoder, nanoseconds};
use super::stale::{self, Memory};
use crate::exposition::wire::{double, fixed, message, signed, text, unsigned, varint};
use crate::family::{Histogram, Kind, Labels, NativeHistogram, NativeSide, Summary, Value, Visitor};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
const CUMULATIVE: u64 = 2;
/// `DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`
const NO_RECORDED_VALUE: u64 = 1;

/// Encodes rounds of families as export requests.
pub(super) struct Otlp {
    /// The `Resource` message.
    resource: Vec<u8>,
    natives: bool,
    batch: usize,
    /// Nanoseconds since 1970.
    began: u64,
    now: u64,
    family: Family,
    memory: Memory,
    /// `Metric` messages of the request so far, as field 2 of `ScopeMetrics`.
    metrics: Vec<u8>,
    samples: u64,
    done: Vec<Batch>,
}

/// The family that is being visited: data points, as field 1 of the message that holds them.
#[derive(Default)]
struct Family {
    name: String,
    help: String,
    kind: Option<Kind>,
    points: Vec<u8>,
    /// Those that are exponential histograms.
    exponential: Vec<u8>,
}

impl Otlp {
    /// `resource` are the attributes of what is described, `began` the time since when counters count.
    pub(super) fn new(resource: &[(String, String)], natives: bool, batch: usize, began: SystemTime) -> Self {
        let mut encoded = Vec::new();
        for (name, value) in resource {
            attribute(&mut encoded, 1, name, value);
        }
        Self {
            resource: encoded,
            natives,
            batch,
            began: nanoseconds(began),
            now: 0,
            family: Family::default(),
            memory: Memory::default(),
            metrics: Vec::new(),
            samples: 0,
            done: Vec::new(),
        }
    }

    /// Ends the metric that is being written.
    fn close(&mut self) {
        let Some(kind) = self.family.kind else { return };
        let points = std::mem::take(&mut self.family.points);
        let exponential = std::mem::take(&mut self.family.exponential);
        if !points.is_empty() {
            let mut data = points;
            let field = match kind {
                Kind::Counter => {
                    unsigned(&mut data, 2, CUMULATIVE);
                    unsigned(&mut data, 3, 1);
                    7
                }
                Kind::Histogram => {
                    unsigned(&mut data, 2, CUMULATIVE);
                    9
                }
                Kind::Summary => 11,
                Kind::Gauge | Kind::Untyped | Kind::Info => 5,
            };
            self.metric(field, &data);
        }
        if !exponential.is_empty() {
            let mut data = exponential;
            unsigned(&mut data, 2, CUMULATIVE);
            self.metric(10, &data);
        }
    }

    fn metric(&mut self, field: u32, data: &[u8]) {
        let mut metric = Vec::with_capacity(data.len() + 100);
        text(&mut metric, 1, &self.family.name);
        text(&mut metric, 2, &self.family.help);
        message(&mut metric, field, data);
        message(&mut self.metrics, 2, &metric);
    }

    /// Ends the request that is being written.
    fn cut(&mut self) {
        self.close();
        if self.samples == 0 {
            return;
        }
        let mut scope = Vec::new();
        text(&mut scope, 1, env!("CARGO_PKG_NAME"));
        text(&mut scope, 2, env!("CARGO_PKG_VERSION"));
        let mut scope_metrics = Vec::with_capacity(self.metrics.len() + 50);
        message(&mut scope_metrics, 1, &scope);
        scope_metrics.append(&mut self.metrics);
        let mut resource_metrics = Vec::with_capacity(scope_metrics.len() + self.resource.len() + 20);
        message(&mut resource_metrics, 1, &self.resource);
        message(&mut resource_metrics, 2, &scope_metrics);
        let mut request = Vec::with_capacity(resource_metrics.len() + 10);
        message(&mut request, 1, &resource_metrics);
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        // Writing to memory does not fail.
        match encoder.write_all(&request).and_then(|()| encoder.finish()) {
            Ok(body) => self.done.push(Batch { body: body.into(), samples: self.samples }),
            Err(error) => tracing::error!(%error, "a request could not be compressed"),
        }
        self.samples = 0;
    }

    /// Keeps what tells the end of a sample: form and name of its family, bounds or quantiles, labels.
    fn remember(&mut self, labels: Labels<'_>, value: &Value) {
        let (form, bounds) = match value {
            Value::Histogram(histogram) if self.natives && histogram.native.is_some() => {
                (Form::Exponential, String::new())
            }
            Value::Histogram(histogram) => {
                let bounds = histogram.buckets.iter().map(|(bound, _)| *bound);
                (Form::Histogram, joined(bounds.filter(|bound| bound.is_finite())))
            }
            Value::Summary(summary) => {
                (Form::Summary, joined(summary.quantiles.iter().map(|(quantile, _)| *quantile)))
            }
            Value::Number(_) if self.family.kind == Some(Kind::Counter) => (Form::Counter, String::new()),
            Value::Number(_) => (Form::Gauge, String::new()),
        };
        let head = [(form.word(), self.family.name.as_str()), ("", &bounds)];
        self.memory.see(head.into_iter().chain(labels));
    }

    /// Writes the last point of a series, from what was remembered of it.
    fn end(&mut self, remembered: &[(&str, &str)]) {
        let [(word, name), (_, bounds), labels @ ..] = remembered else { return };
        let Some(form) = Form::ALL.into_iter().find(|form| form.word() == *word) else { return };
        let (kind, attribute_field, flags_field) = form.fields();
        if self.family.kind != Some(kind) || self.family.name != *name {
            self.family(name, "", kind);
        }
        let bounds = bounds.split(',').filter_map(|bound| bound.parse::<f64>().ok());
        let mut point = Vec::with_capacity(128);
        self.times(&mut point);
        match form {
            Form::Counter | Form::Gauge => double(&mut point, 4, 0.0),
            Form::Summary => {
                for quantile in bounds {
                    let mut pair = Vec::with_capacity(18);
                    double(&mut pair, 1, quantile);
                    double(&mut pair, 2, 0.0);
                    message(&mut point, 6, &pair);
                }
            }
            Form::Histogram => {
                let bounds: Vec<u8> = bounds.flat_map(f64::to_le_bytes).collect();
                double(&mut point, 5, 0.0);
                message(&mut point, 6, &vec![0; bounds.len() + 8]);
                message(&mut point, 7, &bounds);
            }
            Form::Exponential => double(&mut point, 5, 0.0),
        }
        for (name, value) in labels {
            attribute(&mut point, attribute_field, name, value);
        }
        unsigned(&mut point, flags_field, NO_RECORDED_VALUE);
        let points = match form {
            Form::Exponential => &mut self.family.exponential,
            _ => &mut self.family.points,
        };
        message(points, 1, &point);
        self.samples += 1;
        if self.samples >= self.batch as u64 {
            self.cut();
        }
    }

    fn times(&self, out: &mut Vec<u8>) {
        fixed(out, 2, self.began);
        fixed(out, 3, self.now);
    }

    fn number(&self, labels: Labels<'_>, value: f64) -> Vec<u8> {
        let mut point = Vec::with_capacity(64);
        self.times(&mut point);
        double(&mut point, 4, value);
        attributes(&mut point, 7, labels);
        point
    }

    fn summary(&self, labels: Labels<'_>, summary: &Summary) -> Vec<u8> {
        let mut point = Vec::with_capacity(128);
        self.times(&mut point);
        fixed(&mut point, 4, summary.count);
        double(&mut point, 5, summary.sum);
        for (quantile, value) in &summary.quantiles {
            let mut pair = Vec::with_capacity(18);
            double(&mut pair, 1, *quantile);
            double(&mut pair, 2, *value);
            message(&mut point, 6, &pair);
        }
        attributes(&mut point, 7, labels);
        point
    }

    fn histogram(&self, labels: Labels<'_>, histogram: &Histogram) -> Vec<u8> {
        let mut point = Vec::with_capacity(256);
        self.times(&mut point);
        fixed(&mut point, 4, histogram.count);
        double(&mut point, 5, histogram.sum);
        let (mut counts, mut bounds, mut below) = (Vec::new(), Vec::new(), 0);
        let mut each = |cumulative: u64| {
            counts.extend_from_slice(&cumulative.saturating_sub(below).to_le_bytes());
            below = below.max(cumulative);
        };
        // A bound of infinity is what the last bucket has anyway.
        for (bound, cumulative) in histogram.buckets.iter().filter(|(bound, _)| bound.is_finite()) {
            each(*cumulative);
            bounds.extend_from_slice(&bound.to_le_bytes());
        }
        each(histogram.count);
        message(&mut point, 6, &counts);
        message(&mut point, 7, &bounds);
        attributes(&mut point, 9, labels);
        point
    }

    fn exponential(&self, labels: Labels<'_>, histogram: &Histogram, native: &NativeHistogram) -> Vec<u8> {
        let mut point = Vec::with_capacity(256);
        attributes(&mut point, 1, labels);
        self.times(&mut point);
        fixed(&mut point, 4, histogram.count);
        double(&mut point, 5, histogram.sum);
        let (scale, positive, negative) = narrowed(native);
        signed(&mut point, 6, i64::from(scale));
        fixed(&mut point, 7, native.zero_count);
        for (field, side) in [(8, &positive), (9, &negative)] {
            if let Some(buckets) = dense(side) {
                message(&mut point, field, &buckets);
            }
        }
        double(&mut point, 14, native.zero_threshold);
        point
    }
}

/// The messages that points are.
#[derive(Clone, Copy)]
enum Form {
    Counter,
    Gauge,
    Summary,
    Histogram,
    Exponential,
}

impl Form {
    const ALL: [Self; 5] = [Self::Counter, Self::Gauge, Self::Summary, Self::Histogram, Self::Exponential];

    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "c",
            Self::Gauge => "g",
            Self::Summary => "s",
            Self::Histogram => "h",
            Self::Exponential => "e",
        }
    }

    /// The kind of its family, and the fields of attributes and flags.
    const fn fields(self) -> (Kind, u32, u32) {
        match self {
            Self::Counter => (Kind::Counter, 7, 8),
            Self::Gauge => (Kind::Gauge, 7, 8),
            Self::Summary => (Kind::Summary, 7, 8),
            Self::Histogram => (Kind::Histogram, 9, 10),
            Self::Exponential => (Kind::Histogram, 1, 10),
        }
    }
}

fn joined(numbers: impl Iterator<Item = f64>) -> String {
    numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")
}

/// Widest range of buckets that is sent, since the empty ones between them are written too.
const WIDEST: i64 = 640;

/// Scale and buckets, at a resolution that keeps both sides within [`WIDEST`].
fn narrowed(native: &NativeHistogram) -> (i32, NativeSide, NativeSide) {
    let wide = |side: &NativeSide| match (side.first(), side.last()) {
        (Some(first), Some(last)) => i64::from(last.0) - i64::from(first.0) >= WIDEST,
        _ => false,
    };
    let halve = |side: &mut NativeSide| {
        for bucket in side.iter_mut() {
            // Two buckets of Prometheus end where the one with half the index, rounded up, does.
            bucket.0 = (bucket.0 >> 1) + (bucket.0 & 1);
        }
        side.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
    };
    let (mut scale, mut positive, mut negative) =
        (native.schema, native.positive.clone(), native.negative.clone());
    while wide(&positive) || wide(&negative) {
        halve(&mut positive);
        halve(&mut negative);
        scale -= 1;
    }
    (scale, positive, negative)
}

/// Buckets without gaps. Bucket `i` here ends where Prometheus' bucket `i + 1` does.
fn dense(side: &NativeSide) -> Option<Vec<u8>> {
    let (first, last) = (side.first()?.0, side.last()?.0);
    let mut counts = Vec::new();
    let mut buckets = side.iter().peekable();
    for index in first..=last {
        let count = buckets.next_if(|(at, _)| *at == index).map_or(0, |(_, count)| *count);
        varint(&mut counts, count);
    }
    let mut out = Vec::with_capacity(counts.len() + 10);
    signed(&mut out, 1, i64::from(first) - 1);
    message(&mut out, 2, &counts);
    Some(out)
}

fn attributes(out: &mut Vec<u8>, field: u32, labels: Labels<'_>) {
    for (name, value) in labels {
        attribute(out, field, name, value);
    }
}

fn attribute(out: &mut Vec<u8>, field: u32, name: &str, value: &str) {
    let mut any = Vec::with_capacity(value.len() + 4);
    text(&mut any, 1, value);
    let mut pair = Vec::with_capacity(name.len() + any.len() + 8);
    text(&mut pair, 1, name);
    message(&mut pair, 2, &any);
    message(out, field, &pair);
}

impl Visitor for Otlp {
    fn family(&mut self, name: &str, help: &str, kind: Kind) {
        self.close();
        name.clone_into(&mut self.family.name);
        help.clone_into(&mut self.family.help);
        self.family.kind = Some(kind);
    }

    fn sample(&mut self, labels: Labels<'_>, value: &Value) {
        self.remember(labels, value);
        let native = match value {
            Value::Histogram(histogram) if self.natives => {
                histogram.native.as_ref().map(|native| (histogram, native))
            }
            _ => None,
        };
        if let Some((histogram, native)) = native {
            let point = self.exponential(labels, histogram, native);
            message(&mut self.family.exponential, 1, &point);
        } else {
            let point = match value {
                Value::Number(number) => self.number(labels, *number),
                Value::Summary(summary) => self.summary(labels, summary),
                Value::Histogram(histogram) => self.histogram(labels, histogram),
            };
            message(&mut self.family.points, 1, &point);
        }
        self.samples += 1;
        if self.samples >= self.batch as u64 {
            self.cut();
        }
    }
}

impl Encoder for Otlp {
    fn start(&mut self, now: SystemTime) {
        self.now = nanoseconds(now);
        self.memory.start();
    }

    fn visitor(&mut self) -> &mut dyn Visitor {
        self
    }

    fn finish(&mut self) {
        let mut gone = self.memory.gone();
        // Those of one family come one after the other.
        gone.sort_unstable();
        for key in &gone {
            self.end(&stale::labels(key));
        }
        self.cut();
        self.family.kind = None;
    }

    fn take(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_wide_histogram_loses_resolution_and_no_observation() {
        let native = |positive| NativeHistogram { schema: 8, positive, ..NativeHistogram::default() };
        let (scale, positive, _) = narrowed(&native(vec![(-639, 1), (0, 2), (1, 4), (2, 8)]));
        assert_eq!((scale, positive), (7, vec![(-319, 1), (0, 2), (1, 12)]));
        let (scale, positive, _) = narrowed(&native(vec![(0, 1), (639, 1)]));
        assert_eq!((scale, positive), (8, vec![(0, 1), (639, 1)]));
    }

    proptest! {
        #[test]
        fn any_histogram_is_narrowed(buckets in prop::collection::btree_map(any::<i32>(), 0_u64..1000, 0..20)) {
            let positive: NativeSide = buckets.into_iter().collect();
            let total: u64 = positive.iter().map(|(_, count)| count).sum();
            let native = NativeHistogram { schema: 8, positive, ..NativeHistogram::default() };
            let (_, narrow, _) = narrowed(&native);
            prop_assert_eq!(narrow.iter().map(|(_, count)| count).sum::<u64>(), total);
            prop_assert!(dense(&narrow).is_none_or(|bytes| bytes.len() < 2000));
        }
    }
}
