//! Rules that can never match, or hide each other.

use std::collections::HashMap;

use super::config::{Matcher, Rule};
use super::{Mapping, MetricType};

/// Something about a rule that its author should look at.
///
/// ```
/// use metrics_adapter::mapping::{Mapping, lint};
///
/// let mapping = Mapping::parse("mappings: [{match: a.*, name: x}, {match: a.b, name: y}]").unwrap();
/// assert!(lint(&mapping).iter().any(|finding| finding.dead && finding.line == 1));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The line of the rule, from 1.
    pub line: u64,
    /// What is the matter.
    pub message: String,
    /// Whether the rule can never match.
    pub dead: bool,
}

/// Looks at every rule, and at those before it that could hide it.
///
/// ```
/// use metrics_adapter::mapping::{Mapping, lint};
///
/// assert!(lint(&Mapping::default()).is_empty());
/// ```
#[must_use]
pub fn lint(mapping: &Mapping) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut before = Before::default();
    for (at, rule) in mapping.rules.iter().enumerate() {
        let hidden = match &rule.matcher {
            Matcher::Glob(glob) => before.hidden(mapping, glob, rule),
            Matcher::Pattern(_) => hidden_pattern(mapping, at, rule),
        };
        findings.extend(hidden);
        findings.extend(template(rule));
        if let Matcher::Glob(glob) = &rule.matcher {
            before.add(glob, rule.metric_type, at);
        }
    }
    findings
}

/// The globs of earlier rules, as trees of components: a large file is not a matter of every pair.
#[derive(Default)]
struct Before {
    /// By the type that the rules are for.
    trees: HashMap<Option<MetricType>, Tree>,
}

#[derive(Default)]
struct Tree {
    below: HashMap<Box<str>, Tree>,
    /// The earliest rule that ends here.
    rule: Option<usize>,
}

impl Before {
    fn add(&mut self, glob: &str, kind: Option<MetricType>, rule: usize) {
        let mut tree = self.trees.entry(kind).or_default();
        for component in glob.split('.') {
            tree = tree.below.entry(component.into()).or_default();
        }
        tree.rule.get_or_insert(rule);
    }

    fn hidden(&self, mapping: &Mapping, text: &str, rule: &Rule) -> Option<Finding> {
        let inner: Vec<&str> = text.split('.').collect();
        let ordered = !mapping.defaults.glob_disable_ordering;
        let any_type = self.trees.get(&None);
        let own_type = rule.metric_type.and_then(|kind| self.trees.get(&Some(kind)));
        let mut open: Vec<(&Tree, &[&str])> =
            any_type.into_iter().chain(own_type).map(|tree| (tree, &inner[..])).collect();
        let mut first: Option<usize> = None;
        while let Some((tree, left)) = open.pop() {
            let Some((component, rest)) = left.split_first() else {
                first = tree.rule.into_iter().chain(first).min();
                continue;
            };
            let star = tree.below.get("*").filter(|_| ordered && *component != "*");
            open.extend(tree.below.get(*component).into_iter().chain(star).map(|tree| (tree, rest)));
        }
        let other = &mapping.rules[first?];
        let is_equal = matches!(&other.matcher, Matcher::Glob(outer) if outer == text);
        let what = if is_equal { "the same match stands" } else { "it is contained in the match" };
        let message = format!("`{text}` can never match: {what} in line {} (`{}`)", other.line, other.text);
        Some(Finding { line: rule.line, message, dead: true })
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mapping::glob::contains;

    proptest! {
        #[test]
        fn a_glob_is_hidden_by_an_earlier_one_that_contains_it(
            globs in prop::collection::vec(("[ab*](\\.[ab*]){0,2}", 0..3usize), 1..12),
            unordered: bool,
        ) {
            let kinds = ["", "\n  match_metric_type: gauge", "\n  match_metric_type: counter"];
            let mut text = format!("defaults:\n  glob_disable_ordering: {unordered}\nmappings:\n");
            for (glob, kind) in &globs {
                text += &format!("- match: \"{glob}\"\n  name: n{}\n", kinds[*kind]);
            }
            let mapping = Mapping::parse(&text).unwrap();
            let dead: Vec<u64> = lint(&mapping).iter().map(|finding| finding.line).collect();
            let parts = |glob: &str| glob.split('.').map(str::to_owned).collect::<Vec<_>>();
            let hides = |(outer, outer_kind): &(String, usize), (inner, kind): &(String, usize)| {
                let (outer, inner) = (parts(outer), parts(inner));
                let outer: Vec<&str> = outer.iter().map(String::as_str).collect();
                let inner: Vec<&str> = inner.iter().map(String::as_str).collect();
                (*outer_kind == 0 || outer_kind == kind) && (outer == inner || (!unordered && contains(&outer, &inner)))
            };
            let expected: Vec<u64> = (0..globs.len())
                .filter(|at| globs[..*at].iter().any(|outer| hides(outer, &globs[*at])))
                .map(|at| mapping.rules[at].line)
                .collect();
            prop_assert_eq!(dead, expected);
        }
    }

    #[test]
    fn many_rules_are_looked_at_once() {
        let mut text = "mappings:\n".to_owned();
        (0..40_000).for_each(|at| text += &format!("- {{match: \"a.b{at}.*\", name: n}}\n"));
        assert!(lint(&Mapping::parse(&text).unwrap()).is_empty());
    }
}
