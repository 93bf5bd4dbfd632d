//! What the rules make of every value of a JVM, and which rules do nothing: for people who write rules.

use std::fmt;

use super::Config;
use super::target::Target;
use crate::rule::leaf::Leaf;
use crate::rule::page::Page;
use crate::rule::set::{ApplyError, Outcome, RuleSet, write_input};

/// One value and what became of it.
#[derive(Clone, Debug)]
pub struct Explained {
    /// What the patterns see: `domain<properties><path>attribute: value`.
    pub input: String,
    /// What became of it.
    pub fate: Fate,
    /// A pattern that matches exactly this attribute.
    suggestion: String,
}

/// What became of a value. Rules are counted from 1.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fate {
    /// No rule matches it.
    Unmatched,
    /// The rule matches and makes nothing of it.
    Nothing(usize),
    /// The rule makes a sample of it: its series and its value.
    Sample(usize, String, f64),
    /// The rule matches and cannot be carried out.
    Failed(String),
}

/// Everything about one JVM.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// `host:port` of the JVM.
    pub target: String,
    /// Its values in the order of its beans.
    pub values: Vec<Explained>,
    /// Why they are not complete, if they are not.
    pub error: Option<String>,
    /// Pattern and number of matches of each rule.
    pub rules: Vec<(String, usize)>,
}

impl Explained {
    pub(super) fn new(leaf: &Leaf<'_>, outcome: &Result<Outcome, ApplyError>) -> Self {
        let mut input = String::new();
        write_input(&mut input, leaf, false);
        let suggestion = format!("^{}:", escape(&input)).replace('\'', "''");
        input.push_str(": ");
        leaf.value.write(&mut input);
        let fate = match outcome {
            Ok(Outcome::Unmatched) => Fate::Unmatched,
            Ok(Outcome::Nothing(rule)) => Fate::Nothing(rule + 1),
            Ok(Outcome::Sample(rule, matched)) => {
                let labels: Vec<String> = matched.labels.iter().map(|(k, v)| format!("{k}={v:?}")).collect();
                Fate::Sample(rule + 1, format!("{}{{{}}}", matched.name, labels.join(",")), matched.value)
            }
            Err(error) => Fate::Failed(error.to_string()),
        };
        Self { input, fate, suggestion }
    }
}

/// Escapes what patterns give a meaning to.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if matches!(c, '\\' | '.' | '[' | ']' | '(' | ')' | '{' | '}' | '*' | '+' | '?' | '^' | '$' | '|') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.input)?;
        match &self.fate {
            Fate::Unmatched => {
                writeln!(f, "  no rule; one that would match:")?;
                writeln!(f, "  - pattern: '{}'", self.suggestion)
            }
            Fate::Nothing(rule) => writeln!(f, "  rule {rule} -> nothing"),
            Fate::Sample(rule, series, value) => writeln!(f, "  rule {rule} -> {series} {value}"),
            Fate::Failed(error) => writeln!(f, "  {error}"),
        }
    }
}

impl Explanation {
    /// What is suspicious about the rules, a line each.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for (index, (pattern, matches)) in self.rules.iter().enumerate() {
            let number = index + 1;
            if *matches == 0 {
                let catch_all = self.rules[..index].iter().position(|(pattern, _)| is_catch_all(pattern));
                findings.push(match catch_all {
                    Some(earlier) => {
                        format!("rule {number} is shadowed by rule {}, which matches everything", earlier + 1)
                    }
                    None => format!("rule {number} never matches on {}: {pattern}", self.target),
                });
            }
        }
        let failed = self.values.iter().filter_map(|value| match &value.fate {
            Fate::Failed(error) => Some(error.clone()),
            _ => None,
        });
        findings.extend(failed);
        findings.sort();
        findings.dedup();
        findings
    }
}

fn is_catch_all(pattern: &str) -> bool {
    matches!(pattern, "" | ".*" | ".+" | "(.*)" | "^.*$")
}

/// Reads every JVM of a configuration once.
pub async fn explain(config: Config) -> Vec<Explanation> {
    let collection = config.settings.collection;
    let mut explanations = Vec::new();
    for settings in config.settings.targets {
        let mut target = Target::new(settings);
        target.trace = Some(Vec::new());
        target.scrape(&collection, None, None, &mut Page::default()).await;
        let mut values = target.trace.take().unwrap_or_default();
        values.sort_by(|a, b| a.input.cmp(&b.input));
        let rules = count(&collection.rules, &values);
        let error = target.last.error.clone();
        explanations.push(Explanation { target: target.settings.name.clone(), values, error, rules });
        target.close().await;
    }
    explanations
}

fn count(rules: &RuleSet, values: &[Explained]) -> Vec<(String, usize)> {
    let mut counted: Vec<(String, usize)> =
        (0..rules.len()).map(|index| (rules.pattern(index).unwrap_or_default().to_owned(), 0)).collect();
    for value in values {
        if let Fate::Nothing(rule) | Fate::Sample(rule, ..) = value.fate
            && let Some(entry) = counted.get_mut(rule - 1)
        {
            entry.1 += 1;
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_that_do_nothing_are_found() {
        let explanation = Explanation {
            target: "t:1".to_owned(),
            values: Vec::new(),
            error: None,
            rules: vec![("a".to_owned(), 0), (".*".to_owned(), 5), ("b".to_owned(), 0)],
        };
        let findings = explanation.findings();
        assert!(findings[0].contains("rule 1 never matches on t:1"), "{findings:?}");
        assert!(findings[1].contains("rule 3 is shadowed by rule 2"), "{findings:?}");
    }
}
