//! A copy of a finished checkout that shares nothing with it, for publication as a real directory.

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
/// file system can. Git's own pointers (`.git`) lead nowhere from another place and stay behind.
/// Gives what `lstat` says of each copy.
///
/// # Errors
/// What can't be read or written, or [`RepoError::Cancelled`].
pub(crate) fn duplicate(
    from: &Path,
    to: &Path,
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
            let Some(name) = path.file_name().map(OsStrExt::as_bytes).filter(|name| *name != b".git") else {
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
            entries.push(IndexEntry { path: whole, mode, id: ObjectId::ZERO, stat, skip: false });
        }
    }
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
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
    common::fs::write_atomically(path, &text, 0o644).map_err(fail)
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
