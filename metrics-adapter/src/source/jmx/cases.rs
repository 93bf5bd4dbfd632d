//! Checks of a configuration that people keep beside it: values as the patterns see them, and the samples that
//! they are to give. No JVM is needed.

use serde::Deserialize;

use super::Config;
use super::settings::{Settings, TargetSettings};
use super::text;
use crate::explain::{Check, compare};
use crate::jmx::number::Number;
use crate::jmx::object_name::ObjectName;
use crate::mapping::Problem;
use crate::rule::leaf::{Leaf, LeafValue};
use crate::rule::page::{Page, SharedFamily};
use crate::rule::set::{Outcome, write_input};
use crate::yaml::At;

/// Values and the samples they are to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it is about.
    pub name: String,
    /// Its line in the file, from 1.
    pub line: u64,
    /// Values in the form of `explain`: `domain<key=value, key=value><item, item>attribute: value`.
    pub values: Vec<String>,
    /// Exactly the samples that come of them, in any order and with labels in any order.
    pub expect: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tests: Vec<FileCase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCase {
    name: Option<String>,
    values: At<Vec<String>>,
    #[serde(default)]
    expect: Vec<String>,
}

/// Reads a file of cases: `tests: [{name, values: [...], expect: [...]}]`.
///
/// # Errors
/// What is wrong, and in which line.
pub fn read_cases(text: &str) -> Result<Vec<Case>, Problem> {
    let file = crate::yaml::from_str::<File>(text, crate::yaml::Options::default())?;
    let case = |(index, case): (usize, FileCase)| {
        let line = case.values.line;
        let broken = case.values.value.iter().find(|value| Given::parse(value).is_none());
        if let Some(broken) = broken {
            let form = "domain<key=value, …><item, …>attribute: value";
            return Err(Problem {
                line: Some(line),
                reason: format!("`{broken}` is not of the form `{form}`"),
            });
        }
        let name = case.name.unwrap_or_else(|| format!("case {}", index + 1));
        Ok(Case { name, line, values: case.values.value, expect: case.expect })
    };
    file.tests.into_iter().enumerate().map(case).collect()
}

/// Runs one case through the filters, rules and labels of a configuration. The labels are those of its first
/// target.
#[must_use]
pub fn check(case: &Case, config: &Config) -> Check {
    let values = case.values.iter().map(String::as_str);
    let (families, failed) = families(&config.settings, values);
    let text = text::write(families.iter());
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
    compare(&samples.chain(failed).collect::<Vec<_>>(), &case.expect)
}

/// What rules make of values, and what went wrong with some.
pub(super) fn families<'t>(
    settings: &Settings,
    values: impl Iterator<Item = &'t str>,
) -> (Vec<SharedFamily>, Vec<String>) {
    let labels = settings.targets.first().map_or(&[][..], |TargetSettings { labels, .. }| labels);
    let mut page = Page::new(settings.collection.name_style);
    let mut failed = Vec::new();
    for text in values {
        let Some(given) = Given::parse(text) else {
            failed
                .push(format!("`{text}` is not of the form `domain<key=value, …><item, …>attribute: value`"));
            continue;
        };
        if !given.is_wanted(settings) {
            continue;
        }
        let path: Vec<&str> = given.path.iter().map(String::as_str).collect();
        let leaf = given.leaf(&path);
        match settings.collection.rules.apply(&leaf, &[]) {
            Ok(Outcome::Sample(_, mut matched)) => {
                let new =
                    labels.iter().filter(|(name, _)| !matched.labels.iter().any(|(known, _)| known == name));
                let new: Vec<(String, String)> = new.cloned().collect();
                matched.labels.extend(new);
                let mut input = String::new();
                write_input(&mut input, &leaf, false);
                page.push(matched, &input);
            }
            Ok(_) => {}
            Err(error) => failed.push(error.to_string()),
        }
    }
    (page.finish_shared(), failed)
}

/// A value taken apart.
struct Given {
    domain: String,
    properties: Vec<(String, String)>,
    path: Vec<String>,
    name: String,
    value: GivenValue,
}

enum GivenValue {
    Number(Number),
    Boolean(bool),
    Text(String),
}

