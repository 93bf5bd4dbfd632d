//! Where the data path meets the fence: what was written here is read back here.

use super::client::ClientState;
use super::hub::Hub;
use super::keys::{Keys, key_hash};
use crate::command::{Classified, Effect, Request, visit_keys};
use crate::config::Consistency;
use crate::upstream::Waiter;

/// Keys written over a client's own connection, until their answers have come.
#[derive(Debug, Default)]
pub(super) struct OwnWrites {
    keys: Vec<u32>,
    /// More than are kept, or unknown ones.
    any: bool,
    /// Hub clock of the last one.
    last: u64,
}

/// More keys than this count as any key.
const MAX_KEYS: usize = 128;
/// On a stream answers cannot be told apart: what was written is held fresh this long, in microseconds.
const STREAM_MEMORY: u64 = 5_000_000;

impl OwnWrites {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.any
    }
}

impl Hub {
    /// Notes a write over a shared connection; returns the epoch to report with its answer.
    #[inline]
    pub(super) fn fence_write(&self, state: &mut ClientState, keys: &Keys) -> u64 {
        if !self.settings.consistency.uses_fence() {
            return 0;
        }
        let epoch = self.writes.write(keys.complete.then(|| keys.iter()));
        state.last_write = epoch;
        self.settings.signal.raise();
        epoch
    }

    /// The answer to a write has come, or never will.
    #[inline]
    pub(super) fn fence_done(&self, waiter: &Waiter) {
        if waiter.epoch != 0 && !waiter.read {
            self.writes.answered(waiter.epoch);
        }
    }

    /// The epoch that a replica must have caught up with to answer a read of these keys by this client.
    #[inline]
    pub(super) fn fence_needed(&self, state: &ClientState, keys: &Keys) -> u64 {
        match self.settings.consistency {
            Consistency::Eventual => 0,
            Consistency::Session => state.last_write,
            // Asked only where no replica could answer otherwise.
            Consistency::Pod if !keys.complete => self.settings.fence.last_write(),
            Consistency::Pod => self.settings.fence.needed(keys.iter()),
            Consistency::Primary => u64::MAX,
        }
    }

    /// Whether a replica has caught up with an epoch.
    #[inline]
    pub(super) fn is_fresh(&self, server: usize, epoch: u64) -> bool {
        epoch <= self.settings.fence.caught_up(server)
    }

    /// Notes a request over the client's own connection. It may run much later than it is sent, so its keys are
    /// noted again with every answer, see [`Hub::fence_own_answered`].
    pub(super) fn fence_own(
        &self,
        state: &mut ClientState,
        request: &Request<'_>,
        classified: &Classified<'_>,
    ) {
        if !self.settings.consistency.uses_fence() || classified.effect != Effect::Write {
            return;
        }
        if matches!(classified.kind, crate::command::Kind::Multi | crate::command::Kind::Watch) {
            return;
        }
        let writes = &mut state.own_writes;
        writes.last = self.now();
        // EXEC runs what was queued, whose keys are known already.
        if matches!(classified.kind, crate::command::Kind::Exec) {
            return;
        }
        let keys = &mut writes.keys;
        let complete = classified.command.is_some_and(|command| {
            visit_keys(command, request, |key| {
                if keys.len() < MAX_KEYS {
                    keys.push(key_hash(key));
                }
            })
        });
        writes.any |= !complete || keys.len() >= MAX_KEYS;
        self.mark_own(state);
    }

    /// An answer has come over the client's own connection and is about to be passed on.
    pub(super) fn fence_own_answered(&self, state: &mut ClientState) {
        if state.own_writes.is_empty() {
            return;
        }
        self.mark_own(state);
        let settled = match state.session.is_raw() {
            true => self.now().saturating_sub(state.own_writes.last) > STREAM_MEMORY,
            false => state.own_busy == 0 && !state.session.in_transaction(),
        };
        if settled {
            state.own_writes = OwnWrites::default();
        }
    }

    fn mark_own(&self, state: &mut ClientState) {
        let writes = &state.own_writes;
        state.last_write = self.writes.mark((!writes.any).then(|| writes.keys.iter().copied()));
        self.settings.signal.raise();
    }
}
