//! Checkouts as linked worktrees: made whole, put in place in one step, kept as they were.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, RenameFlags};
use tokio_util::sync::CancellationToken;

use super::attributes::Attributes;
use super::checkout;
use super::index::{self, IndexEntry, Stat};
use super::pattern::Sparse;
use super::store::{list, read_optional, remove_any};
use super::tree::{self, Entry};
use super::{RepoError, Store};
use crate::protocol::ObjectId;

/// Our own copy of the index: what we wrote, whatever others do to the real one. Its presence
/// says that the checkout was finished.
const OWN_INDEX: &str = "gitsync-index";
/// What was noted about the directories of a checkout, beside the index.
pub(super) const FOLDERS: &str = "gitsync-folders";
/// Prefix of unfinished things.
pub(super) const UNFINISHED: &str = ".tmp-";

/// How to make a checkout.
#[derive(Debug, Clone, Default)]
pub struct CheckoutOptions {
    /// A sparse-checkout file; read anew for each checkout.
    pub sparse: Option<PathBuf>,
}

/// What making a checkout did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckoutStats {
    /// Files, symlinks and submodules in it.
    pub files: usize,
    /// Those written anew; the others were taken from an earlier checkout.
    pub written: usize,
}

impl Store {
    /// Makes the checkout of `commit`, replacing one that is there.
    ///
    /// All files are written to a private directory first; it takes its final name when complete.
    ///
    /// # Errors
    /// When an object is damaged or dangerous, or a file can't be written; nothing is left then.
    pub fn make_checkout(
        &self,
        commit: ObjectId,
        options: &CheckoutOptions,
        cancel: &CancellationToken,
    ) -> Result<CheckoutStats, RepoError> {
        let parent = self.layout().worktrees();
        fs::create_dir_all(&parent).map_err(RepoError::io("creating", &parent))?;
        let files = Unfinished::create(&parent)?;
        let patterns = options.sparse.as_ref().map(fs::read).transpose();
        let path = options.sparse.clone().unwrap_or_default();
        let patterns = patterns.map_err(RepoError::io("reading", path))?;
        let index = self.write_tree(commit, &files.path, patterns.as_deref(), cancel)?;
        self.install_checkout(commit, files, &|out| index::write(out, &index), patterns.as_deref())?;
        Ok(CheckoutStats { files: index.len(), written: index.len() })
    }

    /// Gives a finished tree its administration and its name.
    pub(crate) fn install_checkout(
        &self,
        commit: ObjectId,
        files: Unfinished,
        index: IndexText<'_>,
        patterns: Option<&[u8]>,
    ) -> Result<(), RepoError> {
        let admin = self.write_admin(commit, index, patterns)?;
        self.install_with(commit, files, admin)
    }

    /// As [`Store::install_checkout`], with notes about the directories of the tree.
    pub(super) fn install_noted(
        &self,
        commit: ObjectId,
        files: Unfinished,
        index: IndexText<'_>,
        folders: &[u8],
    ) -> Result<(), RepoError> {
        // Before the index, whose time says when all was finished.
        let parent = self.layout().admins();
        fs::create_dir_all(&parent).map_err(RepoError::io("creating", &parent))?;
        let admin = Unfinished::create(&parent)?;
        let path = admin.path.join(FOLDERS);
        fs::write(&path, folders).map_err(RepoError::io("writing", &path))?;
        self.fill_admin(&admin, commit, index, None)?;
        self.install_with(commit, files, admin)
    }

    fn install_with(&self, commit: ObjectId, files: Unfinished, admin: Unfinished) -> Result<(), RepoError> {
        write_plain(&files.path.join(".git"), &format!("gitdir: ../../.git/worktrees/{commit}\n"))?;
        admin.install(&self.layout().admin(commit))?;
        files.install(&self.layout().worktree(commit))
    }

