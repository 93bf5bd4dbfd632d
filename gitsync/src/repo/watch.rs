//! Hearing from the kernel that somebody changed something in a checkout.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::Layout;
use super::checkout::{join, split};
use super::index;
use super::worktree::own_index;
use crate::protocol::ObjectId;

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

/// Watches all directories of a checkout, but not those inside submodules.
pub(super) struct Watch(OwnedFd);

impl Watch {
    /// `None` when the kernel can't or won't watch that much.
    pub(super) fn start(layout: &Layout, commit: ObjectId) -> Option<Self> {
        let index = File::open(own_index(layout, commit)).and_then(index::Reader::new).ok()?;
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        let top = layout.worktree(commit);
        inotify::add_watch(&fd, &top, CHANGES).ok()?;
        let (mut watched, mut last) = (1, Vec::new());
        for entry in index {
            let entry = entry.ok()?;
            let directory = split(&entry.path).0;
            if directory == last || entry.skip {
                continue;
            }
            // Those above it, too: they can be renamed. What the last one had in common is done.
            let ends = memchr::memchr_iter(b'/', directory)
                .chain((!directory.is_empty()).then_some(directory.len()));
            for part in ends.map(|end| &directory[..end]) {
                if last.starts_with(part) && matches!(last.get(part.len()), None | Some(b'/')) {
                    continue;
                }
                watched += 1;
                if watched > MAX_DIRECTORIES || inotify::add_watch(&fd, join(&top, part), CHANGES).is_err() {
                    return None;
                }
            }
            last = directory.to_vec();
        }
        Some(Self(fd))
    }

    /// Whether something happened since this was asked last.
    pub(super) fn has_news(&self) -> bool {
        let mut buffer = [0; 4_096];
        let mut news = false;
        while rustix::io::read(&self.0, &mut buffer).is_ok_and(|read| read > 0) {
            news = true;
        }
        news
    }
}
