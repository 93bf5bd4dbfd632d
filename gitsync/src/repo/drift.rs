//! Noticing that somebody changed a published checkout, and putting it right.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::CWD;

use super::attributes::Attributes;
use super::checkout::{Convert as _, join, split, stat_at};
use super::index::{self, IndexEntry, Line};
use super::objects::{Kind, Objects};
use super::reuse::Directory;
use super::store::remove_any;
use super::tree::Mode;
use super::watch::{News, Watch};
use super::worktree::{is_checkout, own_index, rewrite_index};
use super::{Layout, RepoError, Store, lfs};
use crate::lfs::Pointer;
use crate::protocol::ObjectId;

/// One in so many files is still looked at where the kernel tells of changes.
const WATCHED_SHARE: usize = 10;

/// Walks over a checkout's files a few at a time, comparing them with what was written.
///
/// Holds no more than a read buffer between steps, so an idle process stays small.
pub struct Patrol {
    layout: Layout,
    commit: ObjectId,
    reader: Option<index::Reader<File>>,
    /// Size and time of Git's own index when it was last seen to be whole.
    index: Option<(u64, SystemTime)>,
    watch: Option<Watch>,
    /// Of a published copy: the directory, and what was written down about it.
    copy: Option<(PathBuf, PathBuf)>,
}

/// What a step of a patrol saw.
#[derive(Debug, Default)]
pub struct Sighting {
    /// The checkout as a whole is gone or claims to be another commit.
    pub lost: bool,
    /// Files that aren't as they were written.
    pub(crate) changed: Vec<IndexEntry>,
    /// The step reached the end; the next one begins anew.
    pub complete: bool,
}

impl Sighting {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        !self.lost && self.changed.is_empty()
    }
}

impl Patrol {
    /// For the checkout of `commit`.
    pub fn new(layout: Layout, commit: ObjectId) -> Self {
        Self { layout, commit, reader: None, index: None, watch: None, copy: None }
    }

    /// The same for a copy of a checkout at `top`, described by the file `index`.
    pub(crate) fn of_copy(layout: Layout, commit: ObjectId, top: PathBuf, index: PathBuf) -> Self {
        let watch = Watch::start(&top, &index);
        Self { watch, copy: Some((top, index)), ..Self::new(layout, commit) }
    }

    /// The same, told by the kernel when something changes, so that the next step looks at all files.
    ///
    /// Where the kernel can't tell (too many directories, changes made on another machine of a
    /// network volume), the steps alone find it in time.
    pub fn watching(layout: Layout, commit: ObjectId) -> Self {
        let watch = Watch::start(&layout.worktree(commit), &own_index(&layout, commit));
        Self { watch, ..Self::new(layout, commit) }
    }

    /// Begins anew with the next step: what was written down about the files is another text now.
    pub fn restart(&mut self) {
        self.reader = None;
    }

    /// The commit whose checkout is watched.
    pub fn commit(&self) -> ObjectId {
        self.commit
    }

    /// Looks at up to `limit` files with one `lstat` each, going on where the last step ended.
    pub fn step(&mut self, limit: usize) -> Sighting {
        let mut seen = Sighting::default();
        let (limit, only) = match self.watch.as_ref().map(Watch::news) {
            Some(News::Anything) => (usize::MAX, None),
            Some(News::Files(paths)) => (usize::MAX, Some(paths)),
            // Most of what there is to see would have been told.
            Some(News::Nothing) => (limit.div_ceil(WATCHED_SHARE), None),
            None => (limit, None),
        };
        if limit == usize::MAX {
            self.reader = None;
        }
        if self.copy.is_none() && !(is_checkout(&self.layout, self.commit) && self.has_whole_index()) {
            self.reader = None;
            seen.lost = true;
            return seen;
        }
        if self.reader.is_none() {
            let index = self.copy.as_ref().map(|(_, index)| index.clone());
            let index = index.unwrap_or_else(|| own_index(&self.layout, self.commit));
            let opened = File::open(index).and_then(index::Reader::new);
            match opened {
                Ok(reader) => self.reader = Some(reader),
                Err(_) => seen.lost = true,
            }
        }
        let top = self.copy.as_ref().map(|(top, _)| top.clone());
        let top = top.unwrap_or_else(|| self.layout.worktree(self.commit));
        let Some(reader) = &mut self.reader else { return seen };
        let mut directory = Directory::new(&top);
        let mut is_as_written = |line: Line<'_>| match line.mode {
            // What happens inside a submodule is its own affair.
            Mode::Submodule => join(&top, line.path).is_dir(),
            _ => directory.stat(line.path) == Some(line.stat()),
        };
        for _ in 0..limit {
            match reader.line_on_disk() {
                Ok(None) => {
                    seen.complete = true;
                    self.reader = None;
                    break;
                }
                Err(_) => {
                    seen.lost = true;
                    self.reader = None;
                    break;
                }
                Ok(Some(line)) => {
                    if only.as_ref().is_none_or(|only| only.contains(line.path)) && !is_as_written(line) {
                        seen.changed.push(line.to_entry());
                    }
                }
            }
        }
        seen
    }
}

