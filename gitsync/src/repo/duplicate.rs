//! A copy of a finished checkout that shares nothing with it, for publication as a real directory.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use tokio_util::sync::CancellationToken;

use super::RepoError;
use super::checkout::{join, stat_at};
use super::index::{self, IndexEntry};
use super::store::list;
use super::tree::Mode;
use crate::protocol::ObjectId;

/// Copies the files and symlinks of `from` into the empty directory `to`; blocks are shared where the
/// file system can. Git's own pointers (`.git`) lead nowhere from another place and stay behind; so do,
/// without `dotfiles`, other names that begin with a dot, but for `.well-known`. `ids`: the blobs by path.
/// Gives what `lstat` says of each copy.
///
/// # Errors
/// What can't be read or written, or [`RepoError::Cancelled`].
pub(crate) fn duplicate(
    from: &Path,
    to: &Path,
    dotfiles: bool,
    ids: &HashMap<Vec<u8>, ObjectId>,
    cancel: &CancellationToken,
) -> Result<Vec<IndexEntry>, RepoError> {
    let mut entries = Vec::new();
    let mut open = vec![Vec::new()];
    let mut clones = true;
    while let Some(directory) = open.pop() {
        for path in list(&join(from, &directory))? {
            if cancel.is_cancelled() {
                return Err(RepoError::Cancelled);
            }
            let Some(name) =
                path.file_name().map(OsStrExt::as_bytes).filter(|name| is_wanted(name, dotfiles))
            else {
                continue;
            };
            let whole =
                if directory.is_empty() { name.to_vec() } else { [&directory[..], b"/", name].concat() };
            let target = join(to, &whole);
            let meta = fs::symlink_metadata(&path).map_err(RepoError::io("reading the state of", &path))?;
            if meta.is_dir() {
                fs::create_dir(&target).map_err(RepoError::io("creating", &target))?;
                open.push(whole);
                continue;
            }
            let mode = if meta.is_symlink() {
                fs::read_link(&path)
                    .and_then(|leads| symlink(leads, &target))
                    .map_err(RepoError::io("copying", &path))?;
                Mode::Symlink
            } else {
                copy(&path, &target, &meta, &mut clones).map_err(RepoError::io("copying", &path))?;
                if meta.permissions().mode() & 0o100 == 0 { Mode::File } else { Mode::Executable }
            };
            let stat = stat_at(CWD, &target)?;
            let id = ids.get(&whole).copied().unwrap_or(ObjectId::ZERO);
            entries.push(IndexEntry { path: whole, mode, id, stat, skip: false });
        }
    }
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

fn is_wanted(name: &[u8], dotfiles: bool) -> bool {
    name != b".git" && (dotfiles || !name.starts_with(b".") || name == b".well-known")
}

/// What a copy's makers ask of its entries.
pub(crate) trait RegularFile {
    /// Whether it's a file and no symlink.
    fn is_regular(&self) -> bool;
    /// Where it is below `top`.
    fn place(&self, top: &Path) -> PathBuf;
    /// Whether nobody touched it since.
    fn is_untouched(&self, top: &Path) -> bool;
    /// Notes its state as it is now.
    fn look_again(&mut self, top: &Path) -> Result<(), RepoError>;
}

impl RegularFile for IndexEntry {
    fn is_regular(&self) -> bool {
        matches!(self.mode, Mode::File | Mode::Executable)
    }

    fn place(&self, top: &Path) -> PathBuf {
        join(top, &self.path)
    }

    fn is_untouched(&self, top: &Path) -> bool {
        stat_at(CWD, &self.place(top)).is_ok_and(|now| now == self.stat)
    }

    fn look_again(&mut self, top: &Path) -> Result<(), RepoError> {
        self.stat = stat_at(CWD, &self.place(top))?;
        Ok(())
    }
}

/// What was written down about a checkout or copy; as much of it as can be read.
pub(crate) fn entries(note: &Path) -> Vec<IndexEntry> {
    let Ok(reader) = File::open(note).and_then(index::Reader::new) else { return Vec::new() };
    reader.map_while(io::Result::ok).collect()
}

/// The blobs of a checkout or copy, by path below `sub`, from what was written down about it.
pub(crate) fn blobs(note: &Path, sub: Option<&Path>) -> HashMap<Vec<u8>, ObjectId> {
    let prefix = sub.map(|sub| [sub.as_os_str().as_bytes(), b"/"].concat()).unwrap_or_default();
    let below = |entry: IndexEntry| Some((entry.path.strip_prefix(&prefix[..])?.to_vec(), entry.id));
    entries(note).into_iter().filter_map(below).collect()
}

/// One file with its mode and time of modification.
fn copy(from: &Path, to: &Path, meta: &fs::Metadata, clones: &mut bool) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::options().write(true).create_new(true).open(to)?;
    // Once refused, it isn't asked for again: not this file system.
    *clones = *clones && rustix::fs::ioctl_ficlone(&target, &source).is_ok();
    if !*clones {
        io::copy(&mut source, &mut target)?;
    }
    target.set_permissions(meta.permissions())?;
    target.set_modified(meta.modified()?)
}

/// Notes the state of a copy where a patrol can find it, in one step.
pub(crate) fn note(path: &Path, entries: &[IndexEntry]) -> Result<(), RepoError> {
    let fail = |error| RepoError::io("writing", path)(error);
    let mut text = Vec::new();
    index::write(&mut text, entries).map_err(fail)?;
    common::fs::write_atomically(path, &text, 0o666).map_err(fail)
}

/// The real directory `sub` in `top`; a symlink on the way is none.
///
/// # Errors
/// [`RepoError::NotFound`] when it isn't there.
pub(crate) fn folder(top: &Path, sub: &Path) -> Result<PathBuf, RepoError> {
    let mut path = top.to_owned();
    for part in sub.components() {
        path.push(part);
        if !fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            let text = format!("--subpath: the commit has no folder {}", sub.display());
            return Err(RepoError::NotFound(text));
        }
    }
    Ok(path)
}
