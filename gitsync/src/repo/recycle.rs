//! Making a checkout out of the spare, at the cost of one `lstat` for each file that stays.
//!
//! Directories whose trees are the same in both commits are not looked into: the spare's index names
//! their trees. Entries of unchanged files are taken over from that index as bytes.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Mode as Permissions, OFlags};
use tokio_util::sync::CancellationToken;

use super::attributes::Attributes;
use super::checkout::{self, join, split};
use super::index::{Builder, Folder, IndexEntry, Line, Table};
use super::objects::Objects;
use super::reuse::{Finished, Unfit};
use super::store::remove_any;
use super::tree::{self, Entry, Mode, Visitor};
use super::worktree::{CheckoutStats, Unfinished};
use super::{Layout, RepoError, Store};
use crate::protocol::ObjectId;

const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// How long what was seen of a spare counts. Nobody knows of it, but who opened or linked one of its files while it
/// was published can still write there.
const GLANCE: Duration = Duration::from_millis(250);

/// A spare that was looked at: that is most of an update's work, and needs nothing of the new commit.
pub(crate) struct Spare {
    old: Table,
    /// Which of its files are as they were written; nothing else is left in it.
    good: Vec<bool>,
    seen: Instant,
}

impl Spare {
    /// Looks at every file of the spare, while the new commit is still on its way. `None`: there is none that can be
    /// used, or [`Store::reuse_checkout`] will find out why not.
    ///
    /// Nobody else may use the root meanwhile.
    pub(crate) fn look(layout: &Layout) -> Option<Self> {
        Self::look_closely(layout).ok()
    }

    fn look_closely(layout: &Layout) -> Result<Self, Unfit> {
        let spare = layout.spare_checkout();
        let index = spare.join("index");
        let finished = Finished::read(&index)?;
        let data = fs::read(&index).map_err(RepoError::io("reading", &index))?;
        let old = Table::parse(data).ok_or(Unfit::Because("it is sparse"))?;
        let stamps = fs::read(spare.join("folders")).unwrap_or_default();
        let mode = Permissions::from_raw_mode(Unfinished::create(&layout.worktrees())?.mode()?);
        let seen = Instant::now();
        let directories = Directories { mode, stamps: &stamps, next: 0 };
        let good = Survey::of(&spare.join("files"), &old, finished, directories)?;
        Ok(Self { old, good, seen })
    }
}

impl Store {
    pub(super) fn recycle(
        &self,
        commit: ObjectId,
        spare: Option<Spare>,
        cancel: &CancellationToken,
    ) -> Result<CheckoutStats, Unfit> {
        let spare = match spare.filter(|spare| spare.seen.elapsed() < GLANCE) {
            Some(spare) => spare,
            None => Spare::look_closely(self.layout())?,
        };
        let Spare { old, good, .. } = spare;
        let Difference { stays, mut wanted, folders, .. } =
            Difference::between(&old, self.objects(), self.objects().commit(commit)?.tree, cancel)?;
        let attributes = self.unchanged_attributes(&old, &stays, &wanted)?;
        let files =
            Unfinished::adopt(&self.layout().worktrees(), &self.layout().spare_checkout().join("files"))?;
        self.drop_spare()?;
        let top = files.path();
        for at in (0..old.len()).filter(|at| !(stays[*at] && good[*at])) {
            let line = old.line(at);
            if stays[at] {
                wanted.push(Entry { path: line.path.to_vec(), mode: line.mode, id: line.id() });
            } else {
                remove(top, line.path, good[at])?;
            }
        }
        wanted.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let written = wanted.len();
        let stats = checkout::write_files(self.objects(), top, &wanted, &attributes, cancel)?;
        let new = wanted.into_iter().zip(stats).map(|(entry, stat)| IndexEntry {
            path: entry.path,
            mode: entry.mode,
            id: entry.id,
            stat,
            skip: false,
        });
        let kept = (0..old.len()).filter(|at| stays[*at] && good[*at]).map(|at| old.line(at));
        let (index, count) = merge(kept, new, &folders);
        let stamps = stamps_of(top, &folders);
        self.install_noted(commit, files, &|out| out.write_all(&index), &stamps)?;
        Ok(CheckoutStats { files: count, written })
    }

