//! The page's order of the series, kept outside of the store so that sorting and writing need no lock.

use std::cmp::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{SeriesId, SeriesName, Store};
use crate::family::{Kind, Value, Visitor, Walk};

/// A series in the order of the page.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is called.
    pub name: Arc<SeriesName>,
    /// Where it is.
    pub id: SeriesId,
}

impl Entry {
    /// By family name, then number of labels, then label values, as Go's client writes a page.
    fn compare(&self, other: &Self) -> Ordering {
        let (one, two) = (&*self.name, &*other.name);
        let families = match Arc::ptr_eq(&one.family, &two.family) {
            true => Ordering::Equal,
            false => one.family.cmp(&two.family),
        };
        families.then_with(|| {
            let values = |name: &'_ SeriesName| name.labels.iter().count();
            let counts = values(one).cmp(&values(two));
            counts.then_with(|| one.labels.iter().map(|(_, v)| v).cmp(two.labels.iter().map(|(_, v)| v)))
        })
    }
}

/// All series in the order of the page, brought up to date by each scrape.
#[derive(Debug, Default)]
pub struct Index {
    entries: Arc<Vec<Entry>>,
}

/// Series whose values are read under one lock.
const NUMBERS_PER_STEP: usize = 512;
/// Summaries cost more to read.
const SUMMARIES_PER_STEP: usize = 16;

impl Index {
    /// Takes in what the store created since the last time, and returns the order.
    pub fn refresh(&mut self, store: &Mutex<Store>) -> Arc<Vec<Entry>> {
        let mut fresh = lock(store).take_fresh();
        if !fresh.is_empty() {
            fresh.sort_unstable_by(Entry::compare);
            let entries = Arc::make_mut(&mut self.entries);
            // The old run and the new one are each sorted, which is what the stable sort is best at.
            entries.append(&mut fresh);
            entries.sort_by(Entry::compare);
            entries.shrink_to(entries.len() + entries.len() / 8);
        }
        Arc::clone(&self.entries)
    }

    /// Lets go of series that a walk found gone.
    pub fn forget(&mut self, store: &Mutex<Store>) {
        let entries = Arc::make_mut(&mut self.entries);
        let mut kept = Vec::with_capacity(entries.len());
        for chunk in entries.chunks(NUMBERS_PER_STEP) {
            let store = lock(store);
            kept.extend(chunk.iter().filter(|entry| store.is_alive(entry.id)).cloned());
        }
        self.entries = Arc::new(kept);
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One scrape of the store.
pub struct StoreWalk {
    store: Arc<Mutex<Store>>,
    entries: Arc<Vec<Entry>>,
    at: usize,
    now: u64,
    /// Help and type of the family that is being written.
    open: Option<Kind>,
    values: Vec<Option<Value>>,
    gone: Arc<std::sync::atomic::AtomicUsize>,
}

impl StoreWalk {
    /// Walks `entries`, reading values as of `now`. Counts entries whose series is gone into `gone`.
    #[must_use]
    pub fn new(
        store: Arc<Mutex<Store>>,
        entries: Arc<Vec<Entry>>,
        now: u64,
        gone: Arc<std::sync::atomic::AtomicUsize>,
    ) -> Self {
        let mut walk = Self { store, entries, at: 0, now, open: None, values: Vec::new(), gone };
        walk.skip_gone();
        walk
    }

    /// Moves on to a series that is there.
    fn skip_gone(&mut self) {
        while self.at < self.entries.len() {
            let end = self.entries.len().min(self.at + NUMBERS_PER_STEP);
            let store = lock(&self.store);
            let alive = self.entries[self.at..end].iter().position(|entry| store.is_alive(entry.id));
            self.at += alive.unwrap_or(end - self.at);
            self.gone.fetch_add(alive.unwrap_or(end - self.at), std::sync::atomic::Ordering::Relaxed);
            if alive.is_some() {
                return;
            }
        }
    }

    /// Reads the next values of the current family.
    fn load(&mut self) -> Option<(Arc<str>, Kind)> {
        self.values.clear();
        let mut store = lock(&self.store);
        let first = self.entries.get(self.at)?;
        let head = self.entries[self.at..].iter().find_map(|entry| store.family_of(entry.id));
        let limit = match head.as_ref().map(|(_, kind)| *kind) {
            Some(Kind::Summary | Kind::Histogram) => SUMMARIES_PER_STEP,
            _ => NUMBERS_PER_STEP,
        };
        let same = |entry: &&Entry| Arc::ptr_eq(&entry.name.family, &first.name.family);
        for entry in self.entries[self.at..].iter().take_while(same).take(limit) {
            self.values.push(store.read(entry.id, self.now));
        }
        head
    }
}

impl Walk for StoreWalk {
    fn peek(&self) -> Option<&str> {
        self.entries.get(self.at).map(|entry| &*entry.name.family)
    }

    fn step(&mut self, out: &mut dyn Visitor) {
        let Some((help, kind)) = self.load() else { return };
        let family = Arc::clone(&self.entries[self.at].name.family);
        if self.open.is_none() && self.values.iter().any(Option::is_some) {
            out.family(&family, &help, kind);
            self.open = Some(kind);
        }
        let end = self.at + self.values.len();
        for (entry, value) in self.entries[self.at..end].iter().zip(&self.values) {
            match value {
                Some(value) => out.sample(entry.name.labels.labels(), value),
                None => {
                    self.gone.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
        self.at = end;
        self.skip_gone();
        if self.peek() != Some(&*family) {
            self.open = None;
        }
    }
}
