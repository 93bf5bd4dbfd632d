//! Keeping the object store small: what earlier checkouts needed goes when there are many packs.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use super::objects::Kind;
use super::store::{list, remove_any};
use super::{RepoError, Store, packfile, tree};
use crate::protocol::ObjectId;

/// As many packs are let be: rewriting costs more than reading them.
const MANY_PACKS: usize = 10;

impl Store {
    /// Rewrites the packs as one when they are many (or `force`); gives whether it did.
    ///
    /// A shallow store keeps what the published and the other existing checkouts reach. A store
    /// with all history keeps everything and only joins its small packs, since deltas over history
    /// are worth more than the room of what nobody reaches.
    ///
    /// # Errors
    /// When an object is damaged or the new pack can't be written; the old ones stay then.
    pub fn tidy(&self, commit: ObjectId, force: bool, cancel: &CancellationToken) -> Result<bool, RepoError> {
        let packs = self.packs()?;
        if packs.len() < 2 || (packs.len() < MANY_PACKS && !force) {
            return Ok(false);
        }
        let shallow = self.shallow()?;
        let (keep, old) = match shallow.is_empty() {
            true => self.small_packs(packs)?,
            false => (self.reachable(commit, &shallow, cancel)?, packs),
        };
        let directory = self.layout().packs();
        let before: HashSet<PathBuf> = self.packs()?.into_iter().collect();
        packfile::write(self.objects(), &keep, &directory, cancel)?;
        self.objects().refresh()?;
        let new: Vec<_> = self.packs()?.into_iter().filter(|pack| !before.contains(pack)).collect();
        for pack in old.iter().filter(|pack| !new.contains(pack)) {
            // The index first: without it a pack doesn't exist for readers.
            for extension in ["idx", "rev", "bitmap", "keep", "pack"] {
                let path = pack.with_extension(extension);
                remove_any(&path).map_err(RepoError::io("removing", &path))?;
            }
        }
        self.objects().refresh()?;
        if !shallow.is_empty() {
            let gone: Vec<_> = shallow.into_iter().filter(|id| !self.objects().has(*id)).collect();
            self.remove_shallow(&gone)?;
        }
        Ok(true)
    }

    fn packs(&self) -> Result<Vec<PathBuf>, RepoError> {
        let mut packs = list(&self.layout().packs())?;
        packs.retain(|path| path.extension().is_some_and(|extension| extension == "pack"));
        Ok(packs)
    }

    /// All packs but the largest, and what is in them.
    fn small_packs(&self, mut packs: Vec<PathBuf>) -> Result<(Vec<ObjectId>, Vec<PathBuf>), RepoError> {
        packs.sort_by_key(|path| fs::metadata(path).map_or(0, |meta| meta.len()));
        packs.pop();
        let mut ids = HashSet::new();
        for pack in &packs {
            ids.extend(packfile::names(&pack.with_extension("idx"))?);
        }
        Ok((ids.into_iter().collect(), packs))
    }

    /// Everything that the commit and the existing checkouts reach, down to the shallow commits.
    fn reachable(
        &self,
        commit: ObjectId,
        shallow: &[ObjectId],
        cancel: &CancellationToken,
    ) -> Result<Vec<ObjectId>, RepoError> {
        let checkouts = list(&self.layout().worktrees())?;
        let mut queue: Vec<ObjectId> = checkouts
            .iter()
            .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
            .filter(|id| self.objects().has(*id))
            .collect();
        queue.push(commit);
        let (mut seen, mut ids) = (HashSet::new(), Vec::new());
        while let Some(id) = queue.pop() {
            if cancel.is_cancelled() {
                return Err(RepoError::Cancelled);
            }
            if !seen.insert(id) {
                continue;
            }
            let (kind, data) = self.objects().read(id)?;
            ids.push(id);
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
                                if seen.insert(entry.id) {
                                    ids.push(entry.id);
                                }
                            }
                        }
                    }
                }
                Kind::Tag | Kind::Blob => {}
            }
        }
        Ok(ids)
    }
}
