//! What can go wrong between this process and a JVM.

use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::jmx::jrmp;
use crate::jmx::remote::{RemoteException, StubError};

/// What the client was doing when it had to give up.
///
/// ```
/// assert_eq!(metrics_adapter::jmx::client::Phase::Connect.to_string(), "connecting");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Resolving the name and opening the TCP connection.
    Connect,
    /// Agreeing on TLS.
    TlsHandshake,
    /// Agreeing on the RMI protocol.
    RmiHandshake,
    /// Sending calls.
    Call,
    /// Waiting for a reply, or reading it.
    Reply,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::TlsHandshake => "the TLS handshake",
            Self::RmiHandshake => "the RMI handshake",
            Self::Call => "sending a call",
            Self::Reply => "reading a reply",
        })
    }
}

/// A failed operation on a JVM; always names the address.
///
/// ```
/// use metrics_adapter::jmx::client::{Client, Error, Options, Phase};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// // Nobody listens there.
/// let error = Client::connect(Options::new("127.0.0.1", 1)).await.unwrap_err();
/// assert!(matches!(error, Error::Io { phase: Phase::Connect, .. }));
/// assert!(error.is_retryable() && !error.is_lost_session());
/// assert!(!error.is_limit() && !error.is_tls_mismatch());
/// # });
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The network failed, or the peer closed the connection.
    #[error("{address}: {phase} failed")]
    Io {
        /// `host:port`
        address: String,
        /// What was going on.
        phase: Phase,
        /// The system's reason.
        source: io::Error,
    },
    /// The peer did not answer in time.
    #[error("{address}: {phase} took longer than {after:?}")]
    Timeout {
        /// `host:port`
        address: String,
        /// What was going on.
        phase: Phase,
        /// The limit.
        after: Duration,
    },
    /// The peer broke the protocol, or its answer is too large.
    #[error("{address}: {source}")]
    Protocol {
        /// `host:port`
        address: String,
        /// What is wrong.
        source: jrmp::Error,
    },
    /// The port does not speak TLS although it should.
    #[error("{address}: the port does not speak TLS, or refuses this client's certificate")]
    TlsRefused {
        /// `host:port`
        address: String,
        /// The TLS library's reason.
        source: io::Error,
    },
    /// The server's stub asks for TLS, and the client has no settings for it.
    #[error("{address}: the JVM wants TLS, but no TLS settings are configured")]
    TlsNotConfigured {
        /// `host:port`
        address: String,
    },
    /// TLS is configured, but the server's stub asks for a plain connection.
    #[error(
        "{address}: TLS is configured, but the JVM wants a plain connection; credentials are not sent over it"
    )]
    PlainStub {
        /// `host:port`
        address: String,
    },
    /// The host name cannot be checked against a certificate.
    #[error("{address}: not a name that a certificate can carry")]
    ServerName {
        /// `host:port`
        address: String,
    },
    /// The registry has no such name.
    #[error("{address}: the RMI registry has no entry `{name}`; is this the JMX port?")]
    NotBound {
        /// `host:port`
        address: String,
        /// The name looked for.
        name: String,
    },
    /// The port belongs to another RMI server.
    #[error("{address}: an RMI port, but not a registry; is it the one of jmxremote.rmi.port?")]
    NotARegistry {
        /// `host:port`
        address: String,
    },
    /// What the registry or the server returned is not a stub.
    #[error("{address}: {source}")]
    Stub {
        /// `host:port`
        address: String,
        /// Why not.
        source: StubError,
    },
    /// The user or the password is wrong or missing.
    #[error("{address}: {}: {message}", if *with_credentials { "the credentials were refused" } else { "credentials are needed" })]
    Authentication {
        /// `host:port`
        address: String,
        /// The server's words.
        message: String,
        /// Whether credentials were sent.
        with_credentials: bool,
    },
    /// The call threw an exception.
    #[error("{address}: the JVM answered {exception}")]
    Thrown {
        /// `host:port`
        address: String,
        /// What it threw.
        exception: RemoteException,
    },
    /// The call returned an object of another type.
    #[error("{address}: the call returned something unexpected")]
    Unexpected {
        /// `host:port`
        address: String,
    },
}

impl Error {
    /// Whether the session is gone, so that opening another one may help.
    ///
    /// ```
    /// use metrics_adapter::jmx::client::Error;
    ///
    /// assert!(!Error::Unexpected { address: "localhost:9010".into() }.is_lost_session());
    /// ```
    #[must_use]
    pub fn is_lost_session(&self) -> bool {
        match self {
            Self::Io { phase: Phase::Call | Phase::Reply, .. } => true,
            Self::Thrown { exception, .. } => {
                exception.involves("java.rmi.NoSuchObjectException")
                    || exception.message.contains("Connection closed")
                    || exception.message.contains("The client has been closed")
            }
            _ => false,
        }
    }

    /// Whether a reply was larger, deeper or longer than [`Limits`](crate::jmx::serialization::Limits) allow.
    ///
    /// ```
    /// use metrics_adapter::jmx::client::Error;
    ///
    /// assert!(!Error::Unexpected { address: "localhost:9010".into() }.is_limit());
    /// ```
    #[must_use]
    pub fn is_limit(&self) -> bool {
        use crate::jmx::serialization::Error as Serialization;
        matches!(
            self,
            Self::Protocol { source: jrmp::Error::Serialization(Serialization::LimitExceeded { .. }), .. }
        )
    }

    /// Whether the same call may succeed later without a change of the configuration.
    ///
    /// ```
    /// use metrics_adapter::jmx::client::Error;
    ///
    /// assert!(!Error::NotARegistry { address: "localhost:9010".into() }.is_retryable());
    /// ```
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Timeout { .. }) || self.is_lost_session()
    }

    /// Whether one side speaks TLS and the other does not.
    ///
    /// ```
    /// use metrics_adapter::jmx::client::Error;
    ///
    /// let source = std::io::Error::other("no handshake");
    /// assert!(Error::TlsRefused { address: "localhost:9010".into(), source }.is_tls_mismatch());
    /// ```
    #[must_use]
    pub fn is_tls_mismatch(&self) -> bool {
        match self {
            Self::TlsRefused { .. } => true,
            Self::Protocol { source: jrmp::Error::TlsExpected, .. } => true,
            Self::Io { phase: Phase::RmiHandshake, source, .. } => {
                source.kind() == io::ErrorKind::UnexpectedEof
            }
            _ => false,
        }
    }
}
