//! Commands after which requests of others have to go other ways.

use super::client::ClientState;
use super::hub::Hub;
use crate::command::{Classified, Kind, Request};
use crate::resp::parse_integer;

/// Longest pause that is believed, in microseconds: a day.
const MAX_PAUSE: u64 = 86_400_000_000;

impl Hub {
    /// Takes note of a request that is about to be sent; a changed request that has to be sent instead, if any.
    pub(super) fn note(
        &self,
        state: &mut ClientState,
        request: &Request<'_>,
        classified: &Classified<'_>,
    ) -> Option<Vec<u8>> {
        match classified.kind {
            Kind::Scan => return self.note_scan(state, request),
            Kind::Client if request.is(1, "PAUSE") => {
                let pause =
                    request.arg(2).and_then(parse_integer).and_then(|pause| u64::try_from(pause).ok());
                let pause = pause.unwrap_or(0).saturating_mul(1000).min(MAX_PAUSE);
                self.paused_until.set(self.paused_until.get().max(self.clock() + pause));
            }
            Kind::Client if request.is(1, "UNPAUSE") => self.paused_until.set(0),
            Kind::Stream if request.is(0, "MONITOR") && !state.monitors => {
                state.monitors = true;
                self.monitors.set(self.monitors.get() + 1);
            }
            Kind::Settings if request.is(0, "DEBUG") && request.is(1, "SET-ACTIVE-EXPIRE") => {
                self.expires_lazily.set(request.is(2, "0"));
            }
            Kind::Settings if request.is(0, "CONFIG") && request.is(1, "SET") => {
                for at in (2..request.len()).step_by(2) {
                    if request.is(at, "SLOWLOG-LOG-SLOWER-THAN") {
                        self.logs_all.set(request.is(at + 1, "0"));
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
        self.paused_until.get() > self.clock()
    }

    /// Whether somebody would notice that reads do not reach the primary.
    #[inline]
    pub(super) fn needs_primary(&self) -> bool {
        self.monitors.get() > 0 || self.expires_lazily.get() || self.logs_all.get()
    }
}
