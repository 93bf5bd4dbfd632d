//! The repository under the root: made, healed, and asked for what it holds.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use common::fs::write_atomically;
use tokio_util::sync::CancellationToken;

use super::attributes::Endings;
use super::checkout::split;
use super::objects::Objects;
use super::pattern::Sparse;
use super::tree::{self, Mode};
use super::worktree::UNFINISHED;
use super::{Layout, RepoError};
use crate::protocol::ObjectId;

/// The branch that HEAD names, as kubernetes/git-sync calls it.
pub(super) const BRANCH: &str = "refs/heads/git-sync";
/// Where the depth of the last fetch is noted.
const DEPTH_NOTE: &str = "gitsync-depth";
/// Where the state of verified packs is noted.
const PACKS_NOTE: &str = "gitsync-packs";

/// There while a copy of everything is under way: objects don't bring along what they name then.
const COPY_NOTE: &str = "gitsync-copying";
/// Names packs whose objects are in another one, while they are removed.
const OBSOLETE_NOTE: &str = "gitsync-obsolete";

/// Git's settings of a partial clone: from where missing objects come, what was left out, and the older
/// form of both.
const PROMISOR: &str = "remote.origin.promisor";
const PROMISED: &str = "remote.origin.partialclonefilter";
const PARTIAL: &str = "extensions.partialclone";

/// See [`Store::lacking`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lacking {
    /// Everything is here.
    Nothing,
    /// These directories; what is in them isn't known.
    Trees(Vec<ObjectId>),
    /// These files.
    Blobs(Vec<ObjectId>),
}

/// What opening found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preparation {
    /// A usable repository.
    Found,
    /// Nothing usable; a new repository was made.
    Initialised,
}

/// The open repository. One owner, on a blocking thread.
pub struct Store {
    layout: Layout,
    objects: Objects,
}

impl Store {
    /// Opens the repository under `layout`, making it when there is none that can be used.
    ///
    /// Whatever else lies in the root then is removed, except `keep` (the published checkout and
    /// what leads to it), so that readers lose nothing while the store is filled again.
    ///
    /// # Errors
    /// When the root can't be written.
    pub fn open(
        layout: Layout,
        origin: &str,
        keep: Option<ObjectId>,
    ) -> Result<(Self, Preparation), RepoError> {
        let preparation = if is_sound(&layout) {
            Preparation::Found
        } else {
            empty_root(&layout, keep)?;
            init(&layout)?;
            Preparation::Initialised
        };
        if layout.is_borrowing() {
            borrow(&layout)?;
        }
        let objects = Objects::of(&layout)?;
        let store = Self { layout, objects };
        store.set_origin(origin)?;
        Ok((store, preparation))
    }

