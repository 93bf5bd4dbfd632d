//! From a commit to the list of files it consists of.

use std::collections::{HashMap, HashSet};

use tokio_util::sync::CancellationToken;

use super::objects::{IdSet, Kind, Objects};
use super::{RepoError, names};
use crate::protocol::ObjectId;

/// Directories nested deeper than this are refused.
const MAX_NESTING: usize = 512;
/// More entries than this in one commit are refused.
const MAX_ENTRIES: usize = 5_000_000;
/// From so many entries on, all of them are counted first.
const COUNT_FROM: usize = 100_000;
/// The mode of a tree in a tree.
const DIRECTORY: u32 = 0o040_000;
/// Longer paths can't be opened anyway.
const MAX_PATH: usize = 4_095;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    File,
    Executable,
    Symlink,
    Submodule,
}

impl Mode {
    /// As in trees and in the index.
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::File => 0o100_644,
            Self::Executable => 0o100_755,
            Self::Symlink => 0o120_000,
            Self::Submodule => 0o160_000,
        }
    }

    /// From the bits in an index.
    pub(crate) const fn from_bits(bits: u32) -> Option<Self> {
        match bits & 0o170_000 {
            0o100_000 if bits & 0o100 != 0 => Some(Self::Executable),
            0o100_000 => Some(Self::File),
            0o120_000 => Some(Self::Symlink),
            0o160_000 => Some(Self::Submodule),
            _ => None,
        }
    }
}

/// One file, symlink or submodule of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Path from the top, `/` between components; not always UTF-8.
    pub(crate) path: Vec<u8>,
    pub(crate) mode: Mode,
    pub(crate) id: ObjectId,
}

/// What looks at the entries of a tree, in index order.
pub(crate) trait Visitor {
    /// A directory comes (the top one with an empty path); says whether to look into it.
    fn enter(&mut self, path: &[u8], id: ObjectId) -> bool;
    /// The end of a directory that was looked into.
    fn leave(&mut self);
    /// A file, symlink or submodule.
    fn entry(&mut self, path: &[u8], mode: Mode, id: ObjectId);
}

/// All entries of a tree in index order, names checked.
///
/// # Errors
/// A dangerous or doubled name, too many entries, or an object that isn't there.
pub(crate) fn list(
    objects: &Objects,
    tree: ObjectId,
    cancel: &CancellationToken,
) -> Result<Vec<Entry>, RepoError> {
    let mut entries = Vec::new();
    walk(objects, tree, &mut entries, cancel)?;
    Ok(entries)
}

impl Visitor for Vec<Entry> {
    fn enter(&mut self, _: &[u8], _: ObjectId) -> bool {
        true
    }

    fn leave(&mut self) {}

    fn entry(&mut self, path: &[u8], mode: Mode, id: ObjectId) {
        self.push(Entry { path: path.to_vec(), mode, id });
    }
}

/// Shows all entries of a tree to a visitor, names checked.
///
/// # Errors
/// As [`list`].
pub(crate) fn walk(
    objects: &Objects,
    tree: ObjectId,
    visitor: &mut impl Visitor,
    cancel: &CancellationToken,
) -> Result<(), RepoError> {
    let mut walk = Walk { objects, top: tree, cancel, prefix: Vec::new(), seen: 0, visitor };
    walk.tree(tree, 0)
}

/// The trees in and below a tree that aren't there, as in a partial clone.
///
/// # Errors
/// When one that is there is damaged.
pub(crate) fn missing(
    objects: &Objects,
    tree: ObjectId,
    cancel: &CancellationToken,
) -> Result<Vec<ObjectId>, RepoError> {
    let (mut seen, mut stack, mut missing) = (IdSet::from_iter([tree]), vec![tree], Vec::new());
    while let Some(id) = stack.pop() {
        if cancel.is_cancelled() {
            return Err(RepoError::Cancelled);
        }
        if !objects.has(id) {
            missing.push(id);
            continue;
        }
        let data = objects.read_kind(id, Kind::Tree)?;
        let raw = parse(&data).map_err(|reason| RepoError::BadObject { id, reason: reason.to_owned() })?;
        stack.extend(
            raw.iter().filter(|item| item.mode == DIRECTORY && seen.insert(item.id)).map(|item| item.id),
        );
    }
    Ok(missing)
}

struct Walk<'a, V> {
    objects: &'a Objects,
    top: ObjectId,
    cancel: &'a CancellationToken,
    /// Path of the directory looked at, with its last slash.
    prefix: Vec<u8>,
    /// Entries shown so far.
    seen: usize,
    visitor: &'a mut V,
}