    /// The commit's attributes, if they are those that the old files were written with: they decide
    /// about line endings of files that didn't change themselves.
    fn unchanged_attributes(
        &self,
        old: &Table,
        stays: &[bool],
        wanted: &[Entry],
    ) -> Result<Attributes, Unfit> {
        let is_attributes = |path: &[u8]| split(path).1 == b".gitattributes";
        let mut kept = Vec::new();
        for (at, stays) in stays.iter().enumerate() {
            let line = old.line(at);
            if is_attributes(line.path) {
                if !stays {
                    return Err(Unfit::Because("attributes changed"));
                }
                kept.push((line.path, line.id()));
            }
        }
        if wanted.iter().any(|entry| is_attributes(&entry.path)) {
            return Err(Unfit::Because("attributes changed"));
        }
        Ok(Attributes::load(self.objects(), kept.into_iter(), self.endings())?)
    }
}

/// Both in index order; gives the index and the number of its entries.
fn merge<'a>(
    kept: impl Iterator<Item = Line<'a>>,
    new: impl Iterator<Item = IndexEntry>,
    folders: &[Folder],
) -> (Vec<u8>, usize) {
    let mut index = Builder::new(kept.size_hint().1.unwrap_or(0) * 100);
    let (mut new, mut count) = (new.peekable(), 0);
    for line in kept {
        while let Some(entry) = new.next_if(|entry| entry.path[..] < *line.path) {
            index.add(&entry);
            count += 1;
        }
        index.keep(line);
        count += 1;
    }
    for entry in new {
        index.add(&entry);
        count += 1;
    }
    // Git knows no empty directories.
    let is_plain = folders.iter().all(|folder| folder.entries > 0);
    (index.finish(if is_plain { folders } else { &[] }), count)
}

/// What a commit's tree has that an index hasn't, found by walking both in the same order.
struct Difference<'a> {
    old: &'a Table,
    /// The next old entry.
    at: usize,
    /// Which old entries are in the new tree, too.
    stays: Vec<bool>,
    /// What else is in it.
    wanted: Vec<Entry>,
    /// The new tree's directories.
    folders: Vec<Folder>,
    /// Those that the walk is in.
    open: Vec<Open>,
}

/// A directory that the walk is in.
struct Open {
    /// Its place among the new folders.
    new: usize,
    /// Old folders right in it that may still come: the place of the next one, and how many.
    old: Option<(usize, usize)>,
}

impl<'a> Difference<'a> {
    fn between(
        old: &'a Table,
        objects: &Objects,
        tree: ObjectId,
        cancel: &CancellationToken,
    ) -> Result<Self, Unfit> {
        let (stays, wanted) = (vec![false; old.len()], Vec::new());
        if (0..old.len()).any(|at| old.line(at).mode == Mode::Submodule) {
            return Err(Unfit::Because("it has submodules"));
        }
        let mut new = Self { old, at: 0, stays, wanted, folders: Vec::new(), open: Vec::new() };
        tree::walk(objects, tree, &mut new, cancel)?;
        if new.wanted.iter().any(|entry| entry.mode == Mode::Submodule) {
            return Err(Unfit::Because("the commit has submodules"));
        }
        if new.wanted.len() > new.stays.iter().filter(|stays| **stays).count() {
            return Err(Unfit::Because("most files changed"));
        }
        Ok(new)
    }

    /// The old directory of the same name, if the index knows it.
    fn old_folder(&mut self, name: &[u8]) -> Option<usize> {
        let old = self.old.folders();
        let Some(above) = self.open.last_mut() else { return (!old.is_empty()).then_some(0) };
        let (mut at, mut left) = above.old?;
        while left > 0 {
            let next = after(old, at);
            if old.get(at)?.name == name {
                above.old = Some((next, left - 1));
                return Some(at);
            }
            (at, left) = (next, left - 1);
        }
        None
    }

    /// Takes over a directory with all that is in it; `None` when the index contradicts itself.
    fn take_whole(&mut self, path: &[u8], old: usize) -> Option<()> {
        let inside = |at: usize| {
            let path_of = (at < self.old.len()).then(|| self.old.line(at).path);
            path_of.is_some_and(|found| {
                path.is_empty() || found.strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/"))
            })
        };
        let mut first = self.at;
        while first < self.old.len() && !path.is_empty() && is_before(self.old.line(first).path, path) {
            first += 1;
        }
        let entries = self.old.folders().get(old)?.entries;
        let end = first.checked_add(entries)?;
        if entries == 0 || !inside(first) || !inside(end - 1) || inside(end) {
            return None;
        }
        self.stays[first..end].fill(true);
        self.at = end;
        self.folders.extend_from_slice(&self.old.folders()[old..after(self.old.folders(), old)]);
        for open in &self.open {
            self.folders[open.new].entries += entries;
        }
        Some(())
    }
}

