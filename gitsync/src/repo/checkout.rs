//! Writing the files of a commit, in parallel, into a fresh directory that nobody else knows yet.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{AtFlags, CWD, Mode as Permissions, OFlags};
use tokio_util::sync::CancellationToken;

use super::index::Stat;
use super::objects::{Kind, Objects};
use super::tree::{Entry, Mode};
use super::{RepoError, large};
use crate::lfs::Pointer;
use crate::protocol::ObjectId;

/// Files handed to a worker at once: few enough to share a large directory between workers.
const JOB_FILES: usize = 64;
/// Below this many files a second thread costs more than it saves.
const PARALLEL_FROM: usize = 128;
/// Blobs from this size on are written piece by piece, as they are.
const STREAM_FROM: u64 = 16 << 20;
/// Bytes of a symlink's target; Linux takes no longer ones.
const MAX_TARGET: u64 = 4_095;
/// More writers only queue up in the file system.
const MAX_THREADS: usize = 8;

/// Turns a blob into the bytes of the file at `path` (line endings and the like).
pub(crate) trait Convert: Sync {
    /// `None`: the blob as it is.
    fn convert(&self, path: &[u8], id: ObjectId, blob: &[u8]) -> Option<Vec<u8>>;

    /// The LFS object that the file at `path` is to hold instead of the blob.
    fn pointer(&self, _path: &[u8], _blob: &[u8]) -> Option<Pointer> {
        None
    }

    /// Whether symlinks become files that hold where they lead.
    fn links_as_files(&self) -> bool {
        false
    }
}

/// Writes all entries below `top`, which must be an empty directory of our own.
///
/// Gives what `lstat` says of each, in the order of `entries`. Directories come first and
/// symlinks last, and nothing that exists is ever opened, so no entry can be written through
/// another one.
pub(crate) fn write_files(
    objects: &Objects,
    top: &Path,
    entries: &[Entry],
    convert: &dyn Convert,
    cancel: &CancellationToken,
) -> Result<Vec<Stat>, RepoError> {
    make_directories(top, entries)?;
    let jobs = cut_jobs(entries);
    let work = Work { top, entries, convert, cancel };
    let mut stats = vec![Stat::default(); entries.len()];
    for (range, found) in run_jobs(objects, &work, &jobs)? {
        stats[range].copy_from_slice(&found);
    }
    for (at, entry) in entries.iter().enumerate() {
        match entry.mode {
            Mode::Symlink => stats[at] = work.symlink(objects, entry)?,
            Mode::Submodule => stats[at] = stat_at(CWD, &join(top, &entry.path))?,
            Mode::File | Mode::Executable => {}
        }
    }
    Ok(stats)
}

struct Work<'a> {
    top: &'a Path,
    entries: &'a [Entry],
    convert: &'a dyn Convert,
    cancel: &'a CancellationToken,
}

type Written = (Range<usize>, Vec<Stat>);

