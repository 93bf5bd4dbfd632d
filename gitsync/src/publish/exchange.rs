//! A real directory at the published path: a private copy of the checkout that takes the place of
//! the one before in a single step.
//!
//! A directory can't say which commit it is, so a note beside the object store does: its name holds
//! the directory's inode and time of birth. The note is written before the directory gets its place,
//! so a process that is killed at any moment leaves either the old directory with its note or the
//! new one with its own.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use sha1::{Digest as _, Sha1};
use tokio_util::sync::CancellationToken;

use super::web::{self, Before, Strip};
use super::{Link, Mode};
use crate::protocol::{ObjectId, hex};
use crate::repo::{
    Layout, Objects, Patrol, RepoError, blobs, duplicate, folder, list, note, noted_entries, own_index,
    remove_any,
};

/// Prefix of copies that have no place yet, or none any more.
const UNFINISHED: &str = ".tmp-gitsync-copy-";

/// That of the copies for one path, which may have others of ours beside it. What follows has no dash.
fn unfinished(target: &Path) -> String {
    format!("{UNFINISHED}{}-", target.file_name().unwrap_or_default().display())
}

fn notes(layout: &Layout) -> PathBuf {
    layout.git_dir().join("gitsync-copies")
}

/// What a directory is known by. An inode alone is soon used again.
fn identity(path: &Path) -> Option<String> {
    let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir)?;
    let born = meta.created().unwrap_or(UNIX_EPOCH).duration_since(UNIX_EPOCH).unwrap_or_default();
    Some(format!("{:x}-{:x}-{:x}", meta.dev(), meta.ino(), born.as_nanos()))
}

/// Which part of the commit, and in which shape, in a form that fits into a file name.
fn part(link: &Link) -> String {
    let path = link.subpath.as_deref().unwrap_or(Path::new("")).as_os_str();
    hex(&Sha1::digest([path.as_encoded_bytes(), b"\0", link.web.text().as_bytes()].concat())[..4])
}

/// The note of the directory at the published path: its file, the commit, and which part of it.
fn found(layout: &Layout, link: &Path) -> Option<(PathBuf, ObjectId, String)> {
    let identity = identity(link)?;
    list(&notes(layout)).ok()?.into_iter().find_map(|path| {
        let rest = path.file_name()?.to_str()?.strip_prefix(&identity)?.strip_prefix('.')?;
        let (hash, part) = rest.split_once('.')?;
        let (hash, part) = (hash.parse().ok()?, part.to_owned());
        Some((path, hash, part))
    })
}

/// The commit of the directory at the published path, if it's one of ours.
pub(super) fn current(layout: &Layout, link: &Path) -> Option<ObjectId> {
    found(layout, link).map(|(_, commit, _)| commit)
}

/// Whether it is `commit`, and the part that is wanted.
pub(super) fn holds(layout: &Layout, place: &Path, link: &Link, commit: ObjectId) -> bool {
    found(layout, place).is_some_and(|(_, hash, of)| hash == commit && of == part(link))
}

/// What watches over the directory.
pub(super) fn patrol(layout: &Layout, link: &Path) -> Option<Patrol> {
    let (index, commit, _) = found(layout, link)?;
    Some(Patrol::of_copy(layout.clone(), commit, link.to_owned(), index))
}

