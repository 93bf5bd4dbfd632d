//! Submodules on disk: what a checkout asks for, and a checkout of its own for each.
//!
//! Objects are kept once per submodule in `.git/modules/<name>`, whatever the number of
//! checkouts; each checkout has its own small Git directory beside its administration.

use std::fs;
use std::path::{Component, Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::checkout::join;
use super::index::{self, IndexEntry};
use super::layout::relative;
use super::store::remove_any;
use super::tree::Mode;
use super::worktree::own_index;
use super::{Layout, RepoError, Store};
use crate::protocol::ObjectId;

/// Says that all submodules of a checkout are there.
const DONE: &str = "gitsync-submodules";

/// A larger `.gitmodules` is a trick.
const MAX_GITMODULES: u64 = 4 << 20;

/// A submodule that a checkout asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name in `.gitmodules`, checked: it becomes a directory.
    pub name: String,
    /// Where it goes, relative to the checkout that asks.
    pub path: Vec<u8>,
    /// Its address as written, perhaps relative.
    pub url: String,
    /// The commit.
    pub commit: ObjectId,
}

impl Layout {
    /// The store of a submodule, named by the names on the way to it.
    pub fn submodule_store(&self, names: &[String]) -> Layout {
        let path =
            names.iter().fold(self.git_dir().join("modules"), |path, name| path.join(name).join("store"));
        Layout::new(path)
    }

    /// The Git directory of a submodule of one checkout.
    pub fn submodule_git_dir(&self, commit: ObjectId, names: &[String]) -> PathBuf {
        names.iter().fold(self.admin(commit), |path, name| path.join("modules").join(name))
    }
}

impl Store {
    /// Whether the checkout's submodules still have to be made.
    ///
    /// # Errors
    /// When the checkout's index can't be read.
    pub fn wants_submodules(&self, commit: ObjectId) -> Result<bool, RepoError> {
        let admin = self.layout().admin(commit);
        Ok(!admin.join(DONE).exists() && !links(&own_index(self.layout(), commit))?.is_empty())
    }

    /// What the checkout of `commit` asks for.
    ///
    /// # Errors
    /// When `.gitmodules` can't be read or names something dangerous.
    pub fn submodules(&self, commit: ObjectId) -> Result<Vec<Wanted>, RepoError> {
        wanted(&self.layout().worktree(commit), &links(&own_index(self.layout(), commit))?)
    }

    /// Notes that all submodules are there.
    ///
    /// # Errors
    /// When the note can't be written.
    pub fn submodules_done(&self, commit: ObjectId) -> Result<(), RepoError> {
        let path = self.layout().admin(commit).join(DONE);
        fs::write(&path, "").map_err(RepoError::io("writing", &path))
    }

    /// Notes a submodule in a Git configuration, so that Git takes it for an initialised one.
    ///
    /// # Errors
    /// When the file can't be changed.
    pub fn note_submodule(config: &Path, name: &str, url: &str) -> Result<(), RepoError> {
        let note = || {
            let mut config = git2::Config::open(config)?;
            let key = format!("submodule.{name}.url");
            if config.get_string(&key).is_ok_and(|old| old == url) {
                return Ok(());
            }
            config.set_str(&key, url)?;
            config.set_bool(&format!("submodule.{name}.active"), true)
        };
        note().map_err(RepoError::git(format!("writing {}", config.display())))
    }

    /// Checks this store's `commit` out at `top` with its Git directory at `git_dir`; gives what
    /// it asks for in turn.
    ///
    /// # Errors
    /// As [`Store::make_checkout`].
    pub fn check_out_submodule(
        &self,
        commit: ObjectId,
        top: &Path,
        git_dir: &Path,
        cancel: &CancellationToken,
    ) -> Result<Vec<Wanted>, RepoError> {
        remove_any(top).map_err(RepoError::io("removing", top))?;
        fs::create_dir(top).map_err(RepoError::io("creating", top))?;
        let index = self.write_tree(commit, top, None, cancel)?;
        self.write_git_dir(commit, top, git_dir, &index)?;
        wanted(top, &gitlinks(index))
    }

    fn write_git_dir(
        &self,
        commit: ObjectId,
        top: &Path,
        git_dir: &Path,
        index: &[IndexEntry],
    ) -> Result<(), RepoError> {
        for directory in ["objects/info", "objects/pack", "refs/heads"] {
            let path = git_dir.join(directory);
            fs::create_dir_all(&path).map_err(RepoError::io("creating", &path))?;
        }
        let objects = relative(&git_dir.join("objects"), &self.layout().objects());
        let shallow: String = self.shallow()?.iter().map(|id| format!("{id}\n")).collect();
        let worktree = relative(git_dir, top);
        let files = [
            (git_dir.join("HEAD"), format!("{commit}\n")),
            (
                git_dir.join("config"),
                format!(
                    "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tworktree = \"{}\"\n",
                    quoted(&worktree)
                ),
            ),
            (git_dir.join("objects/info/alternates"), format!("{}\n", objects.display())),
            (top.join(".git"), format!("gitdir: {}\n", relative(top, git_dir).display())),
        ];
        for (path, content) in files {
            fs::write(&path, content).map_err(RepoError::io("writing", &path))?;
        }
        if !shallow.is_empty() {
            let path = git_dir.join("shallow");
            fs::write(&path, shallow).map_err(RepoError::io("writing", &path))?;
        }
        super::worktree::write_index(git_dir, index)
    }
}

