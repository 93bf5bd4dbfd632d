//! From a StatsD name to a family and its labels: the mapping file of `prometheus/statsd_exporter`, pure.
//!
//! Globs are tried before regular expressions, whatever their order in the file; see [`Mapping::find`].

mod cache;
mod config;
mod dot;
mod file;
mod glob;
mod lint;
mod options;
mod pattern;
mod template;
#[cfg(test)]
mod tests;

use std::sync::Arc;

#[doc(hidden)]
pub use cache::Cache;
pub use cache::Replacement;
pub use config::{Action, Defaults, ObserverKind, Rule};
pub use file::{MappingError, Problem};
pub use lint::{Finding, lint};

use glob::Globs;
use template::Template;

use crate::family::store::Behaviour;
use crate::statsd::Type;
use crate::statsd::escape::escape_name;

/// The types that `match_metric_type` tells apart.
///
/// ```
/// use metrics_adapter::mapping::MetricType;
/// use metrics_adapter::statsd::Type;
///
/// assert_eq!(MetricType::from(Type::Timer), MetricType::Observer);
/// assert_eq!(MetricType::Observer.as_str(), "observer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// `counter`
    Counter,
    /// `gauge` (and sets)
    Gauge,
    /// `observer`: timers, histograms, distributions
    Observer,
}

impl MetricType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Counter, Self::Gauge, Self::Observer];

    /// The word of the mapping file and of `events_total`.
    ///
    /// ```
    /// assert_eq!(metrics_adapter::mapping::MetricType::Gauge.as_str(), "gauge");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Observer => "observer",
        }
    }
}

impl From<Type> for MetricType {
    fn from(kind: Type) -> Self {
        match kind {
            Type::Counter => Self::Counter,
            Type::Gauge | Type::Set => Self::Gauge,
            Type::Timer | Type::Distribution => Self::Observer,
        }
    }
}

/// A mapping file, validated and compiled.
///
/// ```
/// use metrics_adapter::mapping::{Mapping, MetricType};
///
/// let mapping = Mapping::parse("mappings: [{match: 'shop.*.hits', name: hits, labels: {shop: $1}}]")?;
/// let mapped = mapping.find("shop.corner.hits", MetricType::Counter).unwrap();
/// assert_eq!((&*mapped.name, mapped.labels[0].1.as_str()), ("hits", "corner"));
/// # Ok::<(), metrics_adapter::mapping::Problem>(())
/// ```
#[derive(Debug)]
pub struct Mapping {
    /// What holds where a rule says nothing, and for names no rule matches.
    pub defaults: Defaults,
    /// The rules in the order of the file.
    pub rules: Vec<Rule>,
    globs: Globs,
    /// Rules with a regular expression, in the order of the file.
    patterns: Vec<usize>,
}

impl Default for Mapping {
    fn default() -> Self {
        Self {
            defaults: Defaults::default(),
            rules: Vec::new(),
            globs: Globs::new(false),
            patterns: Vec::new(),
        }
    }
}

/// What a rule makes of a name.
///
/// ```
/// use metrics_adapter::mapping::{Mapping, MetricType};
///
/// let mapping = Mapping::parse("mappings: [{match: 'a.*', name: '${1}_total'}]").unwrap();
/// let mapped = mapping.find("a.b", MetricType::Counter).unwrap();
/// assert_eq!((mapped.rule, &*mapped.name), (0, "b_total"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Index of the rule.
    pub rule: usize,
    /// Family name, escaped; empty when the template came out empty.
    pub name: Arc<str>,
    /// Labels of the rule, with their templates filled in.
    pub labels: Vec<(Arc<str>, String)>,
}

impl Mapping {
    /// Reads a mapping file's text.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    ///
    /// ```
    /// use metrics_adapter::mapping::Mapping;
    ///
    /// assert_eq!(Mapping::parse("mappings: []").unwrap().rules.len(), 0);
    /// ```
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let (defaults, rules) = file::read(text)?;
        Ok(Self::new(defaults, rules))
    }

    fn new(defaults: Defaults, rules: Vec<Rule>) -> Self {
        let mut globs = Globs::new(defaults.glob_disable_ordering);
        for (index, rule) in rules.iter().enumerate() {
            if let config::Matcher::Glob(glob) = &rule.matcher {
                globs.add(glob, rule.metric_type, index);
            }
        }
        globs.finish();
        let is_pattern = |rule: &Rule| matches!(rule.matcher, config::Matcher::Pattern(_));
        let patterns = rules.iter().enumerate().filter(|(_, rule)| is_pattern(rule)).map(|(index, _)| index);
        let patterns = patterns.collect();
        Self { defaults, rules, globs, patterns }
    }

    /// Finds the rule for a name and fills in its templates.
    ///
    /// Globs come first: the one earliest in the file, or with `glob_disable_ordering` the one with literals
    /// furthest to the left. Then regular expressions in the order of the file.
    ///
    /// ```
    /// use metrics_adapter::mapping::{Mapping, MetricType};
    ///
    /// assert_eq!(Mapping::default().find("hits", MetricType::Counter), None);
    /// ```
    #[must_use]
    pub fn find(&self, name: &str, kind: MetricType) -> Option<Mapped> {
        if let Some((rule, captures)) = self.globs.find(name, kind) {
            let expand = |template: &Template| template.fill(&captures);
            return Some(self.mapped(rule, expand));
        }
        for &index in &self.patterns {
            let rule = &self.rules[index];
            if rule.metric_type.is_some_and(|wanted| wanted != kind) {
                continue;
            }
            let config::Matcher::Pattern(pattern) = &rule.matcher else { continue };
            if let Some(captures) = pattern.captures(name) {
                let expand = |template: &Template| {
                    let mut out = String::new();
                    captures.expand(template.raw(), &mut out);
                    out
                };
                return Some(self.mapped(index, expand));
            }
        }
        None
    }

    fn mapped(&self, index: usize, expand: impl Fn(&Template) -> String) -> Mapped {
        let rule = &self.rules[index];
        let name = expand(&rule.name);
        let labels = rule.labels.iter().map(|(label, template)| (Arc::clone(label), expand(template)));
        Mapped { rule: index, name: escape_name(&name).into(), labels: labels.collect() }
    }

    /// How series of this type are kept, under a rule or without one.
    #[doc(hidden)]
    #[must_use]
    pub fn behaviour(&self, rule: Option<usize>, kind: Type, set_window: u64) -> Behaviour {
        let rule = rule.and_then(|index| self.rules.get(index));
        match kind {
            Type::Counter => Behaviour::Counter,
            Type::Gauge => Behaviour::Gauge,
            Type::Set => Behaviour::Set(set_window),
            Type::Timer | Type::Distribution => {
                match rule.map_or(self.defaults.observer, |rule| rule.observer) {
                    ObserverKind::Summary => Behaviour::Summary(Arc::clone(
                        rule.map_or(&self.defaults.summary, |rule| &rule.summary),
                    )),
                    ObserverKind::Histogram => Behaviour::Histogram(Arc::clone(
                        rule.map_or(&self.defaults.histogram, |rule| &rule.histogram),
                    )),
                }
            }
        }
    }

    /// The glob state machine in Graphviz' dot language.
    ///
    /// ```
    /// let mapping = metrics_adapter::mapping::Mapping::parse("mappings: [{match: 'a.*', name: a}]").unwrap();
    /// assert!(mapping.to_dot().starts_with("digraph"));
    /// ```
    #[must_use]
    pub fn to_dot(&self) -> String {
        dot::write(&self.globs, &self.rules)
    }
}
