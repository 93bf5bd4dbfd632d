//! Git's index file, versions 2 and 3 (`gitformat-index`): written with each checkout, so that a
//! `git status` there is clean and cheap, and read back to notice changed files.

use std::io::{self, Read, Write};
use std::ops::Range;

use sha1::{Digest, Sha1};

use super::tree::Mode;
use crate::protocol::ObjectId;

const SIGNATURE: &[u8; 4] = b"DIRC";
const EXTENDED: u16 = 0x4000;
const SKIP_WORKTREE: u16 = 0x4000;
const NAME_MASK: u16 = 0x0fff;
/// The extension that names directories with their trees.
const TREE: &[u8; 4] = b"TREE";

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

impl Stat {
    /// That of an entry as it lies in the index.
    #[inline]
    fn of(entry: &[u8]) -> Self {
        let word = |at| word(entry, at);
        Self {
            ctime: (word(0), word(1)),
            mtime: (word(2), word(3)),
            dev: word(4),
            ino: word(5),
            uid: word(7),
            gid: word(8),
            size: word(9),
        }
    }
}

/// One of the ten words that an entry begins with.
#[inline]
fn word(entry: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([entry[4 * at], entry[4 * at + 1], entry[4 * at + 2], entry[4 * at + 3]])
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

/// An index held in memory, its entries read where they lie: comparing 10,000 of them allocates nothing.
pub(crate) struct Table {
    data: Vec<u8>,
    /// Where each entry begins, and where the last one ends.
    starts: Vec<usize>,
    folders: Vec<Folder>,
}

/// One entry where it lies in memory.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    raw: &'a [u8],
    pub(crate) path: &'a [u8],
    pub(crate) mode: Mode,
    /// See [`IndexEntry::skip`].
    pub(crate) skip: bool,
}

/// A directory in the index's `TREE` extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    /// Its name; empty for the top.
    pub(crate) name: Vec<u8>,
    pub(crate) id: ObjectId,
    /// Entries in it and below.
    pub(crate) entries: usize,
    /// Directories right in it; they follow, each with all below it.
    pub(crate) folders: usize,
}

impl Table {
    /// Takes an index of version 2, which has no sparse entries.
    pub(crate) fn parse(data: Vec<u8>) -> Option<Self> {
        let count = match data.get(..12)? {
            [b'D', b'I', b'R', b'C', 0, 0, 0, 2, count @ ..] => u32::from_be_bytes(count.try_into().ok()?),
            _ => return None,
        };
        let end = data.len().checked_sub(20)?;
        let mut at = 12;
        let mut starts = Vec::with_capacity((count as usize).min(end / 64) + 1);
        for _ in 0..count {
            starts.push(at);
            let entry = data.get(at..end)?;
            let length = length_of(entry)?;
            // Only version 3 has such entries.
            if is_extended(entry) {
                return None;
            }
            Line::of(&entry[..length])?;
            at += length;
        }
        starts.push(at);
        let folders = folders(&data[at..end]).unwrap_or_default();
        Some(Self { data, starts, folders })
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The entry with that number.
    #[inline]
    pub(crate) fn line(&self, at: usize) -> Line<'_> {
        let raw = &self.data[self.starts[at]..self.starts[at + 1]];
        Line {
            raw,
            path: path_of(raw),
            mode: Mode::from_bits(word(raw, 6)).unwrap_or(Mode::File),
            skip: false,
        }
    }

    /// The directories as the index names them, each before what is in it; none if it doesn't.
    pub(crate) fn folders(&self) -> &[Folder] {
        &self.folders
    }
}

impl<'a> Line<'a> {
    /// The entry whose bytes these are.
    fn of(raw: &'a [u8]) -> Option<Self> {
        let mode = Mode::from_bits(word(raw, 6))?;
        let extended = is_extended(raw);
        let skip = extended && u16::from_be_bytes([raw[62], raw[63]]) & SKIP_WORKTREE != 0;
        Some(Self { raw, path: path_of(raw), mode, skip })
    }

    #[inline]
    pub(crate) fn id(&self) -> ObjectId {
        let mut id = [0; 20];
        id.copy_from_slice(&self.raw[40..60]);
        ObjectId::from_bytes(id)
    }

    #[inline]
    pub(crate) fn stat(&self) -> Stat {
        Stat::of(self.raw)
    }

    /// The same, to be kept.
    pub(crate) fn to_entry(self) -> IndexEntry {
        let (id, stat) = (self.id(), self.stat());
        IndexEntry { path: self.path.to_vec(), mode: self.mode, id, stat, skip: self.skip }
    }
}

#[inline]
fn is_extended(entry: &[u8]) -> bool {
    entry[60] & (EXTENDED >> 8) as u8 != 0
}

/// Where an entry's path begins.
#[inline]
fn path_start(entry: &[u8]) -> usize {
    if is_extended(entry) { 64 } else { 62 }
}

