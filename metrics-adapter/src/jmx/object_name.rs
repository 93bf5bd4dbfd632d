//! `javax.management.ObjectName`: parsing and pattern matching.
//!
//! Source: the API documentation of `javax.management.ObjectName`. Unlike the Java class, a parsed name keeps
//! the order in which its properties were written, because default metric names depend on it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// A bean's name, or a pattern of names.
///
/// ```
/// use metrics_adapter::jmx::ObjectName;
///
/// let name: ObjectName = "kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec".parse()?;
/// assert_eq!((name.domain(), name.property("type")), ("kafka.server", Some("BrokerTopicMetrics")));
/// assert_eq!(name.properties().len(), 2);
/// assert_eq!(name.canonical(), "kafka.server:name=BytesInPerSec,type=BrokerTopicMetrics");
///
/// let pattern: ObjectName = "kafka.*:type=BrokerTopicMetrics,*".parse()?;
/// assert!(pattern.is_pattern() && pattern.matches(&name));
/// # Ok::<(), metrics_adapter::jmx::ObjectNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectName {
    text: Arc<str>,
    domain_end: usize,
    properties: Vec<(String, String)>,
    open_ended: bool,
}

/// Why a text is no object name.
///
/// ```
/// let error = "no colon".parse::<metrics_adapter::jmx::ObjectName>().unwrap_err();
/// assert!(error.to_string().contains("no colon"));
/// ```
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{text}` is not an object name: {why}")]
pub struct ObjectNameError {
    text: String,
    why: &'static str,
}

impl ObjectName {
    /// The text as it was given.
    ///
    /// ```
    /// let name: metrics_adapter::jmx::ObjectName = "a:b=c".parse().unwrap();
    /// assert_eq!(name.as_str(), "a:b=c");
    /// ```
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The text, shared.
    #[doc(hidden)]
    #[must_use]
    pub fn shared(&self) -> &Arc<str> {
        &self.text
    }

    /// The part before the first colon.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.text[..self.domain_end]
    }

    /// Key properties in written order; quoted values keep their quotes.
    #[must_use]
    pub fn properties(&self) -> &[(String, String)] {
        &self.properties
    }

    /// The value of one key property.
    #[must_use]
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Whether the name can match more than itself.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.open_ended
            || has_wildcard(self.domain())
            || self.properties.iter().any(|(_, value)| value_has_wildcard(value))
    }

    /// The name with its properties sorted, as Java compares names.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut properties: Vec<String> = self.properties.iter().map(|(k, v)| format!("{k}={v}")).collect();
        properties.sort();
        if self.open_ended {
            properties.push("*".to_owned());
        }
        format!("{}:{}", self.domain(), properties.join(","))
    }

    /// Whether `name`, which is no pattern itself, is one of the names this one stands for.
    #[must_use]
    pub fn matches(&self, name: &ObjectName) -> bool {
        if !wildcard(self.domain().as_bytes(), name.domain().as_bytes()) {
            return false;
        }
        if !self.open_ended && self.properties.len() != name.properties.len() {
            return false;
        }
        self.properties.iter().all(|(key, pattern)| {
            name.property(key).is_some_and(|value| {
                if value_has_wildcard(pattern) {
                    wildcard(pattern.as_bytes(), value.as_bytes())
                } else {
                    pattern == value
                }
            })
        })
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ObjectName {
    type Err = ObjectNameError;

    fn from_str(text: &str) -> Result<Self, ObjectNameError> {
        Self::try_from(Arc::from(text))
    }
}

impl TryFrom<Arc<str>> for ObjectName {
    type Error = ObjectNameError;

    /// Parses a name without copying its text.
    fn try_from(shared: Arc<str>) -> Result<Self, ObjectNameError> {
        let text = &*shared;
        let refuse = |why| ObjectNameError { text: text.to_owned(), why };
        let domain_end = text.find(':').ok_or_else(|| refuse("there is no `:`"))?;
        let text_of_name = Arc::clone(&shared);
        let mut name = Self { text: text_of_name, domain_end, properties: Vec::new(), open_ended: false };
        let mut rest = &text[domain_end + 1..];
        if rest.is_empty() {
            return Err(refuse("there are no key properties"));
        }
        loop {
            let after = if rest == "*" || rest.starts_with("*,") {
                if name.open_ended {
                    return Err(refuse("`*` is there twice"));
                }
                name.open_ended = true;
                &rest[1..]
            } else {
                let (key, value, after) = property(rest).map_err(refuse)?;
                if name.property(key).is_some() {
                    return Err(refuse("a key is there twice"));
                }
                name.properties.push((key.to_owned(), value.to_owned()));
                after
            };
            match after.strip_prefix(',') {
                Some(more) if !more.is_empty() => rest = more,
                Some(_) => return Err(refuse("it ends in a comma")),
                None if after.is_empty() => {
                    name.properties.shrink_to_fit();
                    return Ok(name);
                }
                None => return Err(refuse("there is text after a quoted value")),
            }
        }
    }
}

/// Splits the first `key=value` off.
fn property(text: &str) -> Result<(&str, &str, &str), &'static str> {
    let (key, rest) = text.split_once('=').ok_or("a key property has no `=`")?;
    if key.is_empty() || key.contains([',', ':', '*', '?']) {
        return Err("a key is empty or contains `,`, `:`, `*` or `?`");
    }
    let end = if rest.starts_with('"') {
        quoted_end(rest).ok_or("a quoted value has no closing quote")?
    } else {
        let end = rest.find(',').unwrap_or(rest.len());
        if rest[..end].contains(['=', ':', '"']) {
            return Err("an unquoted value contains `=`, `:` or `\"`");
        }
        end
    };
    Ok((key, &rest[..end], &rest[end..]))
}

