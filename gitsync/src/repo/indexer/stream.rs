//! The first pass over a pack, while it arrives. Pure and incremental.

use flate2::{Crc, Decompress, FlushDecompress, Status};
use sha1::{Digest as _, Sha1};

use super::{RepoError, bad, finish_hash, hasher, kind_of};
use crate::protocol::ObjectId;
use crate::repo::objects::Kind;

/// Bytes of `PACK`, version and number of objects.
const HEADER: usize = 12;
const CHECKSUM: usize = 20;
/// Content is looked at in pieces of this size.
const PIECE: usize = 64 * 1024;
/// Larger trees, commits and tags are refused: unlike blobs, they have to be read as a whole.
const MAX_DESCRIPTION: u64 = 256 << 20;
/// Entries that are made room for in advance; more only if that many really come.
const FORESEEN: usize = 1 << 16;

/// How an object is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// As it is.
    Whole(Kind),
    /// As a difference to the object at this offset.
    OnOffset(u64),
    /// As a difference to an object known by name.
    OnName,
}

/// One object of the pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Zero until it is known.
    pub(super) id: ObjectId,
    /// Where its header begins.
    pub(super) offset: u64,
    /// Size of its content, or of the difference.
    pub(super) size: u64,
    /// Bytes of its header.
    pub(super) header: u8,
    /// Checksum of its bytes in the pack.
    pub(super) crc: u32,
    pub(super) what: What,
}

/// A pack of which every byte was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) entries: Vec<Entry>,
    /// Number of an entry and the name it builds on.
    pub(super) names: Vec<(u32, ObjectId)>,
    /// Where the checksum begins.
    pub(super) end: u64,
    pub(super) checksum: [u8; 20],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    /// Type and size; the number of bytes so far.
    Start(u8),
    /// The distance to the base.
    Distance,
    /// The name of the base.
    Name,
    Data,
    Checksum,
    Done,
}

/// Takes a pack in pieces of any size.
pub(super) struct PackStream {
    state: State,
    /// Bytes of a header, a name or the checksum so far.
    held: Vec<u8>,
    /// Objects to come.
    left: u32,
    /// Of the next byte.
    offset: u64,
    entry: Entry,
    distance: u64,
    inflate: Decompress,
    out: Vec<u8>,
    /// For a whole object's name.
    name: Option<Sha1>,
    crc: Crc,
    all: Sha1,
    entries: Vec<Entry>,
    names: Vec<(u32, ObjectId)>,
}

impl Default for PackStream {
    fn default() -> Self {
        let what = What::OnName;
        Self {
            state: State::Header,
            held: Vec::with_capacity(CHECKSUM),
            left: 0,
            offset: 0,
            entry: Entry { id: ObjectId::ZERO, offset: 0, size: 0, header: 0, crc: 0, what },
            distance: 0,
            inflate: Decompress::new(true),
            out: vec![0; PIECE],
            name: None,
            crc: Crc::new(),
            all: Sha1::new(),
            entries: Vec::new(),
            names: Vec::new(),
        }
    }
}

