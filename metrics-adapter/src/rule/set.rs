//! The rules of one configuration, compiled, and what they make of a leaf.

use std::collections::HashSet;
use std::fmt::Write as _;

use regex::{RegexSet, RegexSetBuilder};
use regex_automata::hybrid::dfa::Cache;
use thiserror::Error;

use super::config::{RuleConfig, TextExport};
use super::java_regex::{Captures, Exhausted, JavaRegex, PatternError};
use super::leaf::{Leaf, LeafValue};
use super::name::{safe, snake_case};
use super::steady::Judge;
use super::template::{Template, TemplateError};
use crate::family::Kind;

/// Switches that concern all rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// Metric names are lower-cased.
    pub lowercase_names: bool,
    /// Label names are lower-cased.
    pub lowercase_labels: bool,
    /// A name that ends in `_total` is a counter.
    pub infer_counters: bool,
}

/// A rule that cannot be used.
#[derive(Debug, Error)]
#[error("rule {number}: {cause}")]
pub struct RuleError {
    /// Position among the rules, from 1.
    pub number: usize,
    /// What is wrong with it.
    #[source]
    pub cause: RuleProblem,
}

/// What is wrong with a rule.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RuleProblem {
    /// The pattern does not compile.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// `help` or `labels` without a `name`, or a `name` or `value` without a `pattern`.
    #[error("{0}")]
    Incomplete(&'static str),
}

/// A rule that matched but could not be carried out.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplyError {
    /// A replacement of the rule is malformed, or refers to a group that its pattern does not have.
    #[error("rule {number}: {source}")]
    Template {
        /// Position among the rules, from 1.
        number: usize,
        /// What is wrong with it.
        source: TemplateError,
    },
    /// The pattern took too many steps.
    #[error("rule {number}: {source}")]
    Exhausted {
        /// Position among the rules, from 1.
        number: usize,
        /// The pattern and the text.
        source: Exhausted,
    },
}

/// A leaf that became a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Matched {
    /// Metric name before the suffix rules of the client library.
    pub name: String,
    /// Help text.
    pub help: String,
    /// Counter, gauge or untyped.
    pub kind: Kind,
    /// Label names and values.
    pub labels: Vec<(String, String)>,
    /// The sample's value.
    pub value: f64,
}

/// What became of a leaf.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// No rule matched.
    Unmatched,
    /// The rule of this index matched and yields nothing.
    Nothing(usize),
    /// The rule of this index yields a sample.
    Sample(usize, Matched),
}

/// Compiled rules in order.
#[derive(Debug)]
pub struct RuleSet {
    rules: Vec<Rule>,
    naming: Naming,
    /// Unanchored forms of all patterns that automata can run, to find candidates in one pass.
    filter: Option<RegexSet>,
    /// Rule index of each pattern in `filter`.
    filtered: Vec<usize>,
    /// Knows which patterns cannot tell values apart.
    judge: Option<Judge>,
}

/// What [`RuleSet::steady`] has learnt; one for each thread of work.
#[derive(Debug)]
pub struct Learnt(Option<Cache>);

/// The outcome of a number or boolean, whatever its value.
#[derive(Clone, Debug, PartialEq)]
pub enum Steady {
    /// No rule matches.
    Unmatched,
    /// The rule of this index matches and yields nothing.
    Nothing(usize),
    /// The rule of this index yields this sample; with a factor, its value is the leaf's times that.
    Sample(usize, Matched, Option<f64>),
}

#[derive(Debug)]
struct Rule {
    pattern: Option<JavaRegex>,
    name: Option<Replacement>,
    value: Option<Replacement>,
    value_factor: f64,
    labels: Vec<(Replacement, Replacement)>,
    help: Option<Replacement>,
    kind: Kind,
    snake_case: bool,
    cache: bool,
    drop: bool,
    info: bool,
}

/// A template, or why it cannot be expanded; that is only an error once its rule matches.
type Replacement = Result<Template, TemplateError>;

impl RuleSet {
    /// Compiles rules.
    ///
    /// # Errors
    /// A pattern cannot be compiled, or a rule lacks what the peer insists on.
    pub fn new(configs: &[RuleConfig], naming: Naming) -> Result<Self, RuleError> {
        let mut rules = Vec::with_capacity(configs.len());
        for (index, config) in configs.iter().enumerate() {
            rules.push(Rule::new(config).map_err(|cause| RuleError { number: index + 1, cause })?);
        }
        let (filter, filtered) = filter(&rules);
        let judge = judge(&rules);
        Ok(Self { rules, naming, filter, filtered, judge })
    }