    /// Writes a commit's files into an empty directory of our own; gives the index they make.
    pub(crate) fn write_tree(
        &self,
        commit: ObjectId,
        top: &Path,
        patterns: Option<&[u8]>,
        cancel: &CancellationToken,
    ) -> Result<Vec<IndexEntry>, RepoError> {
        let entries = tree::list(self.objects(), self.objects().commit(commit)?.tree, cancel)?;
        let attributes =
            Attributes::load(self.objects(), entries.iter().map(|e| (&e.path[..], e.id)), self.endings())?;
        let sparse = patterns.map(Sparse::parse);
        let (wanted, skipped): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|e| sparse.as_ref().is_none_or(|sparse| sparse.has(&e.path)));
        let stats = checkout::write_files(self.objects(), top, &wanted, &attributes, cancel)?;
        let entry = |e: Entry, stat, skip| IndexEntry { path: e.path, mode: e.mode, id: e.id, stat, skip };
        let mut index: Vec<_> =
            wanted.into_iter().zip(stats).map(|(e, stat)| entry(e, stat, false)).collect();
        if !skipped.is_empty() {
            index.extend(skipped.into_iter().map(|e| entry(e, Stat::default(), true)));
            index.sort_by(|a, b| a.path.cmp(&b.path));
        }
        Ok(index)
    }

    fn write_admin(
        &self,
        commit: ObjectId,
        index: IndexText<'_>,
        patterns: Option<&[u8]>,
    ) -> Result<Unfinished, RepoError> {
        let parent = self.layout().admins();
        fs::create_dir_all(&parent).map_err(RepoError::io("creating", &parent))?;
        let admin = Unfinished::create(&parent)?;
        self.fill_admin(&admin, commit, index, patterns)?;
        Ok(admin)
    }

    fn fill_admin(
        &self,
        admin: &Unfinished,
        commit: ObjectId,
        index: IndexText<'_>,
        patterns: Option<&[u8]>,
    ) -> Result<(), RepoError> {
        write_plain(&admin.path.join("HEAD"), &format!("{commit}\n"))?;
        write_plain(&admin.path.join("commondir"), "../..\n")?;
        let pointer = self.layout().worktree(commit).join(".git");
        write_plain(&admin.path.join("gitdir"), &format!("{}\n", pointer.display()))?;
        if let Some(patterns) = patterns {
            let info = admin.path.join("info");
            fs::create_dir(&info).map_err(RepoError::io("creating", &info))?;
            let path = info.join("sparse-checkout");
            fs::write(&path, patterns).map_err(RepoError::io("writing", &path))?;
        }
        put_index(&admin.path, index, [None; 2])
    }

    /// Whether the checkout of `commit` was finished and still says that it is this commit.
    ///
    /// Cheap: a handful of small reads. File contents are looked at by [`super::Patrol`].
    pub fn has_checkout(&self, commit: ObjectId) -> bool {
        is_checkout(self.layout(), commit)
    }

    /// Removes checkouts that were replaced longer than `timeout` ago, and their administration.
    ///
    /// Anything else that lies among the checkouts goes by the same rule; those of `keep` stay. Gives
    /// what was removed.
    ///
    /// # Errors
    /// The first thing that couldn't be removed, after trying all.
    pub fn remove_stale(
        &self,
        current: ObjectId,
        timeout: Duration,
        keep: &[ObjectId],
    ) -> Result<Vec<PathBuf>, RepoError> {
        let now = SystemTime::now();
        let mut removed = Vec::new();
        let mut result = Ok(());
        for path in list(&self.layout().worktrees())? {
            let stays = keep.iter().chain([&current]).any(|commit| self.layout().owns(*commit, &path));
            if stays || !is_older(&path, now, timeout) {
                continue;
            }
            match remove_any(&path) {
                Ok(()) => removed.push(path),
                Err(error) => result = result.and(Err(RepoError::io("removing", &path)(error))),
            }
        }
        self.prune_admins()?;
        result.map(|()| removed)
    }

    /// Removes the administration of checkouts that no longer exist, and of those whose commits went with
    /// a damaged store: git would miss them. Their files stay for who still reads them.
    fn prune_admins(&self) -> Result<(), RepoError> {
        for path in list(&self.layout().admins())? {
            let Some(name) = path.file_name() else { continue };
            let commit = name.to_str().and_then(|name| name.parse().ok());
            let is_missing = |commit: ObjectId| !self.objects().has(commit);
            // Another look: a git may have packed the store meanwhile.
            let lost = commit.is_some_and(|commit| {
                is_missing(commit) && self.objects().refresh().is_ok() && is_missing(commit)
            });
            if lost || !self.layout().worktrees().join(name).exists() {
                remove_any(&path).map_err(RepoError::io("removing", &path))?;
            }
        }
        Ok(())
    }

    /// Makes the next update write its checkout anew, whatever is there.
    ///
    /// # Errors
    /// When the notes about what was written can't be removed.
    pub fn forget_checkouts(&self) -> Result<(), RepoError> {
        list(&self.layout().admins())?
            .iter()
            .try_for_each(|admin| super::store::remove_if_there(&admin.join(OWN_INDEX)))
    }

    /// Removes what a killed predecessor may have left: locks, unfinished packs and checkouts.
    ///
    /// Only for the holder of the root lock: the locks of a living process must not go.
    ///
    /// # Errors
    /// When a directory can't be listed or a left-over can't be removed.
    pub fn heal(&self) -> Result<usize, RepoError> {
        let git = self.layout().git_dir();
        let mut healed = 0;
        self.remove_obsolete()?;
        let mut directories = vec![git.clone(), git.join("refs"), git.join("refs/heads")];
        directories.extend([self.layout().worktrees(), self.layout().admins()]);
        if !self.layout().is_borrowing() {
            directories.extend([self.layout().packs(), self.layout().objects()]);
        }
        directories.extend(list(&self.layout().admins())?);
        for directory in directories.iter().filter(|d| d.is_dir()) {
            for path in list(directory)?.iter().filter(|path| is_left_over(path)) {
                tracing::info!(path = %path.display(), "removing a left-over of an earlier run");
                remove_any(path).map_err(RepoError::io("removing", path))?;
                healed += 1;
            }
        }
        Ok(healed)
    }
}

