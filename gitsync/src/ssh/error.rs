//! Who failed on the way to a repository behind SSH, and whether trying again may help.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::known_hosts::KnownHostsError;

/// Why a remote behind SSH could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// The host's name has no address.
    #[error("cannot resolve the SSH host {host}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's reason.
        source: io::Error,
    },
    /// No address of the host accepts a connection.
    #[error("cannot connect to the SSH server {address}")]
    Connect {
        /// `host:port`.
        address: String,
        /// The system's reason, from the last address tried.
        source: io::Error,
    },
    /// The server does not answer in time.
    #[error("the SSH server {address} did not finish {stage} within {after:?}")]
    Timeout {
        /// `host:port`.
        address: String,
        /// What was waited for.
        stage: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The known-hosts file is missing or not readable.
    #[error("cannot read the known-hosts file {path}")]
    KnownHostsFile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The known-hosts file cannot be trusted to be understood.
    #[error("cannot use the known-hosts file {path}: {source}")]
    KnownHosts {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KnownHostsError,
    },
    /// The host is not in the known-hosts file.
    #[error("{shown} and is not in {path}; if that key is right, add the line: {line}{note}", path = .shown.path.display())]
    UnknownHostKey {
        /// The host and its key.
        shown: Box<ShownKey>,
        /// What to add to the file.
        line: String,
        /// Empty, or a hint about lines that were skipped.
        note: String,
    },
    /// The file knows the host by another key: a new server, or somebody in between.
    #[error(
        "{shown}, but {path} line {known_line} knows it by another key: \
         the server was replaced, or somebody intercepts the connection",
        path = .shown.path.display()
    )]
    ChangedHostKey {
        /// The host and its key.
        shown: Box<ShownKey>,
        /// Line of a key that was expected, from 1.
        known_line: usize,
    },
    /// The key, or the authority that signed it, is marked `@revoked`.
    #[error("{shown}, which {path} line {line} revokes", path = .shown.path.display())]
    RevokedHostKey {
        /// The host and its key.
        shown: Box<ShownKey>,
        /// Line of the revocation, from 1.
        line: usize,
    },
    /// The host shows a certificate that is not good for it.
    #[error("the SSH host {host} shows a certificate that does not count: {reason}")]
    HostCertificate {
        /// Name as the known-hosts file writes it.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// The server takes none of the keys.
    #[error("the SSH server {address} accepts no key for the user {user}: {tried}")]
    NoKeyAccepted {
        /// `host:port`.
        address: String,
        /// Who tried to log in.
        user: String,
        /// Each key file and what became of it.
        tried: String,
    },
    /// The connection was set up but the protocol failed: no common algorithm, a broken packet …
    #[error("SSH with {address} failed while {stage}")]
    Protocol {
        /// `host:port`.
        address: String,
        /// What was being done.
        stage: &'static str,
        /// What the protocol layer says.
        source: russh::Error,
    },
    /// The server does not let the user run a command.
    #[error("the SSH server {address} refuses to run git-upload-pack{}", said(.stderr))]
    CommandRefused {
        /// `host:port`.
        address: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// The command ran and failed, for example because there is no such repository.
    #[error("git-upload-pack on {address} ended with {status}{}", said(.stderr))]
    Command {
        /// `host:port`.
        address: String,
        /// `status 128` or `signal TERM`.
        status: String,
        /// What it wrote to standard error (at most 16 KiB).
        stderr: String,
    },
    /// The connection broke while the command ran.
    #[error("the SSH connection to {address} was lost{}", said(.reason))]
    Lost {
        /// `host:port`.
        address: String,
        /// The server's farewell, what it wrote to standard error, or nothing.
        reason: String,
    },
}

/// A host and the key it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownKey {
    /// Name as the known-hosts file writes it.
    pub host: String,
    /// The known-hosts file.
    pub path: PathBuf,
    /// For example `ssh-ed25519`.
    pub key_type: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
}

impl std::fmt::Display for ShownKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, key_type, fingerprint, .. } = self;
        write!(f, "the SSH host {host} shows a {key_type} key with the fingerprint {fingerprint}")
    }
}

/// What went wrong inside the session task, before the address is put to it.
impl From<russh::Error> for SshError {
    fn from(source: russh::Error) -> Self {
        Self::Protocol { address: String::new(), stage: "talking", source }
    }
}

impl SshError {
    /// Whether the same attempt may succeed later without anybody changing anything here.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Timeout { .. } | Self::Lost { .. } => true,
            Self::Protocol { source, .. } => matches!(
                source,
                russh::Error::IO(_)
                    | russh::Error::HUP
                    | russh::Error::Disconnect
                    | russh::Error::ConnectionTimeout
                    | russh::Error::KeepaliveTimeout
                    | russh::Error::InactivityTimeout
                    | russh::Error::SendError
                    | russh::Error::RecvError
                    | russh::Error::ChannelOpenFailure(_)
            ),
            _ => false,
        }
    }

    /// The error behind an [`io::Error`] that reading or writing a [`super::Channel`] gave.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    /// The same error, with the address and the stage that only the caller knew.
    pub(super) fn during(self, stage: &'static str, peer: &str) -> Self {
        match self {
            Self::Protocol { address, source, .. } if address.is_empty() => {
                Self::Protocol { address: peer.to_owned(), stage, source }
            }
            other => other,
        }
    }

    pub(super) fn into_io(self) -> io::Error {
        let kind = match self {
            Self::Lost { .. } => io::ErrorKind::ConnectionReset,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }
}

fn said(text: &str) -> String {
    match text.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}
