//! Keeping the object store small: what earlier checkouts needed goes.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::objects::{IdSet, Kind};
use super::repack::{self, Pack};
use super::store::{list, remove_any};
use super::{RepoError, Store, tree};
use crate::config::Tidy;
use crate::protocol::ObjectId;

/// As many packs are let be: rewriting costs more than reading them.
const MANY_PACKS: usize = 10;
/// Bytes that nobody needs any more, and their share (1 in so many), from which on they go.
const MUCH_GARBAGE: u64 = 1 << 20;
const GARBAGE_SHARE: u64 = 4;

/// What [`Store::tidy`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tidied {
    /// Nothing was due.
    Nothing,
    /// The packs were looked through, and so many bytes in them are no longer needed.
    Counted(u64),
    /// The packs are one now, without what isn't needed.
    Rewritten,
}

impl Store {
    /// Rewrites the packs as one when that is due.
    ///
    /// Only what `tips`, the published commits, and the other existing checkouts reach is kept. A store with all
    /// history is walked for that only when one of `gone`, the removed checkouts, is no part of it any
    /// more; otherwise nothing became garbage, and its small packs are joined. `garbage` is as much as there can
    /// be, in bytes, where that is known: as long as it is little, nothing is walked for it.
    ///
    /// # Errors
    /// When an object is damaged or the new pack can't be written; the old ones stay then.
    pub fn tidy(
        &self,
        tips: &[ObjectId],
        gone: &[PathBuf],
        mode: Tidy,
        garbage: Option<u64>,
        cancel: &CancellationToken,
    ) -> Result<Tidied, RepoError> {
        let paths = self.packs()?;
        let many = paths.len() >= MANY_PACKS || (mode == Tidy::EachTime && paths.len() > 1);
        if gone.is_empty() || mode == Tidy::Off || (mode == Tidy::ManyPacks && !many) {
            return Ok(Tidied::Nothing);
        }
        // What came since the last time may have been replaced as well.
        let (largest, all) = sizes_of(&paths);
        if !many && garbage.is_some_and(|garbage| !is_much(garbage.saturating_add(all - largest), all)) {
            return Ok(Tidied::Nothing);
        }
        let shallow = self.shallow()?;
        let walk = !shallow.is_empty() || self.is_rewound(tips, gone, cancel)?;
        if !walk && !many {
            return Ok(Tidied::Nothing);
        }
        let partial = self.is_partial();
        let packs = paths.iter().map(|path| Pack::open(path)).collect::<Result<Vec<_>, _>>()?;
        let (keep, packs) = match walk {
            true => (self.reachable(tips, &shallow, partial, cancel)?, packs),
            false => all_but_the_largest(packs),
        };
        let loose = if walk { self.loose()? } else { Vec::new() };
        if !many {
            let (garbage, all) = garbage_of(&packs, &loose, &keep);
            if !is_much(garbage, all) {
                return Ok(Tidied::Counted(garbage));
            }
        }
        let new = repack::write(self.objects(), &packs, &keep, &self.layout().packs(), cancel)?;
        if partial {
            let mark = new.with_extension("promisor");
            std::fs::write(&mark, "").map_err(RepoError::io("creating", &mark))?;
        }
        self.objects().refresh()?;
        if walk {
            self.drop_foreign_refs()?;
        }
        let old: Vec<_> = packs.iter().map(Pack::path).filter(|path| *path != new).collect();
        self.remove_packs(&old)?;
        // What is kept of them is in the new pack.
        for (path, _) in &loose {
            remove_any(path).map_err(RepoError::io("removing", path))?;
        }
        self.objects().refresh()?;
        if !shallow.is_empty() {
            let gone: Vec<_> = shallow.into_iter().filter(|id| !self.objects().has(*id)).collect();
            self.remove_shallow(&gone)?;
        }
        Ok(Tidied::Rewritten)
    }

    /// Whether one of the checkouts was of a commit that is no ancestor of any of `tips`.
    fn is_rewound(
        &self,
        tips: &[ObjectId],
        gone: &[PathBuf],
        cancel: &CancellationToken,
    ) -> Result<bool, RepoError> {
        let named = gone.iter().filter_map(|path| name_of(path)?.parse().ok());
        let mut sought: IdSet = named.filter(|id| self.objects().has(*id)).collect();
        let mut queue: VecDeque<ObjectId> = tips.iter().copied().collect();
        let mut seen: IdSet = tips.iter().copied().collect();
        while !sought.is_empty()
            && let Some(id) = queue.pop_front()
        {
            if cancel.is_cancelled() {
                return Err(RepoError::Cancelled);
            }
            sought.remove(&id);
            queue
                .extend(self.objects().commit(id)?.parents.into_iter().filter(|parent| seen.insert(*parent)));
        }
        Ok(!sought.is_empty())
    }

