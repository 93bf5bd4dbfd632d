//! `io.prometheus.client.MetricFamily` messages, each with its length in front.
//!
//! Field numbers are those of `metrics.proto` in prometheus/client_model. This is the only format that carries
//! native histograms.

use super::Writer;
use super::wire::{self, double, message, signed, text, unsigned, varint};
use crate::family::{Histogram, Kind, Labels, NativeHistogram, NativeSide, Summary, Value, Visitor};

/// Writer of delimited protobuf. Holds the family it is writing, whose length goes in front.
#[derive(Debug, Default)]
pub struct Protobuf {
    out: Vec<u8>,
    family: Vec<u8>,
    metric: Vec<u8>,
    scratch: Vec<u8>,
    kind: Option<Kind>,
}

impl Visitor for Protobuf {
    fn family(&mut self, name: &str, help: &str, kind: Kind) {
        self.close();
        text(&mut self.family, 1, name);
        text(&mut self.family, 2, help);
        let number = match kind {
            Kind::Counter => 0,
            Kind::Gauge | Kind::Info => 1,
            Kind::Summary => 2,
            Kind::Untyped => 3,
            Kind::Histogram => 4,
        };
        unsigned(&mut self.family, 3, number);
        self.kind = Some(kind);
    }

    fn sample(&mut self, labels: Labels<'_>, value: &Value) {
        self.metric.clear();
        for (name, value) in labels {
            self.scratch.clear();
            text(&mut self.scratch, 1, name);
            text(&mut self.scratch, 2, value);
            message(&mut self.metric, 1, &self.scratch);
        }
        self.scratch.clear();
        let field = match value {
            Value::Number(number) => {
                double(&mut self.scratch, 1, *number);
                match self.kind {
                    Some(Kind::Counter) => 3,
                    Some(Kind::Gauge | Kind::Info) => 2,
                    _ => 5,
                }
            }
            Value::Summary(summary) => {
                write_summary(&mut self.scratch, summary);
                4
            }
            Value::Histogram(histogram) => {
                write_histogram(&mut self.scratch, histogram);
                7
            }
        };
        message(&mut self.metric, field, &self.scratch);
        message(&mut self.family, 4, &self.metric);
    }
}

impl Writer for Protobuf {
    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn len(&self) -> usize {
        self.out.len()
    }

    fn finish(&mut self) {
        self.close();
    }
}

impl Protobuf {
    fn close(&mut self) {
        if self.kind.take().is_some() {
            varint(&mut self.out, self.family.len() as u64);
            self.out.append(&mut self.family);
        }
    }
}

fn write_summary(out: &mut Vec<u8>, summary: &Summary) {
    unsigned(out, 1, summary.count);
    double(out, 2, summary.sum);
    let mut part = Vec::with_capacity(18);
    for (quantile, value) in &summary.quantiles {
        part.clear();
        double(&mut part, 1, *quantile);
        double(&mut part, 2, *value);
        message(out, 3, &part);
    }
}

fn write_histogram(out: &mut Vec<u8>, histogram: &Histogram) {
    unsigned(out, 1, histogram.count);
    double(out, 2, histogram.sum);
    let mut part = Vec::with_capacity(20);
    for (bound, count) in &histogram.buckets {
        part.clear();
        unsigned(&mut part, 1, *count);
        double(&mut part, 2, *bound);
        message(out, 3, &part);
    }
    if let Some(native) = &histogram.native {
        write_native(out, native);
    }
}

fn write_native(out: &mut Vec<u8>, native: &NativeHistogram) {
    signed(out, 5, i64::from(native.schema));
    double(out, 6, native.zero_threshold);
    unsigned(out, 7, native.zero_count);
    write_side(out, 9, 10, &native.negative);
    write_side(out, 12, 13, &native.positive);
    if native.negative.is_empty() && native.positive.is_empty() {
        // An empty span tells a native histogram without buckets from a classic one.
        let mut span = Vec::new();
        signed(&mut span, 1, 0);
        unsigned(&mut span, 2, 0);
        message(out, 12, &span);
    }
}

fn write_side(out: &mut Vec<u8>, spans_field: u32, deltas_field: u32, side: &NativeSide) {
    let (spans, counts) = wire::spans(side);
    let mut part = Vec::with_capacity(12);
    for (offset, length) in spans {
        part.clear();
        signed(&mut part, 1, i64::from(offset));
        unsigned(&mut part, 2, length);
        message(out, spans_field, &part);
    }
    let mut before = 0_u64;
    for count in counts {
        signed(out, deltas_field, count.wrapping_sub(before) as i64);
        before = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Format, page};
    use crate::family::{Families, Family, PackedLabels, Sample};

    #[test]
    fn a_counter_by_hand() {
        let family = Family::new("ab", "h", Kind::Counter).with(&[("k", "v")], 1.0);
        let bytes = page(&mut Families::sorted(vec![family]), Format::Protobuf);
        let metric =
            [&[0x0a, 6, 0x0a, 1, b'k', 0x12, 1, b'v', 0x1a, 9, 0x09][..], &1.0_f64.to_le_bytes()].concat();
        let head = [0x0a, 2, b'a', b'b', 0x12, 1, b'h', 0x18, 0, 0x22, metric.len() as u8];
        let body = [&head[..], &metric].concat();
        assert_eq!(bytes, [&[body.len() as u8][..], &body].concat());
    }

    #[test]
    fn spans_and_deltas() {
        let mut out = Vec::new();
        write_side(&mut out, 12, 13, &vec![(-3, 2), (-1, 5), (4, 1)]);
        // offset -3 length 3 (with one empty bucket), offset 4 length 1; counts 2 0 5 1 as deltas 2 -2 5 -4.
        let expected =
            [0x62, 4, 0x08, 5, 0x10, 3, 0x62, 4, 0x08, 8, 0x10, 1, 0x68, 4, 0x68, 3, 0x68, 10, 0x68, 7];
        assert_eq!(out, expected);
    }

    #[test]
    fn an_empty_native_histogram_is_marked() {
        let native = Some(Box::new(NativeHistogram { schema: 3, ..NativeHistogram::default() }));
        let value = Value::Histogram(Histogram { native, ..Histogram::default() });
        let samples = vec![Sample { labels: PackedLabels::default(), value }];
        let family = Family { samples, ..Family::new("h", "", Kind::Histogram) };
        let bytes = page(&mut Families::sorted(vec![family]), Format::Protobuf);
        assert!(bytes.ends_with(&[0x62, 4, 0x08, 0, 0x10, 0]));
    }
}
