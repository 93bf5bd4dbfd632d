//! Families as series of single numbers, which is how remote write knows them.

use crate::exposition::write_float;
use crate::family::{Histogram, Kind, Labels, NativeHistogram, Summary, Value, Visitor};

/// Receives series. Labels are sorted by name, none is empty, and `__name__` is one of them.
pub(super) trait SeriesSink {
    /// The series that follow belong to this family.
    fn family(&mut self, name: &str, help: &str, kind: Kind);
    /// A number.
    fn number(&mut self, labels: &[(&str, &str)], value: f64);
    /// A native histogram.
    fn native(&mut self, labels: &[(&str, &str)], histogram: &Histogram, native: &NativeHistogram);
}

/// The label that holds a series' name.
const NAME: &str = "__name__";

/// Takes families and gives series.
#[derive(Debug)]
pub(super) struct Flatten<S> {
    pub(super) sink: S,
    /// Added to every series that has no label of that name.
    external: Vec<(String, String)>,
    natives: bool,
    /// Name of the family, and with `_bucket`, `_sum` and `_count`.
    names: [String; 4],
}

impl<S: SeriesSink> Flatten<S> {
    pub(super) fn new(sink: S, external: Vec<(String, String)>, natives: bool) -> Self {
        Self { sink, external, natives, names: Default::default() }
    }

    fn number(&mut self, name: usize, extra: Option<(&str, f64)>, labels: Labels<'_>, value: f64) {
        let mut bound = Vec::new();
        if let Some((_, number)) = extra {
            write_float(&mut bound, number);
        }
        let bound = String::from_utf8_lossy(&bound);
        let extra = extra.map(|(name, _)| (name, &*bound));
        let all = complete(&self.names[name], extra, labels, &self.external);
        self.sink.number(&all, value);
    }

    fn summary(&mut self, labels: Labels<'_>, summary: &Summary) {
        for (quantile, value) in &summary.quantiles {
            self.number(0, Some(("quantile", *quantile)), labels, *value);
        }
        self.number(2, None, labels, summary.sum);
        self.number(3, None, labels, summary.count as f64);
    }

    fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        for (bound, count) in &histogram.buckets {
            self.number(1, Some(("le", *bound)), labels, *count as f64);
        }
        self.number(1, Some(("le", f64::INFINITY)), labels, histogram.count as f64);
        self.number(2, None, labels, histogram.sum);
        self.number(3, None, labels, histogram.count as f64);
        if let Some(native) = histogram.native.as_ref().filter(|_| self.natives) {
            let all = complete(&self.names[0], None, labels, &self.external);
            self.sink.native(&all, histogram, native);
        }
    }
}

/// All labels of a series, sorted by name.
fn complete<'a>(
    name: &'a str,
    extra: Option<(&'a str, &'a str)>,
    labels: Labels<'a>,
    external: &'a [(String, String)],
) -> Vec<(&'a str, &'a str)> {
    let mut all: Vec<(&str, &str)> = Vec::with_capacity(8);
    all.push((NAME, name));
    all.extend(extra);
    for (name, value) in labels {
        // An empty value means that the label is not there; the family's own labels come first.
        if !value.is_empty() && !all.iter().any(|(known, _)| *known == name) {
            all.push((name, value));
        }
    }
    for (name, value) in external {
        if !all.iter().any(|(known, _)| known == name) {
            all.push((name, value));
        }
    }
    all.sort_unstable();
    all
}

impl<S: SeriesSink> Visitor for Flatten<S> {
    fn family(&mut self, name: &str, help: &str, kind: Kind) {
        self.names = ["", "_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}"));
        self.sink.family(name, help, kind);
    }

    fn sample(&mut self, labels: Labels<'_>, value: &Value) {
        match value {
            Value::Number(number) => self.number(0, None, labels, *number),
            Value::Summary(summary) => self.summary(labels, summary),
            Value::Histogram(histogram) => self.histogram(labels, histogram),
        }
    }
}
