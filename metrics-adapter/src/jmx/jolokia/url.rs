//! Addresses of Jolokia agents.

use thiserror::Error;

/// Where an agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentUrl {
    /// Whether over TLS.
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path with its query, `/jolokia/` when the URL has none.
    pub path: String,
}

/// An address that is none.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{url}` is not the address of a Jolokia agent: {why}")]
pub struct AgentUrlError {
    url: String,
    why: &'static str,
}

/// Every form an address may have: what stands before the host, and whether it means TLS.
const SCHEMES: &[(&str, bool)] = &[
    ("service:jmx:jolokia+https://", true),
    ("service:jmx:jolokia+http://", false),
    ("service:jmx:jolokia://", false),
    ("https://", true),
    ("http://", false),
];

impl AgentUrl {
    /// Whether a text looks like such an address at all.
    #[must_use]
    pub fn is_meant(url: &str) -> bool {
        SCHEMES.iter().any(|(scheme, _)| url.trim().starts_with(scheme))
    }

    /// Reads `http://host:port/path`, the same with `https`, or the service URL of Jolokia's own connector.
    ///
    /// # Errors
    /// Another scheme, a user in the address, or a port that is none.
    pub fn parse(url: &str) -> Result<Self, AgentUrlError> {
        let refuse = |why| AgentUrlError { url: url.to_owned(), why };
        let text = url.trim();
        let found = SCHEMES.iter().find_map(|(scheme, tls)| Some((text.strip_prefix(scheme)?, *tls)));
        let (rest, tls) = found.ok_or_else(|| refuse("it starts with neither `http://` nor `https://`"))?;
        let (address, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if address.contains('@') {
            // Not shown, since it may hold a password.
            let why = "the user belongs into `username` and `password`";
            return Err(AgentUrlError { url: "…".to_owned(), why });
        }
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None => 8778,
            Some(port) => port.parse().map_err(|_| refuse("the port is not a number up to 65535"))?,
        };
        if host.is_empty() || path.contains(|c: char| c.is_ascii_control() || c == ' ') {
            return Err(refuse("there is no host, or the path has blanks in it"));
        }
        let path = match path {
            "" | "/" => "/jolokia/".to_owned(),
            path if path.starts_with('?') => format!("/jolokia/{path}"),
            path => path.to_owned(),
        };
        Ok(Self { tls, host: host.to_owned(), port, path })
    }

    /// `host:port`, with brackets around an IPv6 address.
    #[must_use]
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses() {
        for (text, tls, authority, path) in [
            ("http://h:1/jolokia", false, "h:1", "/jolokia"),
            ("https://h", true, "h:8778", "/jolokia/"),
            ("service:jmx:jolokia://[::1]:5/x/", false, "[::1]:5", "/x/"),
            ("http://h:80?maxDepth=3", false, "h:80", "/jolokia/?maxDepth=3"),
        ] {
            let url = AgentUrl::parse(text).unwrap();
            assert_eq!(
                (url.tls, url.authority().as_str(), url.path.as_str()),
                (tls, authority, path),
                "{text}"
            );
        }
        for bad in ["h:1", "http://", "http://h:x/", "http://h/a b", "service:jmx:rmi:///x"] {
            assert!(AgentUrl::parse(bad).is_err(), "{bad}");
        }
        let error = AgentUrl::parse("http://me:s3cret@h/").unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in ".*", near in r"http://[\[\]:@/?a1]{0,12}") {
            let _ = AgentUrl::parse(&text);
            let _ = AgentUrl::parse(&near);
        }
    }
}
