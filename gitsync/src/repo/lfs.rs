//! LFS objects on disk, laid out as git-lfs does (`.git/lfs/objects/4d/7a/4d7a…`), so that a git-lfs in the
//! checkout finds them; and what a commit asks for.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ring::digest::{Context, SHA256};
use tokio_util::sync::CancellationToken;

use super::attributes::Attributes;
use super::checkout::Convert as _;
use super::feed::Feed;
use super::objects::Kind;
use super::pattern::Sparse;
use super::store::{list, remove_any, remove_if_there};
use super::tree::{self, Mode};
use super::{CheckoutOptions, Layout, RepoError, Store};
use crate::lfs::pointer::{MAX_POINTER, Oid, Pointer};
use crate::protocol::ObjectId;

/// In a repository's configuration: pointer files are replaced.
pub(crate) const SETTING: &str = "gitsync.lfs";
/// How much older than its writing a file says it is. Git looks into files as new as its index, and would find
/// something else than the pointer it knows.
const BACK: Duration = Duration::from_secs(2);

/// What a commit asks for.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// The objects that aren't here, each with a file that needs it.
    pub(crate) missing: Vec<(Pointer, Vec<u8>)>,
    /// `.lfsconfig`, where something is missing.
    pub(crate) settings: Option<Vec<u8>>,
    pub(crate) objects: usize,
    pub(crate) bytes: u64,
}

/// The objects of one repository.
#[derive(Debug, Clone)]
pub(crate) struct Objects {
    directory: PathBuf,
}

