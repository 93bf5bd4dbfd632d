//! Mapping results remembered by type and name, within a bound.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;

use super::{Mapped, MetricType};

/// Which entry goes when the cache is full.
///
/// ```
/// # use metrics_adapter::{Layers, source::statsd};
/// # let mut config = statsd::Config::from_settings(&Layers::new(&statsd::APP).finish()).unwrap();
///
/// config.ingest.replacement = metrics_adapter::mapping::Replacement::Random;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replacement {
    /// The one not asked for the longest.
    #[default]
    Lru,
    /// Any.
    Random,
}

#[derive(Debug)]
struct Entry {
    kind: MetricType,
    name: Box<str>,
    result: Option<Arc<Mapped>>,
    /// Neighbours in the order of use.
    newer: usize,
    older: usize,
}

/// A bounded cache.
#[derive(Debug)]
pub struct Cache {
    entries: Vec<Entry>,
    by_key: HashTable<usize>,
    hasher: foldhash::fast::RandomState,
    capacity: usize,
    replacement: Replacement,
    newest: usize,
    oldest: usize,
    /// State of the generator that picks random victims.
    random: u64,
}

/// No neighbour.
const NONE: usize = usize::MAX;

impl Cache {
    /// A cache of so many entries; 0 keeps nothing.
    #[must_use]
    pub fn new(capacity: usize, replacement: Replacement) -> Self {
        Self {
            entries: Vec::new(),
            by_key: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            capacity,
            replacement,
            newest: NONE,
            oldest: NONE,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Entries held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries held at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The result for a name, if it is known; `Some(None)` means that no rule matches.
    pub fn find(&mut self, name: &str, kind: MetricType) -> Option<Option<Arc<Mapped>>> {
        let entries = &self.entries;
        let same = |at: &usize| entries[*at].kind == kind && *entries[*at].name == *name;
        let at = *self.by_key.find(self.hasher.hash_one((kind, name)), same)?;
        if self.replacement == Replacement::Lru {
            self.unlink(at);
            self.link(at);
        }
        Some(self.entries[at].result.clone())
    }

    /// Remembers the result for a name that is not known.
    pub fn remember(&mut self, name: &str, kind: MetricType, result: Option<Arc<Mapped>>) {
        if self.capacity == 0 {
            return;
        }
        let entry = Entry { kind, name: name.into(), result, newer: NONE, older: NONE };
        let at = if self.entries.len() < self.capacity {
            self.entries.push(entry);
            self.entries.len() - 1
        } else {
            let victim = self.victim();
            self.unlink(victim);
            let hash = self.hash(victim);
            if let Ok(found) = self.by_key.find_entry(hash, |at| *at == victim) {
                found.remove();
            }
            self.entries[victim] = entry;
            victim
        };
        self.link(at);
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash = |at: &usize| hasher.hash_one((entries[*at].kind, &*entries[*at].name));
        self.by_key.insert_unique(hash(&at), at, hash);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.by_key.clear();
        (self.newest, self.oldest) = (NONE, NONE);
    }

    fn hash(&self, at: usize) -> u64 {
        self.hasher.hash_one((self.entries[at].kind, &*self.entries[at].name))
    }

    fn victim(&mut self) -> usize {
        match self.replacement {
            Replacement::Lru => self.oldest,
            Replacement::Random => {
                // Marsaglia's xorshift; only speed matters here.
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                (self.random % self.entries.len() as u64) as usize
            }
        }
    }

    fn link(&mut self, at: usize) {
        self.entries[at].newer = NONE;
        self.entries[at].older = self.newest;
        match self.entries.get_mut(self.newest) {
            Some(newest) => newest.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: usize) {
        let (newer, older) = (self.entries[at].newer, self.entries[at].older);
        match self.entries.get_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: MetricType = MetricType::Counter;

    #[test]
    fn the_least_recently_used_goes() {
        let mut cache = Cache::new(2, Replacement::Lru);
        cache.remember("a", KIND, None);
        cache.remember("b", KIND, None);
        assert!(cache.find("a", KIND).is_some());
        cache.remember("c", KIND, None);
        assert_eq!((cache.find("b", KIND), cache.find("a", KIND)), (None, Some(None)));
        assert!(cache.find("a", MetricType::Gauge).is_none());
        cache.clear();
        assert!(cache.find("a", KIND).is_none());
        cache.remember("a", KIND, None);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn every_capacity_and_replacement_stays_within_its_bound() {
        for replacement in [Replacement::Lru, Replacement::Random] {
            for capacity in [0, 1, 3, 10] {
                let mut cache = Cache::new(capacity, replacement);
                for n in 0..200 {
                    let name = (n * 7 % 23).to_string();
                    if cache.find(&name, KIND).is_none() {
                        cache.remember(&name, KIND, None);
                        assert_eq!(cache.find(&name, KIND).is_some(), capacity > 0);
                    }
                    assert!(cache.len() <= capacity && cache.by_key.len() == cache.len());
                }
            }
        }
    }
}
