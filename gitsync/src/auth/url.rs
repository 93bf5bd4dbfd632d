//! Users and passwords inside URLs: cutting them out, matching URLs, and hiding them in logs. Pure.

use std::borrow::Cow;
use std::fmt::Write;

use common::secret::SecretString;

/// Stands where a secret was.
const HIDDEN: &str = "REDACTED";

/// The parts of a URL that matter for credentials, still escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Before `://`, as written.
    pub scheme: &'a str,
    /// Before the `@`, if any: `user` or `user:password`.
    pub userinfo: Option<&'a str>,
    /// Without brackets.
    pub host: &'a str,
    /// When written.
    pub port: Option<u16>,
    /// From the first slash on, without query and fragment; may be empty.
    pub path: &'a str,
    /// From the `?` or `#` on; may be empty.
    pub tail: &'a str,
}

/// Splits a URL with an authority (`scheme://…`). `None` when it is none, or its port is no number.
#[must_use]
pub fn split(url: &str) -> Option<Parts<'_>> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme_ok = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(scheme_ok) {
        return None;
    }
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (path, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let (userinfo, address) = match authority.rsplit_once('@') {
        Some((userinfo, address)) => (Some(userinfo), address),
        None => (None, authority),
    };
    let (host, port) = match address.strip_prefix('[') {
        Some(inner) => inner.split_once(']').and_then(|(host, tail)| match tail {
            "" => Some((host, "")),
            _ => Some((host, tail.strip_prefix(':')?)),
        })?,
        None => match address.split_once(':') {
            Some((_, port)) if port.contains(':') => return None,
            Some((host, port)) => (host, port),
            None => (address, ""),
        },
    };
    let port = match port {
        "" => None,
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    Some(Parts { scheme, userinfo, host, port, path, tail })
}

impl Parts<'_> {
    /// The port that is meant: the written one, else the scheme's own.
    #[must_use]
    pub fn effective_port(&self) -> Option<u16> {
        self.port.or_else(|| match self.scheme.to_ascii_lowercase().as_str() {
            "http" => Some(80),
            "https" => Some(443),
            "ssh" | "git+ssh" | "ssh+git" => Some(22),
            "git" => Some(9418),
            _ => None,
        })
    }

    /// Whether the URL is `http` or `https`.
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.scheme.eq_ignore_ascii_case("http") || self.scheme.eq_ignore_ascii_case("https")
    }

    /// Whether both name the same scheme, host and port.
    #[must_use]
    pub fn same_origin(&self, other: &Parts<'_>) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.effective_port() == other.effective_port()
    }

    /// The user, unescaped; `None` without one or with a broken escape.
    #[must_use]
    pub fn user(&self) -> Option<String> {
        let userinfo = self.userinfo?;
        let user = userinfo.split_once(':').map_or(userinfo, |(user, _)| user);
        String::from_utf8(unescape(user)?).ok()
    }

    fn without_user(&self) -> String {
        let mut url = format!("{}://", self.scheme);
        match self.host.contains(':') {
            true => _ = write!(url, "[{}]", self.host),
            false => url.push_str(self.host),
        }
        if let Some(port) = self.port {
            _ = write!(url, ":{port}");
        }
        url + self.path + self.tail
    }
}

/// What stood before the `@` of a URL.
#[derive(Debug, Clone)]
pub struct UserInfo {
    /// Unescaped user name; may be empty.
    pub username: String,
    /// Unescaped password, when there was a colon.
    pub password: Option<SecretString>,
}

/// Why a URL's user part cannot be cut out. The text is not repeated: it holds a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// An `http` URL that cannot be split.
    #[error("unusable http URL: check host and port")]
    Malformed,
    /// A `%` without two hexadecimal digits, or bytes that are no text.
    #[error("broken %-escape in the user or password of the URL")]
    Escape,
}

/// Cuts user and password out of an `http` or `https` URL. Anything else is returned as it is (an SSH
/// URL keeps its user).
///
/// # Errors
/// An `http` URL that cannot be split, or a broken escape in its user part.
pub fn cut_credentials(url: &str) -> Result<(String, Option<UserInfo>), UrlError> {
    if !is_http(url) {
        return Ok((url.to_owned(), None));
    }
    let parts = split(url).ok_or(UrlError::Malformed)?;
    if parts.host.is_empty() {
        return Err(UrlError::Malformed);
    }
    let Some(userinfo) = parts.userinfo else { return Ok((url.to_owned(), None)) };
    let (user, password) = match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (userinfo, None),
    };
    let text =
        |escaped| unescape(escaped).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(UrlError::Escape);
    let info =
        UserInfo { username: text(user)?, password: password.map(text).transpose()?.map(SecretString::from) };
    Ok((parts.without_user(), Some(info)))
}