    /// Throws away everything known about objects and starts with an empty store; checkouts stay.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub fn rebuild(self) -> Result<Self, RepoError> {
        let directory = self.layout.objects();
        // In one step: half of the objects would look like all of them to the next run.
        let old = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(self.layout.git_dir())
            .map_err(RepoError::io("creating a directory in", self.layout.git_dir()))?;
        fs::rename(&directory, old.path()).map_err(RepoError::io("moving", &directory))?;
        old.close().map_err(RepoError::io("removing", &directory))?;
        for note in [COPY_NOTE, OBSOLETE_NOTE] {
            remove_if_there(&self.layout.git_dir().join(note))?;
        }
        remove_if_there(&self.layout.git_dir().join(BRANCH))?;
        self.drop_foreign_refs()?;
        remove_if_there(&self.layout.git_dir().join("shallow"))?;
        remove_if_there(&self.layout.git_dir().join(DEPTH_NOTE))?;
        self.configure(&[(PROMISOR, None), (PROMISED, None), (PARTIAL, None)])?;
        init(&self.layout)?;
        let objects = Objects::of(&self.layout)?;
        Ok(Self { layout: self.layout, objects })
    }

    /// Removes what others noted about commits that may be gone: refs other than our branch, and reflogs. A
    /// git that finds them there would miss the commits.
    pub(super) fn drop_foreign_refs(&self) -> Result<(), RepoError> {
        let git = self.layout.git_dir();
        let mut foreign =
            ["logs", "packed-refs", "FETCH_HEAD", "ORIG_HEAD"].map(|name| git.join(name)).to_vec();
        for directory in list(&git.join("refs"))? {
            let is_ours = ["heads", "tags"].iter().any(|name| directory.ends_with(name));
            foreign.extend(if is_ours { list(&directory)? } else { vec![directory] });
        }
        for admin in list(&self.layout.admins())? {
            foreign.extend(["logs", "ORIG_HEAD"].map(|name| admin.join(name)));
        }
        let branch = git.join(BRANCH);
        for path in foreign.iter().filter(|path| **path != branch) {
            remove_any(path).map_err(RepoError::io("removing", path))?;
        }
        Ok(())
    }

    pub(crate) fn begin_copy(&self) -> Result<(), RepoError> {
        let path = self.layout.git_dir().join(COPY_NOTE);
        fs::write(&path, "").map_err(RepoError::io("writing", &path))
    }

    pub(crate) fn end_copy(&self) -> Result<(), RepoError> {
        remove_if_there(&self.layout.git_dir().join(COPY_NOTE))
    }

    /// Whether a copy of everything into the empty store didn't come to its end.
    pub fn is_half_copied(&self) -> bool {
        self.layout.git_dir().join(COPY_NOTE).exists()
    }

    /// Removes packs, so that a run that is killed meanwhile lets the next one go on with it: a tree whose
    /// blobs went with another pack would look as if all of it were here.
    pub(super) fn remove_packs(&self, packs: &[&Path]) -> Result<(), RepoError> {
        let note = self.layout.git_dir().join(OBSOLETE_NOTE);
        let names = packs.iter().filter_map(|pack| pack.file_name()?.to_str());
        let text: String = names.map(|name| format!("{name}\n")).collect();
        write_atomically(&note, text.as_bytes(), 0o666).map_err(RepoError::io("writing", &note))?;
        self.remove_obsolete()
    }

    /// Goes on where [`Store::remove_packs`] was interrupted.
    pub(super) fn remove_obsolete(&self) -> Result<(), RepoError> {
        let note = self.layout.git_dir().join(OBSOLETE_NOTE);
        let text = read_optional(&note)?.unwrap_or_default();
        for name in text.lines().filter(|name| !name.contains('/')) {
            // The index first: without it a pack doesn't exist for readers.
            for extension in ["idx", "rev", "bitmap", "keep", "promisor", "pack"] {
                let path = self.layout.packs().join(name).with_extension(extension);
                remove_any(&path).map_err(RepoError::io("removing", &path))?;
            }
        }
        remove_if_there(&note)
    }

    /// The paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Author, time and subject of a commit.
    ///
    /// # Errors
    /// When it isn't here or is no commit.
    pub fn describe(&self, commit: ObjectId) -> Result<super::CommitInfo, RepoError> {
        self.objects.describe(commit)
    }

    /// The commit behind an object that is here, tags peeled; `None` when it isn't here.
    ///
    /// # Errors
    /// When it is here and is no commit, or is damaged.
    pub fn commit_behind(&self, id: ObjectId) -> Result<Option<ObjectId>, RepoError> {
        if self.objects.has(id) { self.objects.peel(id).map(Some) } else { Ok(None) }
    }

    /// Takes in a received pack.
    ///
    /// # Errors
    /// When it is damaged or can't be written.
    pub fn take_pack(
        &self,
        next: impl FnMut() -> Option<bytes::Bytes>,
        cancel: &CancellationToken,
    ) -> Result<super::PackStats, RepoError> {
        self.objects.take_pack(self.is_partial(), next, cancel)
    }

    /// Whether objects may be missing that others name, as in a partial clone of git's.
    pub fn is_partial(&self) -> bool {
        let config = git2::Config::open(&self.layout.git_dir().join("config"));
        let says = config.is_ok_and(|config| {
            config.get_bool(PROMISOR).unwrap_or(false) || config.get_string(PARTIAL).is_ok()
        });
        says || has_promisor(&self.layout)
    }

    /// Notes, in git's own way, that a filter left out objects, which a git fetches when it needs them.
    /// Done before the first such pack is taken in.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn set_partial(&self, filter: &str) -> Result<(), RepoError> {
        self.configure(&[(PROMISOR, Some("true")), (PROMISED, Some(filter))]).map(|_| ())
    }

    /// What a checkout of `commit` needs and isn't here: the directories it can't look into, else files.
    ///
    /// # Errors
    /// When an object that is here is damaged, or the sparse-checkout file can't be read.
    pub fn lacking(
        &self,
        commit: ObjectId,
        options: &super::CheckoutOptions,
        cancel: &CancellationToken,
    ) -> Result<Lacking, RepoError> {
        let top = self.objects.commit(commit)?.tree;
        let trees = tree::missing(&self.objects, top, cancel)?;
        if !trees.is_empty() {
            return Ok(Lacking::Trees(trees));
        }
        let patterns = options.sparse.as_ref();
        let patterns = patterns.map(|path| fs::read(path).map_err(RepoError::io("reading", path)));
        let sparse = patterns.transpose()?.map(|patterns| Sparse::parse(&patterns));
        // Whatever is checked out, these decide about it.
        let decides = |path: &[u8]| {
            matches!(path, b".gitmodules" | b".lfsconfig") || split(path).1 == b".gitattributes"
        };
        let mut blobs: Vec<ObjectId> = tree::list(&self.objects, top, cancel)?
            .into_iter()
            .filter(|entry| entry.mode != Mode::Submodule)
            .filter(|entry| decides(&entry.path) || sparse.as_ref().is_none_or(|s| s.has(&entry.path)))
            .map(|entry| entry.id)
            .collect();
        blobs.sort_unstable();
        blobs.dedup();
        blobs.retain(|id| !self.objects.has(*id));
        Ok(if blobs.is_empty() { Lacking::Nothing } else { Lacking::Blobs(blobs) })
    }

    /// Whether no object has come in yet.
    pub fn is_empty(&self) -> bool {
        let has_packs = fs::read_dir(self.layout.packs()).is_ok_and(|mut entries| entries.next().is_some());
        let has_loose = fs::read_dir(self.layout.objects())
            .is_ok_and(|entries| entries.flatten().any(|e| e.file_name().len() == 2));
        !has_packs && !has_loose
    }

    /// Commits to offer to a server as "have": the current one, those of `tips` that are here, and a thinning
    /// choice of their ancestors, so that a rewound branch still shares something.
    ///
    /// # Errors
    /// When a commit is damaged.
    pub fn haves(&self, tips: &[ObjectId]) -> Result<Vec<ObjectId>, RepoError> {
        const NEAR: usize = 16;
        const LIMIT: usize = 64;
        const MOST: usize = 256;
        let mut haves = Vec::new();
        let mut seen = HashSet::new();
        for tip in self.head()?.into_iter().chain(tips.iter().copied()) {
            let (mut id, mut step, mut next, mut taken) = (tip, 0, 0, 0);
            while self.objects.has(id) && taken < LIMIT && haves.len() < MOST && seen.insert(id) {
                if step >= next {
                    haves.push(id);
                    taken += 1;
                    next = if step < NEAR { step + 1 } else { step * 2 };
                }
                let Some(parent) = self.objects.commit(id)?.parents.first().copied() else { break };
                id = parent;
                step += 1;
            }
        }
        Ok(haves)
    }

    /// What the repository's own branch points to.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn head(&self) -> Result<Option<ObjectId>, RepoError> {
        self.layout.head()
    }

    /// Points the repository's own branch to `commit`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn set_head(&self, commit: ObjectId) -> Result<(), RepoError> {
        if self.head()? == Some(commit) {
            return Ok(());
        }
        let path = self.layout.git_dir().join(BRANCH);
        write_atomically(&path, format!("{commit}\n").as_bytes(), 0o666)
            .map_err(RepoError::io("writing", &path))
    }

    /// Commits whose parents are not here.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn shallow(&self) -> Result<Vec<ObjectId>, RepoError> {
        read_shallow(&self.layout.store().join("shallow"))
    }

    /// Whether the history behind an object that is here is cut after `depth` commits, and only there (with
    /// `or_later`: not before); for all of it (0), whether it isn't cut as far as is known.
    ///
    /// # Errors
    /// When a commit is damaged.
    pub fn ends_at_depth(&self, id: ObjectId, depth: u32, or_later: bool) -> Result<bool, RepoError> {
        if depth == 0 {
            return Ok(true);
        }
        let shallow: HashSet<ObjectId> = self.shallow()?.into_iter().collect();
        let Some(commit) = self.commit_behind(id)? else { return Ok(false) };
        let (mut seen, mut generation) = (HashSet::from([commit]), vec![commit]);
        for level in 1..=depth {
            let mut next = Vec::new();
            for id in generation {
                let parents = self.objects.commit(id)?.parents;
                let cut = shallow.contains(&id);
                let last = level == depth;
                if !parents.is_empty() && cut != last && !(last && or_later) {
                    return Ok(false);
                }
                next.extend(parents.into_iter().filter(|parent| !cut && seen.insert(*parent)));
            }
            if next.is_empty() {
                break;
            }
            generation = next;
        }
        Ok(true)
    }

    /// Notes commits whose parents won't come. Done before their pack is taken in, so that a
    /// crash in between leaves no commit with unexplained missing parents.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn add_shallow(&self, more: &[ObjectId]) -> Result<(), RepoError> {
        let old = self.shallow()?;
        let mut all = old.clone();
        all.extend_from_slice(more);
        self.write_shallow(&old, all)
    }

    /// Notes that parents have come. Done after their pack was taken in.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn remove_shallow(&self, gone: &[ObjectId]) -> Result<(), RepoError> {
        let old = self.shallow()?;
        let left = old.iter().copied().filter(|id| !gone.contains(id)).collect();
        self.write_shallow(&old, left)
    }

    fn write_shallow(&self, old: &[ObjectId], mut new: Vec<ObjectId>) -> Result<(), RepoError> {
        new.sort_unstable();
        new.dedup();
        if old == new {
            return Ok(());
        }
        let path = self.layout.store().join("shallow");
        if new.is_empty() {
            return remove_if_there(&path);
        }
        let text: String = new.iter().map(|id| format!("{id}\n")).collect();
        write_atomically(&path, text.as_bytes(), 0o666).map_err(RepoError::io("writing", &path))
    }

    /// The depth the last complete fetch had (0: all history), if one is known.
    pub fn fetched_depth(&self) -> Option<u32> {
        let text = read_optional(&self.layout.store().join(DEPTH_NOTE)).ok()??;
        text.trim().parse().ok()
    }

    /// Notes the depth of a complete fetch.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn set_fetched_depth(&self, depth: u32) -> Result<(), RepoError> {
        if self.fetched_depth() == Some(depth) {
            return Ok(());
        }
        let path = self.layout.store().join(DEPTH_NOTE);
        write_atomically(&path, format!("{depth}\n").as_bytes(), 0o666)
            .map_err(RepoError::io("writing", &path))
    }

    /// Hashes the packs, unless they are as they were when [`Store::note_packs`] saw them last.
    ///
    /// # Errors
    /// The first pack that isn't what its checksum says.
    pub fn verify_packs(&self, cancel: &CancellationToken) -> Result<(), RepoError> {
        let noted = read_optional(&self.layout.store().join(PACKS_NOTE))?;
        if noted.is_some_and(|text| text.trim() == self.layout.pack_state().to_string()) {
            return Ok(());
        }
        let is_pack = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "pack");
        for path in list(&self.layout.packs())?.iter().filter(is_pack) {
            super::packfile::verify(path, cancel)?;
        }
        Ok(())
    }

    /// Notes that the packs are good as they are.
    ///
    /// # Errors
    /// When the note can't be written.
    pub fn note_packs(&self) -> Result<(), RepoError> {
        let (path, text) = (self.layout.store().join(PACKS_NOTE), self.layout.pack_state().to_string());
        if read_optional(&path)?.is_some_and(|old| old.trim() == text) {
            return Ok(());
        }
        fs::write(&path, format!("{text}\n")).map_err(RepoError::io("writing", &path))
    }

    /// Sets or unsets keys of the repository's configuration; gives whether that changed one.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn configure(&self, settings: &[(&str, Option<&str>)]) -> Result<bool, RepoError> {
        let path = self.layout.git_dir().join("config");
        let fail = |e| RepoError::git(format!("writing {}", path.display()))(e);
        let mut config = git2::Config::open(&path).map_err(fail)?;
        let mut changed = false;
        for (key, value) in settings {
            let old = config.get_string(key).ok();
            if old.as_deref() == *value {
                continue;
            }
            changed = true;
            match value {
                Some(value) => config.set_str(key, value),
                None => config.remove(key),
            }
            .map_err(fail)?;
        }
        Ok(changed)
    }

    /// What the repository's configuration asks for in files.
    pub(crate) fn endings(&self) -> Endings {
        let Ok(config) = git2::Config::open(&self.layout.git_dir().join("config")) else {
            return Endings::default();
        };
        let crlf = config.get_string("core.eol").is_ok_and(|eol| eol == "crlf");
        let links_as_files = config.get_bool("core.symlinks").is_ok_and(|links| !links);
        let (auto_crlf, crlf) = match config.get_string("core.autocrlf").as_deref() {
            Ok("true") => (true, true),
            Ok("input") => (false, false),
            _ => (false, crlf),
        };
        let lfs = config.get_bool(super::lfs::SETTING).unwrap_or(false);
        Endings { auto_crlf, crlf, links_as_files, lfs }
    }

    fn set_origin(&self, url: &str) -> Result<(), RepoError> {
        let path = self.layout.git_dir().join("config");
        let fail = |e| RepoError::git(format!("writing {}", path.display()))(e);
        let mut config = git2::Config::open(&path).map_err(fail)?;
        if config.get_string("remote.origin.url").is_ok_and(|old| old == url) {
            return Ok(());
        }
        config.set_str("remote.origin.url", url).map_err(fail)?;
        config.set_str("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*").map_err(fail)
    }
}

