//! Making a checkout out of an earlier one, so that an update costs what changed.
//!
//! Two ways. A *spare* is the last replaced checkout, moved out of everybody's sight instead of
//! being deleted; the next update changes in it what differs and gives it the new name. No byte and
//! no name of an unchanged file is written, and a published file never shares its inode with another
//! checkout. Otherwise unchanged files are cloned (`FICLONE`) or hard-linked from the published
//! checkout, one by one.
//!
//! A file is only reused if `lstat` says of it exactly what it said when we wrote it: inode, size,
//! both times to the nanosecond, owner. Everything else is written from the commit; what doesn't
//! belong there is removed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode as Permissions, OFlags};
use sha1::{Digest as _, Sha1};
use tokio_util::sync::CancellationToken;

use super::attributes::Attributes;
use super::checkout::{self, join, split};
use super::feed::Feed;
use super::index::{self, IndexEntry, Reader, Stat};
use super::store::remove_any;
use super::tree::{self, Entry, Mode};
use super::worktree::{self, CheckoutStats, Unfinished, is_older, own_index};
use super::{RepoError, Spare, Store};
use crate::protocol::ObjectId;

/// How unchanged files of an earlier checkout are used again.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
///
/// config.reuse = gitsync::Reuse::Auto;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reuse {
    /// Not at all.
    #[default]
    Off,
    /// Out of a spare; the first update clones where the file system can.
    Auto,
    /// Cloned where the file system can, else written.
    Reflink,
    /// Hard-linked, else written.
    HardLink,
}

/// Times that near to each other can be the same tick of a file system's clock.
const TICK: Duration = Duration::from_millis(20);

/// Why an earlier checkout can't be used; the new one is written as a whole then.
pub(super) enum Unfit {
    Because(&'static str),
    Failed(RepoError),
}

impl From<RepoError> for Unfit {
    fn from(error: RepoError) -> Self {
        Self::Failed(error)
    }
}

impl Store {
    /// Removes the spare: nobody knows what it was made with.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn drop_spare(&self) -> Result<(), RepoError> {
        let spare = self.layout().spare_checkout();
        remove_any(&spare).map_err(RepoError::io("removing", spare))
    }

    /// Moves the newest checkout that was replaced longer than `timeout` ago out of sight, for the
    /// next update. Only those in `made` count: their files are as this process writes files.
    fn keep_spare(
        &self,
        current: ObjectId,
        timeout: Duration,
        made: &[ObjectId],
        keep: &[ObjectId],
    ) -> Result<Option<PathBuf>, RepoError> {
        let now = SystemTime::now();
        let newest = made.iter().rev().find(|commit| {
            let path = self.layout().worktree(**commit);
            **commit != current
                && !keep.contains(commit)
                && is_older(&path, now, timeout)
                && worktree::is_checkout(self.layout(), **commit)
        });
        let Some(&commit) = newest else { return Ok(None) };
        self.drop_spare()?;
        let place = Unfinished::create(&self.layout().git_dir())?;
        let rename = |from: PathBuf, name: &str| {
            fs::rename(&from, place.path().join(name)).map_err(RepoError::io("moving", &from))
        };
        rename(self.layout().worktree(commit), "files")?;
        rename(own_index(self.layout(), commit), "index")?;
        let folders = self.layout().admin(commit).join(worktree::FOLDERS);
        if folders.is_file() {
            rename(folders, "folders")?;
        }
        place.install(&self.layout().spare_checkout())?;
        Ok(Some(self.layout().worktree(commit)))
    }

    /// Makes the checkout of `commit` out of the spare or of `base`, a published checkout. `spare` is what was seen
    /// of the first, if somebody has looked.
    ///
    /// `None`: there is none that can be used; make a whole one.
    ///
    /// # Errors
    /// As [`Store::make_checkout`].
    pub(crate) fn reuse_checkout(
        &self,
        commit: ObjectId,
        base: Option<ObjectId>,
        how: Reuse,
        spare: Option<Spare>,
        cancel: &CancellationToken,
    ) -> Result<Option<CheckoutStats>, RepoError> {
        let made = match (how, base) {
            (Reuse::Off, _) => return Ok(None),
            (Reuse::Auto, _) if self.layout().spare_checkout().join("index").is_file() => {
                self.recycle(commit, spare, cancel)
            }
            (_, Some(base)) => self.take_over(commit, base, how, cancel),
            (_, None) => return Ok(None),
        };
        match made {
            Ok(stats) => {
                tracing::debug!(written = stats.written, of = stats.files, "reused the unchanged files");
                Ok(Some(stats))
            }
            Err(Unfit::Because(reason)) => {
                tracing::debug!(reason, "no reuse this time");
                Ok(None)
            }
            Err(Unfit::Failed(RepoError::Cancelled)) => Err(RepoError::Cancelled),
            Err(Unfit::Failed(error)) if error.is_disk_full() => Err(error),
            Err(Unfit::Failed(error)) => {
                tracing::warn!(%error, "can't reuse the earlier checkout; making a whole one");
                Ok(None)
            }
        }
    }

