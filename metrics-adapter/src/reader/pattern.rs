//! Metrics from any text, by regular expressions.

use std::borrow::Cow;

use regex::{Captures, Regex};

use super::Builder;
use super::metric::Metric;
use super::template::Template;
use crate::family::PackedLabels;

/// One entry of `metrics` over text: every match is a sample.
///
/// The value is the group named `value`, else the first group, else 1.
#[derive(Clone, Debug)]
pub struct PatternMetric {
    /// What it is called, and how the value is read.
    pub metric: Metric,
    /// `^` and `$` match at lines.
    pub pattern: Regex,
    /// Names, and templates over the groups.
    pub labels: Vec<(String, Template)>,
}

/// Largest compiled pattern in bytes.
const MAX_SIZE: usize = 4 << 20;

/// Compiles a pattern whose `^` and `$` match at lines.
///
/// # Errors
/// What is wrong with it.
pub fn compile(text: &str) -> Result<Regex, String> {
    let built = regex::RegexBuilder::new(text).multi_line(true).crlf(true).size_limit(MAX_SIZE).build();
    built.map_err(|error| {
        let text = error.to_string();
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        last.trim().trim_start_matches("error: ").to_owned()
    })
}

impl PatternMetric {
    /// Adds a sample for every match in the text.
    pub fn read(&self, text: &str, out: &mut Builder) {
        let mut found = false;
        for captures in self.pattern.captures_iter(text) {
            found = true;
            let name = self.name(&captures);
            let value = value_group(&captures);
            match self.metric.value(value) {
                Some(number) => {
                    out.add(&name, &self.metric.help, self.metric.kind, self.labels(&captures), number);
                }
                None => out.skip(|| format!("{name}: `{}` is no number", super::shortened(value, 40))),
            }
        }
        if !found {
            out.skip(|| format!("`{}` matches nothing", super::shortened(self.pattern.as_str(), 80)));
        }
    }

    /// The metric's name for this match.
    #[must_use]
    pub fn name<'a>(&'a self, captures: &Captures<'a>) -> Cow<'a, str> {
        self.metric.name.expand(|group| self::group(captures, group))
    }

    /// The labels for this match.
    #[must_use]
    pub fn labels(&self, captures: &Captures<'_>) -> PackedLabels {
        let expand = |(name, template)| {
            let template: &Template = template;
            (name, template.expand(|group| self::group(captures, group)))
        };
        self.labels.iter().map(|(name, template)| (name, template)).map(expand).collect()
    }
}

/// The text of a match that is its value.
#[must_use]
pub fn value_group<'a>(captures: &Captures<'a>) -> &'a str {
    captures.name("value").or_else(|| captures.get(1)).map_or("1", |found| found.as_str())
}

fn group<'a>(captures: &Captures<'a>, name: &str) -> Option<&'a str> {
    let found = match name.parse::<usize>() {
        Ok(at) => captures.get(at),
        Err(_) => captures.name(name),
    };
    found.map(|found| found.as_str())
}
