//! The object database: reading objects, taking in packs.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Layout, RepoError, indexer, init_libgit2, lfs};
use crate::protocol::ObjectId;

/// Types of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Commit,
    Tree,
    Blob,
    Tag,
}

impl Kind {
    fn from_git2(kind: git2::ObjectType) -> Option<Self> {
        match kind {
            git2::ObjectType::Commit => Some(Self::Commit),
            git2::ObjectType::Tree => Some(Self::Tree),
            git2::ObjectType::Blob => Some(Self::Blob),
            git2::ObjectType::Tag => Some(Self::Tag),
            git2::ObjectType::Any => None,
        }
    }

    fn to_git2(self) -> git2::ObjectType {
        match self {
            Self::Commit => git2::ObjectType::Commit,
            Self::Tree => git2::ObjectType::Tree,
            Self::Blob => git2::ObjectType::Blob,
            Self::Tag => git2::ObjectType::Tag,
        }
    }
}

/// Many names of objects.
pub(crate) type IdSet = HashSet<ObjectId, foldhash::fast::RandomState>;

/// What a received pack held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackStats {
    /// Bytes received.
    pub bytes: u64,
    /// Objects in the pack.
    pub objects: u32,
}

/// A commit, as far as this crate needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) tree: ObjectId,
    pub(crate) parents: Vec<ObjectId>,
}

/// Access to one `objects` directory (and its alternates).
pub(crate) struct Objects {
    odb: git2::Odb<'static>,
    directory: PathBuf,
    /// Those kept with LFS: of the repository itself, also where the others are borrowed.
    large: lfs::Objects,
}

impl Objects {
    /// Opens a directory; it must exist.
    pub(crate) fn open(directory: &Path) -> Result<Self, RepoError> {
        Self::open_with(directory, lfs::Objects::beside(directory))
    }

    /// The same for the repository of `layout`.
    pub(crate) fn of(layout: &Layout) -> Result<Self, RepoError> {
        Self::open_with(&layout.objects(), lfs::Objects::new(layout))
    }

    fn open_with(directory: &Path, large: lfs::Objects) -> Result<Self, RepoError> {
        init_libgit2();
        let open = || {
            let odb = git2::Odb::new()?;
            let text = directory.to_str().ok_or_else(|| git2::Error::from_str("a path that isn't UTF-8"))?;
            odb.add_disk_alternate(text)?;
            Ok(odb)
        };
        let odb = open().map_err(RepoError::git(format!("opening {}", directory.display())))?;
        Ok(Self { odb, directory: directory.to_owned(), large })
    }

    /// Opens the same directory once more, for another thread.
    pub(crate) fn reopen(&self) -> Result<Self, RepoError> {
        Self::open_with(&self.directory, self.large.clone())
    }

    pub(crate) fn large(&self) -> &lfs::Objects {
        &self.large
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn has(&self, id: ObjectId) -> bool {
        // Without the refresh a miss costs no directory scan.
        self.odb.exists_ext(to_git2(id), git2::OdbLookupFlags::NO_REFRESH)
    }

    /// Looks for packs that came since.
    pub(crate) fn refresh(&self) -> Result<(), RepoError> {
        self.odb.refresh().map_err(RepoError::git("re-reading the packs"))
    }

    /// Any object with its kind.
    pub(crate) fn read(&self, id: ObjectId) -> Result<(Kind, ObjectData<'_>), RepoError> {
        let object = self
            .odb
            .read(to_git2(id))
            .map_err(|e| RepoError::BadObject { id, reason: e.message().to_owned() })?;
        let kind = Kind::from_git2(object.kind())
            .ok_or_else(|| RepoError::BadObject { id, reason: "an object of no known type".to_owned() })?;
        Ok((kind, ObjectData(object)))
    }

    /// An object that has to be of one kind.
    pub(crate) fn read_kind(&self, id: ObjectId, wanted: Kind) -> Result<ObjectData<'_>, RepoError> {
        let (kind, data) = self.read(id)?;
        if kind == wanted {
            Ok(data)
        } else {
            Err(RepoError::BadObject { id, reason: format!("a {kind:?} where a {wanted:?} belongs") })
        }
    }