    fn take_over(
        &self,
        commit: ObjectId,
        base: ObjectId,
        how: Reuse,
        cancel: &CancellationToken,
    ) -> Result<CheckoutStats, Unfit> {
        let index = own_index(self.layout(), base);
        let finished = Finished::read(&index)?;
        let plan = self.plan(commit, read_index(&index)?, cancel)?;
        let from_top = self.layout().worktree(base);
        let files = Unfinished::create(&self.layout().worktrees())?;
        checkout::make_directories(files.path(), &plan.new)?;
        let mut transfer =
            Transfer { from: Directory::new(&from_top), to: Directory::new(files.path()), how, finished };
        let (mut kept, mut wanted) = (Vec::with_capacity(plan.new.len()), Vec::new());
        for (entry, from) in plan.new.into_iter().zip(plan.from) {
            if cancel.is_cancelled() {
                return Err(RepoError::Cancelled.into());
            }
            let moved = match from {
                Some(at) if entry.mode != Mode::Symlink => transfer.file(&plan.old[at])?,
                _ => None,
            };
            match moved {
                Some(stat) => kept.push(indexed(entry, stat)),
                None => wanted.push(entry),
            }
        }
        self.finish(commit, files, kept, wanted, &plan.attributes, cancel)
    }

    /// Which of the old entries each new one can be taken from.
    fn plan(
        &self,
        commit: ObjectId,
        old: Vec<IndexEntry>,
        cancel: &CancellationToken,
    ) -> Result<Plan, Unfit> {
        let new = tree::list(self.objects(), self.objects().commit(commit)?.tree, cancel)?;
        if old.iter().any(|entry| entry.skip || entry.mode == Mode::Submodule) {
            return Err(Unfit::Because("it is sparse or has submodules"));
        }
        if new.iter().any(|entry| entry.mode == Mode::Submodule) {
            return Err(Unfit::Because("the commit has submodules"));
        }
        let by_path: HashMap<&[u8], usize> =
            old.iter().enumerate().map(|(at, e)| (&e.path[..], at)).collect();
        let same = |entry: &Entry| {
            let at = *by_path.get(&entry.path[..])?;
            (old[at].id == entry.id && old[at].mode == entry.mode).then_some(at)
        };
        let from: Vec<Option<usize>> = new.iter().map(same).collect();
        // Attributes decide about line endings of files that didn't change themselves.
        let is_attributes = |path: &[u8]| split(path).1 == b".gitattributes";
        let (was, is) = (old.iter().filter(|e| is_attributes(&e.path)).count(), new.iter().zip(&from));
        let kept = is.clone().filter(|(entry, from)| is_attributes(&entry.path) && from.is_some()).count();
        if kept != was || is.filter(|(entry, _)| is_attributes(&entry.path)).count() != was {
            return Err(Unfit::Because("attributes changed"));
        }
        if from.iter().flatten().count() < new.len() / 2 {
            return Err(Unfit::Because("most files changed"));
        }
        let attributes =
            Attributes::load(self.objects(), new.iter().map(|e| (&e.path[..], e.id)), self.endings())?;
        Ok(Plan { old, new, from, attributes })
    }

    /// Writes what is missing and gives the checkout its name.
    fn finish(
        &self,
        commit: ObjectId,
        files: Unfinished,
        mut index: Vec<IndexEntry>,
        wanted: Vec<Entry>,
        attributes: &Attributes,
        cancel: &CancellationToken,
    ) -> Result<CheckoutStats, Unfit> {
        let written = wanted.len();
        let stats = checkout::write_files(self.objects(), files.path(), &wanted, attributes, cancel)?;
        index.extend(wanted.into_iter().zip(stats).map(|(entry, stat)| indexed(entry, stat)));
        index.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.install_checkout(commit, files, &|out| index::write(out, &index), None)?;
        Ok(CheckoutStats { files: index.len(), written })
    }

