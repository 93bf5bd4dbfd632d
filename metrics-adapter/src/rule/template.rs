//! Java's replacement strings (`Matcher.replaceAll`): `$1`, `${name}` and backslash escapes.

use thiserror::Error;

use super::java_regex::Captures;

/// A replacement, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
    Named(String),
}

/// Why a replacement cannot be expanded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TemplateError {
    /// The pattern has fewer groups.
    #[error("`{template}` refers to group {group}, which the pattern does not have")]
    NoGroup {
        /// The replacement.
        template: String,
        /// The group's number or name.
        group: String,
    },
    /// `$` or `\` is followed by nothing that belongs there.
    #[error(
        "`{template}` has a `$` that is followed by neither a digit nor `{{name}}`, or ends in a backslash"
    )]
    Syntax {
        /// The replacement.
        template: String,
    },
}

impl Template {
    /// Reads a replacement for a pattern with `groups` groups.
    ///
    /// # Errors
    /// See [`TemplateError`].
    pub fn parse(template: &str, groups: usize, names: &[String]) -> Result<Self, TemplateError> {
        let syntax = || TemplateError::Syntax { template: template.to_owned() };
        let missing =
            |group: &str| TemplateError::NoGroup { template: template.to_owned(), group: group.to_owned() };
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(at) = rest.find(['$', '\\']) {
            text.push_str(&rest[..at]);
            let special = rest.as_bytes()[at];
            rest = &rest[at + 1..];
            if special == b'\\' {
                let literal = rest.chars().next().ok_or_else(syntax)?;
                text.push(literal);
                rest = &rest[literal.len_utf8()..];
                continue;
            }
            if !text.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut text)));
            }
            if let Some(named) = rest.strip_prefix('{') {
                let (name, after) = named.split_once('}').ok_or_else(syntax)?;
                if !names.iter().any(|known| known == name) {
                    return Err(missing(name));
                }
                parts.push(Part::Named(name.to_owned()));
                rest = after;
            } else {
                let (group, digits) = group_number(rest, groups).ok_or_else(syntax)?;
                if group > groups {
                    return Err(missing(&group.to_string()));
                }
                parts.push(Part::Group(group));
                rest = &rest[digits..];
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { parts })
    }

    /// The text when there is nothing to expand.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Puts the groups in; a group that took no part in the match expands to nothing.
    #[must_use]
    pub fn expand(&self, captures: &Captures<'_>) -> String {
        let mut out = String::new();
        for part in &self.parts {
            out.push_str(match part {
                Part::Text(text) => text,
                Part::Group(index) => captures.group(*index),
                Part::Named(name) => captures.named(name),
            });
        }
        out
    }
}

/// The first digit always counts; further ones only while such a group exists.
fn group_number(text: &str, groups: usize) -> Option<(usize, usize)> {
    let mut digits = text.bytes().take_while(u8::is_ascii_digit);
    let mut group = usize::from(digits.next()? - b'0');
    let mut length = 1;
    for digit in digits {
        let longer = group * 10 + usize::from(digit - b'0');
        if longer > groups {
            break;
        }
        group = longer;
        length += 1;
    }
    Some((group, length))
}

#[cfg(test)]
mod tests {
    use super::super::java_regex::JavaRegex;
    use super::*;
    use proptest::prelude::*;

    fn expand(pattern: &str, text: &str, template: &str) -> String {
        let regex = JavaRegex::new(pattern).unwrap();
        let template = Template::parse(template, regex.groups(), regex.names()).unwrap();
        template.expand(&regex.captures(text).unwrap().unwrap())
    }

    #[test]
    fn java_rules() {
        assert_eq!(expand("(a)(b)?", "a", "x$1$2y"), "xay");
        assert_eq!(expand("(a)", "a", "$12"), "a2");
        assert_eq!(expand("(?<n>a)", "a", "${n}\\$\\\\$0"), "a$\\a");
        assert!(matches!(Template::parse("$2", 1, &[]), Err(TemplateError::NoGroup { .. })));
        assert!(matches!(Template::parse("${x}", 1, &[]), Err(TemplateError::NoGroup { .. })));
        for bad in ["$", "$x", "a\\", "${x"] {
            assert!(matches!(Template::parse(bad, 1, &[]), Err(TemplateError::Syntax { .. })), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in ".*", special in "[$\\\\{}0-9a]{0,10}") {
            let _ = Template::parse(&text, 3, &[]);
            let _ = Template::parse(&special, 3, &["a".to_owned()]);
        }
    }
}