/// Whether `.git` is a repository this crate can go on with.
fn is_sound(layout: &Layout) -> bool {
    let git = layout.git_dir();
    let plain = fs::symlink_metadata(&git).is_ok_and(|meta| meta.is_dir());
    let parts = layout.packs().is_dir() && git.join("refs").is_dir() && git.join("HEAD").is_file();
    plain && parts && git2::Config::open(&git.join("config")).is_ok_and(|c| is_plain_config(&c))
}

fn is_plain_config(config: &git2::Config) -> bool {
    config.get_bool("core.bare").is_ok_and(|bare| !bare)
        && config.get_string("extensions.objectformat").map_or(true, |format| format == "sha1")
        && config.get_string("extensions.refstorage").map_or(true, |storage| storage == "files")
}

fn has_promisor(layout: &Layout) -> bool {
    fs::read_dir(layout.packs())
        .is_ok_and(|entries| entries.flatten().any(|e| e.path().extension().is_some_and(|x| x == "promisor")))
}

/// Writes what an empty repository consists of; leaves what is there.
fn init(layout: &Layout) -> Result<(), RepoError> {
    let git = layout.git_dir();
    for directory in ["objects/pack", "objects/info", "refs/heads", "refs/tags", "worktrees"] {
        let path = git.join(directory);
        fs::create_dir_all(&path).map_err(RepoError::io("creating", &path))?;
    }
    let files = [
        ("HEAD", format!("ref: {BRANCH}\n")),
        (
            "config",
            "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n[gc]\n\tauto = 0\n"
                .to_owned(),
        ),
    ];
    for (name, content) in files {
        let path = git.join(name);
        if !path.exists() {
            write_atomically(&path, content.as_bytes(), 0o666).map_err(RepoError::io("writing", &path))?;
        }
    }
    Ok(())
}

