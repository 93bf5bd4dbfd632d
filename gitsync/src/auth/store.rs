//! Credentials by URL: the `--credential` lists and what stands in for them.

use std::path::PathBuf;

use common::secret::{self, SecretError, SecretString};
use serde::Deserialize;

use super::url::{self, Parts};

/// Largest JSON text that is taken, in bytes.
const MAX_JSON: usize = 1 << 20;

/// Where a password is.
///
/// ```
/// use gitsync::Password;
///
/// let password = Password::Value("hush".to_owned().into());
/// assert!(!format!("{password:?}").contains("hush"));
/// assert!(Password::File("/does/not/exist".into()).read().is_err(), "read when it is needed");
/// ```
#[derive(Debug, Clone)]
pub enum Password {
    /// Given outright.
    Value(SecretString),
    /// In a file that is read anew before every attempt.
    File(PathBuf),
}

impl Password {
    /// The password as it is now.
    ///
    /// # Errors
    /// The file cannot be read.
    ///
    /// ```
    /// use gitsync::Password;
    ///
    /// assert!(Password::Value("hush".to_owned().into()).read().is_ok());
    /// ```
    pub fn read(&self) -> Result<SecretString, SecretError> {
        match self {
            Self::Value(secret) => Ok(secret.clone()),
            Self::File(path) => secret::read(path),
        }
    }
}

/// A user and a password for everything under a URL.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use gitsync::{Credential, Password};
///
/// config.credentials.by_url.push(Credential {
///     url: "https://git.example/".into(),
///     username: "bot".into(),
///     password: Password::File("/etc/git-secret/token".into()),
/// });
/// ```
#[derive(Debug, Clone)]
pub struct Credential {
    /// Scheme, host, port and path it is for; without a user part.
    pub url: String,
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: Password,
}

/// Why a `--credential` text is refused. Values are never repeated: they may be secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Not JSON, or not of the right shape.
    #[error("not a JSON credential or list of them, at line {line} column {column}: {reason}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
    /// More than 1 MiB.
    #[error("longer than 1 MiB")]
    TooLong,
    /// No `url`, or one without scheme and host.
    #[error("credential {number}: `url` must be a URL with scheme and host")]
    Url {
        /// Position in the list, from 1.
        number: usize,
    },
    /// No `username`.
    #[error("credential {number}: `username` is missing")]
    Username {
        /// Position in the list, from 1.
        number: usize,
    },
    /// Neither or both of `password` and `password-file`.
    #[error("credential {number}: exactly one of `password` and `password-file` is needed")]
    Password {
        /// Position in the list, from 1.
        number: usize,
    },
}

