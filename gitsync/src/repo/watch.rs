//! Hearing from the kernel that somebody changed something in a checkout.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use super::checkout::{join, split};
use super::index;

/// A watched directory costs the kernel about a kilobyte.
const MAX_DIRECTORIES: usize = 4_096;

/// Whatever can make a file, or what a directory holds, other than it was written.
const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::DONT_FOLLOW)
    .union(WatchFlags::ONLYDIR);

/// Changes that are told apart; more of them are one big change.
const MAX_CHANGES: usize = 1_000;

/// Watches all directories of a checkout, but not those inside submodules.
pub(super) struct Watch {
    fd: OwnedFd,
    /// By the kernel's numbers.
    directories: HashMap<i32, Vec<u8>>,
}

/// What happened.
pub(super) enum News {
    Nothing,
    /// Something about files of these paths. Others than the commit's may be among them: programs
    /// keep caches beside what they read.
    Files(HashSet<Vec<u8>>),
    /// Anything may have.
    Anything,
}

impl Watch {
    /// `None` when the kernel can't or won't watch that much.
    pub(super) fn start(top: &Path, index: &Path) -> Option<Self> {
        let mut index = File::open(index).and_then(index::Reader::new).ok()?;
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        let mut watch = Self { fd, directories: HashMap::new() };
        watch.add(top, b"")?;
        let mut last = Vec::new();
        while let Some(line) = index.line_on_disk().ok()? {
            let directory = split(line.path).0;
            if directory == last {
                continue;
            }
            // Those above it, too: they can be renamed. What the last one had in common is done.
            let ends = memchr::memchr_iter(b'/', directory)
                .chain((!directory.is_empty()).then_some(directory.len()));
            for part in ends.map(|end| &directory[..end]) {
                if !(last.starts_with(part) && matches!(last.get(part.len()), None | Some(b'/'))) {
                    watch.add(top, part)?;
                }
            }
            last.clear();
            last.extend_from_slice(directory);
        }
        Some(watch)
    }

    fn add(&mut self, top: &Path, directory: &[u8]) -> Option<()> {
        let number = inotify::add_watch(&self.fd, join(top, directory), CHANGES).ok()?;
        self.directories.insert(number, directory.to_vec());
        (self.directories.len() <= MAX_DIRECTORIES).then_some(())
    }

    /// What happened since this was asked last.
    pub(super) fn news(&self) -> News {
        let mut buffer = [MaybeUninit::uninit(); 4_096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        let (mut paths, mut anything) = (HashSet::new(), false);
        while let Ok(event) = reader.next() {
            let (what, name) = (event.events(), event.file_name());
            let is_directory = what.contains(ReadFlags::ISDIR);
            match (self.directories.get(&event.wd()), name) {
                // A new directory holds none of the commit's files.
                (Some(_), Some(_)) if is_directory && what.contains(ReadFlags::CREATE) => {}
                (Some(directory), Some(name)) if !is_directory && paths.len() < MAX_CHANGES => {
                    let mut path = directory.clone();
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(name.to_bytes());
                    paths.insert(path);
                }
                // A watched directory's own times or permissions are no file's.
                (Some(_), None) if what.contains(ReadFlags::ATTRIB) => {}
                _ => anything = true,
            }
        }
        match (anything, paths.is_empty()) {
            (true, _) => News::Anything,
            (false, false) => News::Files(paths),
            (false, true) => News::Nothing,
        }
    }
}
