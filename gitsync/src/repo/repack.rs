//! Making one pack of several, with some of their objects left out (`gitformat-pack`).
//!
//! Objects are taken over as they lie, compressed and as differences, so that this costs little more
//! than reading and writing the bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha1::{Digest as _, Sha1};
use tokio_util::sync::CancellationToken;

use super::RepoError;
use super::objects::{IdSet, Objects};
use super::packfile::{self, Encoder, Placed};
use crate::protocol::ObjectId;

const CHECKSUM: u64 = 20;

/// A pack and where its objects are.
pub(super) struct Pack {
    path: PathBuf,
    file: File,
    /// Sorted by place.
    objects: Vec<(u64, ObjectId)>,
    end: u64,
}

impl Pack {
    /// Opens a pack through its index.
    pub(super) fn open(path: &Path) -> Result<Self, RepoError> {
        let mut objects = packfile::places(&path.with_extension("idx"))?;
        objects.sort_unstable();
        let file = File::open(path).map_err(RepoError::io("opening", path))?;
        let length = file.metadata().map_err(RepoError::io("reading the state of", path))?.len();
        let end = length.saturating_sub(CHECKSUM);
        Ok(Self { path: path.to_owned(), file, objects, end })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of all objects.
    pub(super) fn size(&self) -> u64 {
        self.end
    }

    /// The names of all objects.
    pub(super) fn names(&self) -> impl Iterator<Item = ObjectId> {
        self.objects.iter().map(|(_, id)| *id)
    }

    /// Bytes of those objects that are in `keep` and not yet in `seen`; notes them there.
    pub(super) fn share(&self, keep: &IdSet, seen: &mut IdSet) -> u64 {
        let kept = |(at, (offset, id)): (usize, &(u64, ObjectId))| {
            if keep.contains(id) && seen.insert(*id) { self.after(at).saturating_sub(*offset) } else { 0 }
        };
        self.objects.iter().enumerate().map(kept).sum()
    }

    /// Where what follows an object begins.
    fn after(&self, at: usize) -> u64 {
        self.objects.get(at + 1).map_or(self.end, |(offset, _)| *offset)
    }

    fn bytes(&self, at: usize) -> Result<Vec<u8>, RepoError> {
        let (start, end) = (self.objects[at].0, self.after(at));
        let length = end.checked_sub(start).and_then(|length| usize::try_from(length).ok());
        let mut bytes = vec![0; length.ok_or_else(|| self.damaged())?];
        self.file.read_exact_at(&mut bytes, start).map_err(RepoError::io("reading", &self.path))?;
        Ok(bytes)
    }

    fn at(&self, offset: u64) -> Option<ObjectId> {
        self.objects.binary_search_by_key(&offset, |(offset, _)| *offset).ok().map(|at| self.objects[at].1)
    }

    fn damaged(&self) -> RepoError {
        let reason = format!("{} and its index don't belong together", self.path.display());
        RepoError::BadObject { id: ObjectId::ZERO, reason }
    }
}

/// Writes the objects named in `keep` as one pack into `directory`; gives its path.
///
/// Those that are in none of the packs, or build on something that isn't kept, are read from `store`.
pub(super) fn write(
    store: &Objects,
    packs: &[Pack],
    keep: &IdSet,
    directory: &Path,
    cancel: &CancellationToken,
) -> Result<PathBuf, RepoError> {
    let mut pack = tempfile::Builder::new()
        .prefix("tmp_pack_")
        .tempfile_in(directory)
        .map_err(RepoError::io("creating a pack in", directory))?;
    let fail = || RepoError::io("writing a pack in", directory);
    let mut encoder = Encoder::new();
    let mut writer = Writer::start(pack.as_file_mut(), keep.len()).map_err(fail())?;
    for pack in packs {
        for at in 0..pack.objects.len() {
            let id = pack.objects[at].1;
            if cancel.is_cancelled() {
                return Err(RepoError::Cancelled);
            }
            if !keep.contains(&id) || writer.offsets.contains_key(&id) {
                continue;
            }
            let bytes = pack.bytes(at)?;
            match parse(&bytes).ok_or_else(|| pack.damaged())? {
                Stored::Whole => writer.add(id, &[&bytes]).map_err(fail())?,
                Stored::Difference { size, base, data } => {
                    let base = match base {
                        Base::Before(distance) => {
                            pack.objects[at].0.checked_sub(distance).and_then(|offset| pack.at(offset))
                        }
                        Base::Name(name) => Some(name),
                    };
                    let base = base.ok_or_else(|| pack.damaged())?;
                    match writer.offsets.get(&base) {
                        Some(&offset) => {
                            let header = difference_header(size, writer.offset - offset);
                            writer.add(id, &[&header, data]).map_err(fail())?;
                        }
                        None => writer.add(id, &[&encoder.encode(store, id)?]).map_err(fail())?,
                    }
                }
            }
        }
    }
    for &id in keep {
        if !writer.offsets.contains_key(&id) {
            writer.add(id, &[&encoder.encode(store, id)?]).map_err(fail())?;
        }
    }
    let (placed, checksum) = writer.finish().map_err(fail())?;
    packfile::publish(pack, placed, &checksum, directory)
}

/// The new pack.
struct Writer<'a> {
    out: BufWriter<&'a mut File>,
    hash: Sha1,
    offset: u64,
    offsets: HashMap<ObjectId, u64>,
    placed: Vec<Placed>,
}

