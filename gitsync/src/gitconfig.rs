//! `--git-config`: pairs in kubernetes/git-sync's syntax, and what they mean without a git program.

use std::path::PathBuf;

use crate::config::Config;

/// Cuts `key:value,key:value` into pairs.
///
/// Keys and values may be double-quoted. Escapes `\n \t \" \, \\` work in values and in quoted keys.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start().chars().peekable();
    while rest.peek().is_some() {
        let key = match rest.next_if_eq(&'"') {
            Some(_) => {
                let key = quoted(&mut rest)?;
                if rest.next() != Some(':') {
                    return Err(format!("the key \"{key}\" has no value"));
                }
                key
            }
            None => {
                let mut key = String::new();
                loop {
                    match rest.next() {
                        Some(':') => break,
                        Some('\\') => return Err(format!("an escape in the bare key \"{key}\"")),
                        Some(c) => key.push(c),
                        None => return Err(format!("the key \"{key}\" has no value")),
                    }
                }
                key
            }
        };
        let value = match rest.next_if_eq(&'"') {
            Some(_) => {
                let value = quoted(&mut rest)?;
                if !matches!(rest.next(), None | Some(',')) {
                    return Err(format!("something follows the quoted value of {key}"));
                }
                value
            }
            None => bare(&mut rest)?,
        };
        if key.trim().is_empty() {
            return Err("an empty key".to_owned());
        }
        pairs.push((key.trim().to_owned(), value));
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
    }
    Ok(pairs)
}

fn quoted(rest: &mut impl Iterator<Item = char>) -> Result<String, String> {
    let mut text = String::new();
    loop {
        match rest.next() {
            Some('"') => return Ok(text),
            Some('\\') => text.push(escape(rest.next())?),
            Some(c) => text.push(c),
            None => return Err("a quote without its end".to_owned()),
        }
    }
}

fn bare(rest: &mut impl Iterator<Item = char>) -> Result<String, String> {
    let mut text = String::new();
    loop {
        match rest.next() {
            None | Some(',') => return Ok(text),
            Some('\\') => text.push(escape(rest.next())?),
            Some(c) => text.push(c),
        }
    }
}

fn escape(c: Option<char>) -> Result<char, String> {
    match c {
        Some('n') => Ok('\n'),
        Some('t') => Ok('\t'),
        Some(c @ ('"' | ',' | '\\')) => Ok(c),
        Some(c) => Err(format!("the escape `\\{c}`")),
        None => Err("a backslash at the end".to_owned()),
    }
}

impl Config {
    /// Takes a Git setting in as far as it means something here; false when it doesn't.
    pub fn apply_git_setting(&mut self, key: &str, value: &str) -> bool {
        let lower = key.to_ascii_lowercase();
        let tls = &mut self.transport.tls;
        match lower.as_str() {
            "http.extraheader" => {
                if let Some((name, value)) = value.split_once(':') {
                    self.transport.headers.push((name.trim().to_owned(), value.trim().to_owned()));
                }
            }
            "http.sslcainfo" => tls.ca_file = Some(PathBuf::from(value)),
            "http.sslcert" => {
                let key = tls.identity.take().map_or_else(|| value.into(), |(_, key)| key);
                tls.identity = Some((value.into(), key));
            }
            "http.sslkey" => {
                let chain = tls.identity.take().map_or_else(|| value.into(), |(chain, _)| chain);
                tls.identity = Some((chain, value.into()));
            }
            "protocol.file.allow" | "protocol.allow" => self.allow_local_submodules = value == "always",
            // Owners are never a reason to refuse here; see `repo`.
            "safe.directory" => {}
            _ => match lower.strip_prefix("url.").and_then(|rest| rest.strip_suffix(".insteadof")) {
                Some(base) => self.instead_of.push((key[4..4 + base.len()].to_owned(), value.to_owned())),
                None => return false,
            },
        }
        true
    }

    /// An address after `url.<base>.insteadOf` was applied; the longest match wins.
    pub(crate) fn rewritten(&self, url: &str) -> String {
        let best = self
            .instead_of
            .iter()
            .filter(|(_, from)| url.starts_with(from.as_str()))
            .max_by_key(|(_, from)| from.len());
        match best {
            Some((base, from)) => format!("{base}{}", &url[from.len()..]),
            None => url.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap()
    }

    fn one(key: &str, value: &str) -> Vec<(String, String)> {
        vec![(key.to_owned(), value.to_owned())]
    }

    #[test]
    fn quotes_and_escapes() {
        assert_eq!(pairs("a.b:c"), one("a.b", "c"));
        assert_eq!(pairs("a.b:c:d"), one("a.b", "c:d"));
        assert_eq!(pairs(r#""url.x:y.insteadOf":"a, b""#), one("url.x:y.insteadOf", "a, b"));
        assert_eq!(pairs(r"a.b:x\,y\n\\"), one("a.b", "x,y\n\\"));
        assert_eq!(pairs("a.b:1,c.d:2").len(), 2);
        assert_eq!(pairs(""), []);
        for bad in ["a", "a.b:\\x", "\"a", "a.b:\"x\"y", "\"a.b\"", ":v"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_means_something() {
        let mut config = Config::new("r", "/r");
        assert!(config.apply_git_setting("url.https://h/.insteadOf", "git@h:"));
        assert_eq!(config.rewritten("git@h:a/b"), "https://h/a/b");
        assert!(config.apply_git_setting("http.sslCAInfo", "/ca"));
        assert!(!config.apply_git_setting("user.name", "x"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in ".{0,60}") {
            let _ = parse(&text);
        }
    }
}