impl Objects {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { directory: layout.git_dir().join("lfs") }
    }

    /// Those beside a repository's own objects.
    pub(crate) fn beside(objects: &Path) -> Self {
        Self { directory: objects.parent().unwrap_or(objects).join("lfs") }
    }

    /// Those of another repository on this machine, whichever kind it is.
    pub(crate) fn of_repository(path: &Path) -> Self {
        let inner = path.join(".git");
        Self { directory: if inner.is_dir() { inner } else { path.to_owned() }.join("lfs") }
    }

    /// Where an object is kept.
    pub(crate) fn path(&self, oid: Oid) -> PathBuf {
        let name = oid.to_string();
        self.directory.join("objects").join(&name[..2]).join(&name[2..4]).join(name)
    }

    /// Where an object is put together.
    pub(crate) fn part(&self, oid: Oid) -> PathBuf {
        self.directory.join("incomplete").join(format!("{oid}.part"))
    }

    pub(crate) fn has(&self, pointer: &Pointer) -> bool {
        // Nothing is the same everywhere.
        pointer.size == 0
            || fs::metadata(self.path(pointer.oid))
                .is_ok_and(|meta| meta.is_file() && meta.len() == pointer.size)
    }

    /// Refuses what doesn't fit on the volume, with the copy that the checkout needs.
    pub(crate) fn has_room(&self, missing: &[(Pointer, Vec<u8>)]) -> Result<(), RepoError> {
        let incomplete = self.directory.join("incomplete");
        fs::create_dir_all(&incomplete).map_err(RepoError::io("creating", &incomplete))?;
        let room =
            rustix::fs::statvfs(&incomplete).map_err(RepoError::os("asking for room for", &incomplete))?;
        let wanted = missing.iter().fold(0_u64, |sum, (one, _)| sum.saturating_add(one.size));
        if wanted.saturating_mul(2) > room.f_bavail.saturating_mul(room.f_frsize) {
            return Err(RepoError::os("writing", &incomplete)(rustix::io::Errno::NOSPC));
        }
        Ok(())
    }

    /// Takes over an object from another repository on this machine.
    pub(crate) fn take_over(&self, from: &Self, pointer: &Pointer) -> Result<(), RepoError> {
        let part = self.part(pointer.oid);
        let file = File::create(&part).map_err(RepoError::io("creating", &part))?;
        from.pour(pointer, &file, &part)?;
        self.install(&part, pointer.oid)
    }

    /// Gives a checked file its name.
    pub(crate) fn install(&self, part: &Path, oid: Oid) -> Result<(), RepoError> {
        let path = self.path(oid);
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(RepoError::io("creating", parent))?;
        fs::rename(part, &path).map_err(RepoError::io("creating", &path))
    }

    /// Writes an object into an empty file, checked once more on the way.
    pub(crate) fn pour(&self, pointer: &Pointer, mut file: &File, to: &Path) -> Result<(), RepoError> {
        let path = self.path(pointer.oid);
        if pointer.size > 0 {
            let mut source = File::open(&path).map_err(RepoError::io("opening", &path))?;
            let mut hash = Context::new(&SHA256);
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let read = source.read(&mut buffer).map_err(RepoError::io("reading", &path))?;
                if read == 0 {
                    break;
                }
                hash.update(&buffer[..read]);
                file.write_all(&buffer[..read]).map_err(RepoError::io("writing", to))?;
            }
            if !pointer.oid.is(hash.finish().as_ref()) {
                // So that the next attempt gets it anew.
                remove_if_there(&path)?;
                let reason = "its content isn't what its name says; it was removed and has to come anew";
                return Err(RepoError::io("reading", &path)(io::Error::other(reason)));
            }
        }
        let then = SystemTime::now().checked_sub(BACK).unwrap_or(SystemTime::UNIX_EPOCH);
        file.set_modified(then).map_err(RepoError::io("setting the time of", to))
    }

    fn notes(&self) -> PathBuf {
        self.directory.join("gitsync-used")
    }

    /// Writes down what a checkout needs, so that it isn't removed as long as that is there.
    fn note(&self, commit: ObjectId, used: &BTreeSet<Oid>) -> Result<(), RepoError> {
        let directory = self.notes();
        fs::create_dir_all(&directory).map_err(RepoError::io("creating", &directory))?;
        let path = directory.join(commit.to_string());
        let text: String = used.iter().map(|oid| format!("{oid}\n")).collect();
        common::fs::write_atomically(&path, text.as_bytes(), 0o644).map_err(RepoError::io("writing", &path))
    }

    /// Removes objects that no checkout needs any more.
    fn tidy(&self, layout: &Layout, current: ObjectId) -> Result<usize, RepoError> {
        let mut used = BTreeSet::new();
        for note in list(&self.notes())? {
            let commit = note.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            match commit {
                Some(commit) if commit == current || layout.worktree(commit).is_dir() => {
                    let text = fs::read_to_string(&note).map_err(RepoError::io("reading", &note))?;
                    used.extend(text.lines().filter_map(|line| line.parse::<Oid>().ok()));
                }
                _ => remove_any(&note).map_err(RepoError::io("removing", &note))?,
            }
        }
        let mut candidates = list(&self.directory.join("incomplete"))?;
        for first in list(&self.directory.join("objects"))? {
            for second in list(&first)? {
                candidates.extend(list(&second)?);
            }
        }
        let mut removed = 0;
        for path in candidates {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let oid = name.strip_suffix(".part").unwrap_or(name).parse::<Oid>();
            if oid.is_ok_and(|oid| !used.contains(&oid)) {
                remove_if_there(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Whether a file holds an object's content.
pub(crate) fn holds(path: &Path, pointer: &Pointer) -> bool {
    let digest = || -> io::Result<_> {
        let mut file = File::open(path)?;
        let mut hash = Context::new(&SHA256);
        io::copy(&mut file, &mut Feed(|bytes: &[u8]| hash.update(bytes)))?;
        Ok(hash.finish())
    };
    fs::metadata(path).is_ok_and(|meta| meta.len() == pointer.size)
        && digest().is_ok_and(|digest| pointer.oid.is(digest.as_ref()))
}

impl Store {
    /// What the checkout of `commit` needs of LFS.
    ///
    /// # Errors
    /// When the commit can't be read, or a pointer asks for what can't be done here.
    pub(crate) fn lfs_plan(
        &self,
        commit: ObjectId,
        options: &CheckoutOptions,
        cancel: &CancellationToken,
    ) -> Result<Plan, RepoError> {
        let entries = tree::list(self.objects(), self.objects().commit(commit)?.tree, cancel)?;
        let attributes =
            Attributes::load(self.objects(), entries.iter().map(|e| (&e.path[..], e.id)), self.endings())?;
        let patterns =
            options.sparse.as_ref().map(|path| fs::read(path).map_err(RepoError::io("reading", path)));
        let sparse = patterns.transpose()?.map(|patterns| Sparse::parse(&patterns));
        let mut found: HashMap<Oid, (Pointer, Vec<u8>)> = HashMap::new();
        for entry in &entries {
            let wanted = matches!(entry.mode, Mode::File | Mode::Executable)
                && attributes.is_large(&entry.path)
                && sparse.as_ref().is_none_or(|sparse| sparse.has(&entry.path));
            if !wanted || self.objects().size(entry.id)? >= MAX_POINTER as u64 {
                continue;
            }
            let blob = self.objects().read_checked(entry.id, Kind::Blob)?;
            let Some(pointer) = attributes.pointer(&entry.path, &blob) else { continue };
            let path = || String::from_utf8_lossy(&entry.path).into_owned();
            if pointer.extended {
                return Err(RepoError::NotFound(format!("{:?} needs an LFS extension, a program", path())));
            }
            let known = found.entry(pointer.oid).or_insert_with(|| (pointer, entry.path.clone()));
            if known.0.size != pointer.size {
                let text =
                    format!("two LFS pointers to {} of different sizes, one is {:?}", pointer.oid, path());
                return Err(RepoError::NotFound(text));
            }
        }
        let objects = Objects::new(self.layout());
        if !found.is_empty() {
            objects.note(commit, &found.keys().copied().collect())?;
        }
        let mut plan = Plan { objects: found.len(), ..Plan::default() };
        plan.bytes = found.values().fold(0, |sum: u64, (one, _)| sum.saturating_add(one.size));
        plan.missing = found.into_values().filter(|(one, _)| !objects.has(one)).collect();
        plan.missing.sort_by(|a, b| a.1.cmp(&b.1));
        if !plan.missing.is_empty() {
            objects.has_room(&plan.missing)?;
            let named = entries.iter().find(|e| e.path == b".lfsconfig" && e.mode != Mode::Symlink);
            let small = named.filter(|e| {
                self.objects().size(e.id).is_ok_and(|size| size <= crate::lfs::MAX_CONFIG as u64)
            });
            let blob = small.map(|e| self.objects().read_checked(e.id, Kind::Blob).map(|blob| blob.to_vec()));
            plan.settings = blob.transpose()?;
        }
        Ok(plan)
    }

    /// Removes LFS objects that no checkout needs any more; gives how many.
    ///
    /// # Errors
    /// When something can't be read or removed.
    pub(crate) fn tidy_lfs(&self, current: ObjectId) -> Result<usize, RepoError> {
        Objects::new(self.layout()).tidy(self.layout(), current)
    }
}
