//! From the bytes that name a series on the wire to the series, without parsing, mapping or allocating.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;

use super::SeriesId;
use crate::statsd::Type;

/// The parts of a line that decide its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineKey<'a> {
    /// Name with tags in it, as received.
    pub name: &'a [u8],
    /// Type.
    pub kind: Type,
    /// DogStatsD tags as received.
    pub tags: &'a [u8],
    /// Container id.
    pub container: &'a [u8],
}

/// What is known about a line seen before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Its series, or `None` when a mapping drops it.
    pub series: Option<SeriesId>,
    /// Factor of the mapping.
    pub scale: f64,
    /// Tags skipped in each such line.
    pub tag_errors: u32,
    /// Whether it carries tags.
    pub tagged: bool,
    /// Whether a mapping matched.
    pub mapped: bool,
}

#[derive(Debug)]
struct Known {
    key: Box<[u8]>,
    seen: Seen,
}

/// Lines seen before. Forgets all of them when it grows beyond its bound.
#[derive(Debug, Default)]
pub struct LineCache {
    known: HashTable<Known>,
    hasher: foldhash::fast::RandomState,
    bytes: usize,
}

/// Bytes an entry costs besides its key, with the table's slack.
const ENTRY_BYTES: usize = size_of::<Known>() * 3 / 2 + 16;
/// Keys longer than this are not kept; such lines take the slow way.
const MAX_KEY: usize = 1024;

impl LineCache {
    /// Looks a line up.
    #[inline]
    #[must_use]
    pub fn find(&self, key: &LineKey<'_>) -> Option<Seen> {
        self.known.find(self.hash(key), |known| key.is(&known.key)).map(|known| known.seen)
    }

    /// Remembers a line; `bound` is the number of entries to keep at most.
    pub fn remember(&mut self, key: &LineKey<'_>, seen: Seen, bound: usize) {
        let bytes = key.to_bytes();
        if bytes.len() > MAX_KEY {
            return;
        }
        if self.known.len() >= bound {
            self.clear();
        }
        let hash = self.hash(key);
        if let Some(known) = self.known.find_mut(hash, |known| known.key == bytes) {
            known.seen = seen;
            return;
        }
        self.bytes += bytes.len() + ENTRY_BYTES;
        let hasher = &self.hasher;
        let rehash = |known: &Known| LineKey::of(&known.key).map_or(0, |key| hash_with(hasher, &key));
        self.known.insert_unique(hash, Known { key: bytes, seen }, rehash);
    }

    /// Forgets everything, as after a change of the mapping.
    pub fn clear(&mut self) {
        self.known = HashTable::new();
        self.bytes = 0;
    }

    /// Lines known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Estimated bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn hash(&self, key: &LineKey<'_>) -> u64 {
        hash_with(&self.hasher, key)
    }
}

fn hash_with(hasher: &foldhash::fast::RandomState, key: &LineKey<'_>) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(key.name);
    state.write_u8(letter(key.kind));
    state.write(key.tags);
    if !key.container.is_empty() {
        state.write(key.container);
    }
    state.finish()
}

fn letter(kind: Type) -> u8 {
    match kind {
        Type::Counter => b'c',
        Type::Gauge => b'g',
        Type::Timer => b'm',
        Type::Distribution => b'd',
        Type::Set => b's',
    }
}

// Kept as `name:Ltags|container`: a name holds no colon and tags hold no bar, so the parts are unambiguous.
impl<'a> LineKey<'a> {
    fn to_bytes(self) -> Box<[u8]> {
        [self.name, &[b':', letter(self.kind)], self.tags, b"|", self.container].concat().into()
    }

    fn is(&self, bytes: &[u8]) -> bool {
        let length = self.name.len() + self.tags.len() + self.container.len() + 3;
        if bytes.len() != length {
            return false;
        }
        let (name, rest) = bytes.split_at(self.name.len());
        let (tags, container) = rest[2..].split_at(self.tags.len());
        name == self.name
            && rest[..2] == [b':', letter(self.kind)]
            && tags == self.tags
            && container[0] == b'|'
            && container[1..] == *self.container
    }

    fn of(bytes: &'a [u8]) -> Option<Self> {
        let colon = memchr::memchr(b':', bytes)?;
        let bar = memchr::memrchr(b'|', bytes)?;
        let kind = match bytes.get(colon + 1)? {
            b'c' => Type::Counter,
            b'g' => Type::Gauge,
            b'm' => Type::Timer,
            b'd' => Type::Distribution,
            _ => Type::Set,
        };
        Some(Self {
            name: &bytes[..colon],
            kind,
            tags: bytes.get(colon + 2..bar)?,
            container: &bytes[bar + 1..],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Type> {
        prop::sample::select(vec![Type::Counter, Type::Gauge, Type::Timer, Type::Distribution])
    }

    proptest! {
        #[test]
        fn keys_survive_packing(name in "[a-z|]{1,9}", tags in "[a-z:,]{0,9}", container in "[a-z:]{0,5}", kind in kinds()) {
            let key = LineKey { name: name.as_bytes(), kind, tags: tags.as_bytes(), container: container.as_bytes() };
            let bytes = key.to_bytes();
            prop_assert!(key.is(&bytes));
            prop_assert_eq!(LineKey::of(&bytes), Some(key));
        }

        #[test]
        fn different_keys_differ(a in "[ab|:]{0,3}", b in "[ab|:]{0,3}", c in "[ab:]{0,3}", d in "[ab:]{0,3}") {
            let one = LineKey { name: b"n", kind: Type::Counter, tags: c.as_bytes(), container: a.as_bytes() };
            let two = LineKey { name: b"n", kind: Type::Counter, tags: d.as_bytes(), container: b.as_bytes() };
            prop_assert_eq!(one == two, two.is(&one.to_bytes()));
        }
    }
}