/// Starts the stale timer of a checkout that is no longer published.
pub(crate) fn mark_replaced(layout: &super::Layout, commit: ObjectId) {
    let shaped = layout.shaped(commit);
    if shaped.is_dir() {
        let _ = File::open(&shaped).and_then(|directory| directory.set_modified(SystemTime::now()));
    }
    let path = layout.worktree(commit);
    let touched = File::open(&path).and_then(|directory| directory.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(path = %path.display(), %error, "can't set the time of a replaced checkout");
    }
}

/// Whether [`Store::remove_stale`] would find something to do.
pub(crate) fn has_stale(
    layout: &super::Layout,
    current: ObjectId,
    timeout: Duration,
    keep: &[ObjectId],
) -> bool {
    let now = SystemTime::now();
    let checkouts = layout.worktrees();
    let stays = |path: &PathBuf| keep.iter().chain([&current]).any(|commit| layout.owns(*commit, path));
    fs::read_dir(checkouts).is_ok_and(|entries| {
        entries.flatten().map(|entry| entry.path()).any(|path| !stays(&path) && is_older(&path, now, timeout))
    })
}

/// See [`Store::has_checkout`].
pub(crate) fn is_checkout(layout: &super::Layout, commit: ObjectId) -> bool {
    let (files, admin) = (layout.worktree(commit), layout.admin(commit));
    let hash = commit.to_string();
    let says = |path: &Path, text: &str| {
        read_optional(path).ok().flatten().is_some_and(|content| content.trim_end() == text)
    };
    says(&admin.join("HEAD"), &hash)
        && says(&files.join(".git"), &format!("gitdir: ../../.git/worktrees/{hash}"))
        && admin.join(OWN_INDEX).is_file()
}

