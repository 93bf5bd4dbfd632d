//! Git LFS without a git-lfs: pointer files are replaced by what they stand for before a commit is
//! published. [`pointer`], [`endpoint`] and [`batch`] are pure; `http` and `transfer` move bytes;
//! `repo::lfs` keeps the objects on disk.
//!
//! Sources: git-lfs `docs/spec.md`, `docs/api/batch.md`, `docs/api/basic-transfers.md`,
//! `docs/api/server-discovery.md`.

mod batch;
mod endpoint;
mod error;
mod http;
pub(crate) mod pointer;
mod transfer;
mod update;

pub(crate) use endpoint::MAX_FILE as MAX_CONFIG;
pub(crate) use error::LfsError;
pub(crate) use pointer::Pointer;
pub(crate) use update::Update;

/// How much of a commit is kept with LFS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Different objects.
    pub(crate) objects: usize,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Objects that this update had to get.
    pub(crate) downloaded: usize,
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} objects of {} bytes, {} of them new", self.objects, self.bytes, self.downloaded)
    }
}
