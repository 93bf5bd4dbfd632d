//! What happened lately, one by one: changes of the primary, slow commands, who is connected. All of it is bounded,
//! and none of it holds a key or a value.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Changes of the primary that are remembered.
const MAX_FAILOVERS: usize = 32;
/// Slow commands that are remembered.
const MAX_SLOW: usize = 128;
/// Clients told of each worker.
pub(crate) const MAX_CLIENTS: usize = 64;

/// A change of the primary.
#[derive(Debug, Clone)]
pub(crate) struct Failover {
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) from: String,
    pub(crate) to: String,
    /// For how long no writable primary was known, in seconds.
    pub(crate) outage: f64,
}

/// A command that took long.
#[derive(Debug, Clone)]
pub(crate) struct Slow {
    /// Seconds since 1970.
    pub(crate) at: u64,
    /// Its name as the command table has it; nothing that a client made up.
    pub(crate) command: String,
    /// Words after the name, where they are known.
    pub(crate) arguments: Option<usize>,
    /// Bytes of the request, where they are known.
    pub(crate) bytes: Option<usize>,
    pub(crate) server: String,
    pub(crate) client: u64,
    /// Seconds from its arrival to its answer.
    pub(crate) total: f64,
    /// Seconds the server took for it and for what was ahead of it.
    pub(crate) upstream: f64,
    pub(crate) error: bool,
}

/// A connected client.
#[derive(Debug, Clone)]
pub(crate) struct ClientLine {
    pub(crate) id: u64,
    pub(crate) from: String,
    pub(crate) name: String,
    pub(crate) db: u32,
    pub(crate) resp: u8,
    /// Seconds since it connected, and since it last said something.
    pub(crate) age: u64,
    pub(crate) idle: u64,
    pub(crate) unanswered: usize,
    /// Bytes it has not taken yet.
    pub(crate) unread: usize,
    /// It has a connection to a server of its own.
    pub(crate) own: bool,
}

#[derive(Debug, Default)]
struct State {
    failovers: VecDeque<Failover>,
    slow: VecDeque<Slow>,
    clients: Vec<Vec<ClientLine>>,
}

/// Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<State>>);

impl Journal {
    pub(crate) fn failover(&self, failover: Failover) {
        push(&mut self.lock().failovers, failover, MAX_FAILOVERS);
    }

    pub(crate) fn slow(&self, slow: Slow) {
        push(&mut self.lock().slow, slow, MAX_SLOW);
    }

    /// A worker's clients, at most [`MAX_CLIENTS`] of them.
    pub(crate) fn clients(&self, worker: usize, clients: Vec<ClientLine>) {
        let mut state = self.lock();
        if state.clients.len() <= worker {
            state.clients.resize(worker + 1, Vec::new());
        }
        state.clients[worker] = clients;
    }

    /// The newest first.
    pub(crate) fn failovers(&self) -> Vec<Failover> {
        self.lock().failovers.iter().rev().cloned().collect()
    }

    /// The newest first.
    pub(crate) fn slow_commands(&self) -> Vec<Slow> {
        self.lock().slow.iter().rev().cloned().collect()
    }

    pub(crate) fn connected(&self) -> Vec<ClientLine> {
        self.lock().clients.concat()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push<T>(queue: &mut VecDeque<T>, item: T, limit: usize) {
    if queue.len() == limit {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_tells_the_newest_first() {
        let journal = Journal::default();
        for at in 0..1000 {
            journal.failover(Failover { at, from: String::new(), to: String::new(), outage: 0.0 });
        }
        let told = journal.failovers();
        assert_eq!((told.len(), told[0].at, told[31].at), (MAX_FAILOVERS, 999, 968));
    }
}