impl Patrol {
    /// Others may rewrite Git's index (`git status` does), but it has to stay an index.
    fn has_whole_index(&mut self) -> bool {
        let path = self.layout.admin(self.commit).join("index");
        let state_of =
            |path: &Path| fs::metadata(path).and_then(|meta| Ok((meta.len(), meta.modified()?))).ok();
        let state = state_of(&path);
        // Nobody wrote it since we made both, our own after it.
        let is_ours = || {
            let own = state_of(&own_index(&self.layout, self.commit));
            matches!((state, own), (Some(index), Some(own)) if index.0 == own.0 && index.1 <= own.1)
        };
        if state.is_some() && (state == self.index || (self.index.is_none() && is_ours())) {
            self.index = state;
            return true;
        }
        let whole = fs::read(&path).is_ok_and(|data| index::is_whole(&data));
        self.index = state.filter(|_| whole);
        whole
    }
}

impl Store {
    /// Writes Git's index of a checkout anew when it is damaged.
    ///
    /// # Errors
    /// When our own copy can't be read or the index can't be written.
    pub fn heal_index(&self, commit: ObjectId) -> Result<(), RepoError> {
        let path = self.layout().admin(commit).join("index");
        if fs::read(&path).is_ok_and(|data| index::is_whole(&data)) {
            return Ok(());
        }
        let own = own_index(self.layout(), commit);
        let read =
            || -> std::io::Result<Vec<IndexEntry>> { index::Reader::new(File::open(&own)?)?.collect() };
        tracing::warn!(path = %path.display(), "the index is damaged; writing it anew");
        rewrite_index(&self.layout().admin(commit), &read().map_err(RepoError::io("reading", &own))?)
    }

    /// Restores the files of a sighting that really differ from the commit.
    ///
    /// Each is replaced in one step. Files that only look different (a new owner, a restored
    /// backup) are left and their new state is noted. Gives the number of files restored.
    ///
    /// # Errors
    /// When an object is damaged or a file can't be written.
    pub fn repair(&self, commit: ObjectId, sighting: &Sighting) -> Result<usize, RepoError> {
        let path = own_index(self.layout(), commit);
        let read =
            || -> std::io::Result<Vec<IndexEntry>> { index::Reader::new(File::open(&path)?)?.collect() };
        let mut entries = read().map_err(RepoError::io("reading", &path))?;
        let attributes =
            Attributes::load(self.objects(), entries.iter().map(|e| (&e.path[..], e.id)), self.endings())?;
        let content = Content { objects: self.objects(), attributes: &attributes };
        let top = self.layout().worktree(commit);
        let mut restored = 0;
        for entry in &sighting.changed {
            let path = join(&top, &entry.path);
            // Its state before it is read: who writes to it meanwhile changes that.
            let mut state = stat_at(CWD, &path);
            if !has_content(&content, &top, entry) {
                restore(&content, &top, entry)?;
                restored += 1;
                state = stat_at(CWD, &path);
            }
            if let Ok(at) = entries.binary_search_by(|e| e.path.cmp(&entry.path)) {
                entries[at].stat = state?;
            }
        }
        rewrite_index(&self.layout().admin(commit), &entries)?;
        Ok(restored)
    }
}

/// What the files of a commit are to hold.
struct Content<'a> {
    objects: &'a Objects,
    attributes: &'a Attributes,
}