impl PackStream {
    /// Takes the next piece.
    ///
    /// # Errors
    /// When this is no pack, or a damaged one.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), RepoError> {
        let mut at = 0;
        while at < piece.len() {
            let (state, rest) = (self.state, &piece[at..]);
            let used = self.step(rest)?;
            if state != State::Checksum {
                self.all.update(&rest[..used]);
                self.crc.update(&rest[..used]);
            }
            self.offset += used as u64;
            at += used;
            self.settle()?;
        }
        Ok(())
    }

    /// What the pack holds.
    ///
    /// # Errors
    /// When it ended too early or its checksum is wrong.
    pub(super) fn finish(self) -> Result<Seen, RepoError> {
        if self.state != State::Done {
            return Err(bad("it ends too early"));
        }
        let mut checksum = [0; CHECKSUM];
        checksum.copy_from_slice(&self.held);
        if self.all.finalize()[..] != checksum {
            return Err(bad("its checksum is wrong"));
        }
        let end = self.offset - CHECKSUM as u64;
        Ok(Seen { entries: self.entries, names: self.names, end, checksum })
    }

    /// Looks at the next bytes; gives how many it used.
    fn step(&mut self, input: &[u8]) -> Result<usize, RepoError> {
        match self.state {
            State::Header => Ok(self.hold(input, HEADER)),
            State::Checksum | State::Name => Ok(self.hold(input, CHECKSUM)),
            State::Start(seen) => self.start(input[0], seen).map(|()| 1),
            State::Distance => self.distance(input[0]).map(|()| 1),
            State::Data => self.data(input),
            State::Done => Err(bad("something follows its checksum")),
        }
    }

    fn hold(&mut self, input: &[u8], wanted: usize) -> usize {
        let used = input.len().min(wanted - self.held.len());
        self.held.extend_from_slice(&input[..used]);
        used
    }

    /// Moves on after bytes were counted.
    fn settle(&mut self) -> Result<(), RepoError> {
        match self.state {
            State::Header if self.held.len() == HEADER => self.begin(),
            State::Name if self.held.len() == CHECKSUM => {
                let mut name = [0; CHECKSUM];
                name.copy_from_slice(&self.held);
                self.names.push((self.number()?, ObjectId::from_bytes(name)));
                self.header_is_complete()
            }
            State::Checksum if self.held.len() == CHECKSUM => {
                self.state = State::Done;
                Ok(())
            }
            State::Data if self.entry.header == 0 => self.header_is_complete(),
            // The data's end was seen.
            State::Start(0) if self.entry.header != 0 => {
                self.complete();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self) -> Result<(), RepoError> {
        let [b'P', b'A', b'C', b'K', 0, 0, 0, 2 | 3, a, b, c, d] = self.held[..] else {
            return Err(bad("it doesn't start like a pack"));
        };
        self.left = u32::from_be_bytes([a, b, c, d]);
        self.entries.reserve((self.left as usize).min(FORESEEN));
        self.next_object();
        Ok(())
    }

    fn next_object(&mut self) {
        self.held.clear();
        self.entry.header = 0;
        self.entry.offset = self.offset;
        self.crc.reset();
        self.state = if self.left == 0 { State::Checksum } else { State::Start(0) };
    }

    fn number(&self) -> Result<u32, RepoError> {
        u32::try_from(self.entries.len()).map_err(|_| bad("more objects than a pack can have"))
    }

    fn start(&mut self, byte: u8, seen: u8) -> Result<(), RepoError> {
        if seen == 0 {
            self.entry.what = kind_of((byte >> 4) & 7).ok_or_else(|| bad("an object of no known type"))?;
            self.entry.size = u64::from(byte & 0x0f);
        } else {
            let shift = 4 + 7 * (u32::from(seen) - 1);
            if shift > 57 {
                return Err(bad("an object with an endless size"));
            }
            self.entry.size |= u64::from(byte & 0x7f) << shift;
        }
        if byte & 0x80 == 0
            && self.entry.size > MAX_DESCRIPTION
            && matches!(self.entry.what, What::Whole(kind) if kind != Kind::Blob)
        {
            return Err(RepoError::TooMuch { what: "bytes in a tree, commit or tag", limit: 256 << 20 });
        }
        self.state = match (byte & 0x80 != 0, self.entry.what) {
            (true, _) => State::Start(seen + 1),
            (false, What::Whole(_)) => State::Data,
            (false, What::OnOffset(_)) => {
                self.distance = 0;
                State::Distance
            }
            (false, What::OnName) => State::Name,
        };
        Ok(())
    }

    fn distance(&mut self, byte: u8) -> Result<(), RepoError> {
        // Each continuation adds one, so that no distance has two spellings.
        let carried = if self.distance == 0 { 0 } else { self.distance.checked_shl(7).unwrap_or(u64::MAX) };
        if carried >> 56 != 0 {
            return Err(bad("a base before its beginning"));
        }
        self.distance = carried | u64::from(byte & 0x7f);
        if byte & 0x80 != 0 {
            self.distance += 1;
            return Ok(());
        }
        let base = self.entry.offset.checked_sub(self.distance).filter(|_| self.distance > 0);
        self.entry.what = What::OnOffset(base.ok_or_else(|| bad("a base before its beginning"))?);
        self.state = State::Data;
        Ok(())
    }

    fn header_is_complete(&mut self) -> Result<(), RepoError> {
        let length = self.offset - self.entry.offset;
        self.entry.header = u8::try_from(length).map_err(|_| bad("an endless header"))?;
        self.state = State::Data;
        self.inflate.reset(true);
        self.name = match self.entry.what {
            What::Whole(kind) => Some(hasher(kind, self.entry.size)),
            What::OnOffset(_) | What::OnName => None,
        };
        Ok(())
    }

    fn data(&mut self, input: &[u8]) -> Result<usize, RepoError> {
        let mut used = 0;
        loop {
            let (read, made) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(&input[used..], &mut self.out, FlushDecompress::None)
                .map_err(|e| bad(format!("an object that can't be unpacked ({e})")))?;
            used += usize::try_from(self.inflate.total_in() - read).unwrap_or(usize::MAX);
            let fresh = usize::try_from(self.inflate.total_out() - made).unwrap_or(usize::MAX);
            if self.inflate.total_out() > self.entry.size {
                return Err(bad("an object larger than it says"));
            }
            if let Some(name) = &mut self.name {
                name.update(&self.out[..fresh]);
            }
            match status {
                Status::StreamEnd if self.inflate.total_out() == self.entry.size => {
                    self.state = State::Start(0);
                    return Ok(used);
                }
                Status::StreamEnd => return Err(bad("an object smaller than it says")),
                Status::Ok | Status::BufError => {}
            }
            if used == input.len() && fresh < self.out.len() {
                return Ok(used);
            }
            if fresh == 0 && self.inflate.total_in() == read {
                return Err(bad("an object that can't be unpacked"));
            }
        }
    }

    fn complete(&mut self) {
        self.entry.crc = self.crc.sum();
        self.entry.id = self.name.take().map_or(ObjectId::ZERO, finish_hash);
        self.entries.push(self.entry);
        self.left -= 1;
        self.next_object();
    }
}
