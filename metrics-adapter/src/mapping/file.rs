//! Reading a mapping file: strict YAML, every problem with its line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use regex::Regex;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_saphyr::Spanned;

use super::config::{Action, Defaults, Matcher, ObserverKind, Rule};
use super::template::Template;
use super::{MetricType, glob, pattern};
use crate::family::store::{HistogramOptions, SummaryOptions};

/// What is wrong with a mapping, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", line.map(|line| format!("{line}: ")).unwrap_or_default())]
pub struct Problem {
    /// The line, from 1, when known.
    pub line: Option<u64>,
    /// What is wrong, naming the key.
    pub reason: String,
}

/// A mapping file that could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// It could not be read.
    #[error("cannot read the mapping file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is larger than any mapping should be.
    #[error("{}: {size} bytes; a mapping file has at most {limit}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// It is not valid.
    #[error("{}:{problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// Largest mapping file that is read.
const MAX_BYTES: u64 = 16 << 20;

impl super::Mapping {
    /// Reads a mapping file.
    ///
    /// # Errors
    /// It cannot be read, is over 16 MiB, or is not valid; the text names file and line.
    pub fn load(path: &Path) -> Result<Self, MappingError> {
        let read = |source| MappingError::Read { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > MAX_BYTES {
            return Err(MappingError::TooLarge { path: path.to_owned(), size, limit: MAX_BYTES });
        }
        let bytes = std::fs::read(path).map_err(read)?;
        let invalid = |problem| MappingError::Invalid { path: path.to_owned(), problem };
        let text = String::from_utf8(bytes).map_err(|error| {
            let line =
                memchr::memchr_iter(b'\n', &error.as_bytes()[..error.utf8_error().valid_up_to()]).count();
            invalid(Problem { line: Some(line as u64 + 1), reason: "not UTF-8".to_owned() })
        })?;
        Self::parse(&text).map_err(invalid)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    defaults: Option<FileDefaults>,
    mappings: Option<Vec<FileRule>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileDefaults {
    observer_type: Option<Spanned<Text>>,
    match_type: Option<Spanned<Text>>,
    glob_disable_ordering: Option<bool>,
    ttl: Option<Spanned<Span>>,
    summary_options: Option<Spanned<FileSummary>>,
    histogram_options: Option<Spanned<FileHistogram>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileSummary {
    quantiles: Option<Vec<FileQuantile>>,
    max_age: Option<Spanned<Span>>,
    age_buckets: Option<u32>,
    buf_cap: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileQuantile {
    quantile: Spanned<f64>,
    #[serde(default)]
    error: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileHistogram {
    buckets: Option<Vec<f64>>,
    native_histogram_bucket_factor: Option<f64>,
    native_histogram_max_buckets: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    #[serde(rename = "match")]
    text: Option<Spanned<Text>>,
    name: Option<Spanned<Text>>,
    labels: Option<BTreeMap<Spanned2, Text>>,
    match_type: Option<Spanned<Text>>,
    match_metric_type: Option<Spanned<Text>>,
    action: Option<Spanned<Text>>,
    help: Option<Text>,
    observer_type: Option<Spanned<Text>>,
    summary_options: Option<Spanned<FileSummary>>,
    histogram_options: Option<Spanned<FileHistogram>>,
    ttl: Option<Spanned<Span>>,
    scale: Option<f64>,
    honor_labels: Option<bool>,
}

/// A text; plain YAML numbers and booleans count as what they look like.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// A map key that remembers its line.
#[derive(Debug)]
struct Spanned2(Spanned<Text>);

impl<'de> Deserialize<'de> for Spanned2 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::deserialize(deserializer).map(Self)
    }
}

impl PartialEq for Spanned2 {
    fn eq(&self, other: &Self) -> bool {
        self.0.value == other.0.value
    }
}

impl Eq for Spanned2 {}

impl PartialOrd for Spanned2 {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Spanned2 {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.value.cmp(&other.0.value)
    }
}

/// A duration: Go's text form, or a whole number of nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Span(Duration);

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
    fn milliseconds(self) -> u64 {
        u64::try_from(self.0.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

static NAME: LazyLock<Regex> = LazyLock::new(|| {
    let reference = r"\$\{?[0-9]+\}?";
    let pattern = format!("^([a-zA-Z_]|{reference})([a-zA-Z0-9_]|{reference})*$");
    Regex::new(&pattern).expect("a constant pattern")
});

/// Reads and checks a mapping file's text.
pub(super) fn read(text: &str) -> Result<(Defaults, Vec<Rule>), Problem> {
    let options = serde_saphyr::options! { with_snippet: false };
    let file = serde_saphyr::from_str_with_options::<Option<File>>(text, options).map_err(|error| {
        let reason = unknown_key(&error).unwrap_or_else(|| {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().to_owned()
        });
        Problem { line: error.location().map(|at| at.line()), reason }
    })?;
    let file = file.unwrap_or_default();
    let raw = file.defaults.unwrap_or_default();
    let (defaults, fallbacks) = defaults(&raw)?;
    let rules = file.mappings.unwrap_or_default().into_iter().enumerate();
    let rules =
        rules.map(|(index, raw)| rule(index, raw, &fallbacks, &defaults)).collect::<Result<_, _>>()?;
    Ok((defaults, rules))
}

fn unknown_key(error: &serde_saphyr::Error) -> Option<String> {
    let serde_saphyr::Error::SerdeUnknownField { field, expected, .. } = error.without_snippet() else {
        return None;
    };
    let nearest = common::config::nearest(field, expected.iter().copied());
    let hint = nearest.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
    Some(format!("unknown key `{field}`{hint}"))
}

/// Defaults that only matter while reading rules.
struct Fallbacks {
    pattern: bool,
    /// `None` when the file does not say.
    observer: Option<ObserverKind>,
}

fn defaults(raw: &FileDefaults) -> Result<(Defaults, Fallbacks), Problem> {
    let observer = raw.observer_type.as_ref().map(observer).transpose()?.flatten();
    let summary = match &raw.summary_options {
        Some(options) => Arc::new(summary(options, &SummaryOptions::default())?),
        None => Arc::default(),
    };
    let histogram = match &raw.histogram_options {
        Some(options) => Arc::new(histogram(options, &HistogramOptions::default())?),
        None => Arc::default(),
    };
    let defaults = Defaults {
        observer: observer.unwrap_or_default(),
        glob_disable_ordering: raw.glob_disable_ordering.unwrap_or_default(),
        ttl: raw.ttl.as_ref().map_or(0, |ttl| ttl.value.milliseconds()),
        summary,
        histogram,
    };
    let pattern = raw.match_type.as_ref().map(match_type).transpose()?.flatten().unwrap_or(false);
    Ok((defaults, Fallbacks { pattern, observer }))
}

fn rule(index: usize, raw: FileRule, fallbacks: &Fallbacks, defaults: &Defaults) -> Result<Rule, Problem> {
    let line = raw.text.as_ref().or(raw.name.as_ref()).map(|text| text.referenced.line());
    let fail = |line: Option<u64>, reason: String| Problem { line, reason };
    let Some(text) = raw.text else {
        return Err(fail(line, format!("mapping {} has no `match`", index + 1)));
    };
    let Some(name) = raw.name.filter(|name| !name.value.0.is_empty()) else {
        return Err(fail(line, format!("name: the mapping of `{}` has none", text.value.0)));
    };
    if !NAME.is_match(&name.value.0) {
        let reason = format!(
            "name: `{}` is no metric name (letters, digits, `_`, references such as $1)",
            name.value.0
        );
        return Err(fail(Some(name.referenced.line()), reason));
    }
    let is_pattern =
        raw.match_type.as_ref().map(match_type).transpose()?.flatten().unwrap_or(fallbacks.pattern);
    let matcher = matcher(&text, is_pattern)?;
    let stars = match &matcher {
        Matcher::Glob(glob) => glob.split('.').filter(|component| *component == "*").count(),
        Matcher::Pattern(_) => 0,
    };
    let labels = raw.labels.unwrap_or_default().into_iter().map(|(label, value)| {
        let label = label.0;
        match is_label(&label.value.0) {
            true => Ok((label.value.0.as_str().into(), Template::new(&value.0, stars))),
            false => {
                let reason =
                    format!("labels: `{}` is no label name of two or more characters", label.value.0);
                Err(fail(Some(label.referenced.line()), reason))
            }
        }
    });
    let chosen = raw.observer_type.as_ref().map(observer).transpose()?.flatten().or(fallbacks.observer);
    refuse_contradiction(chosen, raw.summary_options.as_ref(), raw.histogram_options.as_ref())?;
    Ok(Rule {
        line: text.referenced.line(),
        name: Template::new(&name.value.0, stars),
        labels: labels.collect::<Result<_, _>>()?,
        metric_type: raw.match_metric_type.as_ref().map(metric_type).transpose()?.flatten(),
        action: raw.action.as_ref().map(action).transpose()?.unwrap_or(Action::Map),
        help: raw.help.filter(|help| !help.0.is_empty()).map(|help| help.0.into()),
        scale: raw.scale,
        honor_labels: raw.honor_labels.unwrap_or_default(),
        ttl: raw.ttl.map(|ttl| ttl.value.milliseconds()).filter(|ttl| *ttl > 0).unwrap_or(defaults.ttl),
        observer: chosen.unwrap_or_default(),
        summary: match &raw.summary_options {
            Some(options) => Arc::new(summary(options, &defaults.summary)?),
            None => Arc::clone(&defaults.summary),
        },
        histogram: match &raw.histogram_options {
            Some(options) => Arc::new(histogram(options, &defaults.histogram)?),
            None => Arc::clone(&defaults.histogram),
        },
        text: text.value.0,
        matcher,
    })
}

fn matcher(text: &Spanned<Text>, is_pattern: bool) -> Result<Matcher, Problem> {
    let fail = |reason: String| Problem { line: Some(text.referenced.line()), reason };
    if is_pattern {
        let compiled = pattern::compile(&text.value.0).map_err(|reason| fail(format!("match: {reason}")))?;
        return Ok(Matcher::Pattern(Box::new(compiled)));
    }
    if !glob::is_glob(&text.value.0) {
        let hint = "components of letters, digits, `_`, `-`, or a whole `*`, separated by dots";
        return Err(fail(format!("match: `{}` is no glob ({hint})", text.value.0)));
    }
    Ok(Matcher::Glob(text.value.0.clone()))
}

/// The peer asks for two characters; and a name that Prometheus reserves would fail the whole page.
fn is_label(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.len() > 1
        && name.bytes().all(plain)
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.starts_with("__")
}

fn refuse_contradiction(
    chosen: Option<ObserverKind>,
    summary: Option<&Spanned<FileSummary>>,
    histogram: Option<&Spanned<FileHistogram>>,
) -> Result<(), Problem> {
    let (line, what, options) = match (chosen, summary, histogram) {
        (Some(ObserverKind::Histogram), Some(options), _) => {
            (options.referenced.line(), "histogram", "summary_options")
        }
        (Some(ObserverKind::Summary), _, Some(options)) => {
            (options.referenced.line(), "summary", "histogram_options")
        }
        _ => return Ok(()),
    };
    Err(Problem { line: Some(line), reason: format!("{options}: the observer type is {what}") })
}

fn one_of<T: Copy>(key: &str, text: &Spanned<Text>, known: &[(&str, T)]) -> Result<T, Problem> {
    let found = known.iter().find(|(word, _)| *word == text.value.0).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).filter(|word| !word.is_empty()).collect();
        let reason = format!("{key}: `{}` is none of {}", text.value.0, words.join(", "));
        Problem { line: Some(text.referenced.line()), reason }
    })
}

fn observer(text: &Spanned<Text>) -> Result<Option<ObserverKind>, Problem> {
    let known =
        [("", None), ("summary", Some(ObserverKind::Summary)), ("histogram", Some(ObserverKind::Histogram))];
    one_of("observer_type", text, &known)
}

fn match_type(text: &Spanned<Text>) -> Result<Option<bool>, Problem> {
    one_of("match_type", text, &[("", None), ("glob", Some(false)), ("regex", Some(true))])
}

fn metric_type(text: &Spanned<Text>) -> Result<Option<MetricType>, Problem> {
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

fn action(text: &Spanned<Text>) -> Result<Action, Problem> {
    one_of("action", text, &[("", Action::Map), ("map", Action::Map), ("drop", Action::Drop)])
}

fn summary(raw: &Spanned<FileSummary>, fallback: &SummaryOptions) -> Result<SummaryOptions, Problem> {
    let mut options = fallback.clone();
    if let Some(quantiles) = raw.value.quantiles.as_ref().filter(|quantiles| !quantiles.is_empty()) {
        options.quantiles.clear();
        for quantile in quantiles {
            let value = quantile.quantile.value;
            if !(0.0..=1.0).contains(&value) || !(0.0..=1.0).contains(&quantile.error) {
                let reason =
                    format!("quantiles: {value} with error {} is not within 0 and 1", quantile.error);
                return Err(Problem { line: Some(quantile.quantile.referenced.line()), reason });
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
        return Err(Problem { line: Some(raw.referenced.line()), reason });
    }
    Ok(options)
}

const MAX_AGE_BUCKETS: u32 = 1000;
const MAX_BUFFER: usize = 1_000_000;
/// Classic buckets of one histogram.
const MAX_BUCKETS: usize = 10_000;

fn histogram(raw: &Spanned<FileHistogram>, fallback: &HistogramOptions) -> Result<HistogramOptions, Problem> {
    let mut options = fallback.clone();
    let fail = |reason: &str| Problem {
        line: Some(raw.referenced.line()),
        reason: format!("histogram_options: {reason}"),
    };
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