impl Given {
    fn parse(text: &str) -> Option<Self> {
        let (domain, rest) = text.split_once('<')?;
        let (properties, rest) = properties(rest)?;
        let (path, rest) = rest.strip_prefix('<')?.split_once('>')?;
        let (name, value) = rest.split_once(": ").or_else(|| Some((rest.strip_suffix(':')?, "")))?;
        let value = match (value, value.parse::<i64>(), value.parse::<f64>()) {
            ("true" | "false", ..) => GivenValue::Boolean(value == "true"),
            (_, Ok(whole), _) => GivenValue::Number(Number::Long(whole)),
            (_, _, Ok(number)) => GivenValue::Number(Number::Double(number)),
            _ => GivenValue::Text(value.to_owned()),
        };
        Some(Self {
            domain: domain.to_owned(),
            properties,
            path: path.split(", ").filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            name: name.to_owned(),
            value,
        })
    }

    fn leaf<'l>(&'l self, path: &'l [&'l str]) -> Leaf<'l> {
        Leaf {
            domain: &self.domain,
            properties: &self.properties,
            path,
            name: &self.name,
            description: "",
            value: match &self.value {
                GivenValue::Number(number) => LeafValue::Number(number),
                GivenValue::Boolean(value) => LeafValue::Boolean(*value),
                GivenValue::Text(text) => LeafValue::Text(text),
            },
        }
    }

    fn is_wanted(&self, settings: &Settings) -> bool {
        let properties: Vec<String> =
            self.properties.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let name = format!("{}:{}", self.domain, properties.join(","));
        // Columns of tables stand among the properties and may not be part of a name.
        let Ok(bean) = name.parse::<ObjectName>() else { return true };
        let filter = &settings.collection.filter;
        let attribute = self.path.first().unwrap_or(&self.name);
        let included = !filter.explicit || filter.includes.iter().any(|pattern| pattern.matches(&bean));
        included && filter.wants(&bean) && filter.wants_attribute(&bean, attribute)
    }
}

/// Takes `k=v, k=v>` off; quoted values may hold anything.
fn properties(text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut properties = Vec::new();
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix('>') {
            return Some((properties, after));
        }
        let (key, value) = rest.split_once('=')?;
        let end = if value.starts_with('"') {
            let mut escaped = false;
            let close = value.char_indices().skip(1).find(|(_, c)| {
                let found = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                found
            });
            close?.0 + 1
        } else {
            value.find(", ").into_iter().chain(value.find("><")).min()?
        };
        properties.push((key.to_owned(), value[..end].to_owned()));
        rest = &value[end..];
        rest = rest.strip_prefix(", ").unwrap_or(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(text: &str) -> Config {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        Config::load(file.path()).unwrap()
    }

    #[test]
    fn cases_pass_and_fail() {
        let config = config(
            "hostPort: a:1\nlabels: {site: x}\nexcludeObjectNames: ['d:type=No,*']\n\
             rules: [{pattern: 'd<type=(.*), n=\"(.*)\"><Use>(.*): ', name: $1_$3, labels: {n: $2}}]\n",
        );
        let text = "tests:\n- values: ['d<type=A, n=\"x, >y\"><Use>used: 5.5', 'd<type=No, n=\"z\"><Use>used: 1']\n  \
                    expect: ['A_used{n=\"x, >y\",site=\"x\"} 5.5']\n- values: ['d<type=A, n=\"z\"><Use>used: 1']\n";
        let cases = read_cases(text).unwrap();
        assert_eq!(check(&cases[0], &config), Check::Passed);
        let unexpected = vec!["A_used{n=\"z\",site=\"x\"} 1".to_owned()];
        assert_eq!(check(&cases[1], &config), Check::Failed { missing: Vec::new(), unexpected });
        let error = read_cases("tests:\n- values: [nonsense]\n").unwrap_err();
        assert!(error.reason.contains("`nonsense` is not of the form"), "{}", error.reason);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in ".*", near in r#"d<[a=",\\ ><:]{0,16}"#) {
            let _ = Given::parse(&text);
            let _ = Given::parse(&near);
        }
    }
}
