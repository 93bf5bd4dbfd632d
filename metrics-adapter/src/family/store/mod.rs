//! Series that are updated sample by sample, and expire: what StatsD needs and a scrape then reads.
//!
//! Time comes in as milliseconds of any steady clock. Memory is bounded by the number of series and by an
//! estimate of the bytes they hold.

mod families;
mod histogram;
mod index;
mod lines;
mod quantile;
mod series;
mod set;
mod summary;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use hashbrown::HashTable;

pub use histogram::HistogramOptions;
pub use index::{Entry, Index, StoreWalk};
pub use lines::{LineCache, LineKey, Seen};
pub use series::{Behaviour, SeriesName};
pub use summary::SummaryOptions;

use families::Families;
use series::Series;

use super::{Kind, PackedLabels, Value};
use crate::statsd::Event;

/// Names one series for as long as it lives; afterwards it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesId {
    slot: u32,
    generation: u32,
}

/// Why a series was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name, or one it would be written under, belongs to a family of another type.
    #[error("the name belongs to a family of another type")]
    Conflict,
    /// As many series as allowed exist.
    #[error("the limit on the number of series is reached")]
    SeriesLimit,
    /// The series there are hold as much memory as allowed.
    #[error("the limit on memory is reached")]
    MemoryLimit,
    /// A label that the family itself uses (`le`, `quantile`) or that Prometheus reserves (`__…`).
    #[error("a label name is reserved")]
    ReservedLabel,
}

/// Bounds of a [`Store`].
///
/// ```
/// # use metrics_adapter::{Layers, source::statsd};
/// # let mut config = statsd::Config::from_settings(&Layers::new(&statsd::APP).finish()).unwrap();
///
/// config.limits = statsd::Limits { series: 10_000, bytes: 64 << 20 };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Series at one time.
    pub series: usize,
    /// Estimated bytes held by series and caches.
    pub bytes: usize,
}

/// What a new series needs to know besides its name and labels.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// Help text, used when the family is new.
    pub help: &'a Arc<str>,
    /// Type and options.
    pub behaviour: &'a Behaviour,
    /// Milliseconds without update after which it goes; 0 keeps it.
    pub ttl: u64,
}

/// All series and the line cache in front of them.
#[derive(Debug)]
pub struct Store {
    families: Families,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_name: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    /// Series the [`Index`] has not seen yet.
    fresh: Vec<Entry>,
    lines: LineCache,
    bytes: usize,
    limits: Limits,
    /// Set from outside when the process as a whole holds too much.
    squeezed: bool,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    series: Option<Series>,
}

/// Bytes a series costs besides its text: slot, index entry, hash table entries, reference counts.
const SERIES_BYTES: usize = 200;

impl Store {
    /// An empty store. No series may take one of the `reserved` family names.
    #[must_use]
    pub fn new(limits: Limits, reserved: &[&str]) -> Self {
        Self {
            families: Families::new(reserved),
            slots: Vec::new(),
            free: Vec::new(),
            by_name: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            fresh: Vec::new(),
            lines: LineCache::default(),
            bytes: 0,
            limits,
            squeezed: false,
        }
    }

