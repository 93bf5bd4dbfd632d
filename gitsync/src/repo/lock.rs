//! One sync per root.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;

use super::{Layout, RepoError};

/// The name of the file in `.git` that says who holds the lock.
const HOLDER: &str = "gitsync-holder";

/// The right to change a root; given up when dropped, or by the system when the process ends.
#[derive(Debug)]
pub struct RootLock {
    // The lock is on the directory itself, so that replacing `.git` can't split it in two.
    directory: Option<File>,
}

impl RootLock {
    /// Takes the lock of an existing root.
    ///
    /// # Errors
    /// When somebody else has it, or the root can't be opened.
    pub fn take(layout: &Layout) -> Result<Self, RepoError> {
        let root = layout.root();
        let directory = File::open(root).map_err(RepoError::io("opening", root))?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { directory: Some(directory) }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(RepoError::Locked { root: root.to_owned(), holder: read_holder(layout) })
            }
            // Some network file systems have no locks on directories; better unguarded than not at all.
            Err(error) => {
                tracing::warn!(root = %root.display(), %error, "the file system can't lock the root");
                Ok(Self { directory: None })
            }
        }
    }

    /// Notes who we are, for the error message of others.
    pub fn sign(&self, layout: &Layout) {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let text = format!("gitsync with process id {} on {}\n", std::process::id(), host.trim());
        let path = layout.git_dir().join(HOLDER);
        if let Err(error) = write(&path, &text) {
            tracing::debug!(path = %path.display(), %error, "can't note the holder of the root");
        }
    }
}

impl Drop for RootLock {
    /// Closing alone would leave the lock to a child that was forked just now and has not begun its program.
    fn drop(&mut self) {
        if let Some(directory) = &self.directory
            && let Err(error) = rustix::fs::flock(directory, FlockOperation::Unlock)
        {
            tracing::debug!(%error, "can't unlock the root");
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    common::fs::write_atomically(path, text.as_bytes(), 0o666)
}

fn read_holder(layout: &Layout) -> String {
    fs::read_to_string(layout.git_dir().join(HOLDER))
        .map_or_else(|_| "another process".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        fs::create_dir(layout.git_dir()).unwrap();
        let lock = RootLock::take(&layout).unwrap();
        lock.sign(&layout);
        let error = RootLock::take(&layout).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(lock);
        RootLock::take(&layout).unwrap();
    }
}
