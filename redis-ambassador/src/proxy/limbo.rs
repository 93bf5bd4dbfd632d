//! Requests that no server has seen: they wait for one that can take them.

use super::hub::Hub;
use crate::upstream::Waiter;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

#[derive(Debug)]
struct Stray {
    waiter: Waiter,
    request: Vec<u8>,
    /// What to answer when time is up; the server's own words where there are any.
    last_error: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
pub(super) struct Limbo {
    strays: VecDeque<Stray>,
    /// Writes in it, by slot.
    writes: HashMap<u16, usize>,
    /// Reads in it that only a replica may answer.
    choosy: usize,
    /// Bytes of the requests in it.
    bytes: usize,
    /// Hub clock before which no new attempt is made.
    retry_at: u64,
}

/// Pause between attempts, in microseconds.
const PAUSE: u64 = 20_000;

impl Hub {
    /// Whether requests to the primary have to queue behind others that wait for one.
    #[inline]
    pub(super) fn in_limbo(&self) -> bool {
        let limbo = self.limbo.borrow();
        limbo.strays.len() > limbo.choosy
    }

    /// Whether anything waits for a server.
    pub(super) fn has_strays(&self) -> bool {
        !self.limbo.borrow().strays.is_empty()
    }

    /// Requests that wait for a server, and their bytes.
    pub(super) fn waiting(&self) -> [usize; 2] {
        let limbo = self.limbo.borrow();
        [limbo.strays.len(), limbo.bytes]
    }

    /// Whether a request waits for a replica and nobody else.
    fn is_choosy(&self, waiter: &Waiter) -> bool {
        waiter.anywhere && self.only_replicas()
    }

    /// Whether writes to a slot have to queue behind others that wait for its owner.
    pub(super) fn slot_waits(&self, slot: u16) -> bool {
        let limbo = self.limbo.borrow();
        !limbo.writes.is_empty() && limbo.writes.contains_key(&slot)
    }

    /// Puts a request aside until a server can take it.
    pub(super) fn hold(&self, waiter: Waiter, request: Vec<u8>, last_error: Option<Vec<u8>>) {
        self.metrics.held.inc();
        let mut limbo = self.limbo.borrow_mut();
        if limbo.bytes + request.len() > self.live.get().max_queued {
            drop(limbo);
            self.crowded.borrow_mut().push(waiter);
            return;
        }
        limbo.bytes += request.len();
        if limbo.strays.is_empty() {
            limbo.retry_at = self.now() + PAUSE;
        }
        if !waiter.read {
            *limbo.writes.entry(waiter.slot).or_default() += 1;
        }
        limbo.choosy += usize::from(self.is_choosy(&waiter));
        limbo.strays.push_back(Stray { waiter, request, last_error });
    }

    /// Sends what waits, when there is somebody to take it and it is time; answers what has waited too long.
    pub(super) fn retry_limbo(self: &Rc<Self>, at_once: bool) {
        let now = self.now();
        self.expire(now);
        {
            let mut limbo = self.limbo.borrow_mut();
            if limbo.strays.is_empty() || (!at_once && now < limbo.retry_at) {
                return;
            }
            limbo.retry_at = now + PAUSE;
        }
        // What comes back while this runs waits for the next attempt.
        let strays = {
            let mut limbo = self.limbo.borrow_mut();
            limbo.bytes = 0;
            limbo.choosy = 0;
            limbo.writes.clear();
            std::mem::take(&mut limbo.strays)
        };
        for stray in strays {
            self.send_again(stray.waiter, stray.request, stray.last_error);
        }
    }

    fn expire(&self, now: u64) {
        // Answered here and not where they were refused, since their clients' state was in use there.
        for waiter in self.crowded.take() {
            self.metrics.refused.inc();
            self.finish(&waiter, b"-NOPRIMARY too many commands wait for a server; this one was not run\r\n");
        }
        let wait = self.live.get().failover_wait.as_micros() as u64;
        loop {
            let expired = {
                let mut limbo = self.limbo.borrow_mut();
                let due = |stray: &Stray| now.saturating_sub(stray.waiter.since) >= wait;
                // Almost in order of age; a stray behind a younger one leaves with it.
                match limbo.strays.front() {
                    Some(stray) if due(stray) => {
                        let expired = limbo.strays.pop_front();
                        limbo.bytes -= expired.as_ref().map_or(0, |stray| stray.request.len());
                        let choosy = expired.as_ref().is_some_and(|stray| self.is_choosy(&stray.waiter));
                        limbo.choosy = limbo.choosy.saturating_sub(usize::from(choosy));
                        if let Some(stray) = &expired
                            && let Some(count) = limbo.writes.get_mut(&stray.waiter.slot)
                        {
                            *count -= usize::from(!stray.waiter.read);
                            if *count == 0 {
                                limbo.writes.remove(&stray.waiter.slot);
                            }
                        }
                        expired
                    }
                    _ => None,
                }
            };
            let Some(stray) = expired else { break };
            let error = stray.last_error.unwrap_or_else(|| {
                let waited = common::config::format_duration(self.live.get().failover_wait);
                let line = match self.is_choosy(&stray.waiter) {
                    true => format!("-NOREPLICA no replica could answer this within {waited}, and --read-policy is replica-only\r\n"),
                    false => format!("-NOPRIMARY no server could take this command within {waited}; it was not run\r\n"),
                };
                line.into_bytes()
            });
            self.metrics.refused.inc();
            self.finish(&stray.waiter, &error);
        }
        self.flush_clients();
    }
}
