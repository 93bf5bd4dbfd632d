//! Git's index file, versions 2 and 3 (`gitformat-index`): written with each checkout, so that a
//! `git status` there is clean and cheap, and read back to notice changed files.

use std::io::{self, BufReader, Read, Write};

use sha1::{Digest, Sha1};

use super::tree::Mode;
use crate::protocol::ObjectId;

const SIGNATURE: &[u8; 4] = b"DIRC";
const EXTENDED: u16 = 0x4000;
const SKIP_WORKTREE: u16 = 0x4000;
const NAME_MASK: u16 = 0x0fff;

/// What `lstat` says about a file, cut to the 32 bits the index has for each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) ctime: (u32, u32),
    pub(crate) mtime: (u32, u32),
    pub(crate) dev: u32,
    pub(crate) ino: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u32,
}

/// One line of the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub(crate) path: Vec<u8>,
    pub(crate) mode: Mode,
    pub(crate) id: ObjectId,
    pub(crate) stat: Stat,
    /// Not written to disk on purpose (sparse checkout).
    pub(crate) skip: bool,
}

/// Writes an index. Entries must be in index order.
pub(crate) fn write(out: impl Write, entries: &[IndexEntry]) -> io::Result<()> {
    let mut out = Hashing { out, hash: Sha1::new() };
    let version: u32 = if entries.iter().any(|e| e.skip) { 3 } else { 2 };
    let count = u32::try_from(entries.len()).map_err(io::Error::other)?;
    out.write_all(SIGNATURE)?;
    out.write_all(&version.to_be_bytes())?;
    out.write_all(&count.to_be_bytes())?;
    entries.iter().try_for_each(|entry| write_entry(&mut out, entry))?;
    let digest = out.hash.finalize();
    out.out.write_all(&digest)?;
    out.out.flush()
}

fn write_entry(out: &mut impl Write, entry: &IndexEntry) -> io::Result<()> {
    let s = &entry.stat;
    let words =
        [s.ctime.0, s.ctime.1, s.mtime.0, s.mtime.1, s.dev, s.ino, entry.mode.bits(), s.uid, s.gid, s.size];
    let mut line = Vec::with_capacity(80 + entry.path.len());
    words.iter().for_each(|word| line.extend_from_slice(&word.to_be_bytes()));
    line.extend_from_slice(entry.id.as_bytes());
    let length = u16::try_from(entry.path.len()).unwrap_or(NAME_MASK).min(NAME_MASK);
    line.extend_from_slice(&(length | if entry.skip { EXTENDED } else { 0 }).to_be_bytes());
    if entry.skip {
        line.extend_from_slice(&SKIP_WORKTREE.to_be_bytes());
    }
    line.extend_from_slice(&entry.path);
    // One to eight NUL bytes, so that each entry's length is a multiple of eight.
    line.resize(line.len() / 8 * 8 + 8, 0);
    out.write_all(&line)
}

struct Hashing<W> {
    out: W,
    hash: Sha1,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Whether bytes are an index and end in their own checksum.
pub(crate) fn is_whole(data: &[u8]) -> bool {
    let Some(end) = data.len().checked_sub(20).filter(|end| *end >= 12) else { return false };
    // All zeros: a Git with `index.skipHash` wrote it.
    data.starts_with(SIGNATURE) && (data[end..] == [0; 20] || Sha1::digest(&data[..end])[..] == data[end..])
}

/// Reads entries one by one, without holding the file in memory.
pub(crate) struct Reader<R> {
    input: BufReader<R>,
    left: u32,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(input: R) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(32 * 1024, input);
        let mut header = [0; 12];
        input.read_exact(&mut header)?;
        if !header.starts_with(SIGNATURE) || !matches!(header[4..8], [0, 0, 0, 2 | 3]) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no index of version 2 or 3"));
        }
        let left = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        Ok(Self { input, left })
    }

    fn entry(&mut self) -> io::Result<IndexEntry> {
        let mut fixed = [0; 62];
        self.input.read_exact(&mut fixed)?;
        let word = |i: usize| {
            u32::from_be_bytes([fixed[4 * i], fixed[4 * i + 1], fixed[4 * i + 2], fixed[4 * i + 3]])
        };
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "a broken index entry");
        let mode = Mode::from_bits(word(6)).ok_or_else(bad)?;
        let mut id = [0; 20];
        id.copy_from_slice(&fixed[40..60]);
        let flags = u16::from_be_bytes([fixed[60], fixed[61]]);
        let mut length = 62;
        let mut skip = false;
        if flags & EXTENDED != 0 {
            let mut more = [0; 2];
            self.input.read_exact(&mut more)?;
            skip = u16::from_be_bytes(more) & SKIP_WORKTREE != 0;
            length += 2;
        }
        let path = self.path(flags & NAME_MASK, length, bad)?;
        let stat = Stat {
            ctime: (word(0), word(1)),
            mtime: (word(2), word(3)),
            dev: word(4),
            ino: word(5),
            uid: word(7),
            gid: word(8),
            size: word(9),
        };
        Ok(IndexEntry { path, mode, id: ObjectId::from_bytes(id), stat, skip })
    }

    fn path(&mut self, short: u16, before: usize, bad: impl Fn() -> io::Error) -> io::Result<Vec<u8>> {
        let mut path = vec![0; usize::from(short)];
        self.input.read_exact(&mut path)?;
        let mut byte = [0; 1];
        if short == NAME_MASK {
            loop {
                self.input.read_exact(&mut byte)?;
                if byte[0] == 0 {
                    break;
                }
                path.push(byte[0]);
                if path.len() > 8_192 {
                    return Err(bad());
                }
            }
        } else {
            self.input.read_exact(&mut byte)?;
        }
        // One NUL is read already; the padding reaches to the next multiple of eight.
        let end = before + path.len() + 1;
        let mut padding = vec![0; end.next_multiple_of(8) - end];
        self.input.read_exact(&mut padding)?;
        Ok(path)
    }
}

impl<R: Read> Iterator for Reader<R> {
    type Item = io::Result<IndexEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.entry())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(path: Vec<u8>, skip: bool) -> IndexEntry {
        let stat = Stat { ctime: (1, 2), mtime: (3, 4), dev: 5, ino: 6, uid: 7, gid: 8, size: 9 };
        IndexEntry { path, mode: Mode::Executable, id: ObjectId::from_bytes([7; 20]), stat, skip }
    }

    proptest! {
        #[test]
        fn round_trip(
            paths in prop::collection::vec((prop::collection::vec(1u8..255, 1..60), any::<bool>()), 0..20),
            long in 4_090usize..4_100,
        ) {
            let mut entries: Vec<_> = paths.into_iter().map(|(path, skip)| entry(path, skip)).collect();
            entries.push(entry(vec![b'x'; long], false));
            let mut wire = Vec::new();
            write(&mut wire, &entries).unwrap();
            let back = Reader::new(&wire[..]).unwrap().collect::<io::Result<Vec<_>>>().unwrap();
            prop_assert_eq!(back, entries);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let wire = [&b"DIRC\0\0\0\x02\0\0\0\x04"[..], &bytes].concat();
            let _ = Reader::new(&wire[..]).unwrap().take(10).collect::<io::Result<Vec<_>>>();
        }
    }
}
