//! Names, help and type of families, and which names clash.

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::family::Kind;

#[derive(Debug)]
struct Family {
    name: Arc<str>,
    help: Arc<str>,
    kind: Kind,
    /// Live series; without any the place is free.
    series: u32,
}

/// All families that have series, and names that none may take.
#[derive(Debug)]
pub(super) struct Families {
    places: Vec<Option<Family>>,
    free: Vec<u32>,
    by_name: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    reserved: Vec<String>,
    created: [u64; 4],
}

/// What summaries and histograms append to their names.
const SUFFIXES: [&str; 3] = ["_sum", "_count", "_bucket"];

impl Families {
    pub(super) fn new(reserved: &[&str]) -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            by_name: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            reserved: reserved.iter().map(|name| (*name).to_owned()).collect(),
            created: [0; 4],
        }
    }

    pub(super) fn find(&self, name: &str) -> Option<u32> {
        let same = |place: &u32| self.family(*place).is_some_and(|family| &*family.name == name);
        self.by_name.find(self.hasher.hash_one(name), same).copied()
    }

    pub(super) fn kind(&self, family: u32) -> Kind {
        self.family(family).map_or(Kind::Untyped, |family| family.kind)
    }

    pub(super) fn name(&self, family: u32) -> &Arc<str> {
        &self.places[family as usize].as_ref().expect("a family lives as long as its series").name
    }

    pub(super) fn help(&self, family: u32) -> &Arc<str> {
        &self.places[family as usize].as_ref().expect("a family lives as long as its series").help
    }

    pub(super) fn created(&self, kind: Kind) -> u64 {
        position(kind).map_or(0, |at| self.created[at])
    }

    /// Whether a new family of this name would be written under a name that is taken.
    pub(super) fn clashes(&self, name: &str, kind: Kind) -> bool {
        let reserved = |name: &str| self.reserved.iter().any(|own| own == name);
        if reserved(name) {
            return true;
        }
        let above = SUFFIXES.iter().filter_map(|suffix| Some((name.strip_suffix(suffix)?, *suffix)));
        for (base, suffix) in above {
            let kind = self.find(base).map(|family| self.kind(family));
            if kind == Some(Kind::Histogram) || (kind == Some(Kind::Summary) && suffix != "_bucket") {
                return true;
            }
        }
        let own = match kind {
            Kind::Histogram => &SUFFIXES[..],
            Kind::Summary => &SUFFIXES[..2],
            _ => &[],
        };
        own.iter().any(|suffix| {
            let name = [name, suffix].concat();
            reserved(&name) || self.find(&name).is_some()
        })
    }

    /// Adds a family that does not exist yet.
    pub(super) fn add(&mut self, name: &str, help: &Arc<str>, kind: Kind) -> u32 {
        let family = Family { name: name.into(), help: Arc::clone(help), kind, series: 0 };
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(family);
                place
            }
            None => {
                self.places.push(Some(family));
                (self.places.len() - 1) as u32
            }
        };
        if let Some(at) = position(kind) {
            self.created[at] += 1;
        }
        let (places, hasher) = (&self.places, &self.hasher);
        self.by_name.insert_unique(hasher.hash_one(name), place, |place| {
            places[*place as usize].as_ref().map_or(0, |family| hasher.hash_one(&*family.name))
        });
        place
    }

    pub(super) fn joined(&mut self, family: u32) {
        if let Some(family) = &mut self.places[family as usize] {
            family.series += 1;
        }
    }

    /// One series less; the last one takes the family along.
    pub(super) fn left(&mut self, place: u32) {
        let Some(family) = &mut self.places[place as usize] else { return };
        family.series -= 1;
        if family.series > 0 {
            return;
        }
        let hash = self.hasher.hash_one(&*family.name);
        if let Ok(entry) = self.by_name.find_entry(hash, |other| *other == place) {
            entry.remove();
        }
        self.places[place as usize] = None;
        self.free.push(place);
    }

    fn family(&self, place: u32) -> Option<&Family> {
        self.places.get(place as usize)?.as_ref()
    }
}

fn position(kind: Kind) -> Option<usize> {
    [Kind::Counter, Kind::Gauge, Kind::Summary, Kind::Histogram].iter().position(|known| *known == kind)
}
