//! What of all sources is on disk, kept in one small file: so that what no longer belongs there is found and
//! removed, whenever the process was killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::HIDDEN;
use crate::publish::Link;
use crate::repo::{Layout, RepoError, remove_any};

/// Something that is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Its working directory.
    pub(super) root: PathBuf,
    pub(super) link: PathBuf,
    /// The shared store it borrows from.
    pub(super) store: String,
    /// Of a source with many refs: which of them.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub(super) reference: Option<String>,
}

/// Clones share.
#[derive(Debug, Clone)]
pub(super) struct Book(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

impl Book {
    /// What an earlier run left.
    pub(super) fn load(hidden: &Path) -> Self {
        let path = hidden.join("sources.json");
        let entries = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).unwrap_or_else(|error| {
                let path = path.display();
                tracing::warn!(%path, %error, "can't be read; what earlier runs left stays where it is");
                BTreeMap::new()
            }),
            Err(_) => BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(State { path, entries })))
    }

    /// Notes what is about to be made, and removes what was at other places before.
    pub(super) fn note(&self, key: &str, entry: Entry) -> Result<(), RepoError> {
        let old = self.lock().entries.get(key).cloned();
        if old.as_ref() == Some(&entry) {
            return Ok(());
        }
        if let Some(old) = old.filter(|old| old.link != entry.link || old.root != entry.root) {
            old.link()?.remove()?;
            if let Some(folder) = old.link.parent().filter(|_| old.reference.is_some()) {
                // Of all the refs of the source; only when this was the last one.
                let _ = std::fs::remove_dir(folder);
            }
            if old.root != entry.root {
                old.remove_root()?;
            }
        }
        let mut state = self.lock();
        state.entries.insert(key.to_owned(), entry);
        state.save()
    }

    /// Removes what is published and its working directory, and then the note of it. `whole`: with it the folder
    /// of all the refs of its source, when it is empty.
    pub(super) fn remove(&self, key: &str, whole: bool) -> Result<(), RepoError> {
        let Some(entry) = self.lock().entries.get(key).cloned() else { return Ok(()) };
        // The link first: it never leads to nothing.
        let link = entry.link()?;
        link.heal()?;
        link.remove()?;
        entry.remove_root()?;
        if whole && entry.reference.is_some() {
            for path in [entry.root.parent(), entry.link.parent()].into_iter().flatten() {
                let _ = std::fs::remove_dir(path);
            }
        }
        let mut state = self.lock();
        state.entries.remove(key);
        state.save()?;
        tracing::info!(source = key, link = %entry.link.display(), "removed what is no longer followed");
        Ok(())
    }

    /// The roots that borrow from a store.
    pub(super) fn members(&self, store: &str) -> Vec<Layout> {
        let state = self.lock();
        state.entries.values().filter(|one| one.store == store).map(|one| Layout::new(&one.root)).collect()
    }

    /// The shared store that something borrows from.
    pub(super) fn store(&self, key: &str) -> Option<String> {
        self.lock().entries.get(key).map(|entry| entry.store.clone())
    }

    /// The directories of all checkouts of what is published.
    pub(super) fn checkouts(&self, key: &str) -> Result<Vec<PathBuf>, RepoError> {
        let Some(layout) = self.lock().entries.get(key).map(|entry| Layout::new(&entry.root)) else {
            return Ok(Vec::new());
        };
        Ok(layout.checkouts()?.into_iter().map(|commit| layout.worktree(commit)).collect())
    }

    /// The refs of a source with many, and the folder of each.
    pub(super) fn folders(&self, source: &str) -> BTreeMap<String, String> {
        let folder = |(key, entry): (&String, &Entry)| {
            let folder = key.strip_prefix(source)?.strip_prefix('/')?;
            Some((entry.reference.clone()?, folder.to_owned()))
        };
        self.lock().entries.iter().filter_map(folder).collect()
    }

    /// All that is noted.
    pub(super) fn keys(&self) -> Vec<String> {
        self.lock().entries.keys().cloned().collect()
    }

    /// Whether a store has roots that borrow from it.
    pub(super) fn uses(&self, store: &str) -> bool {
        self.lock().entries.values().any(|entry| entry.store == store)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn link(&self) -> Result<Link, RepoError> {
        let root = match self.root.canonicalize() {
            Ok(root) => root,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.root.clone(),
            Err(error) => return Err(RepoError::io("resolving", &self.root)(error)),
        };
        Ok(Link::new(&Layout::new(root), &self.link))
    }

    fn remove_root(&self) -> Result<(), RepoError> {
        // The file could have been written by somebody else.
        let is_ours = self.root.components().any(|part| part.as_os_str() == HIDDEN);
        if !is_ours {
            return Err(RepoError::NotFound(format!(
                "{} is no working directory of ours",
                self.root.display()
            )));
        }
        remove_any(&self.root).map_err(RepoError::io("removing", &self.root))
    }
}

impl State {
    fn save(&self) -> Result<(), RepoError> {
        let text = serde_json::to_vec_pretty(&self.entries).unwrap_or_default();
        common::fs::write_atomically(&self.path, &text, 0o644).map_err(RepoError::io("writing", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_removed_and_nothing_else() {
        let top = tempfile::tempdir().unwrap();
        let top = top.path().canonicalize().unwrap();
        let hidden = top.join(HIDDEN);
        let (root, link) = (hidden.join("p/a"), top.join("p/a"));
        std::fs::create_dir_all(root.join(".worktrees/x")).unwrap();
        std::fs::create_dir_all(top.join("p")).unwrap();
        let entry = Entry {
            root: root.clone(),
            link,
            store: "s".to_owned(),
            reference: Some("refs/heads/a".to_owned()),
        };
        let book = Book::load(&hidden);
        book.note("p/a", entry.clone()).unwrap();
        std::os::unix::fs::symlink("../.gitsync/p/a/.worktrees/x", top.join("p/a")).unwrap();
        let book = Book::load(&hidden);
        assert_eq!(book.folders("p").into_iter().next(), Some(("refs/heads/a".to_owned(), "a".to_owned())));
        assert_eq!(book.members("s").len(), 1);
        book.remove("p/a", true).unwrap();
        assert!(!root.exists() && !top.join("p").exists());
        assert!(!Book::load(&hidden).uses("s"));
        // Somebody else's link and directory stay.
        std::os::unix::fs::symlink("/etc", top.join("p")).unwrap();
        book.note("q", Entry { root: top.join("elsewhere"), link: top.join("p"), ..entry }).unwrap();
        assert!(book.remove("q", true).is_err());
        assert!(top.join("p").is_symlink());
    }
}
