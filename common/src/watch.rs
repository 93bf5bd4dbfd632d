//! "Read it again": notices that files changed, by notification and by polling.
//!
//! Directories are watched rather than files, because editors and Kubernetes replace files instead
//! of writing to them (a ConfigMap volume swaps a symlink two levels up). Notifications are hints:
//! what counts is the fingerprint of what the path resolves to, and polling finds what the kernel
//! does not tell (network volumes, exhausted watches).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Watches a fixed set of paths.
pub struct Watch {
    paths: Vec<PathBuf>,
    seen: Vec<Fingerprint>,
    poll: Duration,
    hint: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
}

/// What a path resolves to: nothing, or a file's identity, size and modification time. Two differ when somebody wrote or replaced
/// the file between them, or it came or went.
///
/// ```
/// use common::watch::Fingerprint;
///
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("ca.pem");
/// let before = Fingerprint::of(&file);
/// std::fs::write(&file, "new")?;
/// assert_ne!(before, Fingerprint::of(&file));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(Option<(u64, u64, u64, i64, i64)>);

/// A replacement comes as several events; wait until they are over before looking.
const SETTLE: Duration = Duration::from_millis(20);

impl Watch {
    /// Starts watching; what is there now counts as seen. `poll` bounds the delay where the system
    /// sends no notifications. A path may be missing and appear later.
    #[must_use]
    pub fn new(paths: impl IntoIterator<Item = PathBuf>, poll: Duration) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        let hint = Arc::new(Notify::new());
        let sender = Arc::clone(&hint);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                sender.notify_one();
            }
        });
        let watcher =
            watcher.inspect_err(|error| tracing::info!(%error, "no file notifications; polling only")).ok();
        let seen = paths.iter().map(|path| Fingerprint::of(path)).collect();
        let mut watch = Self { paths, seen, poll, hint, watcher };
        watch.follow_links();
        watch
    }

    /// Waits until at least one path resolves to something else than before. Cancel safe: a change
    /// that was not yet returned is returned by the next call.
    pub async fn changed(&mut self) {
        loop {
            if self.look() {
                return;
            }
            tokio::select! {
                () = self.hint.notified() => tokio::time::sleep(SETTLE).await,
                () = tokio::time::sleep(self.poll) => {}
            }
        }
    }

    /// What the paths resolve to now counts as seen; for who reads them for another reason.
    pub fn mark_seen(&mut self) {
        self.look();
    }

    fn look(&mut self) -> bool {
        let now: Vec<Fingerprint> = self.paths.iter().map(|path| Fingerprint::of(path)).collect();
        if now == self.seen {
            return false;
        }
        self.seen = now;
        self.follow_links();
        true
    }

    /// Watches the directory of every link on the way; adding one again is harmless.
    fn follow_links(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        for path in &self.paths {
            for directory in directories(path) {
                if let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive) {
                    tracing::debug!(directory = %directory.display(), %error, "not watched; polling");
                }
            }
        }
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("paths", &self.paths).field("poll", &self.poll).finish_non_exhaustive()
    }
}

impl Fingerprint {
    /// The state now, of what a link leads to.
    pub fn of(path: &Path) -> Self {
        let found = fs::metadata(path).ok();
        Self(found.map(|meta| (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())))
    }
}

/// The directory of the path itself and of each link's target behind it.
fn directories(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut current = path.to_owned();
    // Links in the last component; those in the parents are resolved by looking at each ancestor.
    for _ in 0..16 {
        let parent = match current.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if let Ok(target) = fs::read_link(&parent)
            && let Some(grandparent) = parent.parent()
        {
            found.push(grandparent.to_owned());
            found.push(grandparent.join(target));
        }
        found.push(parent.clone());
        match fs::read_link(&current) {
            Ok(target) => current = parent.join(target),
            Err(_) => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    async fn within_a_second(watch: &mut Watch) {
        tokio::time::timeout(Duration::from_secs(5), watch.changed()).await.expect("no change seen");
    }

    fn config_map(dir: &Path) -> PathBuf {
        for (version, text) in [("..one", "1"), ("..two", "2"), ("..three", "3")] {
            fs::create_dir(dir.join(version)).unwrap();
            fs::write(dir.join(version).join("key"), text).unwrap();
        }
        symlink("..one", dir.join("..data")).unwrap();
        symlink("..data/key", dir.join("key")).unwrap();
        dir.join("key")
    }

    fn swap(dir: &Path, version: &str) {
        symlink(version, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    }

    #[tokio::test]
    async fn config_map_swaps_are_noticed_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        let key = config_map(dir.path());
        // The poll is far away: only notifications can make this pass.
        let mut watch = Watch::new([key.clone()], Duration::from_secs(3600));
        for version in ["..two", "..three", "..one"] {
            swap(dir.path(), version);
            within_a_second(&mut watch).await;
        }
    }

    #[tokio::test]
    async fn writes_replacements_and_appearances_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut watch = Watch::new([path.clone()], Duration::from_secs(3600));
        fs::write(&path, "here").unwrap();
        within_a_second(&mut watch).await;
        crate::fs::write_atomically(&path, b"replaced", 0o644).unwrap();
        within_a_second(&mut watch).await;
        fs::remove_file(&path).unwrap();
        within_a_second(&mut watch).await;
    }

    #[tokio::test]
    async fn polling_alone_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut watch = Watch::new([path.clone()], Duration::from_millis(20));
        watch.watcher = None;
        fs::write(&path, "here").unwrap();
        within_a_second(&mut watch).await;
    }

    #[tokio::test]
    async fn an_unchanged_file_stays_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "here").unwrap();
        let mut watch = Watch::new([path.clone()], Duration::from_millis(10));
        fs::write(dir.path().join("neighbour"), "noise").unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(200), watch.changed()).await.is_err());
    }
}