    /// Number of live series.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Estimated bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes + self.lines.bytes()
    }

    /// Families of a kind created so far.
    #[must_use]
    pub fn families_created(&self, kind: Kind) -> u64 {
        self.families.created(kind)
    }

    /// Stops or resumes taking new series, because of what the process as a whole holds.
    pub fn squeeze(&mut self, on: bool) {
        self.squeezed = on;
    }

    /// The cache in front of the series.
    pub fn lines(&mut self) -> &mut LineCache {
        &mut self.lines
    }

    /// Finds or creates a series. `labels` are sorted by name and unique.
    ///
    /// # Errors
    /// When it would be new and may not be.
    pub fn resolve(
        &mut self,
        name: &str,
        labels: PackedLabels,
        plan: &Plan<'_>,
        now: u64,
    ) -> Result<SeriesId, Refusal> {
        let kind = plan.behaviour.kind();
        let existing = self.families.find(name);
        if let Some(family) = existing {
            if self.families.kind(family) != kind {
                return Err(Refusal::Conflict);
            }
            if let Some(slot) = self.find(family, &labels) {
                if !self.slots[slot as usize]
                    .series
                    .as_ref()
                    .is_some_and(|series| series.fits(plan.behaviour))
                {
                    return Err(Refusal::Conflict);
                }
                return Ok(SeriesId { slot, generation: self.slots[slot as usize].generation });
            }
        }
        self.admit(name, &labels, plan, existing.is_none())?;
        let family = existing.unwrap_or_else(|| self.families.add(name, plan.help, kind));
        Ok(self.create(family, labels, plan, now))
    }

    /// Updates a series; false when it is gone.
    pub fn update(&mut self, id: SeriesId, event: Event<'_>, scale: f64, now: u64) -> bool {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation);
        let Some(series) = slot.and_then(|slot| slot.series.as_mut()) else { return false };
        let grown = series.update(event, scale, now, &self.hasher);
        self.bytes = self.bytes.saturating_add_signed(grown);
        true
    }

    /// Reads a series; `None` when it is gone.
    pub fn read(&mut self, id: SeriesId, now: u64) -> Option<Value> {
        let slot = self.slots.get_mut(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        Some(slot.series.as_mut()?.read(now))
    }

    /// Help and type of the family of a live series.
    #[must_use]
    pub fn family_of(&self, id: SeriesId) -> Option<(Arc<str>, Kind)> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        let family = slot.series.as_ref()?.family;
        Some((Arc::clone(self.families.help(family)), self.families.kind(family)))
    }

    /// The family name of a live series.
    #[must_use]
    pub fn name_of(&self, id: SeriesId) -> Option<&str> {
        let slot = self.slots.get(id.slot as usize).filter(|slot| slot.generation == id.generation)?;
        slot.series.as_ref().map(|series| &*series.name.family)
    }

    /// Removes expired series among `count` slots from `from` on; returns where to go on, or `None` at the end.
    pub fn expire(&mut self, from: usize, count: usize, now: u64) -> Option<usize> {
        let end = self.slots.len().min(from.saturating_add(count));
        for slot in from..end {
            if self.slots[slot].series.as_ref().is_some_and(|series| series.has_expired(now)) {
                self.remove(slot as u32);
            }
        }
        (end < self.slots.len()).then_some(end)
    }

    /// Series created since the last call, for the [`Index`].
    pub fn take_fresh(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.fresh)
    }

    /// Whether a series is still there.
    #[must_use]
    pub fn is_alive(&self, id: SeriesId) -> bool {
        self.slots
            .get(id.slot as usize)
            .is_some_and(|slot| slot.generation == id.generation && slot.series.is_some())
    }

    fn find(&self, family: u32, labels: &PackedLabels) -> Option<u32> {
        let slots = &self.slots;
        let same = |slot: &u32| {
            let series = slots[*slot as usize].series.as_ref();
            series.is_some_and(|series| series.family == family && series.name.labels == *labels)
        };
        self.by_name.find(self.hash(family, labels), same).copied()
    }

    fn hash(&self, family: u32, labels: &PackedLabels) -> u64 {
        use std::hash::BuildHasher as _;
        self.hasher.hash_one((family, labels))
    }

    fn admit(
        &self,
        name: &str,
        labels: &PackedLabels,
        plan: &Plan<'_>,
        new_family: bool,
    ) -> Result<(), Refusal> {
        let own = match plan.behaviour.kind() {
            Kind::Summary => "quantile",
            Kind::Histogram => "le",
            _ => "",
        };
        if labels.iter().any(|(label, _)| label == own || label.starts_with("__")) {
            return Err(Refusal::ReservedLabel);
        }
        if new_family && self.families.clashes(name, plan.behaviour.kind()) {
            return Err(Refusal::Conflict);
        }
        if self.len() >= self.limits.series {
            return Err(Refusal::SeriesLimit);
        }
        if self.squeezed || self.bytes() >= self.limits.bytes {
            return Err(Refusal::MemoryLimit);
        }
        Ok(())
    }

    fn create(&mut self, family: u32, labels: PackedLabels, plan: &Plan<'_>, now: u64) -> SeriesId {
        let hash = self.hash(family, &labels);
        let name = Arc::new(SeriesName { family: Arc::clone(self.families.name(family)), labels });
        let series = Series::new(family, Arc::clone(&name), plan, now);
        self.bytes += SERIES_BYTES + series.heap_bytes();
        self.families.joined(family);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, series: None });
            (self.slots.len() - 1) as u32
        });
        let place = &mut self.slots[slot as usize];
        place.series = Some(series);
        let id = SeriesId { slot, generation: place.generation };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.by_name.insert_unique(hash, slot, |slot| rehash(slots, hasher, *slot));
        self.fresh.push(Entry { name, id });
        id
    }

    fn remove(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        let Some(series) = place.series.take() else { return };
        place.generation = place.generation.wrapping_add(1);
        let hash = self.hash(series.family, &series.name.labels);
        if let Ok(entry) = self.by_name.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        self.bytes = self.bytes.saturating_sub(SERIES_BYTES + series.heap_bytes());
        self.families.left(series.family);
        self.free.push(slot);
    }
}

fn rehash(slots: &[Slot], hasher: &foldhash::fast::RandomState, slot: u32) -> u64 {
    use std::hash::BuildHasher as _;
    // Only slots with a series are in the table; an empty one could only be lost, never be wrong.
    slots[slot as usize]
        .series
        .as_ref()
        .map_or(0, |series| hasher.hash_one((series.family, &series.name.labels)))
}