/// The position after the closing quote of a text that starts with a quote.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(index + 1),
            _ => {}
        }
    }
    None
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?'])
}

/// In quoted values a backslash takes the meaning of a wildcard away.
fn value_has_wildcard(value: &str) -> bool {
    if !value.starts_with('"') {
        return has_wildcard(value);
    }
    let mut escaped = false;
    value.bytes().any(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => matches!(byte, b'*' | b'?'),
    })
}

/// Glob match with `*` and `?`; linear except for one remembered star. A backslash in a quoted value makes
/// the next byte literal on both sides, so an escaped wildcard equals itself.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let quoted = pattern.first() == Some(&b'"');
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'\\') if quoted && pattern.get(p..p + 2) == text.get(t..t + 2) => {
                p += 2;
                t += 2;
                continue;
            }
            Some(b'?') => {
                p += 1;
                t += char_width(text[t]);
                continue;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
                continue;
            }
            _ => {}
        }
        let Some((star_at, matched)) = star else { return false };
        p = star_at + 1;
        t = matched + 1;
        star = Some((star_at, t));
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

fn char_width(first: u8) -> usize {
    match first {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xFF => 4,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> ObjectName {
        text.parse().unwrap()
    }

    #[test]
    fn order_and_quotes_are_kept() {
        let parsed = name("app:type=Pool,name=\"a, \\\"b\\\"=:*\",x=1");
        assert_eq!(parsed.domain(), "app");
        assert_eq!(parsed.properties()[1], ("name".to_owned(), "\"a, \\\"b\\\"=:*\"".to_owned()));
        assert_eq!(parsed.properties()[2].0, "x");
        assert_eq!(name("d:b=1,a=2").canonical(), "d:a=2,b=1");
    }

    #[test]
    fn bad_names_are_refused() {
        for text in
            ["", "a", "a:", "a:b", "a:b=1,", "a:b=1,b=2", "a:b=\"x", "a:b=\"x\"y", "a:*,*", "a:=1", "a:b=c=d"]
        {
            assert!(text.parse::<ObjectName>().is_err(), "{text}");
        }
    }

    #[test]
    fn patterns() {
        let bean = name("kafka.server:type=Metrics,name=Bytes");
        for pattern in [
            "*:*",
            "kafka.*:*",
            "kafka.serve?:name=*,type=Metrics",
            "kafka.server:type=Metrics,*",
            "kafka.server:*,type=M*s",
            "kafka.server:name=Bytes,type=Metrics",
        ] {
            assert!(name(pattern).matches(&bean), "{pattern}");
        }
        for pattern in ["kafka.server:type=Metrics", "kafka:*", "kafka.server:type=M,*", "kafka.server:x=*,*"]
        {
            assert!(!name(pattern).matches(&bean), "{pattern}");
        }
        assert!(name("d:n=\"a*\"").is_pattern());
        assert!(!name("d:n=\"a\\*\"").is_pattern());
        assert!(name("d:n=\"a\\**\"").matches(&name("d:n=\"a\\*bc\"")));
        assert!(!name("d:n=\"a\\**\"").matches(&name("d:n=\"abc\"")));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(a in ".*", b in "[a:=,*?\"\\\\é]{0,12}", c in "[a:=,*?\"\\\\é]{0,12}") {
            let _ = a.parse::<ObjectName>();
            if let (Ok(b), Ok(c)) = (b.parse::<ObjectName>(), c.parse::<ObjectName>()) {
                let _ = b.matches(&c);
                prop_assert_eq!(b.canonical().parse::<ObjectName>().unwrap().canonical(), b.canonical());
            }
        }
    }
}