impl CredentialError {
    /// Whether the text says nothing at all, and not something that isn't enough.
    pub(crate) fn is_unreadable(&self) -> bool {
        matches!(self, Self::Json { .. } | Self::TooLong)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    #[serde(default)]
    url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    password_file: String,
}

/// Reads one credential or a list of them.
///
/// # Errors
/// Broken JSON, an unknown key, or a credential that is not complete.
pub fn parse(json: &str) -> Result<Vec<Credential>, CredentialError> {
    if json.len() > MAX_JSON {
        return Err(CredentialError::TooLong);
    }
    let list: Vec<Raw> = match json.trim_start().starts_with('[') {
        true => serde_json::from_str(json).map_err(|error| explain(&error))?,
        false => vec![serde_json::from_str(json).map_err(|error| explain(&error))?],
    };
    list.into_iter().enumerate().map(|(index, raw)| check(raw, index + 1)).collect()
}

/// Reads the lines of `git credential-store`: `https://user:password@host[:port]`.
///
/// Paths are left out, as git does for HTTP; a line that holds no credential is passed over, too. The first
/// line for a host counts, so that one comes last.
#[must_use]
pub fn stored(text: &str) -> Vec<Credential> {
    let read = |line: &str| {
        let (url, user) = url::cut_credentials(line.trim_end_matches('\r')).ok()?;
        let (user, parts) = (user?, url::split(&url)?);
        let port = parts.port.map(|port| format!(":{port}")).unwrap_or_default();
        let host = if parts.host.contains(':') { format!("[{}]", parts.host) } else { parts.host.to_owned() };
        let url = format!("{}://{host}{port}", parts.scheme);
        let password = Password::Value(user.password?);
        Some(Credential { url, username: user.username, password })
    };
    text.lines().rev().filter_map(read).collect()
}

fn check(raw: Raw, number: usize) -> Result<Credential, CredentialError> {
    let parts = url::split(&raw.url).filter(|parts| !parts.host.is_empty() || parts.scheme == "file");
    if parts.is_none() {
        return Err(CredentialError::Url { number });
    }
    if raw.username.is_empty() {
        return Err(CredentialError::Username { number });
    }
    let password = match (raw.password.is_empty(), raw.password_file.is_empty()) {
        (false, true) => Password::Value(SecretString::from(raw.password)),
        (true, false) => Password::File(PathBuf::from(raw.password_file)),
        _ => return Err(CredentialError::Password { number }),
    };
    Ok(Credential { url: raw.url, username: raw.username, password })
}

/// serde's messages about wrong types quote the value, so only those about names are passed on.
fn explain(error: &serde_json::Error) -> CredentialError {
    let text = error.to_string();
    let about_names =
        ["unknown field", "missing field", "duplicate field"].iter().any(|start| text.starts_with(start));
    let reason = match (about_names, error.classify()) {
        (true, _) => text.split(" at line ").next().unwrap_or_default().to_owned(),
        (false, serde_json::error::Category::Data) => "a value of the wrong type".to_owned(),
        (false, serde_json::error::Category::Eof) => "it ends too early".to_owned(),
        (false, _) => "broken syntax".to_owned(),
    };
    CredentialError::Json { line: error.line(), column: error.column(), reason }
}

/// Credentials in the order they were given.
#[derive(Debug, Clone, Default)]
pub struct Store {
    credentials: Vec<Credential>,
}

impl Store {
    /// Adds one; for the same URL and user a later one replaces an earlier one.
    pub fn insert(&mut self, credential: Credential) {
        self.credentials.retain(|old| old.url != credential.url || old.username != credential.username);
        self.credentials.push(credential);
    }

    /// All of them, in order.
    #[must_use]
    pub fn credentials(&self) -> &[Credential] {
        &self.credentials
    }