/// Whether an entry comes before everything in a directory.
fn is_before(entry: &[u8], directory: &[u8]) -> bool {
    let common = entry.len().min(directory.len());
    match entry[..common].cmp(&directory[..common]) {
        std::cmp::Ordering::Equal => entry.get(common).is_none_or(|next| *next < b'/'),
        order => order.is_lt(),
    }
}

/// The place of what follows a folder and all below it.
fn after(folders: &[Folder], at: usize) -> usize {
    let (mut at, mut open) = (at, 1usize);
    while open > 0
        && let Some(folder) = folders.get(at)
    {
        open = open.saturating_add(folder.folders) - 1;
        at += 1;
    }
    at
}

impl Visitor for Difference<'_> {
    fn enter(&mut self, path: &[u8], id: ObjectId) -> bool {
        let name = split(path).1;
        let old = self.old_folder(name);
        if let Some(above) = self.open.last() {
            self.folders[above.new].folders += 1;
        }
        if let Some(at) = old
            && self.old.folders()[at].id == id
            && self.take_whole(path, at).is_some()
        {
            return false;
        }
        let old = old.map(|at| (at + 1, self.old.folders()[at].folders));
        self.open.push(Open { new: self.folders.len(), old });
        self.folders.push(Folder { name: name.to_vec(), id, entries: 0, folders: 0 });
        true
    }

    fn leave(&mut self) {
        self.open.pop();
    }

    fn entry(&mut self, path: &[u8], mode: Mode, id: ObjectId) {
        for open in &self.open {
            self.folders[open.new].entries += 1;
        }
        while self.at < self.old.len() {
            let line = self.old.line(self.at);
            match line.path.cmp(path) {
                std::cmp::Ordering::Less => self.at += 1,
                std::cmp::Ordering::Equal if line.mode == mode && line.id() == id => {
                    self.stays[self.at] = true;
                    self.at += 1;
                    return;
                }
                _ => break,
            }
        }
        self.wanted.push(Entry { path: path.to_vec(), mode, id });
    }
}

/// What `fstat` says about a directory: inode and both times. They change with each name in it.
const STAMP: usize = 40;

fn stamp(stat: &rustix::fs::Stat) -> [u8; STAMP] {
    let mut stamp = [0; STAMP];
    // Only compared with what the same process wrote.
    stamp[..8].copy_from_slice(&stat.st_ino.to_ne_bytes());
    stamp[8..16].copy_from_slice(&stat.st_ctime.to_ne_bytes());
    stamp[16..24].copy_from_slice(&stat.st_ctime_nsec.to_ne_bytes());
    stamp[24..32].copy_from_slice(&stat.st_mtime.to_ne_bytes());
    stamp[32..40].copy_from_slice(&stat.st_mtime_nsec.to_ne_bytes());
    stamp
}

/// The stamps of all directories below the top, in the order of the index; none where one can't be read.
fn stamps_of(top: &Path, folders: &[Folder]) -> Vec<u8> {
    let (mut stamps, mut path, mut open) =
        (Vec::with_capacity(folders.len() * STAMP), Vec::new(), Vec::new());
    for (nth, folder) in folders.iter().enumerate() {
        if nth > 0 {
            while let Some((length, left)) = open.pop() {
                if left > 0 {
                    open.push((length, left - 1));
                    path.truncate(length);
                    break;
                }
            }
            path.extend_from_slice(&folder.name);
            let Ok(stat) = rustix::fs::lstat(join(top, &path)) else { return Vec::new() };
            stamps.extend_from_slice(&stamp(&stat));
            path.push(b'/');
        }
        open.push((path.len(), folder.folders));
    }
    stamps
}

/// What is known about directories, of which the index knows nothing.
struct Directories<'a> {
    mode: Permissions,
    /// Of those below the top, in the order of the index.
    stamps: &'a [u8],
    /// How many of them were looked at.
    next: usize,
}

/// Finds which files of a private tree are as they were written. Whatever else is in it gets removed.
struct Survey<'a> {
    top: &'a Path,
    entries: &'a Table,
    finished: Finished,
    directories: Directories<'a>,
    good: Vec<bool>,
}

impl<'a> Survey<'a> {
    fn of(
        top: &'a Path,
        entries: &'a Table,
        finished: Finished,
        directories: Directories<'a>,
    ) -> Result<Vec<bool>, RepoError> {
        let directory =
            rustix::fs::open(top, OPEN, Permissions::empty()).map_err(RepoError::os("opening", top))?;
        let mut survey = Self { top, entries, finished, directories, good: vec![false; entries.len()] };
        survey.directory(directory.as_fd(), 0..entries.len(), 0)?;
        Ok(survey.good)
    }

