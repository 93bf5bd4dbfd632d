//! Writing a pack and its index (`gitformat-pack`), every object whole.
//!
//! Used where objects come from a repository on the same machine: no deltas have to be found,
//! and the index is known without reading the pack again.

use std::fs::File;
use std::io::{BufWriter, Read as _, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use sha1::{Digest, Sha1};
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;

use super::RepoError;
use super::checkout::thread_count;
use super::objects::{Kind, Objects};
use crate::protocol::ObjectId;

/// Objects compressed by a worker before it hands them on.
const BATCH: usize = 64;

/// An object and where its pack has it.
pub(super) struct Placed {
    pub(super) id: ObjectId,
    pub(super) crc: u32,
    pub(super) offset: u64,
}

impl Placed {
    /// For an object whose bytes in the pack are these.
    pub(super) fn new(id: ObjectId, offset: u64, parts: &[&[u8]]) -> Self {
        let mut crc = Crc::new();
        parts.iter().for_each(|part| crc.update(part));
        Self { id, crc: crc.sum(), offset }
    }
}

/// Copies the objects named `ids` from `source` into a pack in `directory`; gives its path.
///
/// The name comes from the content, so the pack may have been there already.
pub(crate) fn write(
    source: &Objects,
    ids: &[ObjectId],
    directory: &Path,
    cancel: &CancellationToken,
) -> Result<PathBuf, RepoError> {
    let mut pack = tempfile::Builder::new()
        .prefix("tmp_pack_")
        .tempfile_in(directory)
        .map_err(RepoError::io("creating a pack in", directory))?;
    let fail = RepoError::io("writing a pack in", directory);
    let placed = write_pack(source, ids, pack.as_file_mut(), directory, cancel)?;
    let checksum = trailer(pack.as_file_mut()).map_err(fail)?;
    publish(pack, placed, &checksum, directory)
}

/// Notes, as git does, that objects which the pack with that checksum names may be missing.
pub(super) fn mark_partial(directory: &Path, checksum: &[u8; 20]) -> Result<(), RepoError> {
    let path = directory.join(format!("pack-{}.promisor", ObjectId::from_bytes(*checksum)));
    std::fs::write(&path, "").map_err(RepoError::io("creating", &path))
}

/// Writes the index of a finished pack and gives both their names.
pub(super) fn publish(
    pack: NamedTempFile,
    placed: Vec<Placed>,
    checksum: &[u8; 20],
    directory: &Path,
) -> Result<PathBuf, RepoError> {
    let mut index = tempfile::Builder::new()
        .prefix("tmp_idx_")
        .tempfile_in(directory)
        .map_err(RepoError::io("creating a pack index in", directory))?;
    write_index(index.as_file_mut(), placed, checksum)
        .map_err(RepoError::io("writing a pack index in", directory))?;
    let name = format!("pack-{}", ObjectId::from_bytes(*checksum));
    // Readers look for the index, so it comes last.
    for (file, extension) in [(pack, "pack"), (index, "idx")] {
        let path = directory.join(format!("{name}.{extension}"));
        rustix::fs::fchmod(file.as_file(), rustix::fs::Mode::from_raw_mode(0o444))
            .map_err(RepoError::os("setting permissions of", &path))?;
        file.persist(&path).map_err(|e| RepoError::io("creating", &path)(e.error))?;
    }
    Ok(directory.join(format!("{name}.pack")))
}

/// Where the objects of a pack are, from its index (version 2).
pub(super) fn places(index: &Path) -> Result<Vec<(u64, ObjectId)>, RepoError> {
    let data = std::fs::read(index).map_err(RepoError::io("reading", index))?;
    read_places(&data).ok_or_else(|| RepoError::BadObject {
        id: ObjectId::ZERO,
        reason: format!("{} is no pack index", index.display()),
    })
}

fn read_places(data: &[u8]) -> Option<Vec<(u64, ObjectId)>> {
    let tables = data.strip_prefix(b"\xfftOc\0\0\0\x02")?;
    let word = |at: usize| Some(u32::from_be_bytes(tables.get(at..at + 4)?.try_into().ok()?));
    let count = word(255 * 4)? as usize;
    let names = 256 * 4;
    let offsets = count.checked_mul(24)?.checked_add(names)?;
    let large = offsets + count * 4;
    let place = |nth: usize| {
        let name = tables.get(names + nth * 20..names + nth * 20 + 20)?;
        let short = word(offsets + nth * 4)?;
        let offset = if short & 0x8000_0000 == 0 {
            u64::from(short)
        } else {
            let at = large + (short & 0x7fff_ffff) as usize * 8;
            u64::from_be_bytes(tables.get(at..at + 8)?.try_into().ok()?)
        };
        Some((offset, ObjectId::from_bytes(name.try_into().ok()?)))
    };
    (0..count).map(place).collect()
}

/// Whether a pack's content and its index belong together and are as they were written.
///
/// # Errors
/// Damage, as [`RepoError::BadObject`] naming the pack.
pub(crate) fn verify(path: &Path, cancel: &CancellationToken) -> Result<(), RepoError> {
    let fail = || RepoError::BadObject {
        id: ObjectId::ZERO,
        reason: format!("the pack {} is not what its checksum says", path.display()),
    };
    let mut pack = File::open(path).map_err(RepoError::io("opening", path))?;
    let length = pack.metadata().map_err(RepoError::io("reading the state of", path))?.len();
    let body = length.checked_sub(20).ok_or_else(fail)?;
    let (mut hash, mut buffer, mut done) = (Sha1::new(), vec![0; 256 * 1024], 0);
    while done < body {
        if cancel.is_cancelled() {
            return Err(RepoError::Cancelled);
        }
        let wanted = usize::try_from(body - done).unwrap_or(usize::MAX).min(buffer.len());
        pack.read_exact(&mut buffer[..wanted]).map_err(RepoError::io("reading", path))?;
        hash.update(&buffer[..wanted]);
        done += wanted as u64;
    }
    let mut trailer = [0; 20];
    pack.read_exact(&mut trailer).map_err(RepoError::io("reading", path))?;
    let index = std::fs::read(path.with_extension("idx")).map_err(|_| fail())?;
    let named = index.len().checked_sub(40).and_then(|at| index.get(at..at + 20));
    let own = index.len().checked_sub(20).is_some_and(|at| Sha1::digest(&index[..at])[..] == index[at..]);
    if hash.finalize()[..] == trailer && named == Some(&trailer[..]) && own { Ok(()) } else { Err(fail()) }
}

fn write_pack(
    source: &Objects,
    ids: &[ObjectId],
    file: &mut File,
    directory: &Path,
    cancel: &CancellationToken,
) -> Result<Vec<Placed>, RepoError> {
    let count = u32::try_from(ids.len())
        .map_err(|_| RepoError::TooMuch { what: "objects", limit: u32::MAX as usize })?;
    let fail = |e| RepoError::io("writing a pack in", directory)(e);
    let mut out = BufWriter::with_capacity(256 * 1024, file);
    let mut offset = 12;
    out.write_all(b"PACK\0\0\0\x02").and_then(|()| out.write_all(&count.to_be_bytes())).map_err(fail)?;
    let mut placed = Vec::with_capacity(ids.len());
    let threads = thread_count(ids.len());
    let batches: Vec<&[ObjectId]> = ids.chunks(BATCH).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (sender, receiver) =
            mpsc::sync_channel::<Result<Vec<(ObjectId, Vec<u8>)>, RepoError>>(threads * 2);
        for _ in 0..threads {
            let (sender, next, batches) = (sender.clone(), &next, &batches);
            scope.spawn(move || {
                let objects = match source.reopen() {
                    Ok(objects) => objects,
                    Err(error) => return drop(sender.send(Err(error))),
                };
                let mut encoder = Encoder::new();
                while let Some(batch) = batches.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let encoded = batch.iter().map(|&id| Ok((id, encoder.encode(&objects, id)?))).collect();
                    if cancel.is_cancelled() || sender.send(encoded).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for batch in receiver {
            for (id, bytes) in batch? {
                out.write_all(&bytes).map_err(fail)?;
                placed.push(Placed::new(id, offset, &[&bytes]));
                offset += bytes.len() as u64;
            }
        }
        Ok(())
    })?;
    if placed.len() != ids.len() {
        return Err(RepoError::Cancelled);
    }
    out.flush().map_err(fail)?;
    Ok(placed)
}

/// Brings objects into the form a pack has them in. Kept from object to object: its tables are
/// larger than most objects.
pub(super) struct Encoder(Compress);

impl Encoder {
    pub(super) fn new() -> Self {
        Self(Compress::new(Compression::fast(), true))
    }

    /// An object of the store, whole.
    pub(super) fn encode(&mut self, objects: &Objects, id: ObjectId) -> Result<Vec<u8>, RepoError> {
        let (kind, data) = objects.read(id)?;
        self.encode_object(kind, &data).map_err(|e| RepoError::BadObject { id, reason: e.to_string() })
    }

    /// Type and size in a varint, then the zlib stream.
    pub(super) fn encode_object(&mut self, kind: Kind, data: &[u8]) -> std::io::Result<Vec<u8>> {
        let kind: u8 = match kind {
            Kind::Commit => 1,
            Kind::Tree => 2,
            Kind::Blob => 3,
            Kind::Tag => 4,
        };
        let mut out = size_header(kind, data.len() as u64);
        out.reserve(data.len() / 2 + 64);
        self.0.reset();
        loop {
            let done = usize::try_from(self.0.total_in()).map_err(std::io::Error::other)?;
            let status = self.0.compress_vec(&data[done..], &mut out, FlushCompress::Finish);
            if status.map_err(std::io::Error::other)? == Status::StreamEnd {
                return Ok(out);
            }
            out.reserve(out.capacity());
        }
    }
}

/// Type and size in a varint.
pub(super) fn size_header(kind: u8, mut size: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(10);
    let mut byte = (kind << 4) | low_bits(size, 0x0f);
    size >>= 4;
    while size > 0 {
        out.push(byte | 0x80);
        byte = low_bits(size, 0x7f);
        size >>= 7;
    }
    out.push(byte);
    out
}

pub(super) fn low_bits(value: u64, mask: u8) -> u8 {
    value.to_le_bytes()[0] & mask
}

/// Hashes the pack and appends the checksum.
pub(super) fn trailer(file: &mut File) -> std::io::Result<[u8; 20]> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha1::new();
    std::io::copy(file, &mut hash)?;
    let digest: [u8; 20] = hash.finalize().into();
    file.write_all(&digest)?;
    Ok(digest)
}

fn write_index(file: &mut File, mut placed: Vec<Placed>, pack: &[u8; 20]) -> std::io::Result<()> {
    placed.sort_unstable_by_key(|p| p.id);
    let mut wire = Vec::with_capacity(1_100 + placed.len() * 28);
    wire.extend_from_slice(b"\xfftOc\0\0\0\x02");
    let mut so_far = 0u32;
    let mut at = placed.iter().peekable();
    for first in 0..=255u8 {
        while at.next_if(|p| p.id.as_bytes()[0] == first).is_some() {
            so_far += 1;
        }
        wire.extend_from_slice(&so_far.to_be_bytes());
    }
    placed.iter().for_each(|p| wire.extend_from_slice(p.id.as_bytes()));
    placed.iter().for_each(|p| wire.extend_from_slice(&p.crc.to_be_bytes()));
    let mut large = Vec::new();
    for p in &placed {
        let word = match u32::try_from(p.offset) {
            Ok(small) if small < 0x8000_0000 => small,
            _ => {
                large.push(p.offset);
                0x8000_0000 | u32::try_from(large.len() - 1).map_err(std::io::Error::other)?
            }
        };
        wire.extend_from_slice(&word.to_be_bytes());
    }
    large.iter().for_each(|offset| wire.extend_from_slice(&offset.to_be_bytes()));
    wire.extend_from_slice(pack);
    let digest = Sha1::digest(&wire);
    wire.extend_from_slice(&digest);
    file.write_all(&wire)
}