    /// The credential for a URL: same scheme, host and port, and the same user when the URL names one.
    ///
    /// The longest path that is a prefix of the URL's path, by whole segments, wins; of equals the last
    /// given. Where no path fits, the last one for the host counts: git drops paths when it looks up
    /// HTTP passwords (`credential.useHttpPath` is off), so one credential serves every repository and
    /// submodule of a host.
    #[must_use]
    pub fn find(&self, url: &str) -> Option<&Credential> {
        let wanted = url::split(url)?;
        let user = wanted.user().filter(|user| !user.is_empty());
        self.credentials
            .iter()
            .filter(|credential| user.as_ref().is_none_or(|user| *user == credential.username))
            .filter_map(|credential| Some((fit(&url::split(&credential.url)?, &wanted)?, credential)))
            .max_by_key(|(fit, _)| *fit)
            .map(|(_, credential)| credential)
    }
}

/// How well a credential's URL fits: `None` for another origin, 0 for another path, else 1 more than
/// the number of path bytes that agree.
fn fit(have: &Parts<'_>, want: &Parts<'_>) -> Option<usize> {
    if !have.same_origin(want) {
        return None;
    }
    let (prefix, path) = (have.path.trim_end_matches('/'), want.path.trim_end_matches('/'));
    let agrees = path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    Some(if agrees { prefix.len() + 1 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::secret::ExposeSecret;
    use proptest::prelude::*;

    fn store(list: &[(&str, &str)]) -> Store {
        let mut store = Store::default();
        for (url, username) in list {
            let password = Password::Value(SecretString::from("p"));
            store.insert(Credential { url: (*url).to_owned(), username: (*username).to_owned(), password });
        }
        store
    }

    #[test]
    fn objects_and_lists_are_read() {
        let one = parse(r#" {"url":"https://h/x","username":"u","password":"p"}"#).unwrap();
        assert_eq!(one[0].password.read().unwrap().expose_secret(), "p");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "first\n").unwrap();
        let json = format!(
            r#"[{{"url":"https://h","username":"u","password-file":"{0}"}},{{"url":"https://i","username":"u","password":"p"}}]"#,
            file.path().display()
        );
        let list = parse(&json).unwrap();
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].password.read().unwrap().expose_secret(), "first");
        std::fs::write(file.path(), "second\n").unwrap();
        assert_eq!(list[0].password.read().unwrap().expose_secret(), "second");
        assert!(parse("[]").unwrap().is_empty());
    }

    #[test]
    fn refusals_name_the_place_and_hide_values() {
        for (json, part) in [
            (r#"{"url":"https://h","username":"u","password":"S3CR3T","pasword-file":"x"}"#, "pasword-file"),
            (r#"{"url":"https://h","username":"u","password":["S3CR3T"]}"#, "wrong type"),
            (r#""S3CR3T""#, "wrong type"),
            (r#"S3CR3T"#, "line 1"),
            (r#"{"url":"https://h","username":"S3CR3T"}"#, "exactly one"),
            (r#"{"url":"https://h","username":"u","password":"S3CR3T","password-file":"x"}"#, "exactly one"),
            (r#"{"url":"https://h","password":"S3CR3T"}"#, "username"),
            (r#"[{"url":"S3CR3T","username":"u","password":"p"}]"#, "credential 1"),
            (r#"{"username":"u","password":"S3CR3T"}"#, "`url`"),
            ("", "too early"),
        ] {
            let message = parse(json).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains("S3CR3T"), "{json}: {message}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let list = parse(r#"{"url":"https://h","username":"u","password":"S3CR3T"}"#).unwrap();
        assert!(!format!("{list:?}").contains("S3CR3T"));
    }

    #[test]
    fn the_longest_path_of_the_same_origin_wins() {
        let store = store(&[
            ("https://h/org/repo", "repo"),
            ("https://h/org", "org"),
            ("https://h", "host"),
            ("https://h:444", "port"),
            ("http://h", "plain"),
        ]);
        let user = |url| store.find(url).map(|credential| credential.username.as_str());
        assert_eq!(user("https://H:443/org/repo/"), Some("repo"));
        assert_eq!(user("https://h/org/repository"), Some("org"));
        assert_eq!(user("https://h/other"), Some("host"));
        assert_eq!(user("https://org@h/x"), Some("org"));
        assert_eq!(user("https://nobody@h/x"), None);
        assert_eq!(user("https://h:444/org/repo"), Some("port"));
        assert_eq!(user("http://h/org"), Some("plain"));
        assert_eq!(user("https://h.evil/org"), None);
        assert_eq!(user("https://evil/h"), None);
    }

    #[test]
    fn another_path_of_the_host_is_served_and_later_ones_replace() {
        let store = store(&[("https://h/a", "first"), ("https://h/b", "second")]);
        assert_eq!(store.find("https://h/c").unwrap().username, "second");
        assert_eq!(store.find("https://h/a").unwrap().username, "first");
        let mut store = store;
        let password = Password::Value(SecretString::from("new"));
        store.insert(Credential { url: "https://h/a".into(), username: "first".into(), password });
        assert_eq!(store.credentials().len(), 2);
        assert_eq!(store.find("https://h/a").unwrap().password.read().unwrap().expose_secret(), "new");
    }

    #[test]
    fn lines_of_the_credential_store() {
        let text =
            "https://us%40er:p%3Aw@h:8443/a/b\nnonsense\nhttps://u@h\nhttps://a:1@g\r\nhttps://a:2@g\n";
        let mut found = Store::default();
        stored(text).into_iter().for_each(|one| found.insert(one));
        let secret = |url: &str| {
            let one = found.find(url)?;
            Some((one.username.clone(), one.password.read().unwrap().expose_secret().to_owned()))
        };
        assert_eq!(secret("https://h:8443/x"), Some(("us@er".to_owned(), "p:w".to_owned())));
        assert_eq!(secret("https://g/x"), Some(("a".to_owned(), "1".to_owned())));
        assert_eq!(secret("https://h/x"), None);
    }

    proptest! {
        #[test]
        fn stored_lines_never_panic(text in any::<String>()) {
            let _ = stored(&text);
        }

        #[test]
        fn garbage_never_panics(json in any::<String>(), url in any::<String>()) {
            let _ = parse(&json);
            let _ = store(&[(&json, "u"), ("https://h", "v")]).find(&url);
        }

        #[test]
        fn near_misses_never_panic(json in r#"[\[{]?("(url|username|password|password-file|x)":("[a-z:/]{0,9}"|1|null|\[\]),?){0,4}[}\]]{0,2}"#) {
            let _ = parse(&json);
        }
    }
}