    /// Looks at one directory: the entries in and below it, and the length of its path with the slash.
    fn directory(
        &mut self,
        directory: BorrowedFd<'_>,
        entries: Range<usize>,
        prefix: usize,
    ) -> Result<(), RepoError> {
        let path = entries.clone().next().map_or(&[][..], |at| &self.entries.line(at).path[..prefix]);
        let fail = |what| RepoError::os(what, join(self.top, path));
        let stat = rustix::fs::fstat(directory).map_err(fail("reading the state of"))?;
        if Permissions::from_raw_mode(stat.st_mode) != self.directories.mode {
            rustix::fs::fchmod(directory, self.directories.mode).map_err(fail("setting permissions of"))?;
        }
        let is_same = prefix > 0 && self.has_same_names(&stat);
        let (mut at, mut expected, mut whole) = (entries.start, 0, true);
        while at < entries.end {
            expected += 1;
            let line = self.entries.line(at);
            let rest = &line.path[prefix..];
            let Some(slash) = memchr::memchr(b'/', rest) else {
                let blob = (line.mode, line.id());
                self.good[at] = self.finished.is_as_written(directory, rest, line.stat(), blob);
                whole &= self.good[at];
                at += 1;
                continue;
            };
            let inner = prefix + slash + 1;
            let end = self.end_of(at..entries.end, &line.path[..inner]);
            match rustix::fs::openat(directory, &rest[..slash], OPEN, Permissions::empty()) {
                Ok(opened) => self.directory(opened.as_fd(), at..end, inner)?,
                Err(_) => {
                    whole = false;
                    // It isn't known how many there are in it.
                    self.directories.stamps = &[];
                }
            }
            at = end;
        }
        if whole && is_same {
            return Ok(());
        }
        let fail = || RepoError::os("listing", join(self.top, path));
        let found = rustix::fs::Dir::read_from(directory).map_err(fail())?;
        let is_own = |name: &[u8]| name == b"." || name == b"..";
        let mut names = 0;
        for name in found {
            names += usize::from(!is_own(name.map_err(fail())?.file_name().to_bytes()));
        }
        // All that belongs here is here, and nothing else.
        if whole && names == expected {
            return Ok(());
        }
        let stay = self.staying(directory, entries, prefix);
        for name in rustix::fs::Dir::read_from(directory).map_err(fail())? {
            let name = name.map_err(fail())?;
            let name = name.file_name().to_bytes();
            if !is_own(name) && !stay.contains(name) {
                let path = join(self.top, &[path, name].concat());
                remove_any(&path).map_err(RepoError::io("removing", path))?;
            }
        }
        Ok(())
    }

    /// Whether no name came to the next directory or left it since it was finished.
    fn has_same_names(&mut self, stat: &rustix::fs::Stat) -> bool {
        let at = self.directories.next * STAMP;
        self.directories.next += 1;
        self.directories.stamps.get(at..at + STAMP).is_some_and(|noted| *noted == stamp(stat))
            && !self.finished.is_fresh(checkout::index_stat(stat))
    }

    /// The first entry that isn't below the directory with that path.
    fn end_of(&self, entries: Range<usize>, directory: &[u8]) -> usize {
        let mut end = entries.start;
        while end < entries.end && self.entries.line(end).path.starts_with(directory) {
            end += 1;
        }
        end
    }

