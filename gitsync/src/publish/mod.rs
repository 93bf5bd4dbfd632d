//! What consumers open: a symlink that is moved, or a real directory that is exchanged.

mod exchange;
mod web;

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

pub use web::{Codec, Strip, Web};

use crate::protocol::ObjectId;
use crate::repo::{Layout, Patrol, RepoError, folder, relative, remove_any};

/// What is at the published path.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
///
/// config.publish = gitsync::Mode::Exchange; // for consumers that hold the directory and not the link
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// A symlink to the checkout.
    #[default]
    Symlink,
    /// A real directory, exchanged for the next one in one step.
    Exchange,
    /// A real directory that is made once and then left to its consumer.
    CopyOnce,
}

/// What consumers open.
#[derive(Debug, Clone)]
pub struct Link {
    layout: Layout,
    path: PathBuf,
    mode: Mode,
    subpath: Option<PathBuf>,
    lingers: bool,
    web: Web,
}

/// The commit that a link's target names: the element behind `.worktrees`, or the last one.
fn commit_in(target: &Path) -> Option<ObjectId> {
    let parts: Vec<_> = target.components().map(Component::as_os_str).collect();
    let behind = parts.iter().position(|part| *part == ".worktrees").and_then(|at| parts.get(at + 1));
    let name = behind.or(parts.last())?.to_str()?;
    name.strip_suffix(".web").unwrap_or(name).parse().ok()
}

impl Link {
    /// `path`: absolute, or relative to the root.
    pub fn new(layout: &Layout, path: &Path) -> Self {
        Self {
            layout: layout.clone(),
            path: layout.root().join(path),
            mode: Mode::Symlink,
            subpath: None,
            lingers: false,
            web: Web::default(),
        }
    }

    /// Publishes in another way, and only the folder `subpath`. `lingers`: a replaced directory stays
    /// for as long as a replaced checkout.
    #[must_use]
    pub fn shaped(self, mode: Mode, subpath: Option<PathBuf>, lingers: bool) -> Self {
        Self { mode, subpath, lingers, ..self }
    }

    /// Publishes a copy that is shaped for web servers.
    #[must_use]
    pub fn for_web(self, web: Web) -> Self {
        Self { web, ..self }
    }

    /// Whether what was published once is left alone.
    pub fn is_once(&self) -> bool {
        self.mode == Mode::CopyOnce
    }

    /// Whether what consumers see may be a copy of the checkout that changes with it.
    pub(crate) fn has_copy(&self) -> bool {
        self.mode == Mode::Exchange || (self.mode == Mode::Symlink && self.web.is_on())
    }

    /// What watches over the copy that is published, where there is one.
    pub(crate) fn patrol(&self) -> Option<Patrol> {
        match self.mode {
            Mode::Exchange => exchange::patrol(&self.layout, &self.path),
            Mode::Symlink if self.web.is_on() => {
                exchange::patrol(&self.layout, &self.layout.shaped(self.current()?))
            }
            _ => None,
        }
    }

    /// Where the link is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which commit is published.
    pub fn current(&self) -> Option<ObjectId> {
        match fs::read_link(&self.path) {
            Ok(target) => commit_in(&target),
            Err(_) => exchange::current(&self.layout, &self.path),
        }
    }

    /// Whether the link leads to the checkout of `commit` under this layout.
    pub fn leads_to(&self, layout: &Layout, commit: ObjectId) -> bool {
        if self.mode != Mode::Symlink {
            return exchange::holds(layout, &self.path, self, commit);
        }
        if self.web.is_on() && !exchange::holds(layout, &layout.shaped(commit), self, commit) {
            return false;
        }
        let Ok(target) = fs::read_link(&self.path) else { return false };
        let directory = self.path.parent().unwrap_or(layout.root());
        // The root is resolved already, and most links are in it.
        let resolved = match directory == layout.root() {
            true => Ok(directory.to_owned()),
            false => directory.canonicalize(),
        };
        resolved.is_ok_and(|directory| normalise(&directory.join(target)) == self.place(layout, commit))
    }

    fn place(&self, layout: &Layout, commit: ObjectId) -> PathBuf {
        let top = layout.worktree(commit);
        if self.web.is_on() {
            return layout.shaped(commit);
        }
        self.subpath.as_ref().map_or(top.clone(), |sub| top.join(sub))
    }

