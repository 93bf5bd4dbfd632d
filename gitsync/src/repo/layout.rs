//! Where things are.

use std::path::{Path, PathBuf};

use crate::protocol::ObjectId;

/// The paths under one root.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// `root`: absolute, symlinks resolved.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The root itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The repository.
    pub fn git_dir(&self) -> PathBuf {
        self.root.join(".git")
    }

    /// Its objects.
    pub fn objects(&self) -> PathBuf {
        self.git_dir().join("objects")
    }

    /// Its packs.
    pub fn packs(&self) -> PathBuf {
        self.objects().join("pack")
    }

    /// The administration of all checkouts.
    pub fn admins(&self) -> PathBuf {
        self.git_dir().join("worktrees")
    }

    /// The administration of one checkout.
    pub fn admin(&self, hash: ObjectId) -> PathBuf {
        self.admins().join(hash.to_string())
    }

    /// All checkouts.
    pub fn worktrees(&self) -> PathBuf {
        self.root.join(".worktrees")
    }

    /// One checkout.
    pub fn worktree(&self, hash: ObjectId) -> PathBuf {
        self.worktrees().join(hash.to_string())
    }
}