impl Store {
    /// Whether the checkout was made with the same sparse patterns that are wanted now.
    ///
    /// # Errors
    /// When the sparse-checkout file can't be read.
    pub fn has_patterns(&self, commit: ObjectId, options: &CheckoutOptions) -> Result<bool, RepoError> {
        let made = read_optional(&self.layout().admin(commit).join("info/sparse-checkout"))?;
        let wanted = match &options.sparse {
            Some(path) => Some(fs::read(path).map_err(RepoError::io("reading", path))?),
            None => None,
        };
        Ok(made == wanted.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

/// The index of what was written at checkout.
pub(crate) fn own_index(layout: &super::Layout, commit: ObjectId) -> PathBuf {
    layout.admin(commit).join(OWN_INDEX)
}

/// What writes an index; asked twice.
pub(crate) type IndexText<'a> = &'a dyn Fn(&mut dyn Write) -> io::Result<()>;

/// Writes the index for Git and our own copy, both in one step each, the copy last.
pub(crate) fn write_index(admin: &Path, entries: &[IndexEntry]) -> Result<(), RepoError> {
    put_index(admin, &|out| index::write(out, entries), [None; 2])
}

/// The same for a checkout that is already in use: both keep the times of those that are there.
///
/// A file written in the second of that time or later is read by Git whatever its times say
/// (`Documentation/technical/racy-git`), and by us in the same tick of the clock. A newer time would tell
/// that nobody wrote to them after their times were taken.
pub(super) fn rewrite_index(admin: &Path, entries: &[IndexEntry]) -> Result<(), RepoError> {
    put_index(admin, &|out| index::write(out, entries), times_of_index(admin)?.map(Some))
}

/// The same where every file was just looked at: to us, who know more of their times than Git, that is news.
pub(super) fn settle_index(admin: &Path, entries: &[IndexEntry]) -> Result<(), RepoError> {
    let [time, _] = times_of_index(admin)?;
    put_index(admin, &|out| index::write(out, entries), [Some(time), None])
}

/// Of Git's, which others may have written anew since, and of our own.
fn times_of_index(admin: &Path) -> Result<[SystemTime; 2], RepoError> {
    let time = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    let own = admin.join(OWN_INDEX);
    let own = time(&own).map_err(RepoError::io("reading the state of", own))?;
    Ok([time(&admin.join("index")).map_or(own, |time| time.min(own)), own])
}

/// `times`: of Git's and of our own; `None` is now.
fn put_index(admin: &Path, text: IndexText<'_>, times: [Option<SystemTime>; 2]) -> Result<(), RepoError> {
    for (name, time) in ["index", OWN_INDEX].into_iter().zip(times) {
        let path = admin.join(name);
        let fail = |e| RepoError::io("writing", &path)(e);
        let temporary = tempfile::Builder::new()
            .prefix("tmp_index_")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile_in(admin)
            .map_err(fail)?;
        let mut out = BufWriter::with_capacity(64 * 1024, temporary.as_file());
        text(&mut out).and_then(|()| out.flush()).map_err(fail)?;
        drop(out);
        time.map_or(Ok(()), |time| temporary.as_file().set_modified(time)).map_err(fail)?;
        temporary.persist(&path).map_err(|e| fail(e.error))?;
    }
    Ok(())
}

fn write_plain(path: &Path, content: &str) -> Result<(), RepoError> {
    fs::write(path, content).map_err(RepoError::io("writing", path))
}

pub(crate) fn is_older(path: &Path, now: SystemTime, timeout: Duration) -> bool {
    let Ok(meta) = fs::symlink_metadata(path) else { return false };
    let age = meta.modified().ok().and_then(|modified| now.duration_since(modified).ok());
    timeout.is_zero() || age.is_some_and(|age| age > timeout)
}

fn is_left_over(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let extension = path.extension().and_then(|x| x.to_str());
    extension == Some("lock")
        || ["tmp_pack_", "tmp_idx_", "tmp_obj_", "tmp_index_", "pack_", "idx_", UNFINISHED]
            .iter()
            .any(|p| name.starts_with(p))
        || name.contains("_git2_")
        || common::fs::is_temporary_name(name)
}

/// A directory being filled; removed unless it is installed.
pub(crate) struct Unfinished {
    path: PathBuf,
    installed: bool,
}

impl Unfinished {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes over a directory that is there, under a new name in `parent`.
    pub(crate) fn adopt(parent: &Path, directory: &Path) -> Result<Self, RepoError> {
        let place = Self::create(parent)?;
        // An empty directory gives way to another one.
        fs::rename(directory, &place.path).map_err(RepoError::io("moving", directory))?;
        Ok(place)
    }

    /// The mode that a new directory has here, `umask` and set-group-ID considered.
    pub(crate) fn mode(&self) -> Result<u32, RepoError> {
        let state = fs::metadata(&self.path).map_err(RepoError::io("reading the state of", &self.path))?;
        Ok(std::os::unix::fs::PermissionsExt::mode(&state.permissions()))
    }

    pub(crate) fn create(parent: &Path) -> Result<Self, RepoError> {
        let directory = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777))
            .tempdir_in(parent)
            .map_err(RepoError::io("creating a directory in", parent))?;
        Ok(Self { path: directory.keep(), installed: false })
    }

    /// Gives the directory its name. One that is there is exchanged in the same moment, so that
    /// readers of a published checkout never miss it, and removed after.
    pub(crate) fn install(mut self, target: &Path) -> Result<(), RepoError> {
        self.installed = true;
        match rustix::fs::renameat_with(CWD, &self.path, CWD, target, RenameFlags::EXCHANGE) {
            Ok(()) => remove_any(&self.path).map_err(RepoError::io("removing", &self.path)),
            Err(_) => self.install_by_steps(target),
        }
    }

    /// Where there is nothing to exchange with, or the file system can't exchange.
    fn install_by_steps(&mut self, target: &Path) -> Result<(), RepoError> {
        let result = remove_any(target)
            .map_err(RepoError::io("removing", target))
            .and_then(|()| fs::rename(&self.path, target).map_err(RepoError::io("creating", target)));
        self.installed = result.is_ok();
        result
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.installed
            && let Err(error) = remove_any(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "can't remove an unfinished directory");
        }
    }
}