    /// Removes replaced checkouts as [`Store::remove_stale`] does, but keeps what `how` can use.
    ///
    /// # Errors
    /// As [`Store::remove_stale`].
    pub fn clear_stale(
        &self,
        current: ObjectId,
        timeout: Duration,
        how: Reuse,
        made: &[ObjectId],
        keep: &[ObjectId],
    ) -> Result<Vec<PathBuf>, RepoError> {
        if how == Reuse::Auto {
            let kept = self.keep_spare(current, timeout, made, keep)?;
            let mut removed = self.remove_stale(current, timeout, keep)?;
            removed.extend(kept);
            return Ok(removed);
        }
        if how != Reuse::HardLink {
            return self.remove_stale(current, timeout, keep);
        }
        let before = self.look_at_links(current)?;
        let removed = self.remove_stale(current, timeout, keep)?;
        if !removed.is_empty() {
            self.settle_links(current, &before)?;
        }
        Ok(removed)
    }

    /// Accepts the times of hard links after the other names were removed, which changes them.
    ///
    /// `before` are the states seen just before the removal; only what was whole then and differs by
    /// nothing but its time of change is accepted.
    fn settle_links(&self, commit: ObjectId, before: &[bool]) -> Result<(), RepoError> {
        let mut entries = read_index(&own_index(self.layout(), commit))?;
        let mut directory = Directory::new(&self.layout().worktree(commit));
        for (entry, whole) in entries.iter_mut().zip(before) {
            let now = directory.stat(&entry.path);
            if let Some(now) =
                now.filter(|now| *whole && Stat { ctime: entry.stat.ctime, ..*now } == entry.stat)
            {
                entry.stat = now;
            }
        }
        worktree::settle_index(&self.layout().admin(commit), &entries)
    }

    /// For [`Store::settle_links`]: which files are as they were written.
    fn look_at_links(&self, commit: ObjectId) -> Result<Vec<bool>, RepoError> {
        let mut directory = Directory::new(&self.layout().worktree(commit));
        let entries = read_index(&own_index(self.layout(), commit))?;
        Ok(entries.iter().map(|entry| directory.stat(&entry.path) == Some(entry.stat)).collect())
    }
}

struct Plan {
    old: Vec<IndexEntry>,
    new: Vec<Entry>,
    /// For each new entry the old one that is the same.
    from: Vec<Option<usize>>,
    attributes: Attributes,
}

fn indexed(entry: Entry, stat: Stat) -> IndexEntry {
    IndexEntry { path: entry.path, mode: entry.mode, id: entry.id, stat, skip: false }
}

fn read_index(path: &Path) -> Result<Vec<IndexEntry>, RepoError> {
    let read = || -> io::Result<Vec<IndexEntry>> { Reader::new(File::open(path)?)?.collect() };
    read().map_err(RepoError::io("reading", path))
}

/// When a checkout was finished, before anybody could see it, less a [`TICK`]: seconds and nanoseconds, as in
/// the index.
#[derive(Clone, Copy)]
pub(super) struct Finished((u32, u32));

impl Finished {
    pub(super) fn read(index: &Path) -> Result<Self, RepoError> {
        let time = fs::metadata(index).and_then(|meta| meta.modified());
        let time = time.map_err(RepoError::io("reading the state of", index))?;
        let before = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(TICK);
        Ok(Self((u32::try_from(before.as_secs()).unwrap_or(0), before.subsec_nanos())))
    }

    pub(super) fn is_as_written(
        self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        stat: Stat,
        blob: (Mode, ObjectId),
    ) -> bool {
        stat_in(directory, name) == Some(stat) && (!self.is_fresh(stat) || is_blob(directory, name, blob))
    }

    /// Written in the same tick of the clock in which it became visible: somebody's change could
    /// have left the times as they were, so the content has to be looked at.
    pub(super) fn is_fresh(self, stat: Stat) -> bool {
        stat.ctime.max(stat.mtime) > self.0
    }
}

/// Whether a file or symlink holds the very bytes of its blob.
fn is_blob(directory: BorrowedFd<'_>, name: &[u8], (mode, id): (Mode, ObjectId)) -> bool {
    let read = || -> io::Result<ObjectId> {
        if mode == Mode::Symlink {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
            return blob_id(target.to_bytes().len() as u64, |hash| {
                hash.update(target.to_bytes());
                Ok(())
            });
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(directory, name, flags, Permissions::empty())?);
        let length = file.metadata()?.len();
        blob_id(length, |hash| io::copy(&mut file, &mut Feed(|bytes: &[u8]| hash.update(bytes))).map(|_| ()))
    };
    read().is_ok_and(|found| found == id)
}

