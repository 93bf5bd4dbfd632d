//! What `--repo` can be. Pure.

use std::path::PathBuf;

use thiserror::Error;
use url::Url;

use crate::redact::percent_decode;
use crate::ssh::Target;

/// A remote's address, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteUrl {
    /// A path on this machine (also `file://`).
    Local(PathBuf),
    /// `git://host[:port]/path`
    Git {
        /// Host name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// Path on the server, with its leading slash.
        path: String,
    },
    /// `http://` or `https://`, without user and password.
    Http(Url),
    /// `ssh://[user@]host[:port]/path` or `[user@]host:path`
    Ssh(Target),
}

/// An address that can't be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} {1}")]
pub struct UrlError(String, String);

impl RemoteUrl {
    /// The protocol's name, as in git's `protocol.<name>.allow`.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Local(_) => "file",
            Self::Git { .. } => "git",
            Self::Http(url) if url.scheme() == "https" => "https",
            Self::Http(_) => "http",
            Self::Ssh(_) => "ssh",
        }
    }

    /// Takes an address apart.
    ///
    /// # Errors
    /// When a scheme is unknown or a part is missing.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let shown = || crate::redact::url(text);
        let fail = |reason: &str| UrlError(shown(), reason.to_owned());
        if text.is_empty() {
            return Err(fail("is empty"));
        }
        if crate::ssh::is_ssh(text) {
            return Target::parse(text)
                .map(Self::Ssh)
                .map_err(|e| fail(&format!("is no usable address: {e}")));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Local(PathBuf::from(text)));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => Ok(Self::Local(PathBuf::from(percent_decode(local_path(rest))))),
            "http" | "https" => {
                let mut url = Url::parse(text).map_err(|_| fail("is no valid URL"))?;
                if url.host_str().is_none_or(str::is_empty) {
                    return Err(fail("names no host"));
                }
                // Neither can fail for http; credentials are taken out before.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.set_fragment(None);
                Ok(Self::Http(url))
            }
            "git" => {
                let (host, port, path) = authority(rest, 9418).map_err(fail)?;
                Ok(Self::Git { host, port, path })
            }
            _ => Err(fail("has a scheme that isn't file, git, http, https or ssh")),
        }
    }
}

/// `file:///path` and `file://localhost/path`.
fn local_path(rest: &str) -> &str {
    match rest.find('/') {
        Some(at) if &rest[..at] == "localhost" => &rest[at..],
        _ => rest,
    }
}

type Authority = (String, u16, String);

fn authority(rest: &str, default_port: u16) -> Result<Authority, &'static str> {
    let at = rest.find('/').ok_or("names no path")?;
    let (authority, path) = rest.split_at(at);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match host.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        Some((host, tail)) => (host, tail.strip_prefix(':')),
        None => match host.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host, None),
        },
    };
    let port = match port {
        None | Some("") => default_port,
        Some(digits) => digits.parse().map_err(|_| "has a port that is no number")?,
    };
    // A leading dash would be an option to a program; no host has one.
    if host.is_empty() || host.starts_with('-') {
        return Err("names no host");
    }
    if path == "/" || path.contains(['\0', '\n']) {
        return Err("names no path");
    }
    Ok((host.to_owned(), port, percent_decode(path)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms() {
        let parse = |text| RemoteUrl::parse(text).unwrap();
        for text in ["git@host:path/x.git", "ssh://git@host:2222/x.git", "ssh://[::1]:23/x"] {
            assert!(matches!(parse(text), RemoteUrl::Ssh(_)), "{text}");
        }
        assert_eq!(parse("/srv/x.git"), RemoteUrl::Local("/srv/x.git".into()));
        assert_eq!(parse("file:///srv/a%20b"), RemoteUrl::Local("/srv/a b".into()));
        assert_eq!(parse("./a:b"), RemoteUrl::Local("./a:b".into()));
        assert_eq!(
            parse("git://host/x"),
            RemoteUrl::Git { host: "host".to_owned(), port: 9418, path: "/x".to_owned() }
        );
        assert_eq!(parse("https://u:p@host/x"), RemoteUrl::Http(Url::parse("https://host/x").unwrap()));
    }

    #[test]
    fn refused_forms_do_not_show_passwords() {
        for text in ["", "ftp://u:secret@x/y", "git://host", "ssh://-oProxyCommand=x/y", "git://h:x/y"] {
            let error = RemoteUrl::parse(text).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = RemoteUrl::parse(&text);
            let _ = RemoteUrl::parse(&format!("git://{text}"));
        }
    }
}
