//! A remote that is a repository on the same machine: read directly, no protocol between.

use std::collections::{HashSet, VecDeque};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::objects::{IdSet, Kind, Objects, from_git2};
use super::repack::{self, Pack};
use super::{RepoError, Store, init_libgit2, packfile, tree};
use crate::protocol::{ObjectId, RemoteRef};

/// The source repository, opened anew for each use so that its new packs and refs are seen.
pub struct LocalSource {
    repository: git2::Repository,
    objects: Objects,
}

impl LocalSource {
    /// Opens `path`, `path/.git` or `path.git`, as Git does.
    ///
    /// # Errors
    /// When there is no repository.
    pub fn open(path: &Path) -> Result<Self, RepoError> {
        init_libgit2();
        let mut suffixed = path.as_os_str().to_owned();
        suffixed.push(".git");
        let candidates = [path.to_owned(), PathBuf::from(suffixed)];
        let mut last = None;
        for candidate in candidates {
            match git2::Repository::open_ext(
                &candidate,
                git2::RepositoryOpenFlags::NO_SEARCH,
                std::iter::empty::<&std::ffi::OsStr>(),
            ) {
                Ok(repository) => {
                    let objects = Objects::open(&repository.commondir().join("objects"))?;
                    return Ok(Self { repository, objects });
                }
                Err(error) => last = last.or(Some(error)),
            }
        }
        let reason = last.map_or_else(String::new, |e| e.message().to_owned());
        Err(RepoError::NotFound(format!("{} is no Git repository: {reason}", path.display())))
    }

    /// Those of the given full ref names that exist; a name that ends in `*` stands for all that begin so.
    ///
    /// # Errors
    /// When a ref can't be read.
    pub fn refs(&self, names: &[String]) -> Result<Vec<RemoteRef>, RepoError> {
        let mut found = Vec::new();
        let (starts, mut full): (Vec<_>, Vec<_>) =
            names.iter().cloned().partition(|name| name.ends_with('*'));
        for start in starts {
            let fail = |e| RepoError::git(format!("listing {start}"))(e);
            let all = self.repository.references_glob(&start).map_err(fail)?;
            full.extend(all.flatten().filter_map(|one| one.name().ok().map(str::to_owned)));
        }
        full.sort_unstable();
        full.dedup();
        for name in full.iter().filter(|name| git2::Reference::is_valid_name(name)) {
            let reference = match self.repository.find_reference(name) {
                Ok(reference) => reference,
                Err(error) if error.code() == git2::ErrorCode::NotFound => continue,
                Err(error) => return Err(RepoError::git(format!("reading {name}"))(error)),
            };
            let symref_target = reference.symbolic_target().ok().flatten().map(str::to_owned);
            // A HEAD whose branch doesn't exist yet resolves to nothing.
            let Some(id) = reference.resolve().ok().and_then(|r| r.target()) else { continue };
            let id = from_git2(id);
            let peeled = self.objects.peel(id).ok().filter(|&peeled| peeled != id);
            found.push(RemoteRef { name: name.clone(), id, peeled, symref_target });
        }
        Ok(found)
    }