impl<V: Visitor> Walk<'_, V> {
    fn tree(&mut self, tree: ObjectId, nesting: usize) -> Result<(), RepoError> {
        if self.cancel.is_cancelled() {
            return Err(RepoError::Cancelled);
        }
        if nesting > MAX_NESTING {
            return Err(RepoError::TooMuch { what: "nested directories", limit: MAX_NESTING });
        }
        if !self.visitor.enter(self.prefix.strip_suffix(b"/").unwrap_or_default(), tree) {
            return Ok(());
        }
        let data = self.objects.read_checked(tree, Kind::Tree)?;
        let raw =
            parse(&data).map_err(|reason| RepoError::BadObject { id: tree, reason: reason.to_owned() })?;
        refuse_doubles(&raw, &self.prefix)?;
        for item in raw {
            if let Some(reason) = names::refuse(item.name) {
                return Err(hostile(&self.prefix, item.name, reason));
            }
            let length = self.prefix.len();
            self.prefix.extend_from_slice(item.name);
            if self.prefix.len() > MAX_PATH {
                return Err(hostile(&[], &self.prefix, "a path longer than a file system can have"));
            }
            if item.mode == DIRECTORY {
                self.prefix.push(b'/');
                self.tree(item.id, nesting + 1)?;
            } else {
                let mode = Mode::from_bits(item.mode).ok_or_else(|| RepoError::BadObject {
                    id: tree,
                    reason: format!("mode {:o}", item.mode),
                })?;
                self.count_before_many()?;
                self.visitor.entry(&self.prefix, mode, item.id);
                self.seen += 1;
            }
            self.prefix.truncate(length);
        }
        self.visitor.leave();
        Ok(())
    }

    /// A few small trees that name each other again and again can stand for any number of files. That is
    /// counted, each tree once, before memory is filled with them.
    fn count_before_many(&self) -> Result<(), RepoError> {
        if self.seen == COUNT_FROM && self.count(self.top, 0, &mut HashMap::new())? > MAX_ENTRIES as u64 {
            return Err(RepoError::TooMuch { what: "files", limit: MAX_ENTRIES });
        }
        Ok(())
    }

    fn count(
        &self,
        tree: ObjectId,
        nesting: usize,
        known: &mut HashMap<ObjectId, u64>,
    ) -> Result<u64, RepoError> {
        if let Some(count) = known.get(&tree) {
            return Ok(*count);
        }
        if self.cancel.is_cancelled() {
            return Err(RepoError::Cancelled);
        }
        if nesting > MAX_NESTING {
            return Err(RepoError::TooMuch { what: "nested directories", limit: MAX_NESTING });
        }
        let data = self.objects.read_kind(tree, Kind::Tree)?;
        let raw =
            parse(&data).map_err(|reason| RepoError::BadObject { id: tree, reason: reason.to_owned() })?;
        let mut count: u64 = 0;
        for item in raw {
            let more = if item.mode == DIRECTORY { self.count(item.id, nesting + 1, known)? } else { 1 };
            count = count.saturating_add(more);
        }
        known.insert(tree, count);
        Ok(count)
    }
}

/// The same name twice, once as a symlink, is how checkouts were made to write elsewhere.
fn refuse_doubles(items: &[RawEntry<'_>], prefix: &[u8]) -> Result<(), RepoError> {
    let mut seen = HashSet::with_capacity_and_hasher(items.len(), foldhash::fast::RandomState::default());
    match items.iter().find(|item| !seen.insert(item.name)) {
        Some(item) => Err(hostile(prefix, item.name, "the same name twice in one directory")),
        None => Ok(()),
    }
}

fn hostile(prefix: &[u8], name: &[u8], reason: &'static str) -> RepoError {
    let path = [prefix, name].concat();
    RepoError::Hostile { path: String::from_utf8_lossy(&path).into_owned(), reason }
}

/// One entry as stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawEntry<'a> {
    pub(crate) mode: u32,
    pub(crate) name: &'a [u8],
    pub(crate) id: ObjectId,
}

/// Cuts a tree object into entries: octal mode, space, name, NUL, 20 bytes.
pub(crate) fn parse(mut data: &[u8]) -> Result<Vec<RawEntry<'_>>, &'static str> {
    let mut entries = Vec::new();
    while !data.is_empty() {
        let space = memchr::memchr(b' ', data).filter(|&at| at <= 7).ok_or("a tree entry without mode")?;
        let mode = std::str::from_utf8(&data[..space])
            .ok()
            .and_then(|digits| u32::from_str_radix(digits, 8).ok())
            .ok_or("a tree entry with a broken mode")?;
        let rest = &data[space + 1..];
        let nul = memchr::memchr(0, rest).ok_or("a tree entry without end")?;
        let id = rest.get(nul + 1..nul + 21).ok_or("a tree entry cut short")?;
        let mut bytes = [0; 20];
        bytes.copy_from_slice(id);
        entries.push(RawEntry { mode, name: &rest[..nul], id: ObjectId::from_bytes(bytes) });
        data = &rest[nul + 21..];
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_entries() {
        let mut data = b"100644 a\0".to_vec();
        data.extend([1; 20]);
        data.extend(b"40000 b\0");
        data.extend([2; 20]);
        let entries = parse(&data).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[1], RawEntry { mode: 0o40000, name: b"b", id: ObjectId::from_bytes([2; 20]) });
        for cut in 1..data.len() {
            if cut != 29 {
                assert!(parse(&data[..cut]).is_err(), "{cut}");
            }
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&data);
        }
    }
}