impl Content<'_> {
    /// The LFS object that the file holds, if it is one.
    fn pointer(&self, entry: &IndexEntry) -> Result<Option<Pointer>, RepoError> {
        if !matches!(entry.mode, Mode::File | Mode::Executable) || !self.attributes.is_large(&entry.path) {
            return Ok(None);
        }
        let blob = self.objects.read_checked(entry.id, Kind::Blob)?;
        Ok(self.attributes.pointer(&entry.path, &blob))
    }

    fn of(&self, entry: &IndexEntry) -> Result<Vec<u8>, RepoError> {
        let blob = self.objects.read_checked(entry.id, Kind::Blob)?;
        let converted = match entry.mode {
            Mode::File | Mode::Executable => self.attributes.convert(&entry.path, entry.id, &blob),
            Mode::Symlink | Mode::Submodule => None,
        };
        Ok(converted.unwrap_or_else(|| blob.to_vec()))
    }
}

/// Whether the file holds what the commit says, whatever its times and owner.
fn has_content(content: &Content<'_>, top: &Path, entry: &IndexEntry) -> bool {
    let path = join(top, &entry.path);
    let Ok(meta) = fs::symlink_metadata(&path) else { return false };
    // A parent turned into a symlink leads out of the checkout.
    if !parents_are_directories(top, &entry.path) {
        return false;
    }
    let is = |found: std::io::Result<Vec<u8>>| {
        found.is_ok_and(|found| content.of(entry).is_ok_and(|wanted| wanted == found))
    };
    match entry.mode {
        Mode::Submodule => meta.is_dir(),
        Mode::Symlink if content.attributes.links_as_files() => meta.is_file() && is(fs::read(&path)),
        Mode::Symlink => {
            meta.is_symlink() && is(fs::read_link(&path).map(|t| t.as_os_str().as_bytes().to_vec()))
        }
        Mode::File | Mode::Executable => {
            let executable = meta.permissions().mode() & 0o100 != 0;
            let holds = || match content.pointer(entry) {
                Ok(Some(pointer)) => lfs::holds(&path, &pointer),
                _ => is(fs::read(&path)),
            };
            meta.is_file() && executable == (entry.mode == Mode::Executable) && holds()
        }
    }
}

fn restore(content: &Content<'_>, top: &Path, entry: &IndexEntry) -> Result<(), RepoError> {
    make_parents(top, &entry.path)?;
    let path = join(top, &entry.path);
    if entry.mode == Mode::Submodule {
        return fs::create_dir(&path).map_err(RepoError::io("creating", &path));
    }
    let blob = content.of(entry)?;
    if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
        remove_any(&path).map_err(RepoError::io("removing", &path))?;
    }
    if entry.mode == Mode::Symlink && !content.attributes.links_as_files() {
        let target = PathBuf::from(std::ffi::OsStr::from_bytes(&blob));
        return common::fs::replace_symlink(&path, &target).map_err(RepoError::io("creating", &path));
    }
    let permissions = if entry.mode == Mode::Executable { 0o777 } else { 0o666 };
    let directory = path.parent().unwrap_or(top);
    let mut file = tempfile::Builder::new()
        .prefix(".tmp-gitsync-")
        .permissions(fs::Permissions::from_mode(permissions))
        .tempfile_in(directory)
        .map_err(RepoError::io("creating a file in", directory))?;
    match content.pointer(entry)? {
        Some(pointer) => content.objects.large().pour(&pointer, file.as_file(), &path)?,
        None => file.write_all(&blob).map_err(RepoError::io("writing", &path))?,
    }
    file.persist(&path).map_err(|e| RepoError::io("replacing", &path)(e.error))?;
    Ok(())
}

fn parents_are_directories(top: &Path, path: &[u8]) -> bool {
    parents(path).all(|parent| fs::symlink_metadata(join(top, parent)).is_ok_and(|meta| meta.is_dir()))
}

fn make_parents(top: &Path, path: &[u8]) -> Result<(), RepoError> {
    for parent in parents(path) {
        let parent = join(top, parent);
        if fs::symlink_metadata(&parent).is_ok_and(|meta| meta.is_dir()) {
            continue;
        }
        remove_any(&parent).map_err(RepoError::io("removing", &parent))?;
        fs::create_dir(&parent).map_err(RepoError::io("creating", &parent))?;
    }
    Ok(())
}

/// The directories above a path, the outermost first.
fn parents(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let directory = split(path).0;
    let whole = (!directory.is_empty()).then_some(directory);
    memchr::memchr_iter(b'/', directory).map(|at| &directory[..at]).chain(whole)
}