impl<'a> Writer<'a> {
    fn start(file: &'a mut File, objects: usize) -> io::Result<Self> {
        let count = u32::try_from(objects).map_err(io::Error::other)?;
        let mut writer = Self {
            out: BufWriter::with_capacity(256 * 1024, file),
            hash: Sha1::new(),
            offset: 0,
            offsets: HashMap::with_capacity(objects),
            placed: Vec::with_capacity(objects),
        };
        writer.write(b"PACK\0\0\0\x02")?;
        writer.write(&count.to_be_bytes())?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.offset += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn add(&mut self, id: ObjectId, parts: &[&[u8]]) -> io::Result<()> {
        self.offsets.insert(id, self.offset);
        self.placed.push(Placed::new(id, self.offset, parts));
        parts.iter().try_for_each(|part| self.write(part))
    }

    fn finish(mut self) -> io::Result<(Vec<Placed>, [u8; 20])> {
        let checksum: [u8; 20] = self.hash.finalize().into();
        self.out.write_all(&checksum)?;
        self.out.flush()?;
        Ok((self.placed, checksum))
    }
}

enum Stored<'a> {
    Whole,
    Difference { size: u64, base: Base, data: &'a [u8] },
}

enum Base {
    Before(u64),
    Name(ObjectId),
}

/// Takes an object's header apart.
fn parse(bytes: &[u8]) -> Option<Stored<'_>> {
    let (&first, mut rest) = bytes.split_first()?;
    let (kind, mut size, mut shift, mut more) =
        ((first >> 4) & 7, u64::from(first & 0x0f), 4, first & 0x80 != 0);
    while more {
        let (&byte, after) = rest.split_first()?;
        (rest, more) = (after, byte & 0x80 != 0);
        size |= u64::from(byte & 0x7f).checked_shl(shift)?;
        shift += 7;
    }
    let base = match kind {
        1..=4 => return Some(Stored::Whole),
        6 => {
            let mut distance = 0u64;
            loop {
                let (&byte, after) = rest.split_first()?;
                rest = after;
                distance = distance.checked_shl(7).filter(|_| distance >> 56 == 0)? | u64::from(byte & 0x7f);
                if byte & 0x80 == 0 {
                    break Base::Before(distance);
                }
                distance += 1;
            }
        }
        7 => {
            let (name, after) = rest.split_first_chunk::<20>()?;
            rest = after;
            Base::Name(ObjectId::from_bytes(*name))
        }
        _ => return None,
    };
    Some(Stored::Difference { size, base, data: rest })
}

/// The header of a difference to the object so many bytes before it.
fn difference_header(size: u64, distance: u64) -> Vec<u8> {
    let mut header = packfile::size_header(6, size);
    let mut tail = vec![packfile::low_bits(distance, 0x7f)];
    let mut left = distance >> 7;
    while left > 0 {
        left -= 1;
        tail.push(packfile::low_bits(left, 0x7f) | 0x80);
        left >>= 7;
    }
    header.extend(tail.iter().rev());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_differences_come_back() {
        for distance in [1, 127, 128, 129, 16_511, 16_512, 1 << 31, 1 << 40] {
            for size in [0, 15, 16, 4_096, 1 << 33] {
                let mut bytes = difference_header(size, distance);
                bytes.extend_from_slice(b"data");
                let Some(Stored::Difference { size: read, base: Base::Before(back), data }) = parse(&bytes)
                else {
                    panic!("{distance} {size}")
                };
                assert_eq!((read, back, data), (size, distance, &b"data"[..]));
            }
        }
        assert!(parse(&[]).is_none() && parse(&[0xe0 | 0x10]).is_none() && parse(&[0xff; 30]).is_none());
    }
}
