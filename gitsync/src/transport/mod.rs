//! Drivers: move the bytes of [`crate::protocol`] over HTTP, SSH and TCP.

mod git;
mod http;
mod ssh;
mod stream;
mod url;

use std::time::Duration;

use thiserror::Error;
use tokio::sync::mpsc;

pub use git::GitRemote;
pub(crate) use http::same_site;
pub use http::{HttpOptions, HttpRemote};
pub use ssh::SshRemote;
pub use url::{RemoteUrl, UrlError};

use crate::protocol::{FetchEvent, FetchRequest, ProtocolError, RemoteRef};

/// How this client names itself to servers.
pub(crate) const AGENT: &str = concat!("gitsync/", env!("CARGO_PKG_VERSION"));
/// The same for HTTP: some servers only know clients that start like this.
pub(crate) const USER_AGENT: &str = concat!("git/gitsync/", env!("CARGO_PKG_VERSION"));

/// A server that accepts the connection has this long until the next byte.
pub(crate) const STALL: Duration = Duration::from_secs(60);
/// Time for a connection to be made.
pub(crate) const CONNECT: Duration = Duration::from_secs(20);

/// Where fetched things go, in order. Bounded, so that a slow disk slows the server down.
pub type FetchSink = mpsc::Sender<FetchEvent>;

/// A failure of talking to a remote.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connection, or it broke.
    #[error("{what} {address}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// With whom.
        address: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The peer said nothing for too long.
    #[error("{address} was silent for {} s while {what}", limit.as_secs())]
    Silent {
        /// What was awaited.
        what: &'static str,
        /// From whom.
        address: String,
        /// For how long.
        limit: Duration,
    },
    /// Slower than `http.lowSpeedLimit` allows.
    #[error("{address} sent less than {limit} bytes a second for {} s (http.lowSpeedLimit)", time.as_secs())]
    Slow {
        /// Who.
        address: String,
        /// Bytes a second.
        limit: u64,
        /// For how long.
        time: Duration,
    },
    /// An HTTP status that isn't the hoped-for one.
    #[error("{url} answered {status}{}", hint(*.status))]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status code.
        status: u16,
    },
    /// A redirect that must not be followed.
    #[error("{url} redirects {reason}")]
    Redirect {
        /// What was asked for.
        url: String,
        /// What is wrong with the redirect.
        reason: String,
    },
    /// The conversation went wrong.
    #[error("{address}: {source}")]
    Protocol {
        /// With whom.
        address: String,
        /// How.
        source: ProtocolError,
    },
    /// The SSH layer refused, or was refused.
    #[error("{}", common::error::chain(&**.0))]
    Ssh(Box<crate::ssh::SshError>),
    /// TLS settings that can't be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// The taking side is gone; its own error says more.
    #[error("the received pack couldn't be stored")]
    SinkClosed,
}

fn hint(status: u16) -> &'static str {
    match status {
        401 => " (credentials are missing or wrong)",
        403 => " (these credentials don't give access)",
        404 => " (no such repository, or not with these credentials)",
        _ => "",
    }
}

/// A remote reached over the network.
pub enum Remote {
    /// `git://`
    Git(GitRemote),
    /// `http://` and `https://`
    Http(Box<HttpRemote>),
    /// `ssh://` and `host:path`
    Ssh(SshRemote),
}

impl Remote {
    /// Those of the given full ref names that exist.
    ///
    /// # Errors
    /// When the remote can't be reached or doesn't make sense. Cancel safe.
    pub async fn refs(&mut self, names: &[String]) -> Result<Vec<RemoteRef>, TransportError> {
        match self {
            Self::Git(remote) => remote.refs(names).await,
            Self::Http(remote) => remote.refs(names).await,
            Self::Ssh(remote) => remote.refs(names).await,
        }
    }

    /// Fetches into `sink`; the last event is [`FetchEvent::Done`].
    ///
    /// # Errors
    /// When the remote can't be reached or doesn't make sense. Cancel safe: the sink then ends
    /// without `Done`.
    pub async fn fetch(&mut self, request: &FetchRequest, sink: FetchSink) -> Result<(), TransportError> {
        match self {
            Self::Git(remote) => remote.fetch(request, sink).await,
            Self::Http(remote) => remote.fetch(request, sink).await,
            Self::Ssh(remote) => remote.fetch(request, sink).await,
        }
    }
}