    /// Moves the link to the checkout of `commit` in one step, or exchanges the directory. A link's
    /// target is relative, so that the volume can be mounted elsewhere.
    ///
    /// # Errors
    /// When something that is no symlink is in the way, or the directory can't be written.
    pub fn publish(&self, layout: &Layout, commit: ObjectId) -> Result<(), RepoError> {
        if self.mode != Mode::Symlink {
            return exchange::publish(layout, &self.path, self, commit);
        }
        if self.web.is_on() {
            exchange::publish(layout, &layout.shaped(commit), self, commit)?;
        }
        let directory = self.path.parent().unwrap_or(layout.root());
        if let Some(sub) = &self.subpath {
            folder(&layout.worktree(commit), sub)?;
        }
        let fail = |e| RepoError::Io { what: "publishing", path: self.path.clone(), source: e };
        fs::create_dir_all(directory).map_err(fail)?;
        let resolved = directory.canonicalize().map_err(fail)?;
        let target = relative(&resolved, &self.place(layout, commit));
        match fs::symlink_metadata(&self.path) {
            // What a mount or a careful hand may have prepared; an empty one is nobody's data.
            Ok(meta) if meta.is_dir() && exchange::current(layout, &self.path).is_some() => {
                // The mode was another one before.
                fs::remove_dir_all(&self.path).map_err(fail)?;
            }
            Ok(meta) if meta.is_dir() => {
                fs::remove_dir(&self.path)
                    .map_err(|_| RepoError::LinkOccupied { path: self.path.clone() })?;
            }
            Ok(meta) if !meta.is_symlink() => {
                return Err(RepoError::LinkOccupied { path: self.path.clone() });
            }
            _ => {}
        }
        common::fs::replace_symlink(&self.path, &target).map_err(fail)
    }

    /// Removes what is published, if it is ours: a link into the root, or a directory that was put there.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn remove(&self) -> Result<(), RepoError> {
        let Ok(meta) = fs::symlink_metadata(&self.path) else { return Ok(()) };
        let directory = self.path.parent().and_then(|path| path.canonicalize().ok());
        let leads_here = |directory: PathBuf| {
            let target = fs::read_link(&self.path).ok()?;
            Some(normalise(&directory.join(target)).starts_with(self.layout.root()))
        };
        let ours = match meta.is_symlink() {
            true => directory.and_then(leads_here).unwrap_or(false),
            false => meta.is_dir() && exchange::current(&self.layout, &self.path).is_some(),
        };
        if ours {
            remove_any(&self.path).map_err(RepoError::io("removing", &self.path))?;
        }
        Ok(())
    }

    /// Removes temporary links that a killed process (ours, or kubernetes/git-sync with its fixed
    /// name) left beside the link.
    ///
    /// # Errors
    /// When the directory can't be listed or a link can't be removed.
    pub fn heal(&self) -> Result<usize, RepoError> {
        let Some(directory) = self.path.parent() else { return Ok(0) };
        let copies = exchange::heal(&self.path)?;
        let entries = match fs::read_dir(directory) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.map_err(|source| RepoError::Io {
                what: "listing",
                path: directory.to_owned(),
                source,
            })?,
        };
        let mut healed = copies;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            // Those of another link may be in use: sources publish side by side.
            let temporary = name == "tmp-link" || common::fs::is_temporary_name_of(&self.path, name);
            let leads_to_a_commit = fs::read_link(entry.path()).is_ok_and(|t| commit_in(&t).is_some());
            if temporary && leads_to_a_commit {
                tracing::info!(path = %entry.path().display(), "removing a left-over link of an earlier run");
                fs::remove_file(entry.path()).map_err(|source| RepoError::Io {
                    what: "removing",
                    path: entry.path(),
                    source,
                })?;
                healed += 1;
            }
        }
        Ok(healed)
    }
}

/// Resolves `.` and `..` by name only.
fn normalise(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut out, part| {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> ObjectId {
        "1".repeat(40).parse().unwrap()
    }

    fn setup() -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path().canonicalize().unwrap());
        fs::create_dir_all(layout.worktree(id())).unwrap();
        (root, layout)
    }

    #[test]
    fn targets_are_relative_wherever_the_link_is() {
        let (root, layout) = setup();
        let outside = tempfile::tempdir().unwrap();
        for path in [PathBuf::from("link"), PathBuf::from("deep/er/link"), outside.path().join("link")] {
            let link = Link::new(&layout, &path);
            link.publish(&layout, id()).unwrap();
            assert!(fs::read_link(link.path()).unwrap().is_relative());
            assert_eq!(link.path().canonicalize().unwrap(), layout.worktree(id()));
            assert_eq!(link.current(), Some(id()));
            assert!(link.leads_to(&layout, id()));
        }
        let top = fs::read_link(root.path().join("link")).unwrap();
        assert_eq!(top, Path::new(".worktrees").join(id().to_string()));
    }

    #[test]
    fn what_is_in_the_way_is_kept_unless_empty() {
        let (root, layout) = setup();
        let link = Link::new(&layout, Path::new("link"));
        fs::create_dir(root.path().join("link")).unwrap();
        link.publish(&layout, id()).unwrap();
        fs::remove_file(link.path()).unwrap();
        fs::create_dir(link.path()).unwrap();
        fs::write(link.path().join("data"), "x").unwrap();
        assert!(matches!(link.publish(&layout, id()), Err(RepoError::LinkOccupied { .. })));
        assert!(link.path().join("data").exists());
    }

    #[test]
    fn left_over_links_go_and_others_stay() {
        let (root, layout) = setup();
        let link = Link::new(&layout, Path::new("link"));
        std::os::unix::fs::symlink(format!(".worktrees/{}", id()), root.path().join("tmp-link")).unwrap();
        fs::write(root.path().join("other"), "x").unwrap();
        assert_eq!(link.heal().unwrap(), 1);
        assert!(root.path().join("other").exists());
        assert_eq!(link.heal().unwrap(), 0);
    }
}
