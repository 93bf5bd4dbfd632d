//! Commands after which requests of others have to go other ways.

use super::client::ClientState;
use super::hub::Hub;
use crate::command::{Classified, Kind, Request};
use crate::resp::parse_integer;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// Longest pause that is believed, in microseconds: a day.
const MAX_PAUSE: u64 = 86_400_000_000;
/// A connection that ends so soon after a `CLIENT KILL`, in microseconds, was meant by it.
const KILLING: u64 = 1_000_000;

/// What a client has done that those of every thread have to go by. Rarely written; times are microseconds since the
/// start.
#[derive(Debug)]
pub(crate) struct Notes {
    start: Instant,
    /// Until when `CLIENT PAUSE` holds, and nobody may wait behind another on one connection.
    paused_until: AtomicU64,
    /// Until when a connection that ends was cut by `CLIENT KILL`.
    killing_until: AtomicU64,
    /// Clients that watch the primary at work (`MONITOR`): it has to do it all.
    monitors: AtomicU32,
    /// Somebody has told the primary not to expire keys until they are read.
    expires_lazily: AtomicBool,
    /// Somebody has told the primary to put every command into its slow log.
    logs_all: AtomicBool,
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            paused_until: AtomicU64::default(),
            killing_until: AtomicU64::default(),
            monitors: AtomicU32::default(),
            expires_lazily: AtomicBool::default(),
            logs_all: AtomicBool::default(),
        }
    }
}

impl Notes {
    /// Microseconds since the start: the clock of every thread.
    pub(super) fn now(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// Whether a client is in `MONITOR`.
    pub(super) fn is_monitored(&self) -> bool {
        self.monitors.load(Ordering::Relaxed) > 0
    }

    /// A client has left `MONITOR`.
    pub(super) fn left_monitor(&self) {
        self.monitors.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// Takes note of a request that is about to be sent; a changed request that has to be sent instead, if any.
    pub(super) fn note(
        &self,
        state: &mut ClientState,
        request: &Request<'_>,
        classified: &Classified<'_>,
    ) -> Option<Vec<u8>> {
        let notes = &self.settings.notes;
        match classified.kind {
            Kind::Scan => return self.note_scan(state, request),
            Kind::Client if request.is(1, "PAUSE") => {
                let pause =
                    request.arg(2).and_then(parse_integer).and_then(|pause| u64::try_from(pause).ok());
                let pause = pause.unwrap_or(0).saturating_mul(1000).min(MAX_PAUSE);
                notes.paused_until.fetch_max(self.clock() + pause, Ordering::Relaxed);
            }
            Kind::Client if request.is(1, "UNPAUSE") => notes.paused_until.store(0, Ordering::Relaxed),
            Kind::Client if request.is(1, "KILL") => self.note_kill(),
            Kind::Stream if request.is(0, "MONITOR") && !state.monitors => {
                state.monitors = true;
                notes.monitors.fetch_add(1, Ordering::Relaxed);
            }
            Kind::Settings if request.is(0, "DEBUG") && request.is(1, "SET-ACTIVE-EXPIRE") => {
                notes.expires_lazily.store(request.is(2, "0"), Ordering::Relaxed);
            }
            Kind::Settings if request.is(0, "CONFIG") && request.is(1, "SET") => {
                for at in (2..request.len()).step_by(2) {
                    if request.is(at, "SLOWLOG-LOG-SLOWER-THAN") {
                        notes.logs_all.store(request.is(at + 1, "0"), Ordering::Relaxed);
                    }
                }
            }
            _ => {}
        }
        None
    }

    /// Whether `CLIENT PAUSE` holds clients up: each of them then waits on a connection that nobody waits behind.
    #[inline]
    pub(super) fn is_paused(&self) -> bool {
        self.settings.notes.paused_until.load(Ordering::Relaxed) > self.clock()
    }

    /// Somebody is about to have connections cut.
    pub(super) fn note_kill(&self) {
        self.settings.notes.killing_until.store(self.clock() + KILLING, Ordering::Relaxed);
    }

    /// Whether a connection that a server has just closed was cut by a client of this ambassador.
    pub(super) fn is_killing(&self) -> bool {
        self.settings.notes.killing_until.load(Ordering::Relaxed) > self.now()
    }

    /// Whether somebody would notice that reads do not reach the primary.
    #[inline]
    pub(super) fn needs_primary(&self) -> bool {
        let notes = &self.settings.notes;
        notes.is_monitored()
            || notes.expires_lazily.load(Ordering::Relaxed)
            || notes.logs_all.load(Ordering::Relaxed)
    }
}
