//! Reading a configuration file: strict YAML, every problem with file, line, source and key.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::raw::{At, File, RawRelabel, RawSource, Scalar};
use super::{Gather, SourceOptions, build, limits};
use crate::family::normal::{Normal, is_label};
use crate::family::relabel::{Action, Relabel, anchored};
use crate::push::Target;
use crate::reader::template::Template;
use crate::rule::config::Text;
use crate::yaml;

/// Why a configuration cannot be used.
///
/// ```
/// use metrics_adapter::source::app::{Config, Options};
///
/// let error = Config::parse("sources: 1", "adapter.yaml".as_ref(), Options::default()).unwrap_err();
/// assert!(error.to_string().starts_with("adapter.yaml:1: "));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {reason}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, when known.
    pub line: Option<u64>,
    /// What is wrong, naming source and key.
    pub reason: String,
}

/// What the command line allows a configuration file to ask for.
///
/// ```
/// use metrics_adapter::source::app::Options;
///
/// assert!(!Options::default().allow_exec, "sources run no programs unless they may");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether sources may run programs.
    pub allow_exec: bool,
}

/// Sources that are ready to run.
///
/// ```
/// # use metrics_adapter::source::app::{Gather, Gathering, Reading};
/// # struct Orders;
/// # impl Gather for Orders {
/// #     fn gather(&self) -> Gathering<'_> {
/// #         Box::pin(async { Ok(Reading::default()) })
/// #     }
/// # }
/// use metrics_adapter::ListenAddr;
/// use metrics_adapter::source::app::{Config, Options, SourceOptions};
/// use std::sync::Arc;
///
/// let text = "sources: [{name: queue, type: prometheus, url: 'http://127.0.0.1:8080/metrics'}]";
/// let config = Config::parse(text, "adapter.yaml".as_ref(), Options::default())?
///     .listen(ListenAddr::loopback(9102))
///     .with_source(SourceOptions::new("orders", "own"), Arc::new(Orders));
/// assert!(config.sources().any(|source| source.name == "orders"));
/// # Ok::<(), metrics_adapter::source::app::ConfigError>(())
/// ```
#[derive(Clone, Default)]
pub struct Config {
    /// The file they came from, read again on a reload.
    pub(super) path: Option<PathBuf>,
    pub(super) options: Options,
    pub(super) sources: Vec<Source>,
    /// Where the page is pushed to.
    pub(super) push: Vec<Target>,
    /// Where the page is served; see [`Config::listen`].
    pub(super) web: super::run::Web,
}

/// One source of a configuration.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) options: SourceOptions,
    pub(super) gather: Arc<dyn Gather>,
    /// As written, to see whether a reload changes it. An embedder's source has none.
    pub(super) raw: Option<(Arc<RawSource>, Arc<Defaults>)>,
}

/// Keys of the file that hold for every source.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Defaults {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) interval: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) uniform: bool,
}

/// What is wrong, and in which line.
pub(super) struct Problem {
    pub(super) line: Option<u64>,
    pub(super) reason: String,
}

impl Problem {
    pub(super) fn at(line: u64, reason: impl Into<String>) -> Self {
        Self { line: (line > 0).then_some(line), reason: reason.into() }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.sources.iter().map(|source| &source.options.name);
        f.debug_struct("Config")
            .field("path", &self.path)
            .field("sources", &names.collect::<Vec<_>>())
            .finish()
    }
}

