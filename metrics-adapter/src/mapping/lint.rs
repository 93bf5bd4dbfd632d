//! Rules that can never match, or hide each other.

use super::config::{Matcher, Rule};
use super::{Mapping, glob};

/// Something about a rule that its author should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line of the rule, from 1.
    pub line: u64,
    /// What is the matter.
    pub message: String,
    /// Whether the rule can never match.
    pub dead: bool,
}

/// Looks at every pair of rules.
#[must_use]
pub fn lint(mapping: &Mapping) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, rule) in mapping.rules.iter().enumerate() {
        if let Some(finding) = hidden(mapping, at, rule) {
            findings.push(finding);
        }
        if let Some(finding) = template(rule) {
            findings.push(finding);
        }
    }
    findings
}

fn hidden(mapping: &Mapping, at: usize, rule: &Rule) -> Option<Finding> {
    let Matcher::Glob(text) = &rule.matcher else { return hidden_pattern(mapping, at, rule) };
    let inner: Vec<&str> = text.split('.').collect();
    for (index, other) in mapping.rules.iter().enumerate().filter(|(index, _)| *index != at) {
        let Matcher::Glob(outer) = &other.matcher else { continue };
        if !covers_type(other, rule) {
            continue;
        }
        let outer: Vec<&str> = outer.split('.').collect();
        let equal = outer == inner && index < at;
        let earlier = !mapping.defaults.glob_disable_ordering && index < at && glob::contains(&outer, &inner);
        if equal || earlier {
            let what = if equal { "the same match stands" } else { "it is contained in the match" };
            let message =
                format!("`{text}` can never match: {what} in line {} (`{}`)", other.line, other.text);
            return Some(Finding { line: rule.line, message, dead: true });
        }
    }
    None
}

fn hidden_pattern(mapping: &Mapping, at: usize, rule: &Rule) -> Option<Finding> {
    let earlier = mapping.rules[..at].iter().filter(|other| covers_type(other, rule));
    for other in earlier {
        if !matches!(other.matcher, Matcher::Pattern(_)) {
            continue;
        }
        let message = if other.text == rule.text {
            format!("`{}` can never match: the same match stands in line {}", rule.text, other.line)
        } else if matches!(&*other.text, ".*" | "^.*$" | "(.*)" | "^(.*)$" | ".+" | "" | "(.+)") {
            format!(
                "`{}` can never match: line {} (`{}`) matches every name",
                rule.text, other.line, other.text
            )
        } else {
            continue;
        };
        return Some(Finding { line: rule.line, message, dead: true });
    }
    None
}

/// Whether `outer` takes every type of event that `inner` takes.
fn covers_type(outer: &Rule, inner: &Rule) -> bool {
    outer.metric_type.is_none() || outer.metric_type == inner.metric_type
}

/// A name or label value that comes out empty although it was meant to hold something.
fn template(rule: &Rule) -> Option<Finding> {
    let Matcher::Glob(text) = &rule.matcher else { return None };
    let stars = text.split('.').filter(|component| *component == "*").count();
    let marks = vec!["x"; stars];
    let labels = rule.labels.iter().map(|(label, template)| (&**label, template));
    let mut all = std::iter::once(("name", &rule.name)).chain(labels);
    let (key, template) = all.find(|(_, template)| {
        template.raw().contains('$') && template.fill(&marks) == template.fill(&vec!["y"; stars])
    })?;
    let message = format!(
        "{key}: no reference in `{}` takes effect (there are {stars} stars; write ${{1}} before letters, digits or `_`)",
        template.raw()
    );
    Some(Finding { line: rule.line, message, dead: false })
}