fn run_jobs(objects: &Objects, work: &Work<'_>, jobs: &[Range<usize>]) -> Result<Vec<Written>, RepoError> {
    let threads = thread_count(work.entries.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(jobs.len()));
    let worker = |objects: &Objects| -> Result<(), RepoError> {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let stats = work.job(objects, job.clone()).inspect_err(|_| {
                // The others have nothing left to do.
                next.store(jobs.len(), Ordering::Relaxed);
            })?;
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((job.clone(), stats));
        }
        Ok(())
    };
    if threads == 1 {
        worker(objects)?;
    } else {
        std::thread::scope(|scope| {
            let spawned: Vec<_> = (1..threads).map(|_| scope.spawn(|| worker(&objects.reopen()?))).collect();
            let mine = worker(objects);
            spawned.into_iter().fold(mine, |result, thread| {
                let theirs = thread
                    .join()
                    .unwrap_or_else(|_| Err(RepoError::NotFound("a checkout thread panicked".to_owned())));
                result.and(theirs)
            })
        })?;
    }
    Ok(done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// How many threads to use for so many files.
pub(crate) fn thread_count(files: usize) -> usize {
    if files < PARALLEL_FROM {
        return 1;
    }
    std::thread::available_parallelism().map_or(1, usize::from).clamp(1, MAX_THREADS)
}

impl Work<'_> {
    fn job(&self, objects: &Objects, range: Range<usize>) -> Result<Vec<Stat>, RepoError> {
        if self.cancel.is_cancelled() {
            return Err(RepoError::Cancelled);
        }
        let entries = &self.entries[range];
        let Some(first) = entries.first() else { return Ok(Vec::new()) };
        let directory = open_directory(self.top, split(&first.path).0)?;
        entries.iter().map(|entry| self.file(objects, directory.as_fd(), entry)).collect()
    }

    fn file(&self, objects: &Objects, directory: BorrowedFd<'_>, entry: &Entry) -> Result<Stat, RepoError> {
        let permissions = match entry.mode {
            Mode::File => 0o666,
            Mode::Executable => 0o777,
            Mode::Symlink | Mode::Submodule => return Ok(Stat::default()),
        };
        let name = split(&entry.path).1;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = || join(self.top, &entry.path);
        let file = rustix::fs::openat(directory, name, flags, Permissions::from_raw_mode(permissions))
            .map_err(|e| RepoError::os("creating", path())(e))?;
        let mut file = File::from(file);
        if !self.write_large(objects, entry, &mut file)? {
            let blob = objects.read_checked(entry.id, Kind::Blob)?;
            if let Some(pointer) = self.convert.pointer(&entry.path, &blob) {
                objects.large().pour(&pointer, &file, &path())?;
            } else {
                let converted = self.convert.convert(&entry.path, entry.id, &blob);
                let content = converted.as_deref().unwrap_or(&blob);
                file.write_all(content).map_err(|e| RepoError::io("writing", path())(e))?;
            }
        }
        let stat = rustix::fs::fstat(&file).map_err(|e| RepoError::os("reading the state of", path())(e))?;
        Ok(index_stat(&stat))
    }

    /// Writes a blob that is too large to hold; false when it isn't, or doesn't lie whole in a pack.
    fn write_large(&self, objects: &Objects, entry: &Entry, file: &mut File) -> Result<bool, RepoError> {
        let size = objects.size(entry.id)?;
        if size < STREAM_FROM {
            return Ok(false);
        }
        let Some(mut content) = large::open(objects.directory(), entry.id)? else { return Ok(false) };
        let path = join(self.top, &entry.path);
        // A few kilobytes in a pack can be terabytes; the neighbours on the volume are not to notice.
        let room = rustix::fs::fstatvfs(&*file).map_err(RepoError::os("asking for room for", &path))?;
        if size > room.f_bavail.saturating_mul(room.f_frsize) {
            return Err(RepoError::os("writing", &path)(rustix::io::Errno::NOSPC));
        }
        let mut buffer = vec![0; 256 * 1024];
        let mut written = 0;
        loop {
            if self.cancel.is_cancelled() {
                return Err(RepoError::Cancelled);
            }
            let bad = |e: std::io::Error| RepoError::BadObject { id: entry.id, reason: e.to_string() };
            let read = content.read(&mut buffer).map_err(bad)?;
            if read == 0 {
                break;
            }
            written += read as u64;
            file.write_all(&buffer[..read]).map_err(RepoError::io("writing", &path))?;
        }
        if written == size {
            return objects.check_file(entry.id, &path).map(|()| true);
        }
        Err(RepoError::BadObject { id: entry.id, reason: format!("{written} bytes of {size}") })
    }

    fn symlink(&self, objects: &Objects, entry: &Entry) -> Result<Stat, RepoError> {
        let refuse = |reason| {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            Err(RepoError::Hostile { path, reason })
        };
        // Before it is read: some kilobytes in a pack can be gigabytes in memory.
        if objects.size(entry.id)? > MAX_TARGET {
            return refuse("a symlink to a name that is too long");
        }
        let target = objects.read_checked(entry.id, Kind::Blob)?;
        let path = join(self.top, &entry.path);
        // A NUL would cut the target short; Git refuses it too.
        if target.contains(&0) || target.is_empty() {
            return refuse("a symlink to no possible name");
        }
        if self.convert.links_as_files() {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::open(&path, flags, Permissions::from_raw_mode(0o666))
                .map_err(RepoError::os("creating", &path))?;
            File::from(file).write_all(&target).map_err(RepoError::io("writing", &path))?;
            return stat_at(CWD, &path);
        }
        rustix::fs::symlinkat(&*target, CWD, &path).map_err(RepoError::os("creating", &path))?;
        stat_at(CWD, &path)
    }
}

