//! Values of a mapping file: enumerations, durations, options of summaries and histograms.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

use super::MetricType;
use super::config::{Action, ObserverKind};
use super::file::Problem;
use crate::family::store::{HistogramOptions, SummaryOptions};
use crate::yaml::At;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileSummary {
    quantiles: Option<Vec<FileQuantile>>,
    max_age: Option<At<Span>>,
    age_buckets: Option<u32>,
    buf_cap: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileQuantile {
    quantile: At<f64>,
    #[serde(default)]
    error: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileHistogram {
    buckets: Option<Vec<f64>>,
    native_histogram_bucket_factor: Option<f64>,
    native_histogram_max_buckets: Option<u32>,
}

/// A text; plain YAML numbers and booleans count as what they look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// A duration: Go's text form, or a whole number of nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl Visitor<'_> for SpanVisitor {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as 1m20s")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Span, E> {
                common::config::duration(text).map(Span).map_err(E::custom)
            }
            fn visit_u64<E>(self, nanoseconds: u64) -> Result<Span, E> {
                Ok(Span(Duration::from_nanos(nanoseconds)))
            }
            fn visit_i64<E: serde::de::Error>(self, nanoseconds: i64) -> Result<Span, E> {
                u64::try_from(nanoseconds)
                    .map_err(|_| E::custom("a duration is not negative"))
                    .and_then(|n| self.visit_u64(n))
            }
        }
        deserializer.deserialize_any(SpanVisitor)
    }
}

impl Span {
    pub(super) fn milliseconds(self) -> u64 {
        u64::try_from(self.0.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

pub(super) fn refuse_contradiction(
    chosen: Option<ObserverKind>,
    summary: Option<&At<FileSummary>>,
    histogram: Option<&At<FileHistogram>>,
) -> Result<(), Problem> {
    let (line, what, options) = match (chosen, summary, histogram) {
        (Some(ObserverKind::Histogram), Some(options), _) => (options.line, "histogram", "summary_options"),
        (Some(ObserverKind::Summary), _, Some(options)) => (options.line, "summary", "histogram_options"),
        _ => return Ok(()),
    };
    Err(Problem { line: Some(line), reason: format!("{options}: the observer type is {what}") })
}

fn one_of<T: Copy>(key: &str, text: &At<Text>, known: &[(&str, T)]) -> Result<T, Problem> {
    let found = known.iter().find(|(word, _)| *word == text.value.0).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).filter(|word| !word.is_empty()).collect();
        let reason = format!("{key}: `{}` is none of {}", text.value.0, words.join(", "));
        Problem { line: Some(text.line), reason }
    })
}

pub(super) fn observer(text: &At<Text>) -> Result<Option<ObserverKind>, Problem> {
    let known =
        [("", None), ("summary", Some(ObserverKind::Summary)), ("histogram", Some(ObserverKind::Histogram))];
    one_of("observer_type", text, &known)
}

pub(super) fn match_type(text: &At<Text>) -> Result<Option<bool>, Problem> {
    one_of("match_type", text, &[("", None), ("glob", Some(false)), ("regex", Some(true))])
}

pub(super) fn metric_type(text: &At<Text>) -> Result<Option<MetricType>, Problem> {
    let known = [
        ("", None),
        ("counter", Some(MetricType::Counter)),
        ("gauge", Some(MetricType::Gauge)),
        ("observer", Some(MetricType::Observer)),
        // The word before `observer`, still read by the peer.
        ("timer", Some(MetricType::Observer)),
    ];
    one_of("match_metric_type", text, &known)
}

pub(super) fn action(text: &At<Text>) -> Result<Action, Problem> {
    one_of("action", text, &[("", Action::Map), ("map", Action::Map), ("drop", Action::Drop)])
}

pub(super) fn summary(raw: &At<FileSummary>, fallback: &SummaryOptions) -> Result<SummaryOptions, Problem> {
    let mut options = fallback.clone();
    if let Some(quantiles) = raw.value.quantiles.as_ref().filter(|quantiles| !quantiles.is_empty()) {
        options.quantiles.clear();
        for quantile in quantiles {
            let value = quantile.quantile.value;
            if !(0.0..=1.0).contains(&value) || !(0.0..=1.0).contains(&quantile.error) {
                let reason =
                    format!("quantiles: {value} with error {} is not within 0 and 1", quantile.error);
                return Err(Problem { line: Some(quantile.quantile.line), reason });
            }
            options.quantiles.retain(|(known, _)| *known != value);
            options.quantiles.push((value, quantile.error));
        }
        options.quantiles.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    if let Some(age) = raw.value.max_age.as_ref().filter(|age| !age.value.0.is_zero()) {
        options.max_age = age.value.0;
    }
    let positive = |value: Option<u32>| value.filter(|value| *value > 0);
    options.age_buckets = positive(raw.value.age_buckets).unwrap_or(options.age_buckets);
    options.buffer = positive(raw.value.buf_cap).map_or(options.buffer, |buffer| buffer as usize);
    if options.age_buckets > MAX_AGE_BUCKETS || options.buffer > MAX_BUFFER {
        let reason =
            format!("summary_options: at most {MAX_AGE_BUCKETS} age_buckets and a buf_cap of {MAX_BUFFER}");
        return Err(Problem { line: Some(raw.line), reason });
    }
    Ok(options)
}

const MAX_AGE_BUCKETS: u32 = 1000;
const MAX_BUFFER: usize = 1_000_000;
/// Classic buckets of one histogram.
const MAX_BUCKETS: usize = 10_000;

pub(super) fn histogram(
    raw: &At<FileHistogram>,
    fallback: &HistogramOptions,
) -> Result<HistogramOptions, Problem> {
    let mut options = fallback.clone();
    let fail =
        |reason: &str| Problem { line: Some(raw.line), reason: format!("histogram_options: {reason}") };
    if let Some(buckets) = raw.value.buckets.as_ref().filter(|buckets| !buckets.is_empty()) {
        options.buckets.clone_from(buckets);
        if options.buckets.last() == Some(&f64::INFINITY) {
            options.buckets.pop();
        }
        if !options.buckets.is_sorted_by(|a, b| a < b) || options.buckets.iter().any(|bound| bound.is_nan()) {
            return Err(fail("buckets must ascend"));
        }
        if options.buckets.len() > MAX_BUCKETS {
            return Err(fail(&format!("more than {MAX_BUCKETS} buckets")));
        }
    }
    let positive = |value: Option<f64>| value.filter(|value| *value > 0.0);
    options.native_factor =
        positive(raw.value.native_histogram_bucket_factor).unwrap_or(options.native_factor);
    let most = raw.value.native_histogram_max_buckets.filter(|most| *most > 0);
    options.native_max_buckets = most.unwrap_or(options.native_max_buckets);
    Ok(options)
}
