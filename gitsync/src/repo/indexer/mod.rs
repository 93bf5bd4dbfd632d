//! Taking in a received pack: naming every object in it and writing its index (`gitformat-pack`).
//!
//! Two passes. While the pack arrives, [`stream`] finds where each object begins, hashes the whole
//! ones and lets everything through to disk. Then [`resolve`] rebuilds the objects that are stored as
//! differences, on all processors and depth first, so that no more than a few of them are in memory
//! at once, however large the pack is. A thin pack is completed with the bases it leaves out.
//!
//! Names are plain SHA-1 here. What gets published is hashed once more, with collision detection,
//! when it is checked out.

mod delta;
mod resolve;
mod stream;

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bytes::Bytes;
use sha1::{Digest as _, Sha1};
use tokio_util::sync::CancellationToken;

use super::objects::{Kind, Objects, PackStats};
use super::packfile::{self, Placed};
use super::{RepoError, objects};
use crate::protocol::ObjectId;
use resolve::Resolver;
use stream::{Entry, PackStream, What};

/// Larger objects can't be kept as differences: both sides would have to be in memory. Git itself
/// stops at 512 MiB (`core.bigFileThreshold`).
const MAX_DELTA_OBJECT: u64 = 1 << 30;
/// Bytes written to disk at once.
const WRITE_BUFFER: usize = 256 * 1024;

/// Writes the pack that `next` gives piece by piece into `directory`, with its index.
///
/// Bases that a thin pack leaves out come from `store`. An empty pack is dropped. What a pack that is
/// `partial` names may be missing.
pub(super) fn take(
    store: &Objects,
    directory: &Path,
    partial: bool,
    mut next: impl FnMut() -> Option<Bytes>,
    cancel: &CancellationToken,
) -> Result<PackStats, RepoError> {
    let fail = || RepoError::io("writing a pack in", directory);
    let mut file = tempfile::Builder::new()
        .prefix("tmp_pack_")
        .tempfile_in(directory)
        .map_err(RepoError::io("creating a pack in", directory))?;
    let mut stream = PackStream::default();
    let (mut buffer, mut bytes) = (Vec::with_capacity(WRITE_BUFFER), 0);
    while let Some(piece) = next() {
        if cancel.is_cancelled() {
            return Err(RepoError::Cancelled);
        }
        bytes += piece.len() as u64;
        stream.push(&piece)?;
        if buffer.len() + piece.len() > WRITE_BUFFER {
            file.write_all(&buffer).map_err(fail())?;
            buffer.clear();
        }
        buffer.extend_from_slice(&piece);
    }
    file.write_all(&buffer).map_err(fail())?;
    drop(buffer);
    let pack = stream.finish()?;
    let objects = u32::try_from(pack.entries.len()).unwrap_or(u32::MAX);
    if pack.entries.is_empty() {
        return Ok(PackStats { bytes, objects });
    }
    let mut index = Index { store, directory, cancel, end: pack.end, checksum: pack.checksum };
    let placed = index.resolve(file.as_file_mut(), pack.entries, pack.names)?;
    if partial {
        packfile::mark_partial(directory, &index.checksum)?;
    }
    packfile::publish(file, placed, &index.checksum, directory)?;
    Ok(PackStats { bytes, objects })
}

/// The second pass.
struct Index<'a> {
    store: &'a Objects,
    directory: &'a Path,
    cancel: &'a CancellationToken,
    /// Where the checksum begins.
    end: u64,
    checksum: [u8; 20],
}