    /// The same, hashed once more: what gets published is what its name says, and was not made to
    /// collide (libgit2 detects that).
    pub(crate) fn read_checked(&self, id: ObjectId, wanted: Kind) -> Result<ObjectData<'_>, RepoError> {
        let data = self.read_kind(id, wanted)?;
        matches(id, git2::Oid::hash_object(wanted.to_git2(), &data))?;
        Ok(data)
    }

    /// Hashes a file that holds a blob as it is.
    pub(crate) fn check_file(&self, id: ObjectId, path: &Path) -> Result<(), RepoError> {
        matches(id, git2::Oid::hash_file(git2::ObjectType::Blob, path))
    }

    /// Size of an object without reading its content.
    pub(crate) fn size(&self, id: ObjectId) -> Result<u64, RepoError> {
        let (size, _) = self
            .odb
            .read_header(to_git2(id))
            .map_err(|e| RepoError::BadObject { id, reason: e.message().to_owned() })?;
        Ok(size as u64)
    }

    pub(crate) fn commit(&self, id: ObjectId) -> Result<Commit, RepoError> {
        let data = self.read_checked(id, Kind::Commit)?;
        parse_commit(&data)
            .ok_or_else(|| RepoError::BadObject { id, reason: "a commit without a tree".to_owned() })
    }

    /// Follows annotated tags to what they name.
    pub(crate) fn peel(&self, id: ObjectId) -> Result<ObjectId, RepoError> {
        let mut id = id;
        // A chain of tags longer than this is nobody's good intention.
        for _ in 0..16 {
            let (kind, data) = self.read(id)?;
            match kind {
                Kind::Commit => return Ok(id),
                Kind::Tag => {
                    id = parse_tag_target(&data)
                        .ok_or_else(|| RepoError::BadObject { id, reason: "a tag of nothing".to_owned() })?;
                }
                Kind::Tree | Kind::Blob => {
                    return Err(RepoError::NotFound(format!("{id} is a {kind:?}, not a commit")));
                }
            }
        }
        Err(RepoError::TooMuch { what: "tags of tags", limit: 16 })
    }

    /// Takes in a pack, thin or not, and makes its objects visible.
    ///
    /// `next` gives the pack's bytes piece by piece and `None` at its end. Whether objects that it names
    /// may be missing is `partial`.
    pub(crate) fn take_pack(
        &self,
        partial: bool,
        next: impl FnMut() -> Option<Bytes>,
        cancel: &CancellationToken,
    ) -> Result<PackStats, RepoError> {
        let stats = indexer::take(self, &self.directory.join("pack"), partial, next, cancel)?;
        if stats.objects > 0 {
            self.refresh()?;
        }
        Ok(stats)
    }
}

/// An object's bytes.
pub(crate) struct ObjectData<'a>(git2::OdbObject<'a>);

impl std::ops::Deref for ObjectData<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.data()
    }
}

fn matches(id: ObjectId, found: Result<git2::Oid, git2::Error>) -> Result<(), RepoError> {
    let damaged = |reason: String| RepoError::BadObject { id, reason };
    match found.map(from_git2) {
        Ok(found) if found == id => Ok(()),
        Ok(found) => Err(damaged(format!("its content is that of {found}"))),
        Err(error) => Err(damaged(error.message().to_owned())),
    }
}

pub(crate) fn to_git2(id: ObjectId) -> git2::Oid {
    // Twenty bytes are always a SHA-1 object name.
    git2::Oid::from_bytes(id.as_bytes()).unwrap_or(git2::Oid::ZERO_SHA1)
}

pub(crate) fn from_git2(id: git2::Oid) -> ObjectId {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&id.as_bytes()[..20]);
    ObjectId::from_bytes(bytes)
}

fn parse_commit(data: &[u8]) -> Option<Commit> {
    let mut lines = data.split(|&b| b == b'\n');
    let tree = ObjectId::from_hex(lines.next()?.strip_prefix(b"tree ")?)?;
    let parents = lines
        .map_while(|line| line.strip_prefix(b"parent "))
        .map(ObjectId::from_hex)
        .collect::<Option<Vec<_>>>()?;
    Some(Commit { tree, parents })
}

/// Who made a commit, when, and what they say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// The author's name.
    pub author: String,
    /// The author's address.
    pub email: String,
    /// When it was committed, in seconds since 1970.
    pub time: i64,
    /// The first line of the message.
    pub subject: String,
}

impl Objects {
    /// Tells about a commit.
    pub(crate) fn describe(&self, id: ObjectId) -> Result<CommitInfo, RepoError> {
        let data = self.read_kind(id, Kind::Commit)?;
        let text = String::from_utf8_lossy(&data);
        let (head, message) = text.split_once("\n\n").unwrap_or((&text, ""));
        let line = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let (author, email, _) = person(line("author "));
        let (_, _, time) = person(line("committer "));
        let subject = message.trim_start().lines().next().unwrap_or_default().to_owned();
        Ok(CommitInfo { author, email, time, subject })
    }
}

/// `Name <address> seconds zone`.
fn person(line: &str) -> (String, String, i64) {
    let (name, rest) = line.split_once('<').unwrap_or((line, ""));
    let (email, when) = rest.rsplit_once('>').unwrap_or((rest, ""));
    let time = when.split_ascii_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
    (name.trim().to_owned(), email.to_owned(), time)
}

fn parse_tag_target(data: &[u8]) -> Option<ObjectId> {
    ObjectId::from_hex(data.split(|&b| b == b'\n').next()?.strip_prefix(b"object ")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_and_tags() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let commit =
            parse_commit(format!("tree {a}\nparent {b}\nparent {a}\nauthor x\n\nparent {a}\n").as_bytes());
        let commit = commit.unwrap();
        assert_eq!(commit.tree.to_string(), a);
        assert_eq!(commit.parents.len(), 2);
        assert!(parse_commit(b"parent x").is_none());
        assert_eq!(parse_tag_target(format!("object {b}\ntype commit\n").as_bytes()).unwrap().to_string(), b);
    }
}