    /// The rules of a configuration that has none: everything under its default name.
    #[must_use]
    pub fn default_rules(naming: Naming) -> Self {
        let rule = Rule {
            pattern: None,
            name: None,
            value: None,
            value_factor: 1.0,
            labels: Vec::new(),
            help: None,
            kind: Kind::Untyped,
            snake_case: false,
            cache: false,
            drop: false,
            info: false,
        };
        Self { rules: vec![rule], naming, filter: None, filtered: Vec::new(), judge: None }
    }

    /// How many rules there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there are none, so that nothing is exported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The pattern of a rule, if it has one.
    #[must_use]
    pub fn pattern(&self, index: usize) -> Option<&str> {
        self.rules.get(index)?.pattern.as_ref().map(JavaRegex::pattern)
    }

    /// Whether any rule could turn a text into a sample.
    #[must_use]
    pub fn uses_texts(&self) -> bool {
        self.rules.iter().any(|rule| rule.value.is_some() || rule.info)
    }

    /// The translated patterns of all rules, if all of them have one that automata can run on the plain input.
    pub(super) fn linear_sources(&self) -> Option<Vec<&str>> {
        self.rules
            .iter()
            .map(|rule| rule.pattern.as_ref().filter(|_| rule.sees_plain_input())?.linear())
            .collect()
    }

    /// Applies the first rule that matches.
    ///
    /// # Errors
    /// That rule cannot be carried out; the leaf yields nothing.
    pub fn apply(&self, leaf: &Leaf<'_>, extra_labels: &[(String, String)]) -> Result<Outcome, ApplyError> {
        let mut texts = Texts { leaf, forms: [None, None, None, None] };
        let candidates = self.filter.as_ref().map(|filter| filter.matches(texts.plain()));
        let mut next_filtered = 0;
        for (index, rule) in self.rules.iter().enumerate() {
            if self.filtered.get(next_filtered) == Some(&index) {
                next_filtered += 1;
                if candidates.as_ref().is_some_and(|found| !found.matched(next_filtered - 1)) {
                    continue;
                }
            }
            let captures = match &rule.pattern {
                None => None,
                Some(pattern) => {
                    let text = texts.of(rule.snake_case, rule.cache);
                    let found = pattern
                        .captures(text)
                        .map_err(|source| ApplyError::Exhausted { number: index + 1, source })?;
                    let Some(captures) = found else { continue };
                    Some(captures)
                }
            };
            let made = self.carry_out(rule, leaf, captures.as_ref(), extra_labels);
            return match made {
                Ok(Some(matched)) => Ok(Outcome::Sample(index, matched)),
                Ok(None) => Ok(Outcome::Nothing(index)),
                Err(source) => Err(ApplyError::Template { number: index + 1, source }),
            };
        }
        Ok(Outcome::Unmatched)
    }

    /// Room for what [`RuleSet::steady`] learns.
    #[must_use]
    pub fn learnt(&self) -> Learnt {
        Learnt(self.judge.as_ref().map(Judge::cache))
    }

    /// The outcome of this leaf, a number or a boolean, if it is the same for every value. `None` also when
    /// it cannot be told, or a rule cannot be carried out.
    pub fn steady(&self, leaf: &Leaf<'_>, learnt: &mut Learnt) -> Option<Steady> {
        let mut texts = Texts { leaf, forms: [None, None, None, None] };
        let mut blind: [Option<HashSet<usize>>; 2] = [None, None];
        for (index, rule) in self.rules.iter().enumerate() {
            let captures = match &rule.pattern {
                None => None,
                Some(pattern) => {
                    if !rule.cache {
                        let known = &mut blind[usize::from(rule.snake_case)];
                        if known.is_none() {
                            let mut input = String::with_capacity(128);
                            write_input(&mut input, leaf, rule.snake_case);
                            input.push_str(": ");
                            *known = self.judge.as_ref()?.blind(learnt.0.as_mut()?, &input);
                        }
                        if !known.as_ref()?.contains(&index) {
                            return None;
                        }
                    }
                    let Some(captures) = pattern.captures(texts.of(rule.snake_case, rule.cache)).ok()? else {
                        continue;
                    };
                    Some(captures)
                }
            };
            let factor = rule.value.is_none().then_some(rule.value_factor);
            return match self.carry_out(rule, leaf, captures.as_ref(), &[]).ok()? {
                Some(matched) => Some(Steady::Sample(index, matched, factor)),
                None => Some(Steady::Nothing(index)),
            };
        }
        Some(Steady::Unmatched)
    }

