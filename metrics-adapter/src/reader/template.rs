//! Templates of labels: literal text with `$1`, `${1}`, `$name` and `${name}`.

use std::borrow::Cow;

/// A text with references to what was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Reference(String),
}

impl Template {
    /// Reads a template; a `$` that starts no reference is itself, and `$$` is one `$`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            let (name, after) = match rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                Some((name, after)) => (name, after),
                None => {
                    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                    rest.split_at(rest.find(|c| !word(c)).unwrap_or(rest.len()))
                }
            };
            if name.is_empty() {
                plain.push('$');
                continue;
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(Part::Reference(name.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Self(parts)
    }

    /// The names that are referred to.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Reference(name) => Some(name.as_str()),
            Part::Text(_) => None,
        })
    }

    /// The text itself, where it refers to nothing.
    #[must_use]
    pub fn plain(&self) -> Option<&str> {
        match &self.0[..] {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text with every reference replaced; what `find` does not know is empty.
    pub fn expand<'a>(&'a self, find: impl Fn(&str) -> Option<&'a str>) -> Cow<'a, str> {
        match &self.0[..] {
            [] => return Cow::Borrowed(""),
            [Part::Text(text)] => return Cow::Borrowed(text),
            [Part::Reference(name)] => return Cow::Borrowed(find(name).unwrap_or_default()),
            _ => {}
        }
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Reference(name) => out.push_str(find(name).unwrap_or_default()),
            }
        }
        Cow::Owned(out)
    }
}
