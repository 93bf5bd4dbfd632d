//! Prometheus text format 0.0.4.

use memchr::memchr3;

use super::Writer;
use super::number::write_float;
use crate::family::{Kind, Labels, Value, Visitor};

/// Writer of text 0.0.4.
#[derive(Debug, Default)]
pub struct Text {
    out: Vec<u8>,
    name: String,
}

impl Visitor for Text {
    fn family(&mut self, name: &str, help: &str, kind: Kind) {
        name.clone_into(&mut self.name);
        if !help.is_empty() {
            write_help(&mut self.out, name, help, false);
        }
        write_type(&mut self.out, name, kind.as_text());
    }

    fn sample(&mut self, labels: Labels<'_>, value: &Value) {
        write_sample(&mut self.out, &self.name, "", labels, value);
    }
}

impl Writer for Text {
    fn take(&mut self) -> Vec<u8> {
        // The next piece will be about as long.
        let room = Vec::with_capacity(self.out.len());
        std::mem::replace(&mut self.out, room)
    }

    fn len(&self) -> usize {
        self.out.len()
    }

    fn finish(&mut self) {}
}

pub(super) fn write_help(out: &mut Vec<u8>, name: &str, help: &str, quotes_too: bool) {
    out.extend_from_slice(b"# HELP ");
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
    write_escaped(out, help, quotes_too);
    out.push(b'\n');
}

pub(super) fn write_type(out: &mut Vec<u8>, name: &str, kind: &str) {
    for part in ["# TYPE ", name, " ", kind, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// Writes all lines of one sample; `suffix` goes behind the name of a plain number.
pub(super) fn write_sample(out: &mut Vec<u8>, name: &str, suffix: &str, labels: Labels<'_>, value: &Value) {
    match value {
        Value::Number(number) => {
            write_head(out, name, suffix, labels, None);
            write_float(out, *number);
            out.push(b'\n');
        }
        Value::Summary(summary) => {
            for (quantile, value) in &summary.quantiles {
                write_head(out, name, "", labels, Some(("quantile", *quantile)));
                write_float(out, *value);
                out.push(b'\n');
            }
            write_totals(out, name, labels, summary.sum, summary.count);
        }
        Value::Histogram(histogram) => {
            let infinite = (f64::INFINITY, histogram.count);
            for (bound, count) in histogram.buckets.iter().chain([&infinite]) {
                write_head(out, name, "_bucket", labels, Some(("le", *bound)));
                write_float(out, *count as f64);
                out.push(b'\n');
            }
            write_totals(out, name, labels, histogram.sum, histogram.count);
        }
    }
}

fn write_totals(out: &mut Vec<u8>, name: &str, labels: Labels<'_>, sum: f64, count: u64) {
    write_head(out, name, "_sum", labels, None);
    write_float(out, sum);
    out.push(b'\n');
    write_head(out, name, "_count", labels, None);
    write_float(out, count as f64);
    out.push(b'\n');
}

/// Writes name, labels and the space before the value.
fn write_head(out: &mut Vec<u8>, name: &str, suffix: &str, labels: Labels<'_>, own: Option<(&str, f64)>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    let mut separator = b'{';
    for (label, value) in labels {
        out.push(separator);
        separator = b',';
        out.extend_from_slice(label.as_bytes());
        out.extend_from_slice(b"=\"");
        write_escaped(out, value, true);
        out.push(b'"');
    }
    if let Some((label, number)) = own {
        out.push(separator);
        separator = b',';
        out.extend_from_slice(label.as_bytes());
        out.extend_from_slice(b"=\"");
        write_float(out, number);
        out.push(b'"');
    }
    if separator == b',' {
        out.push(b'}');
    }
    out.push(b' ');
}

fn write_escaped(out: &mut Vec<u8>, text: &str, quotes_too: bool) {
    escaped(text, quotes_too, |part| out.extend_from_slice(part.as_bytes()));
}

/// Gives a help text, or with `quotes_too` the value of a label, in pieces that are to be written as they are.
pub(crate) fn escaped(text: &str, quotes_too: bool, mut put: impl FnMut(&str)) {
    let mut rest = text;
    let quote = if quotes_too { b'"' } else { b'\\' };
    while let Some(at) = memchr3(b'\\', b'\n', quote, rest.as_bytes()) {
        put(&rest[..at]);
        put(match rest.as_bytes()[at] {
            b'\n' => "\\n",
            b'"' => "\\\"",
            _ => "\\\\",
        });
        rest = &rest[at + 1..];
    }
    put(rest);
}

#[cfg(test)]
mod tests {
    use crate::exposition::{Format, page};
    use crate::family::{Families, Family, Histogram, Kind, Sample, Summary, Value};

    #[test]
    fn every_kind_and_escape() {
        let summary = Summary { quantiles: vec![(0.5, 2.0), (0.99, f64::NAN)], sum: 3.5, count: 1_000_000 };
        let histogram = Histogram { buckets: vec![(0.5, 1), (1.0, 2)], sum: 4.0, count: 3, native: None };
        let sample = |value| vec![Sample { labels: vec![("a", "b")].into(), value }];
        let mut families = vec![
            Family::new("z_total", "with \\ and\nbreak \"q\"", Kind::Counter)
                .with(&[("l", "x\\y\"z\n")], 2.0),
            Family::new("g", "", Kind::Gauge).with(&[], -0.5),
        ];
        families.push(Family {
            samples: sample(Value::Summary(summary)),
            ..Family::new("s", "S", Kind::Summary)
        });
        families.push(Family {
            samples: sample(Value::Histogram(histogram)),
            ..Family::new("h", "H", Kind::Histogram)
        });
        let text = page(&mut Families::sorted(families), Format::Text);
        let expected = "# TYPE g gauge\ng -0.5\n\
            # HELP h H\n# TYPE h histogram\nh_bucket{a=\"b\",le=\"0.5\"} 1\nh_bucket{a=\"b\",le=\"1\"} 2\n\
            h_bucket{a=\"b\",le=\"+Inf\"} 3\nh_sum{a=\"b\"} 4\nh_count{a=\"b\"} 3\n\
            # HELP s S\n# TYPE s summary\ns{a=\"b\",quantile=\"0.5\"} 2\ns{a=\"b\",quantile=\"0.99\"} NaN\n\
            s_sum{a=\"b\"} 3.5\ns_count{a=\"b\"} 1e+06\n\
            # HELP z_total with \\\\ and\\nbreak \"q\"\n# TYPE z_total counter\nz_total{l=\"x\\\\y\\\"z\\n\"} 2\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
