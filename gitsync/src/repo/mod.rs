//! Everything on disk: the object store, checkouts and their Git administration.
//!
//! The only place that uses `git2`. Blocking code; callers run it on a blocking thread and cancel
//! it through a token.
//!
//! Layout under the root, the same as kubernetes/git-sync v4 writes:
//!
//! ```text
//! .git/                     an ordinary repository; HEAD -> refs/heads/git-sync
//! .git/worktrees/<hash>/    administration of a checkout
//! .git/lfs/objects/          what LFS pointers stand for (with --lfs=on)
//! .worktrees/<hash>/        the checkout; its .git file holds a relative path
//! <link> -> .worktrees/<hash>
//! ```

mod attributes;
mod changes;
mod checkout;
mod copy;
mod drift;
mod duplicate;
mod error;
pub(crate) mod feed;
mod index;
mod indexer;
mod large;
mod layout;
pub(crate) mod lfs;
mod lock;
mod names;
mod objects;
mod packfile;
mod pattern;
mod recycle;
mod repack;
mod reuse;
mod source;
mod store;
mod submodule;
mod tidy;
mod tree;
mod watch;
mod worktree;

pub(crate) use changes::between;
pub use changes::{Change, ChangeKind, Changes};
pub use drift::{Patrol, Sighting};
pub(crate) use duplicate::{RegularFile, blobs, duplicate, entries as noted_entries, folder, note};
pub use error::RepoError;
pub(crate) use index::IndexEntry;
pub use layout::Layout;
pub(crate) use layout::relative;
pub use lock::RootLock;
pub use objects::{CommitInfo, PackStats};
pub(crate) use objects::{Kind, Objects};
pub(crate) use recycle::Spare;
pub use reuse::Reuse;
pub use source::LocalSource;
pub use store::{Lacking, Preparation, Store};
pub(crate) use store::{list, remove_any};
pub use submodule::Wanted;
pub(crate) use submodule::place as submodule_place;
pub use tidy::Tidied;
pub use worktree::{CheckoutOptions, CheckoutStats};
pub(crate) use worktree::{has_stale, mark_replaced, own_index};

use std::sync::Once;

/// Settings of libgit2 that have to be made before its first use.
pub(crate) fn init_libgit2() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // What is published is hashed at checkout, and damage is looked for on purpose.
        git2::opts::strict_hash_verification(false);
        set_globals();
    });
}

/// How much of a pack is mapped at once, and in all. libgit2's own bounds are gigabytes, and every
/// page that was touched once would count as this process's memory.
const WINDOW: usize = 512 << 10;
const WINDOWS: usize = 2 << 20;

/// A volume or a local source may belong to another UID (`fsGroup`, a mounted host path).
/// kubernetes/git-sync sets `safe.directory=*` for the same reason.
#[allow(unsafe_code)]
fn set_globals() {
    // SAFETY: changes globals of libgit2 without a lock; `init_libgit2` runs it once, before
    // this process makes its first other call into libgit2.
    let set = unsafe {
        git2::opts::set_verify_owner_validation(false)
            .and_then(|()| git2::opts::set_mwindow_size(WINDOW))
            .and_then(|()| git2::opts::set_mwindow_mapped_limit(WINDOWS))
    };
    if let Err(error) = set {
        tracing::debug!(%error, "libgit2 keeps its defaults");
    }
}

/// See [`crate::fuzz::objects`].
#[cfg(fuzzing)]
pub(crate) fn fuzz(base: &[u8], other: &[u8]) {
    indexer::fuzz(base, other);
    attributes::fuzz(base, other);
    for entry in tree::parse(other).unwrap_or_default() {
        let _ = names::refuse(entry.name);
    }
    let _ = index::is_whole(other);
    if let Ok(entries) = index::Reader::new(other) {
        // The first broken entry ends it, as everywhere else.
        let _ = entries.map_while(Result::ok).count();
    }
    let _ = pattern::Sparse::parse(base).has(other);
}
