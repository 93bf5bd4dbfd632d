//! What ends a run or fails an attempt.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::hook::HookError;
use crate::repo::RepoError;
use crate::transport::{TransportError, UrlError};

/// Why [`crate::run`] ended.
///
/// ```
/// use gitsync::{Config, Error, Shutdown, run};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// # let place = tempfile::tempdir().unwrap();
/// let mut config = Config::new("/does/not/exist", place.path());
/// config.one_time = true;
/// let error = run(config, Shutdown::new()).await.unwrap_err();
/// assert!(matches!(error, Error::TooManyFailures { .. } | Error::Remote(_)));
/// # });
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The HTTP endpoint's address can't be used.
    #[error("{0}")]
    Bind(io::Error),
    /// The root directory can't be used.
    #[error("can't use the root: {0}")]
    Root(RepoError),
    /// The remote can't be used at all.
    #[error("can't use --repo: {0}")]
    Remote(SyncError),
    /// A file or address named in the configuration can't be used.
    #[error("{0}")]
    Setup(String),
    /// As many failures in a row as allowed.
    #[error("too many failures ({failures}), the last one: {last}")]
    TooManyFailures {
        /// How many.
        failures: u32,
        /// The last of them.
        last: Box<SyncError>,
    },
    /// With `--one-time`: the tree is published, but a hook failed.
    #[error("a hook failed")]
    Hook(#[from] HookError),
}

/// Why an attempt failed.
///
/// ```
/// use gitsync::{Error, SyncError};
///
/// /// Whether it is the configuration that has to be changed.
/// fn is_ours(error: &Error) -> bool {
///     match error {
///         Error::TooManyFailures { last, .. } => matches!(**last, SyncError::UnknownRef { .. }),
///         Error::Setup(_) | Error::Root(_) | Error::Bind(_) => true,
///         _ => false,
///     }
/// }
/// assert!(is_ours(&Error::Setup("no such key".into())));
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The local side.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The remote side.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The address.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// A protocol that git's settings forbid.
    #[error("the protocol {protocol} is not allowed here (protocol.{protocol}.allow)")]
    Forbidden {
        /// As git names it.
        protocol: &'static str,
    },
    /// No such ref. In git's words, which scripts look for.
    #[error("couldn't find remote ref {name}")]
    UnknownRef {
        /// As configured.
        name: String,
    },
    /// Content kept with LFS couldn't be had.
    #[error(transparent)]
    Lfs(#[from] crate::lfs::LfsError),
    /// A credential couldn't be had.
    #[error("credentials: {0}")]
    Credential(String),
    /// The pre-publish hook said no.
    #[error("not published: {0}")]
    Vetoed(HookError),
    /// A signature that is missing or doesn't count.
    #[error("not published: {0}")]
    Unverified(crate::verify::Unverified),
    /// The neighbour didn't like what was published.
    #[error("{commit} was taken back, its probe failed: {reason}")]
    Probe {
        /// The commit.
        commit: crate::protocol::ObjectId,
        /// What the probe saw.
        reason: String,
    },
    /// What the ref means failed before; nothing was tried.
    #[error("{0}")]
    Held(String),
    /// What was asked of the remote for several sources at once.
    #[error(transparent)]
    Shared(std::sync::Arc<SyncError>),
    /// More refs fit a source's patterns than it may follow.
    #[error("{found} refs fit {patterns}, but max is {max}: {left} of them are not followed")]
    TooManyRefs {
        /// The patterns.
        patterns: String,
        /// How many fit.
        found: usize,
        /// The bound.
        max: usize,
        /// How many are left out.
        left: usize,
    },
    /// The time limit of an attempt passed.
    #[error("the attempt took longer than {}", common::config::format_duration(*.0))]
    TimedOut(Duration),
    /// A task ended in a panic; a bug, but no reason to stop serving.
    #[error("internal error: {0}")]
    Internal(String),
}

impl SyncError {
    /// Whether it was the shutdown and not a failure.
    ///
    /// ```
    /// use gitsync::SyncError;
    ///
    /// assert!(!SyncError::UnknownRef { name: "v9".into() }.is_cancelled());
    /// ```
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Repo(RepoError::Cancelled))
    }

    /// Whether this attempt only found what an earlier one had reported.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self, Self::Held(_))
    }

    /// Whether fetching everything afresh can help.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Repo(error) => error.is_damage() || matches!(error, RepoError::BadPack(_)),
            Self::Shared(error) => error.is_damage(),
            _ => false,
        }
    }
}