    /// The good files of a directory, and the directories in it.
    fn staying(&self, directory: BorrowedFd<'_>, entries: Range<usize>, prefix: usize) -> HashSet<&'a [u8]> {
        let mut stay: HashMap<&[u8], bool> = HashMap::new();
        for at in entries {
            let rest = &self.entries.line(at).path[prefix..];
            match memchr::memchr(b'/', rest) {
                None => _ = stay.insert(rest, self.good[at]),
                Some(slash) => {
                    let name = &rest[..slash];
                    stay.entry(name).or_insert_with(|| {
                        rustix::fs::openat(directory, name, OPEN, Permissions::empty()).is_ok()
                    });
                }
            }
        }
        stay.into_iter().filter(|(_, stays)| *stays).map(|(name, _)| name).collect()
    }
}

/// Removes a file that is there, and the directories that are empty without it.
fn remove(top: &Path, path: &[u8], there: bool) -> Result<(), RepoError> {
    if there {
        let file = join(top, path);
        fs::remove_file(&file).map_err(RepoError::io("removing", &file))?;
    }
    let mut parent = split(path).0;
    while !parent.is_empty() {
        match fs::remove_dir(join(top, parent)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => break,
            _ => parent = split(parent).0,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::index::Stat;
    use super::*;

    type Files = BTreeMap<Vec<u8>, u8>;

    /// Names of directories and files differ, so that one path is never both; `a-` sorts before `a/`.
    fn files() -> impl Strategy<Value = Files> {
        let directory = prop::sample::select(vec!["a", "a-", "a0", "b"]);
        let file = prop::sample::select(vec!["a.", "f", "g", "zz"]);
        let path = (prop::collection::vec(directory, 0..4), file)
            .prop_map(|(directories, file)| [directories, vec![file]].concat().join("/").into_bytes());
        prop::collection::btree_map(path, 0u8..3, 0..40)
    }

    fn blob(content: u8) -> ObjectId {
        ObjectId::from_bytes([content + 1; 20])
    }

    fn write(odb: &git2::Odb<'_>, files: &Files) -> ObjectId {
        let (mut items, mut inner) = (Vec::new(), BTreeMap::<&[u8], Files>::new());
        for (path, content) in files {
            match memchr::memchr(b'/', path) {
                Some(at) => {
                    _ = inner.entry(&path[..at]).or_default().insert(path[at + 1..].to_vec(), *content);
                }
                None => {
                    let item = [b"100644 ", &path[..], b"\0", &blob(*content).as_bytes()[..]].concat();
                    items.push((path.clone(), item));
                }
            }
        }
        for (name, files) in inner {
            let item = [b"40000 ", name, b"\0", &write(odb, &files).as_bytes()[..]].concat();
            items.push(([name, b"/"].concat(), item));
        }
        items.sort();
        let tree: Vec<u8> = items.into_iter().flat_map(|(_, item)| item).collect();
        super::super::objects::from_git2(odb.write(git2::ObjectType::Tree, &tree).unwrap())
    }

    fn entry(path: &[u8], content: u8) -> IndexEntry {
        let stat = Stat { ino: u32::from(content), ..Stat::default() };
        IndexEntry { path: path.to_vec(), mode: Mode::File, id: blob(content), stat, skip: false }
    }

    fn index(files: &Files, folders: &[Folder]) -> Table {
        let new = files.iter().map(|(path, content)| entry(path, *content));
        Table::parse(merge(std::iter::empty(), new, folders).0).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn what_stays_and_what_is_wanted_make_the_commit(old in files(), new in files(), known in any::<bool>()) {
            let directory = tempfile::tempdir().unwrap();
            let repository = git2::Repository::init_bare(directory.path()).unwrap();
            let odb = repository.odb().unwrap();
            let objects = Objects::open(&directory.path().join("objects")).unwrap();
            // Some of the old directories, so that whole ones stay.
            let new: Files = new.into_iter().chain(old.iter().filter(|(path, _)| path.starts_with(b"a"))
                .map(|(path, content)| (path.clone(), *content))).collect();
            let (old_tree, new_tree) = (write(&odb, &old), write(&odb, &new));
            let walk = |files: &Files, tree| {
                let empty = index(&Files::new(), &[]);
                let mut whole = Difference {
                    old: &empty, at: 0, stays: Vec::new(), wanted: Vec::new(), folders: Vec::new(), open: Vec::new(),
                };
                tree::walk(&objects, tree, &mut whole, &CancellationToken::new()).unwrap();
                assert_eq!(whole.wanted.len(), files.len());
                whole.folders
            };
            let table = index(&old, &if known { walk(&old, old_tree) } else { Vec::new() });
            let mut found = Difference {
                old: &table, at: 0, stays: vec![false; old.len()], wanted: Vec::new(), folders: Vec::new(),
                open: Vec::new(),
            };
            tree::walk(&objects, new_tree, &mut found, &CancellationToken::new()).unwrap();
            prop_assert_eq!(&found.folders, &walk(&new, new_tree));
            prop_assert!(found.wanted.iter().all(|entry| old.get(&entry.path).map(|c| blob(*c)) != Some(entry.id)));
            let kept = (0..table.len()).filter(|at| found.stays[*at]).map(|at| table.line(at));
            let wanted = found.wanted.iter().map(|entry| {
                let content = entry.id.as_bytes()[0] - 1;
                super::tests::entry(&entry.path, content)
            });
            let (made, count) = merge(kept, wanted, &found.folders);
            prop_assert_eq!(count, new.len());
            let made = Table::parse(made).unwrap();
            let seen: Files =
                (0..made.len()).map(|at| (made.line(at).path.to_vec(), made.line(at).id().as_bytes()[0] - 1)).collect();
            prop_assert!((1..made.len()).all(|at| made.line(at - 1).path < made.line(at).path));
            prop_assert_eq!(seen, new);
        }
    }
}
