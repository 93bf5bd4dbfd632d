//! What differs between two checkouts, told by what was written for each.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};

use super::index::Reader;
use super::{Layout, worktree};
use crate::protocol::ObjectId;

/// Paths kept by name; further ones are only counted.
const MAX_LISTED: usize = 10_000;

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// Its content or mode is another one.
    Modified,
    /// It is gone.
    Deleted,
}

impl ChangeKind {
    /// In lower case, for machines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
        }
    }
}

impl ChangeKind {
    /// As `git diff --name-status` writes it.
    pub(crate) fn letter(self) -> u8 {
        match self {
            Self::Added => b'A',
            Self::Modified => b'M',
            Self::Deleted => b'D',
        }
    }

    /// Both after one another; `None` when nothing is left of it.
    fn and_then(self, later: Self) -> Option<Self> {
        match (self, later) {
            (Self::Added, Self::Deleted) => None,
            (Self::Added, _) => Some(Self::Added),
            (Self::Deleted, Self::Added) => Some(Self::Modified),
            (_, later) => Some(later),
        }
    }
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// From the top of the tree; not always UTF-8.
    pub path: Vec<u8>,
    /// What happened to it.
    pub kind: ChangeKind,
}

/// All of them, in the order of paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// How many.
    pub total: usize,
    /// The first 10,000.
    pub listed: Vec<Change>,
    /// Bytes of the old files that are gone or other ones now.
    pub(crate) replaced: u64,
}

impl Changes {
    /// These and then `later`, as one. A file that went and came back counts as modified.
    pub(crate) fn and_then(&self, later: &Self) -> Self {
        let mut all: BTreeMap<&[u8], ChangeKind> = BTreeMap::new();
        for change in self.listed.iter().chain(&later.listed) {
            match all.remove(&change.path[..]) {
                None => {
                    all.insert(&change.path, change.kind);
                }
                Some(earlier) => {
                    all.extend(earlier.and_then(change.kind).map(|kind| (&change.path[..], kind)));
                }
            }
        }
        let mut changes = Self::default();
        all.into_iter().for_each(|(path, kind)| changes.push(path.to_vec(), kind));
        changes.replaced = self.replaced + later.replaced;
        // What was only counted stays counted.
        changes.total += [self, later].map(|one| one.total - one.listed.len()).iter().sum::<usize>();
        changes
    }

    fn push(&mut self, path: Vec<u8>, kind: ChangeKind) {
        self.total += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(Change { path, kind });
        }
    }
}

/// Compares two checkouts; `None` when one of them was never finished or is gone.
pub(crate) fn between(layout: &Layout, old: ObjectId, new: ObjectId) -> Option<Changes> {
    let open = |commit| Reader::new(File::open(worktree::own_index(layout, commit))?);
    let compared = open(old).and_then(|old| compare(old, open(new)?));
    compared.inspect_err(|error| tracing::debug!(%error, "can't tell what changed")).ok()
}

fn compare(mut old: Reader<impl Read>, mut new: Reader<impl Read>) -> io::Result<Changes> {
    // What a sparse checkout leaves out isn't there for readers.
    let (mut left, mut right) = (old.line_on_disk()?, new.line_on_disk()?);
    let mut changes = Changes::default();
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(changes),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.path.cmp(right.path),
        };
        match (order, left, right) {
            (Ordering::Less, Some(gone), _) => {
                changes.push(gone.path.to_vec(), ChangeKind::Deleted);
                changes.replaced += u64::from(gone.stat().size);
                left = old.line_on_disk()?;
            }
            (Ordering::Greater, _, Some(added)) => {
                changes.push(added.path.to_vec(), ChangeKind::Added);
                right = new.line_on_disk()?;
            }
            (_, Some(before), Some(after)) => {
                if (before.mode, before.id()) != (after.mode, after.id()) {
                    changes.push(after.path.to_vec(), ChangeKind::Modified);
                    changes.replaced += u64::from(before.stat().size);
                }
                (left, right) = (old.line_on_disk()?, new.line_on_disk()?);
            }
            _ => return Ok(changes),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::index::{self, IndexEntry, Stat};
    use super::super::tree::Mode;
    use super::*;

    fn entries(files: &BTreeMap<u8, u8>) -> Reader<io::Cursor<Vec<u8>>> {
        let entry = |(path, id): (&u8, &u8)| IndexEntry {
            path: vec![*path + 1],
            mode: Mode::File,
            id: ObjectId::from_bytes([*id; 20]),
            stat: Stat::default(),
            skip: false,
        };
        let mut wire = Vec::new();
        index::write(&mut wire, &files.iter().map(entry).collect::<Vec<_>>()).unwrap();
        Reader::new(io::Cursor::new(wire)).unwrap()
    }

    proptest! {
        #[test]
        fn every_difference_is_told_once(
            old in prop::collection::btree_map(0u8..20, 0u8..3, 0..20),
            new in prop::collection::btree_map(0u8..20, 0u8..3, 0..20),
            last in prop::collection::btree_map(0u8..20, 0u8..3, 0..20),
        ) {
            let changes = compare(entries(&old), entries(&new)).unwrap();
            let mut back = old.clone();
            for change in &changes.listed {
                let path = change.path[0] - 1;
                match change.kind {
                    ChangeKind::Deleted => prop_assert!(back.remove(&path).is_some()),
                    ChangeKind::Added => prop_assert!(back.insert(path, new[&path]).is_none()),
                    ChangeKind::Modified => prop_assert_ne!(back.insert(path, new[&path]).unwrap(), new[&path]),
                }
            }
            prop_assert_eq!(&back, &new);
            prop_assert_eq!(changes.total, changes.listed.len());
            // Two steps tell at least what one step over both would.
            let second = compare(entries(&new), entries(&last)).unwrap();
            let both = changes.and_then(&second);
            for change in compare(entries(&old), entries(&last)).unwrap().listed {
                prop_assert!(both.listed.contains(&change), "{change:?}");
            }
        }
    }
}