impl Index<'_> {
    fn resolve(
        &mut self,
        file: &mut File,
        entries: Vec<Entry>,
        names: Vec<(u32, ObjectId)>,
    ) -> Result<Vec<Placed>, RepoError> {
        let mut resolver = Resolver::new(file, entries, names, self.end, self.cancel)?;
        resolver.run()?;
        let mut added = Vec::new();
        while resolver.is_missing_bases() {
            let mut found = false;
            for id in resolver.wanted() {
                if !self.store.has(id) {
                    continue;
                }
                let (kind, data) = self.store.read(id)?;
                if data.len() as u64 > MAX_DELTA_OBJECT {
                    return Err(RepoError::TooMuch { what: "bytes in one object", limit: 1 << 30 });
                }
                added.push(self.append(file, id, kind, &data)?);
                resolver.run_from(id, kind, data.to_vec())?;
                found = true;
            }
            if !found {
                let lacking = resolver.wanted().first().map_or_else(String::new, ToString::to_string);
                return Err(RepoError::BadPack(format!(
                    "it builds on {lacking}, which is neither in it nor here"
                )));
            }
        }
        let mut placed = resolver.finish()?;
        if !added.is_empty() {
            placed.extend(added);
            self.seal(file, placed.len())?;
        }
        Ok(placed)
    }

    /// Writes a base that the sender left out behind the last object.
    fn append(&mut self, file: &File, id: ObjectId, kind: Kind, data: &[u8]) -> Result<Placed, RepoError> {
        let bytes = packfile::Encoder::new()
            .encode_object(kind, data)
            .map_err(|e| RepoError::BadObject { id, reason: e.to_string() })?;
        file.write_all_at(&bytes, self.end).map_err(RepoError::io("writing a pack in", self.directory))?;
        let placed = Placed::new(id, self.end, &[&bytes]);
        self.end += bytes.len() as u64;
        Ok(placed)
    }

    /// Puts the new number of objects into the header and the new checksum at the end.
    fn seal(&mut self, file: &mut File, objects: usize) -> Result<(), RepoError> {
        let count = u32::try_from(objects)
            .map_err(|_| RepoError::TooMuch { what: "objects", limit: u32::MAX as usize })?;
        let mut seal = || -> std::io::Result<[u8; 20]> {
            file.set_len(self.end)?;
            file.write_all_at(&count.to_be_bytes(), 8)?;
            file.seek(SeekFrom::Start(0))?;
            packfile::trailer(file)
        };
        self.checksum = seal().map_err(RepoError::io("writing a pack in", self.directory))?;
        Ok(())
    }
}

/// An object's name: the hash of kind, size and content.
fn hasher(kind: Kind, size: u64) -> Sha1 {
    let word = match kind {
        Kind::Commit => "commit",
        Kind::Tree => "tree",
        Kind::Blob => "blob",
        Kind::Tag => "tag",
    };
    let mut hash = Sha1::new();
    hash.update(format!("{word} {size}\0"));
    hash
}

fn finish_hash(hash: Sha1) -> ObjectId {
    ObjectId::from_bytes(hash.finalize().into())
}

fn bad(reason: impl Into<String>) -> RepoError {
    RepoError::BadPack(reason.into())
}

/// `kind` as the header of a packed object has it.
fn kind_of(code: u8) -> Option<What> {
    Some(match code {
        1 => What::Whole(objects::Kind::Commit),
        2 => What::Whole(objects::Kind::Tree),
        3 => What::Whole(objects::Kind::Blob),
        4 => What::Whole(objects::Kind::Tag),
        6 => What::OnOffset(0),
        7 => What::OnName,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;

/// A difference to a base; and a pack, whole and cut, which has to give the same.
#[cfg(fuzzing)]
pub(super) fn fuzz(base: &[u8], other: &[u8]) {
    let mut out = Vec::new();
    if delta::apply(base, other, &mut out).is_ok() {
        assert!(out.len() as u64 <= MAX_DELTA_OBJECT);
    }
    let cut = |size: usize| {
        let mut stream = PackStream::default();
        let pushed = other.chunks(size).try_for_each(|piece| stream.push(piece));
        // A pack that is broken in two ways may be refused for either.
        pushed.and_then(|()| stream.finish()).map(|seen| format!("{seen:?}")).ok()
    };
    assert_eq!(cut(other.len().max(1)), cut(base.first().map_or(1, |size| usize::from(*size) + 1)));
}
