//! Files and links that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Replaces the file at `path` with `content` in one step: a reader sees the old or the new bytes.
///
/// The data is flushed to the device before the rename. `mode` is reduced by the umask.
///
/// # Errors
/// The directory is missing or not writable, or the disk is full; `path` is untouched then and no
/// temporary file stays.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let (temporary, mut file) = create_beside(path, mode)?;
    let written = file.write_all(content).and_then(|()| file.sync_data());
    written.and_then(|()| fs::rename(&temporary, path)).inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

/// Makes `link` point to `target` in one step: a reader resolves the old or the new target.
///
/// `target` is written as given, so a relative one is relative to the link's directory.
///
/// # Errors
/// A directory stands at `link`, or its directory is missing or not writable; `link` is untouched
/// then and no temporary link stays.
pub fn replace_symlink(link: &Path, target: &Path) -> io::Result<()> {
    loop {
        let temporary = name_beside(link);
        match symlink(target, &temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => {
                return fs::rename(&temporary, link).inspect_err(|_| {
                    let _ = fs::remove_file(&temporary);
                });
            }
        }
    }
}

/// Flushes a directory's entries to the device, so that a rename in it survives a power loss.
///
/// # Errors
/// It cannot be opened or flushed.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whether a file name is one of this module's temporary names: something a killed process left.
#[must_use]
pub fn is_temporary_name(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

/// Whether it is one of those for this path, and not for another one in the same directory.
#[must_use]
pub fn is_temporary_name_of(path: &Path, name: &str) -> bool {
    let own = path.file_name().and_then(|own| own.to_str());
    let rest =
        name.strip_prefix(PREFIX).zip(own).and_then(|(rest, own)| rest.strip_prefix(own)?.strip_prefix('.'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    rest.and_then(|rest| rest.strip_suffix(SUFFIX)?.split_once('-'))
        .is_some_and(|(process, count)| is_number(process) && is_number(count))
}

const PREFIX: &str = ".";
const SUFFIX: &str = ".swap~";

fn create_beside(path: &Path, mode: u32) -> io::Result<(PathBuf, File)> {
    loop {
        let temporary = name_beside(path);
        match OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => return Ok((temporary, file)),
        }
    }
}

/// A name in the same directory (a rename must not cross file systems), unique in this process;
/// after a crash a process of the same id may meet an old one, hence the loops above.
fn name_beside(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut name = OsString::from(PREFIX);
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}-{}{SUFFIX}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn temporary_names_say_what_for() {
        let name = name_beside(Path::new("/x/a"));
        let name = name.file_name().unwrap().to_str().unwrap();
        assert!(is_temporary_name(name) && is_temporary_name_of(Path::new("a"), name), "{name}");
        let longer = name_beside(Path::new("/x/a.b"));
        let longer = longer.file_name().unwrap().to_str().unwrap();
        assert!(is_temporary_name(longer) && !is_temporary_name_of(Path::new("a"), longer), "{longer}");
    }

    #[test]
    fn files_and_links_are_replaced_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        for round in ["one", "two"] {
            write_atomically(&file, round.as_bytes(), 0o600).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), round);
            replace_symlink(&link, Path::new(round)).unwrap();
            assert_eq!(fs::read_link(&link).unwrap(), Path::new(round));
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_directory_in_the_way_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("taken");
        fs::create_dir(&taken).unwrap();
        assert!(replace_symlink(&taken, Path::new("x")).is_err());
        assert!(write_atomically(&taken, b"x", 0o644).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn temporary_names_are_recognised() {
        let name = name_beside(Path::new("/a/b"));
        assert!(is_temporary_name(name.file_name().unwrap().to_str().unwrap()));
        assert!(!is_temporary_name("b"));
    }
}
