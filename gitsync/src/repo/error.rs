//! What can go wrong on disk.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::protocol::ObjectId;

/// A failure of the local store, a checkout, or a local source repository.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RepoError {
    /// A file operation failed.
    #[error("{what} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// libgit2 refused.
    #[error("{what}: {source}")]
    Git {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: git2::Error,
    },
    /// An object that should be in the store isn't, or can't be read.
    #[error("object {id} is missing or damaged: {reason}")]
    BadObject {
        /// Its name.
        id: ObjectId,
        /// What reading it said.
        reason: String,
    },
    /// A file name that must not be written.
    #[error("the repository holds a dangerous path {path:?}: {reason}")]
    Hostile {
        /// The path, lossily as text.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More of something than the bound.
    #[error("the repository has more than {limit} {what}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The received pack is no pack.
    #[error("the received pack is damaged: {0}")]
    BadPack(String),
    /// A local source has no such ref or object.
    #[error("{0}")]
    NotFound(String),
    /// Somebody else works on this root.
    #[error("{root} is in use by {holder}", root = root.display())]
    Locked {
        /// The root directory.
        root: PathBuf,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// A directory or file stands where the link belongs.
    #[error("{path} is no symbolic link; it is in the way of --link", path = path.display())]
    LinkOccupied {
        /// The link's place.
        path: PathBuf,
    },
    /// Something of others stands where the published directory belongs.
    #[error(
        "{path} is neither empty nor a directory that gitsync made; it is in the way of --link",
        path = path.display()
    )]
    Occupied {
        /// The directory's place.
        path: PathBuf,
    },
    /// The work was given up because of shutdown or the time limit.
    #[error("cancelled")]
    Cancelled,
}

impl RepoError {
    /// For `map_err`: names what was done to which file.
    pub(crate) fn io(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { what, path, source }
    }

    /// The same for errors of `rustix`.
    pub(crate) fn os(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = path.as_ref().to_owned();
        move |errno| Self::Io { what, path, source: errno.into() }
    }

    /// For `map_err`: names what was asked of libgit2.
    pub(crate) fn git(what: impl Into<String>) -> impl FnOnce(git2::Error) -> Self {
        let what = what.into();
        move |source| Self::Git { what, source }
    }

    /// Whether the disk (or quota) is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Git { source, .. } => source.message().contains("No space left"),
            _ => false,
        }
    }

    /// Whether the local store itself looks damaged, so that fetching afresh can help.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::BadObject { .. })
    }
}