/// Copies the checkout of `commit`, gives the copy the shape that is wanted, and puts it in place.
pub(super) fn publish(
    layout: &Layout,
    target: &Path,
    link: &Link,
    commit: ObjectId,
) -> Result<(), RepoError> {
    let parent = target.parent().unwrap_or(layout.root());
    fs::create_dir_all(parent).map_err(RepoError::io("creating", parent))?;
    refuse_what_is_not_ours(layout, target, link)?;
    let top = layout.worktree(commit);
    let from = link.subpath.as_ref().map_or(Ok(top.clone()), |sub| folder(&top, sub))?;
    let copy = tempfile::Builder::new()
        .prefix(&unfinished(target))
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .tempdir_in(parent)
        .map_err(RepoError::io("creating a directory in", parent))?;
    let dotfiles = link.web.strip != Strip::Dotfiles;
    let ids = blobs(&own_index(layout, commit), link.subpath.as_deref());
    let mut entries = duplicate(&from, copy.path(), dotfiles, &ids, &CancellationToken::new())?;
    if link.web.is_on() {
        let earlier = link.path.canonicalize().ok();
        let before = earlier.as_deref().and_then(|top| {
            let (note, _, of) = found(layout, top)?;
            (of == part(link)).then(|| Before {
                top,
                entries: noted_entries(&note).into_iter().map(|entry| (entry.path.clone(), entry)).collect(),
            })
        });
        let time = Objects::open(&layout.objects())?.describe(commit)?.time;
        web::finish(copy.path(), &mut entries, &link.web, time, before.as_ref())?;
    }
    let Some(identity) = identity(copy.path()) else {
        return Err(RepoError::NotFound(format!("{} vanished", copy.path().display())));
    };
    let notes = notes(layout);
    fs::create_dir_all(&notes).map_err(RepoError::io("creating", &notes))?;
    let name = format!("{identity}.{commit}.{}", part(link));
    note(&notes.join(&name), &entries)?;
    if let Err(error) = place(copy.path(), target) {
        let _ = fs::remove_file(notes.join(&name));
        return Err(error);
    }
    // What is at the copy's old place now is what was replaced.
    let replaced = copy.keep();
    if let Err(error) = retire(layout, link, &replaced) {
        tracing::warn!(path = %replaced.display(), %error, "can't remove the replaced directory; trying again later");
    }
    for other in list(&notes)?.iter().filter(|path| path.file_name() != Some(OsStr::new(&name))) {
        remove_any(other).map_err(RepoError::io("removing", other))?;
    }
    Ok(())
}

/// Under the root everything is ours; elsewhere what an earlier run put there, or what is empty.
fn refuse_what_is_not_ours(layout: &Layout, path: &Path, link: &Link) -> Result<(), RepoError> {
    let Ok(meta) = fs::symlink_metadata(path) else { return Ok(()) };
    let occupied = || RepoError::Occupied { path: path.to_owned() };
    let is_empty = || fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if meta.is_symlink() {
        return if super::commit_in(&fs::read_link(path).unwrap_or_default()).is_some() {
            Ok(())
        } else {
            Err(occupied())
        };
    }
    let ours = found(layout, path).is_some() || (path.starts_with(layout.root()) && !link.is_once());
    if meta.is_dir() && (ours || is_empty()) { Ok(()) } else { Err(occupied()) }
}

fn place(copy: &Path, target: &Path) -> Result<(), RepoError> {
    let fail = |errno: Errno| match errno {
        Errno::BUSY => RepoError::NotFound(format!(
            "{} is a mount point and can't be exchanged; mount the directory above it",
            target.display()
        )),
        Errno::INVAL | Errno::NOSYS => RepoError::NotFound(format!(
            "the file system of {} can't exchange directories; use --publish=symlink",
            target.display()
        )),
        other => RepoError::os("publishing", target)(other),
    };
    match renameat_with(CWD, copy, CWD, target, RenameFlags::EXCHANGE) {
        Err(Errno::NOENT) => rustix::fs::rename(copy, target).map_err(fail),
        other => other.map_err(fail),
    }
}

/// The replaced directory stays among the checkouts for as long as a checkout would.
fn retire(layout: &Layout, link: &Link, replaced: &Path) -> io::Result<()> {
    let Some(name) =
        replaced.file_name().filter(|_| link.lingers && link.mode == Mode::Exchange && replaced.is_dir())
    else {
        return remove_any(replaced);
    };
    fs::File::open(replaced)?.set_modified(SystemTime::now())?;
    fs::rename(replaced, layout.worktrees().join(name)).or_else(|_| remove_any(replaced))
}

/// Removes what a killed process left beside the published path.
pub(super) fn heal(link: &Path) -> Result<usize, RepoError> {
    let Some(parent) = link.parent() else { return Ok(0) };
    let prefix = unfinished(link);
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str);
        name.and_then(|name| name.strip_prefix(&prefix)).is_some_and(|rest| !rest.contains('-'))
    };
    let left: Vec<_> = list(parent)?.into_iter().filter(is_ours).collect();
    for path in &left {
        tracing::info!(path = %path.display(), "removing a copy that an earlier run left");
        remove_any(path).map_err(RepoError::io("removing", path))?;
    }
    Ok(left.len())
}
