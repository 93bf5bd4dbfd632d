//! What listeners, scrapes, reloads and the status page share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use memchr::memchr;

use super::relay::Relay;
use crate::family::Walk;
use crate::family::store::{Index, Limits, Store, StoreWalk};
use crate::ingest::{Ingest, Options};
use crate::mapping::Mapping;
use crate::source::{Collecting, Source};

/// Counters of the listeners.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    pub(super) udp_packets: AtomicU64,
    pub(super) udp_drops: AtomicU64,
    pub(super) unixgram_packets: AtomicU64,
    pub(super) tcp_connections: AtomicU64,
    pub(super) tcp_errors: AtomicU64,
    pub(super) tcp_too_long: AtomicU64,
    pub(super) tcp_open: AtomicUsize,
    /// Datagrams received and waiting for the parser.
    pub(super) udp_waiting: AtomicUsize,
    pub(super) reloads: AtomicU64,
    pub(super) failed_reloads: AtomicU64,
}

/// Lines come in here; scrapes read from here.
///
/// Two locks, always taken in the order `ingest`, `store`. Lines are applied in batches under both; a scrape
/// takes the second one for a few hundred values at a time.
#[derive(Debug)]
pub struct Shared {
    pub(super) ingest: Mutex<Ingest>,
    pub(super) store: Arc<Mutex<Store>>,
    index: Mutex<Index>,
    gone: Arc<AtomicUsize>,
    pub(super) traffic: Traffic,
    pub(super) relay: Option<Arc<Relay>>,
    started: Instant,
}

/// After so many entries of series that are gone the index is cleaned.
const GONE_BEFORE_CLEANING: usize = 1000;

impl Shared {
    /// An empty store in front of a mapping.
    #[must_use]
    pub fn new(options: Options, limits: Limits, mapping: Mapping, relay: Option<Arc<Relay>>) -> Self {
        let reserved = super::own::names();
        Self {
            ingest: Mutex::new(Ingest::new(options, Arc::new(mapping))),
            store: Arc::new(Mutex::new(Store::new(limits, &reserved))),
            index: Mutex::default(),
            gone: Arc::default(),
            traffic: Traffic::default(),
            relay,
            started: Instant::now(),
        }
    }

    /// Milliseconds on the store's clock.
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Takes a batch of datagrams.
    pub fn packets<'a>(&self, packets: impl Iterator<Item = &'a [u8]> + Clone) {
        if let Some(relay) = &self.relay {
            packets.clone().for_each(|packet| relay.packet(packet));
        }
        let now = self.now();
        let (mut ingest, mut store) = (lock(&self.ingest), lock(&self.store));
        for packet in packets {
            ingest.packet(&mut store, packet, now);
        }
        ingest.counts.batches += 1;
    }

    /// Takes whole lines, separated by line feeds that are not lines themselves.
    pub(super) fn lines(&self, lines: &[u8]) {
        let now = self.now();
        let (mut ingest, mut store) = (lock(&self.ingest), lock(&self.store));
        let mut rest = lines;
        while let Some(end) = memchr(b'\n', rest) {
            let line = &rest[..end];
            if let Some(relay) = &self.relay {
                relay.line(line);
            }
            ingest.line(&mut store, line, now);
            rest = &rest[end + 1..];
        }
        ingest.counts.batches += 1;
    }

    /// Replaces the mapping; series stay.
    pub fn remap(&self, mapping: Mapping) {
        let (mut ingest, mut store) = (lock(&self.ingest), lock(&self.store));
        ingest.remap(&mut store, Arc::new(mapping));
    }

    /// Removes expired series, a bounded number under each lock.
    pub(super) fn expire(&self) {
        const SLOTS: usize = 4096;
        let now = self.now();
        let mut next = Some(0);
        while let Some(from) = next {
            next = lock(&self.store).expire(from, SLOTS, now);
        }
    }

    /// The series as they are now, streamed.
    #[must_use]
    pub fn walk(&self) -> StoreWalk {
        let mut index = lock(&self.index);
        if self.gone.swap(0, Ordering::Relaxed) > GONE_BEFORE_CLEANING {
            index.forget(&self.store);
        }
        let entries = index.refresh(&self.store);
        StoreWalk::new(Arc::clone(&self.store), entries, self.now(), Arc::clone(&self.gone))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while holding one of these locks leaves counts at worst one event short.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// [`Shared`] as a [`Source`].
#[derive(Clone, Debug)]
pub struct StatsdSource(pub Arc<Shared>);

impl Source for StatsdSource {
    fn name(&self) -> &str {
        "statsd"
    }

    fn collect(&self, _deadline: Instant) -> Collecting<'_> {
        let walk: Box<dyn Walk> = Box::new(self.0.walk());
        Box::pin(std::future::ready(Ok(walk)))
    }
}
