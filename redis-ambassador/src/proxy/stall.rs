//! Shared connections on which a script runs for long: others go around them.

use super::client::{Client, ClientState};
use super::hub::Hub;
use crate::upstream::{Link, Phase, Waiter};
use std::rc::Rc;

/// A script that has run for this many microseconds is not waited for by others.
const PATIENCE: u64 = 50_000;

impl Hub {
    /// Takes connections out of use that have a script and no answer for long. Further requests get a new
    /// connection, and from it the server's own `BUSY`, and so do the reads that wait there already; so `SCRIPT KILL`
    /// and `FUNCTION KILL` arrive as well.
    pub(super) fn bypass_stalled(self: &Rc<Self>) {
        let now = self.now();
        let stalled = |link: &Rc<Link>| {
            let state = link.state.borrow();
            matches!(state.phase, Phase::Up(_))
                && state.waiters.front().is_some_and(|waiter| now.saturating_sub(waiter.since) > PATIENCE)
                && state.waiters.iter().any(|waiter| waiter.runs_code)
        };
        let found: Vec<_> = {
            let lanes = self.lanes.borrow();
            let links = lanes.iter().flat_map(|lane| &lane.links).flatten();
            links.filter(|link| stalled(link)).cloned().collect()
        };
        for link in &found {
            self.detach(link);
            // What came too soon to know is asked again; the writes among it have to wait.
            let slow = {
                let state = link.state.borrow();
                let script = state.waiters.iter().find(|waiter| waiter.runs_code);
                script.map(|waiter| Rc::clone(&waiter.client))
            };
            if let Some(slow) = slow {
                self.evacuate(link, &slow);
            }
        }
    }

    /// Whether a connection to a server of a cluster that takes no more requests still has one of this client's: what
    /// goes over another one might be run before it.
    pub(super) fn is_left_behind(&self, client: &Rc<Client>, state: &ClientState) -> bool {
        let is_of = |waiter: &Waiter| Rc::ptr_eq(&waiter.client, client) && !waiter.abandoned;
        !state.slots.is_empty()
            && self.detached.borrow().iter().any(|link| link.state.borrow().waiters.iter().any(is_of))
    }

    /// Whether a request to the primary would take another shared connection than this client's unanswered ones, so
    /// that it might be run before them.
    #[inline]
    pub(super) fn would_overtake(&self, state: &ClientState) -> bool {
        if state.slots.len() == state.replica_reads as usize {
            return false;
        }
        let Some(primary) = self.primary() else { return false };
        let lanes = self.lanes.borrow();
        let current = lanes.get(state.lane).and_then(|lane| lane.links.get(primary)?.as_ref());
        current.is_none_or(|link| link.id != state.last_primary)
    }
}