fn blob_id(length: u64, feed: impl FnOnce(&mut Sha1) -> io::Result<()>) -> io::Result<ObjectId> {
    let mut hash = Sha1::new();
    hash.update(format!("blob {length}\0"));
    feed(&mut hash)?;
    Ok(ObjectId::from_bytes(hash.finalize().into()))
}

/// Remembers the last directory: files come sorted.
pub(super) struct Directory {
    top: PathBuf,
    last: Option<(Vec<u8>, OwnedFd)>,
}

impl Directory {
    pub(super) fn new(top: &Path) -> Self {
        Self { top: top.to_owned(), last: None }
    }

    /// Opens the parent of a path; no link on the way is followed out of the tree.
    fn parent(&mut self, path: &[u8]) -> Option<BorrowedFd<'_>> {
        let parent = split(path).0;
        if self.last.as_ref().is_none_or(|(known, _)| known != parent) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut fd = rustix::fs::open(&self.top, flags, Permissions::empty()).ok()?;
            for part in parent.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
                fd = rustix::fs::openat(&fd, part, flags, Permissions::empty()).ok()?;
            }
            self.last = Some((parent.to_vec(), fd));
        }
        self.last.as_ref().map(|(_, fd)| fd.as_fd())
    }

    /// What `lstat` says of a file; `None` where there is none, or only through a symlink.
    pub(super) fn stat(&mut self, path: &[u8]) -> Option<Stat> {
        stat_in(self.parent(path)?, split(path).1)
    }
}

fn stat_in(directory: BorrowedFd<'_>, name: &[u8]) -> Option<Stat> {
    let stat = rustix::fs::statat(directory, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(checkout::index_stat(&stat))
}

/// Takes files over from a published tree.
struct Transfer {
    from: Directory,
    to: Directory,
    how: Reuse,
    finished: Finished,
}

impl Transfer {
    /// The state of the new name, or `None` when the file has to be written.
    fn file(&mut self, old: &IndexEntry) -> Result<Option<Stat>, RepoError> {
        let Some(from) = self.from.parent(&old.path) else { return Ok(None) };
        let name = split(&old.path).1;
        if !self.finished.is_as_written(from, name, old.stat, (old.mode, old.id)) {
            return Ok(None);
        }
        match self.how {
            Reuse::HardLink => self.link(old),
            Reuse::Auto | Reuse::Reflink => self.clone(old),
            Reuse::Off => Ok(None),
        }
    }

    fn link(&mut self, old: &IndexEntry) -> Result<Option<Stat>, RepoError> {
        let name = split(&old.path).1;
        let (Some(from), Some(to)) = (self.from.parent(&old.path), self.to.parent(&old.path)) else {
            return Ok(None);
        };
        if rustix::fs::linkat(from, name, to, name, AtFlags::empty()).is_err() {
            return Ok(None);
        }
        // The link itself is a change of state; anything else is somebody's write.
        let now = stat_in(to, name);
        if let Some(now) = now.filter(|now| Stat { ctime: old.stat.ctime, ..*now } == old.stat) {
            return Ok(Some(now));
        }
        rustix::fs::unlinkat(to, name, AtFlags::empty())
            .map_err(RepoError::os("removing", join(&self.to.top, &old.path)))?;
        Ok(None)
    }

    fn clone(&mut self, old: &IndexEntry) -> Result<Option<Stat>, RepoError> {
        let name = split(&old.path).1;
        let permissions = if old.mode == Mode::Executable { 0o777 } else { 0o666 };
        let path = join(&self.to.top, &old.path);
        let (Some(from), Some(to)) = (self.from.parent(&old.path), self.to.parent(&old.path)) else {
            return Ok(None);
        };
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(source) = rustix::fs::openat(from, name, read, Permissions::empty()) else { return Ok(None) };
        let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(to, name, write, Permissions::from_raw_mode(permissions))
            .map_err(RepoError::os("creating", &path))?;
        // Looked at again after the clone: a write before or during it shows.
        let cloned = old.stat.size == 0 || rustix::fs::ioctl_ficlone(&target, &source).is_ok();
        let unchanged = rustix::fs::fstat(&source).is_ok_and(|stat| checkout::index_stat(&stat) == old.stat);
        if cloned && unchanged {
            let stat = rustix::fs::fstat(&target).map_err(RepoError::os("reading the state of", &path))?;
            return Ok(Some(checkout::index_stat(&stat)));
        }
        if !cloned {
            // Not this file system; don't ask 10,000 times.
            self.how = Reuse::Off;
        }
        fs::remove_file(&path).map_err(RepoError::io("removing", &path))?;
        Ok(None)
    }
}