impl Config {
    /// Sources of an embedder alone; see [`Config::with_source`].
    ///
    /// ```
    /// assert_eq!(metrics_adapter::source::app::Config::new().sources().count(), 0);
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a configuration file. Nothing is connected to, listened on or run.
    ///
    /// # Errors
    /// It cannot be read, or something in it is wrong; the text names file, line, source and key.
    ///
    /// ```no_run
    /// use metrics_adapter::source::app::{Config, Options};
    ///
    /// let config = Config::load("adapter.yaml".as_ref(), Options::default())?;
    /// # Ok::<(), metrics_adapter::source::app::ConfigError>(())
    /// ```
    pub fn load(path: &Path, options: Options) -> Result<Self, ConfigError> {
        let fail = |line, reason| ConfigError { path: path.to_owned(), line, reason };
        let size = std::fs::metadata(path).map_err(|error| fail(None, error.to_string()))?.len();
        if size > limits::CONFIG_BYTES {
            let most = limits::CONFIG_BYTES;
            return Err(fail(None, format!("{size} bytes; a configuration has at most {most}")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| fail(None, error.to_string()))?;
        Self::parse(&text, path, options)
    }

    /// Reads a configuration's text; paths in it are relative to the directory of `path`.
    ///
    /// # Errors
    /// As [`Config::load`].
    ///
    /// ```
    /// use metrics_adapter::source::app::{Config, Options};
    ///
    /// let config = Config::parse("sources: [{type: nginx}]", "adapter.yaml".as_ref(), Options::default())?;
    /// # Ok::<(), metrics_adapter::source::app::ConfigError>(())
    /// ```
    pub fn parse(text: &str, path: &Path, options: Options) -> Result<Self, ConfigError> {
        let (sources, push) = read(text, path, &options).map_err(|problem| ConfigError {
            path: path.to_owned(),
            line: problem.line,
            reason: problem.reason,
        })?;
        Ok(Self { path: Some(path.to_owned()), options, sources, push, ..Self::default() })
    }

    /// Adds a source of the embedder's own.
    ///
    /// ```
    /// # use metrics_adapter::source::app::{Gather, Gathering, Reading};
    /// # struct Orders;
    /// # impl Gather for Orders {
    /// #     fn gather(&self) -> Gathering<'_> {
    /// #         Box::pin(async { Ok(Reading::default()) })
    /// #     }
    /// # }
    /// # use metrics_adapter::source::app::{Config, SourceOptions};
    /// let orders = std::sync::Arc::new(Orders);
    /// let config = Config::new().with_source(SourceOptions::new("orders", "own"), orders);
    /// assert_eq!(config.sources().count(), 1);
    /// ```
    #[must_use]
    pub fn with_source(mut self, options: SourceOptions, gather: Arc<dyn Gather>) -> Self {
        self.sources.push(Source { options, gather, raw: None });
        self
    }

    /// Serves the page at this address (`host:port`, `:port`) instead of `:9102`.
    ///
    /// ```
    /// use metrics_adapter::{ListenAddr, source::app::Config};
    ///
    /// let config = Config::new().listen(ListenAddr { host: String::new(), port: 9100 });
    /// ```
    #[must_use]
    pub fn listen(mut self, address: common::config::ListenAddr) -> Self {
        self.web.listen = address;
        self
    }

    /// Names and kinds of the sources.
    ///
    /// ```
    /// # use metrics_adapter::source::app::Config;
    /// for source in Config::new().sources() {
    ///     println!("{} ({})", source.name, source.kind);
    /// }
    /// ```
    pub fn sources(&self) -> impl Iterator<Item = &SourceOptions> {
        self.sources.iter().map(|source| &source.options)
    }
}

fn read(text: &str, path: &Path, options: &Options) -> Result<(Vec<Source>, Vec<Target>), Problem> {
    // `n` and `y` are names.
    let as_named = yaml::Options { strict_booleans: true, ..yaml::Options::default() };
    let file = yaml::from_str::<Option<File>>(text, as_named);
    let file = file.map_err(|error| unreadable(text, error))?.unwrap_or_default();
    let defaults = Arc::new(Defaults {
        labels: labels(file.labels.as_ref()).map_err(|(line, reason)| Problem::at(line, reason))?,
        interval: file.interval.as_ref().map(|text| span("interval", text)).transpose()?,
        timeout: file.timeout.as_ref().map(|text| span("timeout", text)).transpose()?,
        uniform: file.uniform_names,
    });
    let raws = file.sources.unwrap_or_default();
    if raws.is_empty() {
        return Err(Problem { line: None, reason: "sources: there is none".to_owned() });
    }
    if raws.len() > limits::SOURCES {
        return Err(Problem::at(raws[0].line, format!("sources: more than {}", limits::SOURCES)));
    }
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut names = HashSet::new();
    let mut sources = Vec::new();
    for raw in raws {
        let kind = raw.value.kind.as_ref().map(|kind| kind.value.0.clone());
        let name = raw.value.name.as_ref().map(|name| name.value.0.clone()).or(kind).unwrap_or_default();
        let within = |problem: Problem| Problem {
            line: problem.line.or((raw.line > 0).then_some(raw.line)),
            reason: format!("source `{name}`: {}", problem.reason),
        };
        if !names.insert(name.clone()) {
            let line = raw.value.name.as_ref().map_or(raw.line, |name| name.line);
            return Err(within(Problem::at(line, "name: another source has this name; give each its own")));
        }
        sources.push(source(&name, raw.value.clone(), &defaults, &base, options).map_err(within)?);
    }
    let push = file.push.unwrap_or_default();
    let push = push.iter().map(|raw| super::push::target(raw, &base)).collect::<Result<_, _>>()?;
    Ok((sources, push))
}

/// What the reader says, with the source it is about.
fn unreadable(text: &str, error: yaml::Error) -> Problem {
    let source = error.line.and_then(|line| source_at(text, line));
    let source = source.map(|name| format!("source `{name}`: ")).unwrap_or_default();
    Problem { line: error.line, reason: source + &error.reason }
}

/// The name of the source that a line belongs to, in a text that is wrong somewhere.
fn source_at(text: &str, line: u64) -> Option<String> {
    #[derive(Deserialize)]
    struct Outline {
        #[serde(default)]
        sources: Vec<At<Named>>,
    }
    #[derive(Deserialize)]
    struct Named {
        name: Option<Text>,
        #[serde(rename = "type")]
        kind: Option<Text>,
    }
    let outline = |text: &str| yaml::from_str::<Outline>(text, yaml::Options::default()).ok();
    let wrong = usize::try_from(line).ok()?;
    // What is no YAML at all may be up to there.
    let sound = || text.lines().take(wrong.saturating_sub(1)).collect::<Vec<_>>().join("\n");
    let sources = outline(text).or_else(|| outline(&sound()))?.sources;
    let source = sources.into_iter().rev().find(|source| source.line <= line)?;
    let first = usize::try_from(source.line).ok()?;
    let between = text.lines().take(wrong).skip(first);
    let left = between.clone().any(|line| line.starts_with(|c: char| c.is_alphabetic()));
    let name = source.value.name.or(source.value.kind)?.0;
    (!left).then_some(name)
}

fn source(
    name: &str,
    raw: RawSource,
    defaults: &Arc<Defaults>,
    base: &Path,
    context: &Options,
) -> Result<Source, Problem> {
    let Some(kind) = &raw.kind else {
        return Err(Problem { line: None, reason: "type: it has none".to_owned() });
    };
    let mut options = SourceOptions::new(name, kind.value.0.as_str());
    options.interval = match &raw.interval {
        Some(text) => Some(span("interval", text)?),
        None => defaults.interval,
    }
    .filter(|interval| !interval.is_zero());
    if let Some(timeout) =
        raw.timeout.as_ref().map(|text| span("timeout", text)).transpose()?.or(defaults.timeout)
    {
        if timeout.is_zero() {
            return Err(Problem::at(raw.timeout.as_ref().map_or(0, |text| text.line), "timeout: it is zero"));
        }
        options.timeout = timeout;
    }
    if let Some(most) = &raw.max_series {
        options.max_series = usize::try_from(most.value).unwrap_or(usize::MAX);
    }
    let own = labels(raw.labels.as_ref().map(|labels| &labels.value));
    let mut all = defaults.labels.clone();
    all.extend(own.map_err(|(line, reason)| Problem::at(line, reason))?);
    let rules = raw.relabel.as_ref().map(|rules| rules.value.as_slice()).unwrap_or_default();
    let relabel = rules.iter().map(relabel).collect::<Result<_, _>>()?;
    let uniform = raw.uniform_names.as_ref().map_or(defaults.uniform, |uniform| uniform.value);
    options.normal = Normal { labels: all.into_iter().collect(), relabel, uniform };
    let gather = build::build(&raw, &options, base, context)?;
    Ok(Source { options, gather, raw: Some((Arc::new(raw), Arc::clone(defaults))) })
}

fn labels(raw: Option<&BTreeMap<String, Scalar>>) -> Result<BTreeMap<String, String>, (u64, String)> {
    let mut found = BTreeMap::new();
    for (name, value) in raw.into_iter().flatten() {
        if !is_label(name) {
            return Err((value.line, format!("labels: `{name}` is no label name")));
        }
        found.insert(name.clone(), value.value.0.clone());
    }
    Ok(found)
}

/// A duration; the error names the key.
pub(super) fn span(key: &str, text: &Scalar) -> Result<Duration, Problem> {
    common::config::duration(&text.value).map_err(|reason| Problem::at(text.line, format!("{key}: {reason}")))
}

fn relabel(raw: &At<RawRelabel>) -> Result<Relabel, Problem> {
    let rule = &raw.value;
    let line = |text: &Option<Scalar>| text.as_ref().map_or(raw.line, |text| text.line);
    let word = rule.action.as_ref().map_or("replace", |action| &action.value.0).to_ascii_lowercase();
    let action = Action::ALL.into_iter().find(|(known, _)| *known == word).map(|(_, action)| action);
    let action = action.ok_or_else(|| {
        let known: Vec<&str> = Action::ALL.iter().map(|(known, _)| *known).collect();
        let reason = format!("relabel: action: `{word}` is none of {}", known.join(", "));
        Problem::at(line(&rule.action), reason)
    })?;
    let text = rule.regex.as_ref().map_or("(.*)", |regex| &regex.value.0);
    let regex = anchored(text)
        .map_err(|reason| Problem::at(line(&rule.regex), format!("relabel: regex: `{text}`: {reason}")))?;
    let target = rule.target_label.as_ref().map_or("", |target| &target.value.0);
    let writes = matches!(
        action,
        Action::Replace | Action::KeepEqual | Action::DropEqual | Action::Lowercase | Action::Uppercase
    );
    if writes && !is_label(target) && target != "__name__" && !target.starts_with("__tmp") {
        let reason = format!("relabel: target_label: `{target}` is no label name");
        return Err(Problem::at(line(&rule.target_label), reason));
    }
    let sources = rule.source_labels.as_ref().map(|labels| labels.value.as_slice()).unwrap_or_default();
    Ok(Relabel {
        source_labels: sources.iter().map(|label| label.value.0.clone()).collect(),
        separator: rule.separator.as_ref().map_or(";", |separator| &separator.value.0).to_owned(),
        regex,
        target_label: target.to_owned(),
        replacement: Template::new(rule.replacement.as_ref().map_or("$1", |text| &text.value.0)),
        action,
    })
}