    fn carry_out(
        &self,
        rule: &Rule,
        leaf: &Leaf<'_>,
        captures: Option<&Captures<'_>>,
        extra_labels: &[(String, String)],
    ) -> Result<Option<Matched>, TemplateError> {
        if rule.drop {
            return Ok(None);
        }
        let mut labels = extra_labels.to_vec();
        let value = match &rule.value {
            Some(template) => {
                let Some(value) = java_double(&expand(template, captures)?) else { return Ok(None) };
                value * rule.value_factor
            }
            None => match (leaf.value.sample(rule.value_factor), leaf.value) {
                (Some(value), _) => value,
                (None, LeafValue::Text(text)) if rule.info => {
                    labels.push(("value".to_owned(), text.to_owned()));
                    1.0
                }
                _ => return Ok(None),
            },
        };
        let name = match &rule.name {
            None => return Ok(Some(self.default_export(rule, leaf, labels, value))),
            Some(template) => self.metric_name(&safe(&expand(template, captures)?)),
        };
        if name.is_empty() {
            return Ok(None);
        }
        let help = match &rule.help {
            Some(template) => expand(template, captures)?,
            None => default_help(leaf),
        };
        for (key, template) in &rule.labels {
            let key = self.label_name(&safe(&expand(key, captures)?));
            let value = expand(template, captures)?;
            if !key.is_empty() && !value.is_empty() {
                set_label(&mut labels, key, value);
            }
        }
        let kind = self.kind(rule.kind, &name);
        Ok(Some(Matched { name, help, kind, labels, value }))
    }

    fn default_export(
        &self,
        rule: &Rule,
        leaf: &Leaf<'_>,
        mut labels: Vec<(String, String)>,
        value: f64,
    ) -> Matched {
        let mut name = leaf.domain.to_owned();
        let mut properties = leaf.properties.iter();
        let first = properties.next().map(|(_, value)| value.as_str());
        for part in first.into_iter().chain(leaf.path.iter().copied()) {
            name.push('_');
            name.push_str(part);
        }
        name.push('_');
        if rule.snake_case {
            name.push_str(&snake_case(leaf.name));
        } else {
            name.push_str(leaf.name);
        }
        let name = self.metric_name(&safe(&name));
        for (key, value) in properties {
            set_label(&mut labels, self.label_name(&safe(key)), value.clone());
        }
        let kind = self.kind(rule.kind, &name);
        Matched { help: default_help(leaf), kind, name, labels, value }
    }

    fn metric_name(&self, name: &str) -> String {
        if self.naming.lowercase_names { name.to_lowercase() } else { name.to_owned() }
    }

    /// A label name as this configuration wants it, from one that is safe as a metric name.
    #[must_use]
    pub fn label_name(&self, name: &str) -> String {
        // A colon is legal in metric names only.
        let name = name.replace(':', "_");
        if self.naming.lowercase_labels { name.to_lowercase() } else { name }
    }

    fn kind(&self, configured: Kind, name: &str) -> Kind {
        if self.naming.infer_counters && name.ends_with("_total") { Kind::Counter } else { configured }
    }
}

impl Rule {
    fn new(config: &RuleConfig) -> Result<Self, RuleProblem> {
        if config.name.is_none() && (config.help.is_some() || config.labels.is_some()) {
            return Err(RuleProblem::Incomplete("`name` is needed with `help` or `labels`"));
        }
        // An empty one is none, unlike one of nothing (`value:`).
        let value = config.value.as_deref().filter(|value| !value.is_empty());
        if config.pattern.is_none() && (config.name.is_some() || value.is_some()) {
            return Err(RuleProblem::Incomplete("`pattern` is needed with `name` or `value`"));
        }
        let pattern = config.pattern.as_deref().map(JavaRegex::new).transpose()?;
        let (groups, names) = pattern.as_ref().map_or((0, &[][..]), |p| (p.groups(), p.names()));
        let parse = |text: &str| Template::parse(text, groups, names);
        Ok(Self {
            name: config.name.as_deref().map(parse),
            value: value.map(parse),
            value_factor: config.value_factor.unwrap_or(1.0),
            labels: config.labels.iter().flatten().map(|(key, value)| (parse(key), parse(value))).collect(),
            help: config.help.as_deref().map(parse),
            kind: match config.kind.as_deref() {
                Some("COUNTER") => Kind::Counter,
                Some("GAUGE") => Kind::Gauge,
                _ => Kind::Untyped,
            },
            snake_case: config.attr_name_snake_case,
            cache: config.cache,
            drop: config.drop,
            info: config.text == Some(TextExport::Info),
            pattern,
        })
    }

