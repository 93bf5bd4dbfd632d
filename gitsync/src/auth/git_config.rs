//! The peer's `--git-config` text, and what such settings mean for URLs. Pure.

use std::borrow::Cow;

/// Longest text that is taken, in bytes.
const MAX_LENGTH: usize = 1 << 20;

/// Why a text or a key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GitConfigError {
    /// More than 1 MiB.
    #[error("longer than 1 MiB")]
    TooLong,
    /// The text does not follow the rules.
    #[error("at character {position}: {reason}")]
    Syntax {
        /// From 1.
        position: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// git would not take the key.
    #[error("`{key}` is no git configuration key (write section.name or section.sub.name)")]
    Key {
        /// The key.
        key: String,
    },
}

/// Parses `key:value,key:value`.
///
/// Keys and values may stand in double quotes. `\n`, `\t`, `\"`, `\,` and `\\` are escapes in values
/// and in quoted keys. A comma in a bare value is escaped, a colon in a key is quoted. A comma may end
/// the text.
///
/// # Errors
/// Another escape, a missing value, an open quote, something after a closing quote, a key that git
/// would not take, or a text of more than 1 MiB.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, GitConfigError> {
    if text.len() > MAX_LENGTH {
        return Err(GitConfigError::TooLong);
    }
    let mut reader = Reader { chars: text.chars().peekable(), position: 0 };
    let mut pairs = Vec::new();
    while let Some(&first) = reader.chars.peek() {
        let key = if first == '"' { reader.quoted_key()? } else { reader.bare_key()? };
        let value = match reader.chars.peek() {
            None | Some(',') => return Err(reader.fail("a key without a value")),
            Some('"') => reader.quoted_value()?,
            Some(_) => reader.bare_value()?,
        };
        pairs.push((canonical_key(&key)?, value));
    }
    Ok(pairs)
}

struct Reader<'a> {
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    position: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.chars.next();
        self.position += usize::from(next.is_some());
        next
    }

    fn fail(&self, reason: &'static str) -> GitConfigError {
        GitConfigError::Syntax { position: self.position + 1, reason }
    }

    fn bare_key(&mut self) -> Result<String, GitConfigError> {
        let mut key = String::new();
        loop {
            match self.next() {
                Some(':') => return Ok(key),
                Some(c) => key.push(c),
                None => return Err(self.fail("a key without a value")),
            }
        }
    }

    fn quoted_key(&mut self) -> Result<String, GitConfigError> {
        let key = self.quoted()?;
        match self.next() {
            Some(':') => Ok(key),
            _ => Err(self.fail("a quoted key is followed by a colon")),
        }
    }

    fn quoted_value(&mut self) -> Result<String, GitConfigError> {
        let value = self.quoted()?;
        match self.next() {
            None | Some(',') => Ok(value),
            Some(_) => Err(self.fail("a quoted value is followed by a comma or nothing")),
        }
    }

    fn bare_value(&mut self) -> Result<String, GitConfigError> {
        let mut value = String::new();
        loop {
            match self.next() {
                None | Some(',') => return Ok(value),
                Some('\\') => value.push(self.escape()?),
                Some(c) => value.push(c),
            }
        }
    }

    fn quoted(&mut self) -> Result<String, GitConfigError> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(self.fail("a quote is not closed")),
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escape()?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, GitConfigError> {
        match self.next() {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some(c @ ('"' | ',' | '\\')) => Ok(c),
            _ => Err(self.fail("an unknown escape (known are \\n \\t \\\" \\, \\\\)")),
        }
    }
}

/// Section and name in lower case, the part between as it is, as git compares keys.
fn canonical_key(key: &str) -> Result<String, GitConfigError> {
    let refuse = || GitConfigError::Key { key: key.to_owned() };
    let (section, rest) = key.split_once('.').ok_or_else(refuse)?;
    let (sub, name) = match rest.rsplit_once('.') {
        Some((sub, name)) => (Some(sub), name),
        None => (None, rest),
    };
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !plain(section)
        || !plain(name)
        || !name.starts_with(|c: char| c.is_ascii_alphabetic())
        || sub.is_some_and(|sub| sub.contains(['\n', '\0']))
    {
        return Err(refuse());
    }
    let (section, name) = (section.to_ascii_lowercase(), name.to_ascii_lowercase());
    Ok(match sub {
        Some(sub) => format!("{section}.{sub}.{name}"),
        None => format!("{section}.{name}"),
    })
}

