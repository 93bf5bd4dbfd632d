//! Relabelling as Prometheus has it (`metric_relabel_configs`).

use regex::Regex;

use crate::reader::template::Template;

/// One rule.
#[derive(Clone, Debug)]
pub struct Relabel {
    /// Labels whose values are joined; `__name__` is the metric's name.
    pub source_labels: Vec<String>,
    /// Between them.
    pub separator: String,
    /// Matched against the whole of the joined values.
    pub regex: Regex,
    /// The label that is written.
    pub target_label: String,
    /// What is written, with `$1` for groups.
    pub replacement: Template,
    /// What is done.
    pub action: Action,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Writes the target label where the regex matches.
    Replace,
    /// Leaves samples out where it does not match.
    Keep,
    /// Leaves samples out where it matches.
    Drop,
    /// Leaves samples out where the target label differs from the joined values.
    KeepEqual,
    /// Leaves samples out where the target label equals the joined values.
    DropEqual,
    /// Removes labels whose names match.
    LabelDrop,
    /// Removes labels whose names do not match.
    LabelKeep,
    /// Copies labels whose names match to the replacement.
    LabelMap,
    /// Writes the joined values in lower case.
    Lowercase,
    /// Writes the joined values in upper case.
    Uppercase,
}

impl Action {
    /// Every action with its word in the configuration.
    pub const ALL: [(&'static str, Self); 10] = [
        ("replace", Self::Replace),
        ("keep", Self::Keep),
        ("drop", Self::Drop),
        ("keepequal", Self::KeepEqual),
        ("dropequal", Self::DropEqual),
        ("labeldrop", Self::LabelDrop),
        ("labelkeep", Self::LabelKeep),
        ("labelmap", Self::LabelMap),
        ("lowercase", Self::Lowercase),
        ("uppercase", Self::Uppercase),
    ];
}

type Labels = Vec<(String, String)>;

fn value<'a>(name: &'a str, labels: &'a Labels, label: &str) -> &'a str {
    match label {
        "__name__" => name,
        _ => labels.iter().find(|(known, _)| known == label).map_or("", |(_, value)| value.as_str()),
    }
}

fn set(name: &mut String, labels: &mut Labels, label: &str, value: String) {
    if label == "__name__" {
        *name = value;
    } else {
        labels.retain(|(known, _)| known != label);
        if !value.is_empty() {
            labels.push((label.to_owned(), value));
        }
    }
}

impl Relabel {
    /// Applies the rule to one sample; false leaves the sample out.
    pub fn apply(&self, name: &mut String, labels: &mut Labels) -> bool {
        let matches = |text: &str| self.regex.is_match(text);
        match self.action {
            Action::LabelDrop => labels.retain(|(label, _)| !matches(label)),
            Action::LabelKeep => labels.retain(|(label, _)| matches(label)),
            Action::LabelMap => {
                for (label, value) in labels.clone() {
                    if let Some(target) = self.expand(&label) {
                        set(name, labels, &target, value);
                    }
                }
            }
            _ => return self.apply_values(name, labels),
        }
        true
    }

    fn apply_values(&self, name: &mut String, labels: &mut Labels) -> bool {
        let values: Vec<&str> = self.source_labels.iter().map(|label| value(name, labels, label)).collect();
        let joined = values.join(&self.separator);
        match self.action {
            Action::Keep => return self.regex.is_match(&joined),
            Action::Drop => return !self.regex.is_match(&joined),
            Action::KeepEqual => return value(name, labels, &self.target_label) == joined,
            Action::DropEqual => return value(name, labels, &self.target_label) != joined,
            Action::Lowercase => set(name, labels, &self.target_label, joined.to_lowercase()),
            Action::Uppercase => set(name, labels, &self.target_label, joined.to_uppercase()),
            _ => {
                if let Some(value) = self.expand(&joined) {
                    set(name, labels, &self.target_label, value);
                }
            }
        }
        true
    }

    /// The replacement for a text that matches.
    fn expand(&self, text: &str) -> Option<String> {
        let captures = self.regex.captures(text)?;
        let expanded = self.replacement.expand(|group| {
            let found = match group.parse::<usize>() {
                Ok(at) => captures.get(at),
                Err(_) => captures.name(group),
            };
            found.map(|found| found.as_str())
        });
        Some(expanded.into_owned())
    }
}

/// Compiles a regex that matches whole values, as Prometheus does.
///
/// # Errors
/// What is wrong with it.
pub fn anchored(text: &str) -> Result<Regex, String> {
    crate::reader::pattern::compile(text)?;
    let built = regex::RegexBuilder::new(&format!("^(?s:{text})$")).size_limit(4 << 20).build();
    built.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::PackedLabels;

    fn rule(action: Action, source: &[&str], regex: &str, target: &str, replacement: &str) -> Relabel {
        Relabel {
            source_labels: source.iter().map(|label| (*label).to_owned()).collect(),
            separator: ";".to_owned(),
            regex: anchored(regex).unwrap(),
            target_label: target.to_owned(),
            replacement: Template::new(replacement),
            action,
        }
    }

    #[test]
    fn as_prometheus_does() {
        let apply = |rule: &Relabel| {
            let mut name = "http_x".to_owned();
            let mut labels = vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), "Two".to_owned())];
            let kept = rule.apply(&mut name, &mut labels);
            labels.sort();
            (kept, crate::family::normal::series(&name, PackedLabels::from(labels).labels()))
        };
        let shown = |rule| apply(&rule).1;
        assert_eq!(
            shown(rule(Action::Replace, &["a", "b"], "(.*);(.*)", "c", "${2}-$1")),
            "http_x{a=\"1\",b=\"Two\",c=\"Two-1\"}"
        );
        assert_eq!(shown(rule(Action::Replace, &["a"], "2", "c", "x")), "http_x{a=\"1\",b=\"Two\"}");
        assert_eq!(
            shown(rule(Action::Replace, &["__name__"], "http_(.*)", "__name__", "web_$1")),
            "web_x{a=\"1\",b=\"Two\"}"
        );
        assert_eq!(shown(rule(Action::Replace, &["a"], ".*", "a", "")), "http_x{b=\"Two\"}");
        assert_eq!(shown(rule(Action::LabelDrop, &[], "a|c", "", "")), "http_x{b=\"Two\"}");
        assert_eq!(shown(rule(Action::LabelKeep, &[], "a|c", "", "")), "http_x{a=\"1\"}");
        assert_eq!(
            shown(rule(Action::LabelMap, &[], "(b)", "", "new_$1")),
            "http_x{a=\"1\",b=\"Two\",new_b=\"Two\"}"
        );
        assert_eq!(shown(rule(Action::Lowercase, &["b"], ".*", "b", "")), "http_x{a=\"1\",b=\"two\"}");
        assert!(!apply(&rule(Action::Drop, &["a"], "1", "", "")).0);
        assert!(!apply(&rule(Action::Keep, &["a"], "11", "", "")).0);
        assert!(!apply(&rule(Action::DropEqual, &["a"], "", "a", "")).0);
        assert!(apply(&rule(Action::KeepEqual, &["a"], "", "a", "")).0);
    }
}