/// A URL for logs: a password is hidden, and so are a lone user of an `http` URL (it may be a token)
/// and any query. Text that is no URL is returned as it is, unless it looks like one with a user.
#[must_use]
pub fn mask(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else { return Cow::Borrowed(url) };
    // Deliberately cruder than `split`: what that refuses must be hidden, too.
    let (front, tail) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], HIDDEN),
        None => (rest, ""),
    };
    // A password with a slash in it puts the `@` behind the authority; nothing before it is shown then.
    let Some((userinfo, address)) = front.rsplit_once('@') else {
        return match tail.is_empty() {
            true => Cow::Borrowed(url),
            false => Cow::Owned(format!("{scheme}://{front}?{tail}")),
        };
    };
    let question = if tail.is_empty() { "" } else { "?" };
    match userinfo.split_once(':') {
        Some((user, _)) if !user.contains('/') => {
            Cow::Owned(format!("{scheme}://{user}:{HIDDEN}@{address}{question}{tail}"))
        }
        None if !is_http(url) && tail.is_empty() => Cow::Borrowed(url),
        None if userinfo.contains('/') && tail.is_empty() => Cow::Borrowed(url),
        _ => Cow::Owned(format!("{scheme}://{HIDDEN}@{address}{question}{tail}")),
    }
}

/// Undoes `%`-escapes; `None` for one without two hexadecimal digits.
#[must_use]
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let mut digit = || (bytes.next()? as char).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        plain.push(u8::try_from(high << 4 | low).ok()?);
    }
    Some(plain)
}

fn is_http(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| {
        scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::secret::ExposeSecret;
    use proptest::prelude::*;

    fn cut(url: &str) -> (String, Option<(String, Option<String>)>) {
        let (url, info) = cut_credentials(url).unwrap();
        (url, info.map(|info| (info.username, info.password.map(|secret| secret.expose_secret().to_owned()))))
    }

    #[test]
    fn users_and_passwords_are_cut_out_of_http_urls_only() {
        let some = |user: &str, password: Option<&str>| Some((user.to_owned(), password.map(str::to_owned)));
        assert_eq!(cut("https://u:p@h/x?q"), ("https://h/x?q".into(), some("u", Some("p"))));
        assert_eq!(cut("HTTP://u%40c:p%3a%2F@h:8080"), ("HTTP://h:8080".into(), some("u@c", Some("p:/"))));
        assert_eq!(cut("https://tok@h/x"), ("https://h/x".into(), some("tok", None)));
        assert_eq!(cut("https://u:@[::1]:8/x"), ("https://[::1]:8/x".into(), some("u", Some(""))));
        assert_eq!(cut("https://a@b:c@h/x"), ("https://h/x".into(), some("a@b", Some("c"))));
        assert_eq!(cut("https://h/a@b:c"), ("https://h/a@b:c".into(), None));
        assert_eq!(cut("ssh://u:p@h/x"), ("ssh://u:p@h/x".into(), None));
        assert_eq!(cut("git@h:x"), ("git@h:x".into(), None));
        assert_eq!(cut_credentials("https://u:%zz@h/").unwrap_err(), UrlError::Escape);
        assert_eq!(cut_credentials("https://h:port/").unwrap_err(), UrlError::Malformed);
        assert_eq!(cut_credentials("https://").unwrap_err(), UrlError::Malformed);
    }

    #[test]
    fn masks() {
        for (url, masked) in [
            ("https://u:p@h/x", "https://u:REDACTED@h/x"),
            ("https://token@h/x", "https://REDACTED@h/x"),
            ("ssh://git@h/x", "ssh://git@h/x"),
            ("ssh://git:p@h/x", "ssh://git:REDACTED@h/x"),
            ("https://h/x", "https://h/x"),
            ("https://h/x?token=1", "https://h/x?REDACTED"),
            ("https://u:p@h/x#y", "https://u:REDACTED@h/x?REDACTED"),
            ("https://u:p/w@h/x", "https://u:REDACTED@h/x"),
            ("https://u:p@h:bad/x", "https://u:REDACTED@h:bad/x"),
            ("/a/b", "/a/b"),
        ] {
            assert_eq!(mask(url), masked);
        }
    }

    #[test]
    fn origins() {
        let same = |a, b| split(a).unwrap().same_origin(&split(b).unwrap());
        assert!(same("https://Host/x", "HTTPS://host:443/y"));
        assert!(!same("https://host/x", "http://host/x"));
        assert!(!same("https://host/x", "https://host:444/x"));
        assert!(!same("https://host/x", "https://host.evil/x"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(url in any::<String>()) {
            let _ = (split(&url), mask(&url), cut_credentials(&url), unescape(&url));
        }

        #[test]
        fn secrets_never_survive_masking(user in "[a-z]{1,5}", secret in "S3CR3T[!-~&&[^@?#]]{0,9}", host in "[a-z]{1,9}(:[0-9]{1,6})?") {
            let url = format!("https://{user}:{secret}@{host}/p");
            prop_assert!(!mask(&url).contains("S3CR3T"), "{}", mask(&url));
            if let Ok((cleaned, _)) = cut_credentials(&url) && !secret.contains('/') {
                prop_assert!(!cleaned.contains("S3CR3T"), "{}", cleaned);
            }
        }
    }
}