/// Settings in the order they were made, as one configuration file holds them.
///
/// ```
/// let mut git = gitsync::GitConfig::default();
/// git.set(vec![("http.lowspeedlimit".into(), "1000".into())]);
/// git.add(vec![("url.https://mirror.example/.insteadof".into(), "https://git.example/".into())]);
/// git.add_below(vec![("core.autocrlf".into(), "false".into())]);
/// assert_eq!(git.value("http.lowspeedlimit"), Some("1000"));
/// assert_eq!(git.boolean("core.autocrlf"), Some(Ok(false)));
/// assert_eq!(git.pairs().len(), 3);
/// assert_eq!(git.rewrite("https://git.example/site.git"), "https://mirror.example/site.git");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitConfig {
    pairs: Vec<(String, String)>,
}

impl GitConfig {
    /// Sets keys as `git config key value` does (`--git-config`): an old value is replaced.
    ///
    /// ```
    /// let mut git = gitsync::GitConfig::default();
    /// git.set(vec![("core.eol".into(), "crlf".into())]);
    /// git.set(vec![("core.eol".into(), "lf".into())]);
    /// assert_eq!(git.pairs().len(), 1);
    /// ```
    pub fn set(&mut self, pairs: Vec<(String, String)>) {
        for (key, value) in pairs {
            self.pairs.retain(|(old, _)| *old != key);
            self.pairs.push((key, value));
        }
    }

    /// Adds values as `git config --add` does (`--git-config-add`): old values stay.
    pub fn add(&mut self, pairs: Vec<(String, String)>) {
        self.pairs.extend(pairs);
    }

    /// Adds values that those already there win over, as a wider configuration file does.
    pub fn add_below(&mut self, pairs: Vec<(String, String)>) {
        self.pairs.splice(0..0, pairs);
    }