/// Creates the parents of all entries, and the empty directories of submodules.
pub(crate) fn make_directories(top: &Path, entries: &[Entry]) -> Result<(), RepoError> {
    let mut made: Vec<u8> = Vec::new();
    for entry in entries {
        let directory = match entry.mode {
            Mode::Submodule => &entry.path[..],
            _ => split(&entry.path).0,
        };
        if directory == made {
            continue;
        }
        // Entries are sorted, so only the part that differs from the previous one can be new.
        let ends = directory.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        for end in ends.chain((!directory.is_empty()).then_some(directory.len())) {
            let part = &directory[..end];
            if made.starts_with(part) && matches!(made.get(end), None | Some(b'/')) {
                continue;
            }
            let path = join(top, part);
            match std::fs::create_dir(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => {}
                other => other.map_err(RepoError::io("creating", &path))?,
            }
        }
        made = directory.to_vec();
    }
    Ok(())
}

/// Neighbours in one directory, at most `JOB_FILES` of them.
fn cut_jobs(entries: &[Entry]) -> Vec<Range<usize>> {
    let mut jobs = Vec::new();
    let mut start = 0;
    for at in 1..=entries.len() {
        let ends = at == entries.len()
            || at - start >= JOB_FILES
            || split(&entries[at].path).0 != split(&entries[start].path).0;
        if ends {
            jobs.push(start..at);
            start = at;
        }
    }
    jobs
}

fn open_directory(top: &Path, path: &[u8]) -> Result<OwnedFd, RepoError> {
    let path = join(top, path);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Permissions::empty()).map_err(RepoError::os("opening", &path))
}

/// Directory part (without the last slash) and name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// `top` plus a path from a tree.
pub(crate) fn join(top: &Path, path: &[u8]) -> std::path::PathBuf {
    if path.is_empty() { top.to_owned() } else { top.join(std::ffi::OsStr::from_bytes(path)) }
}

/// `lstat` for the index.
pub(crate) fn stat_at(directory: BorrowedFd<'_>, path: &Path) -> Result<Stat, RepoError> {
    let stat = rustix::fs::statat(directory, path, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(RepoError::os("reading the state of", path))?;
    Ok(index_stat(&stat))
}

/// The index keeps the low 32 bits of everything.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn index_stat(stat: &rustix::fs::Stat) -> Stat {
    Stat {
        ctime: (stat.st_ctime as u32, stat.st_ctime_nsec as u32),
        mtime: (stat.st_mtime as u32, stat.st_mtime_nsec as u32),
        dev: stat.st_dev as u32,
        ino: stat.st_ino as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Entry {
        Entry { path: path.as_bytes().to_vec(), mode: Mode::File, id: ObjectId::ZERO }
    }

    #[test]
    fn jobs_stay_within_a_directory() {
        let entries: Vec<_> = ["a", "b", "d/a", "d/e/f", "d/z"].map(entry).into();
        assert_eq!(cut_jobs(&entries), [0..2, 2..3, 3..4, 4..5]);
        let many: Vec<_> = (0..130).map(|i| entry(&format!("x/{i:03}"))).collect();
        assert_eq!(cut_jobs(&many), [0..64, 64..128, 128..130]);
        assert!(cut_jobs(&[]).is_empty());
    }

    #[test]
    fn directories_of_sorted_entries() {
        let top = tempfile::tempdir().unwrap();
        let mut entries: Vec<_> = ["a/b/c/x", "a/b.d/x", "a/bc/y", "a/b/q", "z"].map(entry).into();
        entries.sort_by(|l, r| l.path.cmp(&r.path));
        make_directories(top.path(), &entries).unwrap();
        for path in ["a/b/c", "a/b.d", "a/bc"] {
            assert!(top.path().join(path).is_dir(), "{path}");
        }
        assert!(!top.path().join("z").exists());
    }
}