/// Lets any git find the objects, and know where history is cut.
fn borrow(layout: &Layout) -> Result<(), RepoError> {
    let git = layout.git_dir();
    let alternates = git.join("objects/info/alternates");
    let text = format!("{}\n", super::relative(&git.join("objects"), &layout.objects()).display());
    if read_optional(&alternates)?.is_none_or(|old| old != text) {
        write_atomically(&alternates, text.as_bytes(), 0o666)
            .map_err(RepoError::io("writing", &alternates))?;
    }
    let (shallow, target) = (git.join("shallow"), super::relative(&git, &layout.store().join("shallow")));
    if !fs::read_link(&shallow).is_ok_and(|old| old == target) {
        common::fs::replace_symlink(&shallow, &target).map_err(RepoError::io("linking", &shallow))?;
    }
    Ok(())
}

/// Removes what lies in the root, but not what readers may be using.
fn empty_root(layout: &Layout, keep: Option<ObjectId>) -> Result<(), RepoError> {
    let root = layout.root();
    fs::create_dir_all(root).map_err(RepoError::io("creating", root))?;
    let kept = keep.map(|hash| layout.worktree(hash));
    for path in list(root)? {
        let leads_there = kept.as_ref().is_some_and(|kept| {
            fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_symlink())
                && path.canonicalize().is_ok_and(|target| {
                    // Also to a folder in it, or to a shaped copy beside it.
                    target.starts_with(kept)
                        || target.starts_with(layout.shaped(keep.unwrap_or(ObjectId::ZERO)))
                })
        });
        if layout.spares(&path) || leads_there || (kept.is_some() && path == layout.worktrees()) {
            continue;
        }
        tracing::info!(path = %path.display(), "removing what is no part of a repository of ours");
        if let Err(error) = remove_any(&path) {
            // A mount point's lost+found, for example. Nothing of ours depends on it.
            let ours = path == layout.git_dir() || path == layout.worktrees();
            if ours {
                return Err(RepoError::io("removing", &path)(error));
            }
            tracing::warn!(path = %path.display(), %error, "can't remove it");
        }
    }
    Ok(())
}

/// Removes a file, link or whole directory.
pub(crate) fn remove_any(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

/// Removes a file that may be missing.
pub(crate) fn remove_if_there(path: &Path) -> Result<(), RepoError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(RepoError::io("removing", path)(e)),
        _ => Ok(()),
    }
}

/// The paths in a directory; none when it is missing.
pub(crate) fn list(directory: &Path) -> Result<Vec<PathBuf>, RepoError> {
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .map(|entry| entry.map(|e| e.path()))
            .collect::<io::Result<_>>()
            .map_err(RepoError::io("listing", directory)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(RepoError::io("listing", directory)(e)),
    }
}

pub(crate) fn read_shallow(path: &Path) -> Result<Vec<ObjectId>, RepoError> {
    let text = read_optional(path)?.unwrap_or_default();
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

pub(crate) fn read_optional(path: &Path) -> Result<Option<String>, RepoError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(RepoError::io("reading", path)(e)),
    }
}