    fn sees_plain_input(&self) -> bool {
        !self.snake_case && !self.cache
    }
}

fn judge(rules: &[Rule]) -> Option<Judge> {
    let linear = |(index, rule): (usize, &Rule)| Some((index, rule.pattern.as_ref()?.linear()?.to_owned()));
    let sources: Vec<(usize, String)> = rules.iter().enumerate().filter_map(linear).collect();
    let sources: Vec<(usize, &str)> =
        sources.iter().map(|(index, source)| (*index, source.as_str())).collect();
    Judge::new(&sources)
}

/// Automata for all rules at once; without them every rule is tried in turn.
fn filter(rules: &[Rule]) -> (Option<RegexSet>, Vec<usize>) {
    let linear = |rule: &Rule| rule.pattern.as_ref()?.linear().map(|source| format!("(?:{source})"));
    let usable = rules.iter().enumerate().filter(|(_, rule)| rule.sees_plain_input());
    let (indexes, sources): (Vec<usize>, Vec<String>) =
        usable.filter_map(|(index, rule)| Some((index, linear(rule)?))).unzip();
    if sources.is_empty() {
        return (None, Vec::new());
    }
    // A match of the wrapped pattern contains a match of the bare one, but anchors refer to the wrapper.
    let sources = sources.iter().map(|source| format!(r"\A.*{source}.*\z"));
    let set = RegexSetBuilder::new(sources).dot_matches_new_line(true).size_limit(64 << 20).build();
    match set {
        Ok(set) => (Some(set), indexes),
        Err(_) => (None, Vec::new()),
    }
}

/// The rule input in its forms, each made when first needed.
struct Texts<'l> {
    leaf: &'l Leaf<'l>,
    forms: [Option<String>; 4],
}

impl<'l> Texts<'l> {
    fn plain(&mut self) -> &str {
        self.of(false, false)
    }

    fn of(&mut self, snake: bool, cache: bool) -> &str {
        let leaf = self.leaf;
        self.forms[usize::from(snake) * 2 + usize::from(cache)].get_or_insert_with(|| {
            let mut text = String::with_capacity(128);
            write_input(&mut text, leaf, snake);
            text.push_str(": ");
            if cache {
                text.push_str("<cache>");
            } else {
                leaf.value.write(&mut text);
            }
            text
        })
    }
}

/// Appends the rule input up to the colon before the value: `domain<k=v, k=v><path, path>name`.
pub fn write_input(out: &mut String, leaf: &Leaf<'_>, snake: bool) {
    out.push_str(leaf.domain);
    out.push('<');
    for (index, (key, value)) in leaf.properties.iter().enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        let _ = write!(out, "{separator}{key}={value}");
    }
    out.push_str("><");
    for (index, part) in leaf.path.iter().enumerate() {
        out.push_str(if index > 0 { ", " } else { "" });
        out.push_str(part);
    }
    out.push('>');
    if snake { out.push_str(&snake_case(leaf.name)) } else { out.push_str(leaf.name) }
}

fn expand(template: &Replacement, captures: Option<&Captures<'_>>) -> Result<String, TemplateError> {
    let template = template.as_ref().map_err(Clone::clone)?;
    Ok(match captures {
        Some(captures) => template.expand(captures),
        None => template.literal().unwrap_or_default().to_owned(),
    })
}

fn set_label(labels: &mut Vec<(String, String)>, name: String, value: String) {
    match labels.iter_mut().find(|(known, _)| *known == name) {
        Some(label) => label.1 = value,
        None => labels.push((name, value)),
    }
}

fn default_help(leaf: &Leaf<'_>) -> String {
    let property = |key: &str| {
        leaf.properties.iter().find(|(name, _)| name == key).map_or("null", |(_, value)| value.as_str())
    };
    let mut help = String::with_capacity(leaf.description.len() + 64);
    if !leaf.description.is_empty() && leaf.description != leaf.name {
        help.push_str(leaf.description);
        help.push(' ');
    }
    let (name, kind) = (property("name"), property("type"));
    let _ = write!(help, "{}:name={name},type={kind},attribute={}", leaf.domain, leaf.name);
    help
}

/// `Double.valueOf`: surrounding blanks, a sign, `NaN`, `Infinity`, and a type suffix are allowed.
fn java_double(text: &str) -> Option<f64> {
    let text = text.trim_matches(|c: char| c <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    match unsigned {
        "NaN" => return Some(f64::NAN),
        "Infinity" => return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        _ => {}
    }
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text).parse().ok()
}

#[cfg(test)]
mod tests;