    /// Copies what each of `wants` needs and `store` lacks, `depth` commits deep (`None`: all history).
    ///
    /// # Errors
    /// When an object is missing here or the copy can't be written.
    pub fn fetch(
        &self,
        store: &Store,
        wants: &[ObjectId],
        depth: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<(), RepoError> {
        // What is damaged or vanishes there is no damage of the store.
        self.fetch_into(store, wants, depth, cancel).map_err(|error| match error {
            RepoError::BadObject { id, reason } => {
                RepoError::NotFound(format!("object {id} of the source can't be read: {reason}"))
            }
            error => error,
        })
    }

    fn fetch_into(
        &self,
        store: &Store,
        wants: &[ObjectId],
        depth: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<(), RepoError> {
        if wants.iter().any(|want| !self.objects.has(*want)) {
            self.objects.refresh()?;
        }
        if let Some(want) = wants.iter().find(|want| !self.objects.has(**want)) {
            return Err(RepoError::NotFound(format!("the source has no object {want}")));
        }
        if depth.is_none() && store.is_empty() {
            store.begin_copy()?;
            self.copy_everything(store.objects().directory(), cancel)?;
            store.end_copy()?;
            store.objects().refresh()?;
        }
        let walk = self.walk(store, wants, depth, cancel)?;
        store.add_shallow(&walk.shallow)?;
        if !walk.ids.is_empty() {
            self.copy(walk.ids, &store.layout().packs(), cancel)?;
            store.objects().refresh()?;
        }
        store.remove_shallow(&walk.unshallow)
    }

    /// Copies objects into a pack: as they lie where most of them are in packs, or else compressed
    /// anew on all processors.
    fn copy(
        &self,
        ids: Vec<ObjectId>,
        target: &Path,
        cancel: &CancellationToken,
    ) -> Result<PathBuf, RepoError> {
        let mut packs = Vec::new();
        for directory in self.directories() {
            let paths = super::store::list(&directory.join("pack"))?;
            let paths = paths.iter().filter(|path| path.extension().is_some_and(|x| x == "pack"));
            // One that vanished was packed into another, which libgit2 finds.
            packs.extend(paths.filter_map(|path| Pack::open(path).ok()));
        }
        let keep: IdSet = ids.iter().copied().collect();
        let packed = packs.iter().flat_map(Pack::names).filter(|id| keep.contains(id)).count();
        if packed * 2 < ids.len() {
            return packfile::write(&self.objects, &ids, target, cancel);
        }
        repack::write(&self.objects, &packs, &keep, target, cancel)
    }

    /// The object directory and those it borrows from.
    fn directories(&self) -> Vec<PathBuf> {
        let mut pending = vec![self.objects.directory().to_owned()];
        let mut found: Vec<PathBuf> = Vec::new();
        while let Some(directory) = pending.pop() {
            if !found.contains(&directory) {
                pending.extend(super::copy::alternates(&directory));
                found.push(directory);
            }
        }
        found
    }

    fn walk(
        &self,
        store: &Store,
        wants: &[ObjectId],
        depth: Option<u32>,
        cancel: &CancellationToken,
    ) -> Result<Walk, RepoError> {
        let mut walk = Walk::default();
        let mut seen = HashSet::new();
        let mut queue = VecDeque::new();
        for want in wants {
            let commit = self.add_tags(store, *want, &mut walk)?;
            if seen.insert(commit) {
                queue.push_back((commit, 1));
            }
        }
        let theirs: HashSet<ObjectId> = self.shallow()?.into_iter().collect();
        let ours: HashSet<ObjectId> = store.shallow()?.into_iter().collect();
        while let Some((id, level)) = queue.pop_front() {
            if cancel.is_cancelled() {
                return Err(RepoError::Cancelled);
            }
            let known = store.objects().has(id);
            let commit = self.objects.commit(id)?;
            if !known {
                walk.ids.push(id);
                self.add_tree(store, commit.tree, &mut seen, &mut walk.ids)?;
            }
            let last = depth.is_some_and(|depth| level >= depth) || theirs.contains(&id);
            if last && !commit.parents.is_empty() {
                walk.shallow.push(id);
                continue;
            }
            if ours.contains(&id) {
                walk.unshallow.push(id);
            } else if known && depth.is_none() {
                // Whatever the store has is complete down to its own shallow commits, and those
                // are visited below only when the whole history is wanted.
                if ours.is_empty() {
                    continue;
                }
            }
            queue.extend(commit.parents.into_iter().filter(|p| seen.insert(*p)).map(|p| (p, level + 1)));
        }
        Ok(walk)
    }

    /// Follows annotated tags, taking them along.
    fn add_tags(&self, store: &Store, want: ObjectId, walk: &mut Walk) -> Result<ObjectId, RepoError> {
        let commit = self.objects.peel(want)?;
        if commit != want && !store.objects().has(want) {
            walk.ids.push(want);
        }
        Ok(commit)
    }

    fn add_tree(
        &self,
        store: &Store,
        id: ObjectId,
        seen: &mut HashSet<ObjectId>,
        ids: &mut Vec<ObjectId>,
    ) -> Result<(), RepoError> {
        let mut stack = vec![id];
        while let Some(id) = stack.pop() {
            // A tree in the store is there with all it contains: packs arrive whole.
            if !seen.insert(id) || store.objects().has(id) {
                continue;
            }
            ids.push(id);
            let data = self.objects.read_kind(id, Kind::Tree)?;
            let entries = tree::parse(&data)
                .map_err(|reason| RepoError::BadObject { id, reason: reason.to_owned() })?;
            for entry in entries {
                match entry.mode & 0o170_000 {
                    0o040_000 => stack.push(entry.id),
                    // A submodule's commit lives in another repository.
                    0o160_000 => {}
                    _ => {
                        if seen.insert(entry.id) && !store.objects().has(entry.id) {
                            ids.push(entry.id);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn shallow(&self) -> Result<Vec<ObjectId>, RepoError> {
        super::store::read_shallow(&self.repository.commondir().join("shallow"))
    }

    /// For a first full copy: the packs and loose objects as they are, deltas and all.
    fn copy_everything(&self, target: &Path, cancel: &CancellationToken) -> Result<(), RepoError> {
        self.directories().iter().try_for_each(|directory| super::copy::objects(directory, target, cancel))
    }
}

#[derive(Default)]
struct Walk {
    ids: Vec<ObjectId>,
    shallow: Vec<ObjectId>,
    unshallow: Vec<ObjectId>,
}
