//! Copying whole object directories between repositories on one machine.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::RepoError;
use super::store::list;

/// Copies packs (with their indexes) and loose objects. The file system shares the blocks
/// where it can.
pub(crate) fn objects(from: &Path, to: &Path, cancel: &CancellationToken) -> Result<(), RepoError> {
    let packs = from.join("pack");
    // The index comes last: a pack without one doesn't exist for readers.
    for extension in ["pack", "idx"] {
        for path in list(&packs)? {
            if path.extension() == Some(OsStr::new(extension)) {
                copy_file(&path, &to.join("pack"), cancel)?;
            }
        }
    }
    for directory in list(from)? {
        let Some(name) = directory.file_name().filter(|name| is_fan_out(name)) else { continue };
        let target = to.join(name);
        let loose = list(&directory)?;
        if !loose.is_empty() {
            fs::create_dir_all(&target).map_err(RepoError::io("creating", &target))?;
        }
        for path in loose.iter().filter(|path| path.file_name().is_some_and(|n| n.len() == 38)) {
            copy_file(path, &target, cancel)?;
        }
    }
    Ok(())
}

/// Other object directories that belong to this one (`objects/info/alternates`).
pub(crate) fn alternates(directory: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(directory.join("info/alternates")).unwrap_or_default();
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| directory.join(line))
        .filter_map(|path| path.canonicalize().ok())
        .collect()
}

fn is_fan_out(name: &OsStr) -> bool {
    name.len() == 2 && name.to_str().is_some_and(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn copy_file(from: &Path, directory: &Path, cancel: &CancellationToken) -> Result<(), RepoError> {
    if cancel.is_cancelled() {
        return Err(RepoError::Cancelled);
    }
    let Some(name) = from.file_name() else { return Ok(()) };
    let target = directory.join(name);
    if target.exists() {
        return Ok(());
    }
    let mut temporary = tempfile::Builder::new()
        .prefix("tmp_obj_")
        .tempfile_in(directory)
        .map_err(RepoError::io("creating a file in", directory))?;
    let mut source = match fs::File::open(from) {
        // Repacked away under our hands; its objects are in another pack.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(RepoError::io("opening", from))?,
    };
    io::copy(&mut source, temporary.as_file_mut()).map_err(RepoError::io("copying to", &target))?;
    rustix::fs::fchmod(temporary.as_file(), rustix::fs::Mode::from_raw_mode(0o444))
        .map_err(RepoError::os("setting permissions of", &target))?;
    temporary.persist(&target).map_err(|e| RepoError::io("creating", &target)(e.error))?;
    Ok(())
}