    /// All pairs, in order; keys are in git's canonical form.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// The value that counts for a canonical key: the last one.
    ///
    /// ```
    /// let mut git = gitsync::GitConfig::default();
    /// git.add(vec![("core.eol".into(), "crlf".into()), ("core.eol".into(), "lf".into())]);
    /// assert_eq!(git.value("core.eol"), Some("lf"));
    /// ```
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// A truth value as git reads it; `None` when the key is not set.
    ///
    /// # Errors
    /// A value that is none of git's spellings.
    pub fn boolean(&self, key: &str) -> Option<Result<bool, String>> {
        let value = self.value(key)?;
        Some(match value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Ok(true),
            "false" | "no" | "off" | "" => Ok(false),
            number => number
                .parse::<i64>()
                .map(|number| number != 0)
                .map_err(|_| format!("`{value}` is no truth value for {key}")),
        })
    }

    /// Rewrites a URL by `url.<base>.insteadOf`: the longest prefix that fits is replaced by its base; of
    /// equals the first set.
    #[must_use]
    pub fn rewrite<'a>(&self, url: &'a str) -> Cow<'a, str> {
        let mut best: Option<(&str, &str)> = None;
        for (key, prefix) in &self.pairs {
            let base = key.strip_prefix("url.").and_then(|rest| rest.strip_suffix(".insteadof"));
            let longer = best.is_none_or(|(_, longest)| prefix.len() > longest.len());
            if let Some(base) = base
                && longer
                && url.starts_with(prefix.as_str())
            {
                best = Some((base, prefix));
            }
        }
        match best {
            Some((base, prefix)) => Cow::Owned(format!("{base}{}", &url[prefix.len()..])),
            None => Cow::Borrowed(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn quoting_rules() {
        for (text, expected) in [
            ("", &[][..]),
            ("a.b:c", &[("a.b", "c")]),
            ("a.b:c,d.e:f,", &[("a.b", "c"), ("d.e", "f")]),
            (r#"a.b:"c,d",e.f:g"#, &[("a.b", "c,d"), ("e.f", "g")]),
            (r#""url.https://x/.insteadOf":git@h:x"#, &[("url.https://x/.insteadof", "git@h:x")]),
            (r#"a.b:c\,d\n\t\"\\"#, &[("a.b", "c,d\n\t\"\\")]),
            (r#""a.s\"t.b":"c\\""#, &[("a.s\"t.b", "c\\")]),
            ("a.b:c:d \" e", &[("a.b", "c:d \" e")]),
            (r#"a.b:"""#, &[("a.b", "")]),
            ("A.Sub.B:x", &[("a.Sub.b", "x")]),
        ] {
            assert_eq!(parse(text).unwrap(), pairs(expected), "{text}");
        }
    }

    #[test]
    fn refusals() {
        for (text, position) in [
            ("a.b", 4),
            ("a.b:", 5),
            ("a.b:,c.d:e", 5),
            (r"a.b:\x", 7),
            (r#"a.b:"c"#, 7),
            (r#"a.b:"c"d"#, 9),
            (r#""a.b"c:d"#, 7),
            (r"a.b:c\", 7),
        ] {
            match parse(text) {
                Err(GitConfigError::Syntax { position: found, .. }) => assert_eq!(found, position, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for key in ["ab", "a.", ".b", "a.1b", "a b.c", " a.b", "a_b.c"] {
            let error = parse(&format!("{key}:x")).unwrap_err();
            assert!(matches!(error, GitConfigError::Key { .. }), "{key}: {error}");
        }
    }

    #[test]
    fn setting_replaces_and_adding_keeps() {
        let mut config = GitConfig::default();
        config.set(pairs(&[("a.b", "1"), ("a.b", "2")]));
        assert_eq!(config.pairs().len(), 1);
        config.add(pairs(&[("a.b", "3")]));
        assert_eq!(config.pairs().len(), 2);
        assert_eq!(config.value("a.b"), Some("3"));
        config.set(pairs(&[("t.x", "Yes"), ("t.n", "0"), ("t.w", "what")]));
        assert_eq!(config.boolean("t.x"), Some(Ok(true)));
        assert_eq!(config.boolean("t.n"), Some(Ok(false)));
        assert!(config.boolean("t.w").unwrap().is_err());
        assert_eq!(config.boolean("t.none"), None);
    }

    #[test]
    fn the_longest_prefix_is_rewritten() {
        let mut config = GitConfig::default();
        config.set(parse(r#""url.https://mirror/.insteadOf":"git@github.com:","url.https://deep/.insteadOf":"git@github.com:org/""#).unwrap());
        config.add(parse(r#""url.https://mirror/.insteadOf":"https://github.com/""#).unwrap());
        assert_eq!(config.rewrite("git@github.com:a/b"), "https://mirror/a/b");
        assert_eq!(config.rewrite("git@github.com:org/b"), "https://deep/b");
        assert_eq!(config.rewrite("https://github.com/x"), "https://mirror/x");
        assert_eq!(config.rewrite("https://gitlab.com/x"), "https://gitlab.com/x");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in any::<String>(), url in any::<String>()) {
            if let Ok(pairs) = parse(&text) {
                let mut config = GitConfig::default();
                config.add(pairs);
                let _ = config.rewrite(&url);
            }
        }

        #[test]
        fn near_misses_never_panic(text in r#"[a.:,"\\n]{0,20}"#) {
            let _ = parse(&text);
        }

        #[test]
        fn quoted_values_come_back(value in "[^\0]{0,30}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(parse(&format!("a.b:\"{quoted}\"")), Ok(vec![("a.b".to_owned(), value.clone())]));
            if !value.is_empty() && !value.starts_with('"') {
                let bare = value.replace('\\', "\\\\").replace(',', "\\,");
                prop_assert_eq!(parse(&format!("a.b:{bare}")), Ok(vec![("a.b".to_owned(), value)]));
            }
        }
    }
}