/// The path of a whole entry, without the zeros that follow it.
#[inline]
fn path_of(entry: &[u8]) -> &[u8] {
    let start = path_start(entry);
    let short = usize::from(u16::from_be_bytes([entry[60], entry[61]]) & NAME_MASK);
    let rest = &entry[start..];
    let length =
        if short < usize::from(NAME_MASK) { short } else { memchr::memchr(0, rest).unwrap_or(rest.len()) };
    &rest[..length]
}

/// The bytes of the entry that `data` begins with; `None` when it doesn't end in it.
#[inline]
fn length_of(data: &[u8]) -> Option<usize> {
    if data.len() < 64 {
        return None;
    }
    let start = path_start(data);
    let short = usize::from(u16::from_be_bytes([data[60], data[61]]) & NAME_MASK);
    let path = if short < usize::from(NAME_MASK) { short } else { memchr::memchr(0, &data[start..])? };
    let length = entry_length(start - 62 + path);
    (length <= data.len()).then_some(length)
}

/// Makes an index out of entries of another one and new ones.
pub(crate) struct Builder {
    data: Vec<u8>,
    count: u32,
}

impl Builder {
    /// For about so many bytes.
    pub(crate) fn new(size: usize) -> Self {
        let mut data = Vec::with_capacity(size);
        data.extend_from_slice(SIGNATURE);
        data.extend_from_slice(&[0, 0, 0, 2, 0, 0, 0, 0]);
        Self { data, count: 0 }
    }

    /// Takes over an entry as it is.
    pub(crate) fn keep(&mut self, line: Line<'_>) {
        self.data.extend_from_slice(line.raw);
        self.count += 1;
    }

    /// Adds an entry that isn't sparse.
    pub(crate) fn add(&mut self, entry: &IndexEntry) {
        encode(&mut self.data, entry);
        self.count += 1;
    }

    /// The whole index.
    pub(crate) fn finish(mut self, folders: &[Folder]) -> Vec<u8> {
        self.data[8..12].copy_from_slice(&self.count.to_be_bytes());
        let mut tree = Vec::with_capacity(folders.len() * 40);
        for folder in folders {
            tree.extend_from_slice(&folder.name);
            tree.extend_from_slice(format!("\0{} {}\n", folder.entries, folder.folders).as_bytes());
            tree.extend_from_slice(folder.id.as_bytes());
        }
        if let Ok(length @ 1..) = u32::try_from(tree.len()) {
            self.data.extend_from_slice(TREE);
            self.data.extend_from_slice(&length.to_be_bytes());
            self.data.extend_from_slice(&tree);
        }
        let digest = Sha1::digest(&self.data);
        self.data.extend_from_slice(&digest);
        self.data
    }
}

/// The `TREE` extension among those after the entries; `None` if there is none that is whole.
fn folders(mut rest: &[u8]) -> Option<Vec<Folder>> {
    loop {
        let length = u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?) as usize;
        let content = rest.get(8..8 + length)?;
        if rest.starts_with(TREE) {
            rest = content;
            break;
        }
        rest = &rest[8 + length..];
    }
    let mut folders = Vec::new();
    while !rest.is_empty() {
        let nul = memchr::memchr(0, rest)?;
        let line = memchr::memchr(b'\n', &rest[nul..])? + nul;
        let (entries, below) = std::str::from_utf8(&rest[nul + 1..line]).ok()?.split_once(' ')?;
        // A git that changed something writes -1 and no id; such an index isn't ours.
        let (entries, below) = (entries.parse().ok()?, below.parse().ok()?);
        let mut id = [0; 20];
        id.copy_from_slice(rest.get(line + 1..line + 21)?);
        let id = ObjectId::from_bytes(id);
        folders.push(Folder { name: rest[..nul].to_vec(), id, entries, folders: below });
        rest = &rest[line + 21..];
    }
    Some(folders)
}

const fn entry_length(path: usize) -> usize {
    // One to eight NUL bytes, so that each entry's length is a multiple of eight.
    (62 + path) / 8 * 8 + 8
}

