//! Reading a mapping file: strict YAML, every problem with its line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde::Deserialize;

use super::config::{Action, Defaults, Matcher, ObserverKind, Rule};
use super::options::{
    FileHistogram, FileSummary, Span, Text, action, histogram, match_type, metric_type, observer,
    refuse_contradiction, summary,
};
use super::template::Template;
use super::{glob, pattern};
use crate::family::store::{HistogramOptions, SummaryOptions};
use crate::yaml::At;

/// What is wrong with a mapping, and where.
///
/// ```
/// let problem = metrics_adapter::mapping::Mapping::parse("mappings: [{match: a}]").unwrap_err();
/// assert_eq!(problem.line, Some(1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", line.map(|line| format!("{line}: ")).unwrap_or_default())]
pub struct Problem {
    /// The line, from 1, when known.
    pub line: Option<u64>,
    /// What is wrong, naming the key.
    pub reason: String,
}

impl From<crate::yaml::Error> for Problem {
    fn from(error: crate::yaml::Error) -> Self {
        Self { line: error.line, reason: error.reason }
    }
}

/// A mapping file that could not be loaded.
///
/// ```
/// use metrics_adapter::mapping::{Mapping, MappingError};
///
/// let error = Mapping::load("/does/not/exist.yaml".as_ref()).unwrap_err();
/// assert!(matches!(error, MappingError::Read { .. }));
/// ```
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
    ///
    /// ```no_run
    /// let mapping = metrics_adapter::mapping::Mapping::load("mapping.yaml".as_ref())?;
    /// # Ok::<(), metrics_adapter::mapping::MappingError>(())
    /// ```
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
    observer_type: Option<At<Text>>,
    match_type: Option<At<Text>>,
    glob_disable_ordering: Option<bool>,
    ttl: Option<At<Span>>,
    summary_options: Option<At<FileSummary>>,
    histogram_options: Option<At<FileHistogram>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    #[serde(rename = "match")]
    text: Option<At<Text>>,
    name: Option<At<Text>>,
    labels: Option<BTreeMap<At<Text>, Text>>,
    match_type: Option<At<Text>>,
    match_metric_type: Option<At<Text>>,
    action: Option<At<Text>>,
    help: Option<Text>,
    observer_type: Option<At<Text>>,
    summary_options: Option<At<FileSummary>>,
    histogram_options: Option<At<FileHistogram>>,
    ttl: Option<At<Span>>,
    scale: Option<f64>,
    honor_labels: Option<bool>,
}

static NAME: LazyLock<Regex> = LazyLock::new(|| {
    let reference = r"\$\{?[0-9]+\}?";
    let pattern = format!("^([a-zA-Z_]|{reference})([a-zA-Z0-9_]|{reference})*$");
    Regex::new(&pattern).expect("a constant pattern")
});

/// Reads and checks a mapping file's text.
pub(super) fn read(text: &str) -> Result<(Defaults, Vec<Rule>), Problem> {
    let file = crate::yaml::from_str::<Option<File>>(text, crate::yaml::Options::default())?;
    let file = file.unwrap_or_default();
    let raw = file.defaults.unwrap_or_default();
    let (defaults, fallbacks) = defaults(&raw)?;
    let rules = file.mappings.unwrap_or_default().into_iter().enumerate();
    let rules: Vec<Rule> =
        rules.map(|(index, raw)| rule(index, raw, &fallbacks, &defaults)).collect::<Result<_, _>>()?;
    refuse_many_components(&rules)?;
    Ok((defaults, rules))
}

/// Components of all globs together. Each becomes a node of the tree of every type, of some hundred bytes.
const MAX_COMPONENTS: usize = 300_000;

fn refuse_many_components(rules: &[Rule]) -> Result<(), Problem> {
    let mut components = 0;
    for rule in rules {
        if let Matcher::Glob(glob) = &rule.matcher {
            components += glob.split('.').count();
        }
        if components > MAX_COMPONENTS {
            let reason = format!("match: more than {MAX_COMPONENTS} components in all globs together");
            return Err(Problem { line: Some(rule.line), reason });
        }
    }
    Ok(())
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
    let line = raw.text.as_ref().or(raw.name.as_ref()).map(|text| text.line);
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
        return Err(fail(Some(name.line), reason));
    }
    let is_pattern =
        raw.match_type.as_ref().map(match_type).transpose()?.flatten().unwrap_or(fallbacks.pattern);
    let matcher = matcher(&text, is_pattern)?;
    let stars = match &matcher {
        Matcher::Glob(glob) => glob.split('.').filter(|component| *component == "*").count(),
        Matcher::Pattern(_) => 0,
    };
    let labels =
        raw.labels.unwrap_or_default().into_iter().map(|(label, value)| match is_label(&label.value.0) {
            true => Ok((label.value.0.as_str().into(), Template::new(&value.0, stars))),
            false => {
                let reason =
                    format!("labels: `{}` is no label name of two or more characters", label.value.0);
                Err(fail(Some(label.line), reason))
            }
        });
    let chosen = raw.observer_type.as_ref().map(observer).transpose()?.flatten().or(fallbacks.observer);
    refuse_contradiction(chosen, raw.summary_options.as_ref(), raw.histogram_options.as_ref())?;
    Ok(Rule {
        line: text.line,
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

fn matcher(text: &At<Text>, is_pattern: bool) -> Result<Matcher, Problem> {
    let fail = |reason: String| Problem { line: Some(text.line), reason };
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