    fn packs(&self) -> Result<Vec<PathBuf>, RepoError> {
        let mut packs = list(&self.layout().packs())?;
        packs.retain(|path| path.extension().is_some_and(|extension| extension == "pack"));
        Ok(packs)
    }

    /// Objects outside packs, which come from local sources and from git.
    fn loose(&self) -> Result<Vec<(PathBuf, ObjectId)>, RepoError> {
        let mut loose = Vec::new();
        for directory in list(&self.layout().objects())? {
            let Some(start) = name_of(&directory).filter(|name| name.len() == 2) else { continue };
            let named = list(&directory)?.into_iter().filter_map(|path| {
                let id = format!("{start}{}", name_of(&path)?).parse().ok()?;
                Some((path, id))
            });
            loose.extend(named);
        }
        Ok(loose)
    }

    /// Everything that the tips and the existing checkouts reach, down to the shallow commits; in a
    /// partial store only what of it is here.
    fn reachable(
        &self,
        tips: &[ObjectId],
        shallow: &[ObjectId],
        partial: bool,
        cancel: &CancellationToken,
    ) -> Result<IdSet, RepoError> {
        let checkouts = self.layout().checkouts()?.into_iter().filter(|id| self.objects().has(*id));
        let mut queue: Vec<ObjectId> = checkouts.chain(tips.iter().copied()).collect();
        let mut seen = IdSet::default();
        while let Some(id) = queue.pop() {
            if cancel.is_cancelled() {
                return Err(RepoError::Cancelled);
            }
            if !seen.insert(id) || (partial && !self.objects().has(id)) {
                continue;
            }
            let (kind, data) = self.objects().read(id)?;
            match kind {
                Kind::Commit => {
                    let commit = self.objects().commit(id)?;
                    queue.push(commit.tree);
                    if !shallow.contains(&id) {
                        queue.extend(commit.parents);
                    }
                }
                Kind::Tree => {
                    let bad = |reason: &str| RepoError::BadObject { id, reason: reason.to_owned() };
                    for entry in tree::parse(&data).map_err(bad)? {
                        match entry.mode & 0o170_000 {
                            0o040_000 => queue.push(entry.id),
                            0o160_000 => {}
                            _ => {
                                seen.insert(entry.id);
                            }
                        }
                    }
                }
                Kind::Tag | Kind::Blob => {}
            }
        }
        if partial {
            seen.retain(|id| self.objects().has(*id));
        }
        Ok(seen)
    }
}

fn all_but_the_largest(mut packs: Vec<Pack>) -> (IdSet, Vec<Pack>) {
    packs.sort_by_key(Pack::size);
    packs.pop();
    (packs.iter().flat_map(Pack::names).collect(), packs)
}

fn name_of(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

/// Bytes that nobody needs, and all bytes.
fn garbage_of(packs: &[Pack], loose: &[(PathBuf, ObjectId)], keep: &IdSet) -> (u64, u64) {
    let mut seen = IdSet::with_capacity_and_hasher(keep.len(), foldhash::fast::RandomState::default());
    let mut kept: u64 = packs.iter().map(|pack| pack.share(keep, &mut seen)).sum();
    let mut all: u64 = packs.iter().map(Pack::size).sum();
    for (path, id) in loose {
        let size = std::fs::metadata(path).map_or(0, |meta| meta.len());
        all += size;
        if keep.contains(id) && seen.insert(*id) {
            kept += size;
        }
    }
    (all.saturating_sub(kept), all)
}

/// Whether so much garbage has to go.
fn is_much(garbage: u64, all: u64) -> bool {
    garbage > MUCH_GARBAGE && garbage > all.saturating_sub(garbage) / GARBAGE_SHARE
}

/// That of the largest of some files, and of all.
fn sizes_of(paths: &[PathBuf]) -> (u64, u64) {
    let sizes = paths.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|meta| meta.len());
    sizes.fold((0, 0), |(largest, all), size| (size.max(largest), all + size))
}