fn encode(out: &mut Vec<u8>, entry: &IndexEntry) {
    let s = &entry.stat;
    let words =
        [s.ctime.0, s.ctime.1, s.mtime.0, s.mtime.1, s.dev, s.ino, entry.mode.bits(), s.uid, s.gid, s.size];
    let start = out.len();
    words.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
    out.extend_from_slice(entry.id.as_bytes());
    let length = u16::try_from(entry.path.len()).unwrap_or(NAME_MASK).min(NAME_MASK);
    out.extend_from_slice(&(length | if entry.skip { EXTENDED } else { 0 }).to_be_bytes());
    if entry.skip {
        out.extend_from_slice(&SKIP_WORKTREE.to_be_bytes());
    }
    out.extend_from_slice(&entry.path);
    let extended = if entry.skip { 2 } else { 0 };
    out.resize(start + entry_length(entry.path.len() + extended), 0);
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
    let mut line = Vec::with_capacity(80 + entry.path.len());
    encode(&mut line, entry);
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

/// Bytes that a [`Reader`] holds: enough for any path.
const WINDOW: usize = 32 * 1024;

/// Reads entries one by one, without holding the file in memory.
pub(crate) struct Reader<R> {
    input: R,
    window: Vec<u8>,
    /// What of the window is still to be given.
    rest: Range<usize>,
    left: u32,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(mut input: R) -> io::Result<Self> {
        let mut header = [0; 12];
        input.read_exact(&mut header)?;
        if !header.starts_with(SIGNATURE) || !matches!(header[4..8], [0, 0, 0, 2 | 3]) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no index of version 2 or 3"));
        }
        let left = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        Ok(Self { input, window: vec![0; WINDOW], rest: 0..0, left })
    }

    /// The next entry, where it lies: comparing 10,000 of them allocates nothing. `None` after the last one.
    pub(crate) fn line(&mut self) -> io::Result<Option<Line<'_>>> {
        let Some(place) = self.advance()? else { return Ok(None) };
        Line::of(&self.window[place]).map(Some).ok_or_else(broken)
    }

    /// The next one that isn't sparse.
    pub(crate) fn line_on_disk(&mut self) -> io::Result<Option<Line<'_>>> {
        while let Some(place) = self.advance()? {
            if !Line::of(&self.window[place.clone()]).ok_or_else(broken)?.skip {
                return Ok(Line::of(&self.window[place]));
            }
        }
        Ok(None)
    }

    /// Goes on to the next entry; gives its place in the window.
    fn advance(&mut self) -> io::Result<Option<Range<usize>>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let length = loop {
            if let Some(length) = length_of(&self.window[self.rest.clone()]) {
                break length;
            }
            self.fill()?;
        };
        let start = self.rest.start;
        self.rest.start += length;
        Ok(Some(start..self.rest.start))
    }

    fn fill(&mut self) -> io::Result<()> {
        self.window.copy_within(self.rest.clone(), 0);
        self.rest = 0..self.rest.len();
        if self.rest.end == self.window.len() {
            return Err(broken());
        }
        match self.input.read(&mut self.window[self.rest.end..]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.rest.end += read;
                Ok(())
            }
            // The caller comes again when it still lacks something.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a broken index entry")
}

impl<R: Read> Iterator for Reader<R> {
    type Item = io::Result<IndexEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.line().map(|line| line.map(Line::to_entry)).transpose()
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
        fn taken_over_entries_are_the_same(
            paths in prop::collection::btree_set(prop::collection::vec(1u8..255, 1..60), 0..20),
            long in 4_090usize..4_100,
            counts in prop::collection::vec((any::<u16>(), any::<u16>()), 0..5),
        ) {
            let mut entries: Vec<_> = paths.into_iter().map(|path| entry(path, false)).collect();
            entries.push(entry(vec![255; long], false));
            let folders: Vec<_> = counts
                .iter()
                .map(|(entries, folders)| Folder {
                    name: format!("d{entries}").into_bytes(),
                    id: ObjectId::from_bytes([9; 20]),
                    entries: usize::from(*entries),
                    folders: usize::from(*folders),
                })
                .collect();
            let mut builder = Builder::new(0);
            entries.iter().for_each(|entry| builder.add(entry));
            let first = builder.finish(&folders);
            prop_assert!(is_whole(&first));
            let table = Table::parse(first.clone()).unwrap();
            prop_assert_eq!(table.folders(), &folders[..]);
            let mut builder = Builder::new(first.len());
            for (at, entry) in entries.iter().enumerate() {
                let line = table.line(at);
                prop_assert_eq!((line.path, line.mode, line.id(), line.stat()),
                    (&entry.path[..], entry.mode, entry.id, entry.stat));
                builder.keep(line);
            }
            prop_assert_eq!(builder.finish(&folders), first.clone());
            let back = Reader::new(&first[..]).unwrap().collect::<io::Result<Vec<_>>>().unwrap();
            prop_assert_eq!(back, entries);
            for cut in [0, 11, 40, first.len() / 2, first.len() - 21] {
                let _ = Table::parse(first[..cut].to_vec());
            }
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Some(table) = Table::parse([&b"DIRC\0\0\0\x02\0\0\0\x04"[..], &bytes].concat()) {
                (0..table.len()).for_each(|at| { table.line(at).stat(); });
            }
            let wire = [&b"DIRC\0\0\0\x02\0\0\0\x04"[..], &bytes].concat();
            let _ = Reader::new(&wire[..]).unwrap().take(10).collect::<io::Result<Vec<_>>>();
        }
    }
}
