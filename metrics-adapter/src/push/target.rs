//! Where to push, and how.

use std::fmt;
use std::time::{Duration, SystemTime};

use common::client::{TlsError, TlsOptions};
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::batch::Encoder;
use super::otlp::Otlp;
use super::remote_write::{One, RemoteWrite, Two};

/// What the receiver speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// OTLP over HTTP, binary protobuf.
    Otlp,
    /// Prometheus remote write 1.0.
    RemoteWrite1,
    /// Prometheus remote write 2.0.
    RemoteWrite2,
}

impl Protocol {
    /// All, with the words they have in configurations.
    pub const ALL: [(&'static str, Self); 3] =
        [("otlp", Self::Otlp), ("remote_write", Self::RemoteWrite1), ("remote_write_2", Self::RemoteWrite2)];

    /// Reads the word of a configuration.
    #[must_use]
    pub fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == word).map(|(_, protocol)| protocol)
    }

    pub(super) fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Otlp => &[("content-type", "application/x-protobuf"), ("content-encoding", "gzip")],
            Self::RemoteWrite1 => &[
                ("content-type", "application/x-protobuf"),
                ("content-encoding", "snappy"),
                ("x-prometheus-remote-write-version", "0.1.0"),
            ],
            Self::RemoteWrite2 => &[
                ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
                ("content-encoding", "snappy"),
                ("x-prometheus-remote-write-version", "2.0.0"),
            ],
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::ALL.iter().find(|(_, protocol)| protocol == self).map_or("", |(word, _)| word);
        f.write_str(word)
    }
}

/// A receiver and how it is served. Make one with [`Target::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct Target {
    /// The full URL, without credentials, for example `http://collector:4318/v1/metrics`.
    pub url: String,
    /// What the receiver speaks.
    pub protocol: Protocol,
    /// Time from one push to the next; 15 seconds.
    pub interval: Duration,
    /// Time a request may take; 30 seconds.
    pub timeout: Duration,
    /// Further headers, for example `authorization`; mark secrets as sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What to trust and to show.
    pub tls: TlsOptions,
    /// Labels of every series that has none of that name; with OTLP the attributes of the resource.
    pub labels: Vec<(String, String)>,
    /// Whether native histograms are sent, where there are some; off.
    pub native_histograms: bool,
    /// Samples of one request; 2000.
    pub batch: usize,
    /// Compressed bytes that may wait; 16 MiB.
    pub queue_bytes: usize,
    /// Pauses between attempts: the first, and the longest; 1 and 30 seconds.
    pub retry: (Duration, Duration),
}

/// A target that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The URL.
    #[error("cannot push to `{url}`: {reason}")]
    Url {
        /// As configured, without what may be secret.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A label of the target.
    #[error("`{0}` cannot be a label: letters, digits and _ are allowed, and no digit first")]
    Label(String),
    /// Another setting.
    #[error("{0} must be more than 0")]
    Zero(&'static str),
    /// Certificates or keys.
    #[error("cannot push with these TLS settings")]
    Tls(#[from] TlsError),
}

impl Target {
    /// A target with the defaults named at the fields.
    pub fn new(protocol: Protocol, url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            protocol,
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(30),
            headers: Vec::new(),
            tls: TlsOptions::default(),
            labels: Vec::new(),
            native_histograms: false,
            batch: 2000,
            queue_bytes: 16 << 20,
            retry: (Duration::from_secs(1), Duration::from_secs(30)),
        }
    }

    /// Checks everything; the URL as it may be shown.
    pub(super) fn checked(&self) -> Result<String, PushError> {
        // What is shown never holds a query or a password.
        let shown = self.url.split(['?', '#']).next().unwrap_or_default();
        let shown = match (shown.find("://"), shown.rfind('@')) {
            (Some(start), Some(at)) if at > start => format!("{}…@{}", &shown[..start + 3], &shown[at + 1..]),
            _ => shown.to_owned(),
        };
        let fail = |reason| PushError::Url { url: shown.clone(), reason };
        let uri: Uri = self.url.parse().map_err(|_| fail("it is no URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(fail("it must start with http:// or https://"));
        }
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => {
                return Err(fail("a name and password belong into the authorization header"));
            }
            Some(authority) if !authority.host().is_empty() => {}
            _ => return Err(fail("there is no host in it")),
        }
        let legal = |name: &str| {
            !name.starts_with(|c: char| c.is_ascii_digit())
                && !name.is_empty()
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        // Attributes of a resource have dots.
        let unfit = self.labels.iter().find(|(name, _)| self.protocol != Protocol::Otlp && !legal(name));
        if let Some((name, _)) = unfit {
            return Err(PushError::Label(name.clone()));
        }
        for (name, zero) in [
            ("the interval", self.interval.is_zero()),
            ("the timeout", self.timeout.is_zero()),
            ("the number of samples of a request", self.batch == 0),
        ] {
            if zero {
                return Err(PushError::Zero(name));
            }
        }
        Ok(shown)
    }

    pub(super) fn encoder(&self, now: SystemTime) -> Box<dyn Encoder> {
        let (labels, natives, batch) = (self.labels.clone(), self.native_histograms, self.batch);
        match self.protocol {
            Protocol::RemoteWrite1 => Box::new(RemoteWrite::<One>::new(labels, natives, batch)),
            Protocol::RemoteWrite2 => Box::new(RemoteWrite::<Two>::new(labels, natives, batch)),
            Protocol::Otlp => {
                let mut resource = labels;
                if !resource.iter().any(|(name, _)| name == "service.name") {
                    resource.push(("service.name".to_owned(), env!("CARGO_PKG_NAME").to_owned()));
                }
                Box::new(Otlp::new(&resource, natives, batch, now))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_checked_and_shown_without_secrets() {
        let checked = |url: &str| Target::new(Protocol::Otlp, url).checked();
        assert_eq!(checked("https://host:1/v1/metrics?key=secret").unwrap(), "https://host:1/v1/metrics");
        for url in ["nonsense", "ftp://host/", "http://", "http://user:secret@host/", "", "http://a b/"] {
            let error = checked(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        let mut target = Target::new(Protocol::RemoteWrite1, "http://host/");
        target.labels = vec![("a.b".to_owned(), String::new())];
        assert!(target.checked().is_err());
        target.protocol = Protocol::Otlp;
        assert!(target.checked().is_ok());
        target.interval = Duration::ZERO;
        assert!(target.checked().is_err());
        for (word, protocol) in Protocol::ALL {
            assert_eq!((Protocol::read(word), protocol.to_string()), (Some(protocol), word.to_owned()));
        }
    }
}
