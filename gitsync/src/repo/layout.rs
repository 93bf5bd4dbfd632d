//! Where things are.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use crate::protocol::ObjectId;

/// The paths under one root.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
    /// Left alone when the root is emptied.
    spared: Option<PathBuf>,
    /// The root of the repository that has the objects, if it is another one.
    lender: Option<PathBuf>,
}

impl Layout {
    /// `root`: absolute, symlinks resolved.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), spared: None, lender: None }
    }

    /// Leaves the published directory alone, absolute or relative to the root, when a wrong root is
    /// emptied.
    #[must_use]
    pub fn sparing(mut self, path: &Path) -> Self {
        self.spared = Some(self.root.join(path));
        self
    }

    /// Keeps no objects here: they are in the repository under another root, which several share.
    #[must_use]
    pub fn borrowing(mut self, lender: &Path) -> Self {
        self.lender = Some(lender.to_owned());
        self
    }

    /// Whether the objects are another repository's.
    pub fn is_borrowing(&self) -> bool {
        self.lender.is_some()
    }

    /// Where objects and all that is known of them are kept.
    pub(crate) fn store(&self) -> PathBuf {
        self.lender.as_ref().map_or_else(|| self.git_dir(), |root| root.join(".git"))
    }

    /// Whether something at `path` or below is to stay.
    pub(crate) fn spares(&self, path: &Path) -> bool {
        self.spared.as_ref().is_some_and(|spared| spared.starts_with(path))
    }

    /// Where a replaced checkout waits for the next update.
    pub(super) fn spare_checkout(&self) -> PathBuf {
        self.git_dir().join("gitsync-spare")
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
        self.store().join("objects")
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

    /// What the repository's own branch points to.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn head(&self) -> Result<Option<ObjectId>, super::RepoError> {
        let path = self.git_dir().join(super::store::BRANCH);
        Ok(super::store::read_optional(&path)?.and_then(|text| text.trim().parse().ok()))
    }

    /// The commits of all checkouts.
    ///
    /// # Errors
    /// When the directory can't be listed.
    pub fn checkouts(&self) -> Result<Vec<ObjectId>, super::RepoError> {
        let name = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
        Ok(super::list(&self.worktrees())?.iter().filter_map(name).collect())
    }

    /// Whether something among the checkouts is one of `hash` or its shaped copy.
    pub(crate) fn owns(&self, hash: ObjectId, path: &Path) -> bool {
        path == self.worktree(hash) || path == self.shaped(hash)
    }

    /// The copy of one checkout that was shaped for publication.
    pub(crate) fn shaped(&self, hash: ObjectId) -> PathBuf {
        self.worktrees().join(format!("{hash}.web"))
    }

    /// Names, sizes and times of the packs as one number: changes when somebody touches them.
    pub fn pack_state(&self) -> u64 {
        let mut sum = 0u64;
        for entry in fs::read_dir(self.packs()).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            let mut hasher = DefaultHasher::new();
            (entry.file_name(), meta.len(), meta.modified().unwrap_or(SystemTime::UNIX_EPOCH))
                .hash(&mut hasher);
            // The order of a directory means nothing.
            sum = sum.wrapping_add(hasher.finish());
        }
        sum
    }
}

/// The way from the directory `from` to `to`, both absolute and resolved.
pub(crate) fn relative(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}