fn quoted(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"")
}

fn links(index: &Path) -> Result<Vec<(Vec<u8>, ObjectId)>, RepoError> {
    let fail = |e| RepoError::io("reading", index)(e);
    let file = fs::File::open(index).map_err(fail)?;
    let entries: Vec<_> = index::Reader::new(file).map_err(fail)?.collect::<Result<_, _>>().map_err(fail)?;
    Ok(gitlinks(entries))
}

fn gitlinks(index: Vec<IndexEntry>) -> Vec<(Vec<u8>, ObjectId)> {
    index.into_iter().filter(|e| e.mode == Mode::Submodule && !e.skip).map(|e| (e.path, e.id)).collect()
}

/// Those of the links that `.gitmodules` knows an address for.
fn wanted(top: &Path, links: &[(Vec<u8>, ObjectId)]) -> Result<Vec<Wanted>, RepoError> {
    let file = top.join(".gitmodules");
    if links.is_empty() || !fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_file()) {
        return Ok(Vec::new());
    }
    refuse_includes(&file)?;
    super::init_libgit2();
    let config = git2::Config::open(&file).map_err(RepoError::git("reading .gitmodules"))?;
    let mut found = Vec::new();
    let mut entries =
        config.entries(Some(r"^submodule\..*\.path$")).map_err(RepoError::git("reading .gitmodules"))?;
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(RepoError::git("reading .gitmodules"))?;
        let (Ok(key), Ok(path)) = (entry.name(), entry.value()) else { continue };
        let path = path.trim_end_matches('/');
        let Some(name) = key.strip_prefix("submodule.").and_then(|rest| rest.strip_suffix(".path")) else {
            continue;
        };
        let Some((path, commit)) = links.iter().find(|(link, _)| link == path.as_bytes()) else { continue };
        let Ok(url) = config.get_string(&format!("submodule.{name}.url")) else { continue };
        refuse_name(name)?;
        if url.starts_with('-') || path.starts_with(b"-") {
            return Err(RepoError::Hostile { path: url, reason: "a submodule that looks like an option" });
        }
        found.push(Wanted { name: name.to_owned(), path: path.clone(), url, commit: *commit });
    }
    refuse_nested(&found)?;
    Ok(found)
}

/// An included file would be read with this process's rights, and a pipe would be waited for for ever; git
/// includes nothing here.
fn refuse_includes(file: &Path) -> Result<(), RepoError> {
    let refuse = |reason| Err(RepoError::Hostile { path: ".gitmodules".to_owned(), reason });
    let fail = || RepoError::io("reading", file);
    if fs::metadata(file).map_err(fail())?.len() > MAX_GITMODULES {
        return refuse("larger than 4 MiB");
    }
    let text = fs::read(file).map_err(fail())?.to_ascii_lowercase();
    let sections = memchr::memchr_iter(b'[', &text).map(|at| text[at + 1..].trim_ascii_start());
    match sections.into_iter().any(|section| section.starts_with(b"include")) {
        true => refuse("it includes other files"),
        false => Ok(()),
    }
}

/// The Git directory of one submodule must not lie inside that of another.
fn refuse_nested(found: &[Wanted]) -> Result<(), RepoError> {
    let inside =
        |inner: &str, outer: &str| inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'));
    let nested = found.iter().find(|inner| found.iter().any(|outer| inside(&inner.name, &outer.name)));
    match nested {
        Some(one) => {
            Err(RepoError::Hostile { path: one.name.clone(), reason: "a submodule named inside another" })
        }
        None => Ok(()),
    }
}

/// A name is used as a directory, so it must stay below its parent.
fn refuse_name(name: &str) -> Result<(), RepoError> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let parts_fine = name.split('/').all(|part| super::names::refuse(part.as_bytes()).is_none());
    if plain && parts_fine && !name.is_empty() {
        return Ok(());
    }
    Err(RepoError::Hostile { path: name.to_owned(), reason: "a dangerous submodule name" })
}

/// A place below a checkout.
pub(crate) fn place(top: &Path, path: &[u8]) -> PathBuf {
    join(top, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below() {
        for name in ["a", "lib/b", "a.b"] {
            assert!(refuse_name(name).is_ok(), "{name}");
        }
        for name in ["", "..", "../x", "a/../b", "/a", "a/.git", ".GIT/hooks", "a//b"] {
            assert!(refuse_name(name).is_err(), "{name}");
        }
    }
}
