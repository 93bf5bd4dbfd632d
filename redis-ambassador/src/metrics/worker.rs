//! One worker's counts: plain numbers on the data path, added to the shared families now and then.

use super::Metrics;
use super::latency::{Latencies, Series};
use crate::command::Effect;
use std::cell::{Cell, RefCell};

/// In the order of [`Effect`].
pub(super) const CLASSES: [&str; 3] = ["read", "primary_read", "write"];
/// What becomes of a command that was sent to a server.
const OUTCOMES: [&str; 3] = ["ok", "error", "lost"];

/// Position of `lost` in it.
const LOST: usize = 2;

/// Things at hand, as opposed to things that have happened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Levels {
    /// Connections to servers: shared, own, spare, going.
    pub(crate) pool: [i64; 4],
    /// Commands that wait for a server, and their bytes.
    pub(crate) queued: [i64; 2],
    /// Bytes held: requests not yet carried out, answers not yet taken, requests not yet answered.
    pub(crate) buffers: [i64; 3],
}

pub(super) const POOL: [&str; 4] = ["shared", "own", "spare", "going"];
pub(super) const BUFFERS: [&str; 3] = ["client_input", "client_output", "server_requests"];

#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    shared: Metrics,
    sent: [[Cell<u64>; 2]; 3],
    servers: RefCell<Vec<ServerCounts>>,
    /// From a command's arrival to its answer, by class.
    total: RefCell<[Latencies; 3]>,
    classes: [Series; 3],
    levels: Cell<Levels>,
}

#[derive(Debug)]
struct ServerCounts {
    name: String,
    outcomes: [[u64; 3]; 3],
    latency: Latencies,
    series: Series,
    /// Since it was last asked for: sum in microseconds and number of the reads.
    reads: (u64, u64),
}

impl std::ops::Deref for WorkerMetrics {
    type Target = Metrics;

    fn deref(&self) -> &Metrics {
        &self.shared
    }
}

impl WorkerMetrics {
    pub(crate) fn new(shared: Metrics) -> Self {
        let classes = CLASSES.map(|class| shared.command_seconds.with(class));
        Self {
            shared,
            sent: Default::default(),
            servers: RefCell::default(),
            total: RefCell::default(),
            classes,
            levels: Cell::default(),
        }
    }

    /// Names the servers, by number.
    pub(crate) fn name_servers(&self, names: impl Iterator<Item = String>) {
        let known = self.servers.borrow().len();
        let fresh = names.skip(known).map(|name| self.counts(&name));
        self.servers.borrow_mut().extend(fresh);
    }

    /// A number means another server now.
    pub(crate) fn rename_server(&self, server: usize, name: &str) {
        self.publish();
        if let Some(counts) = self.servers.borrow_mut().get_mut(server) {
            *counts = self.counts(name);
        }
    }

    fn counts(&self, name: &str) -> ServerCounts {
        ServerCounts {
            name: name.to_owned(),
            outcomes: Default::default(),
            latency: Latencies::default(),
            series: self.shared.answer_seconds.with(name),
            reads: (0, 0),
        }
    }

    /// A command was taken on.
    #[inline]
    pub(crate) fn sent(&self, to_replica: bool, effect: Effect) {
        let count = &self.sent[effect as usize][usize::from(to_replica)];
        count.set(count.get() + 1);
    }

    /// A command was answered: so many microseconds after it was sent, and after it had come.
    #[inline]
    pub(crate) fn answered(&self, server: usize, class: Effect, ok: bool, upstream: u64, total: u64) {
        if let Some(server) = self.servers.borrow_mut().get_mut(server) {
            server.outcomes[class as usize][usize::from(!ok)] += 1;
            server.latency.add(upstream);
            if class == Effect::Read {
                server.reads.0 += upstream;
                server.reads.1 += 1;
            }
        }
        self.total.borrow_mut()[class as usize].add(total);
    }

    /// The answer to a command never came.
    pub(crate) fn unanswered(&self, server: usize, class: Effect) {
        self.shared.lost_replies.inc();
        if let Some(server) = self.servers.borrow_mut().get_mut(server) {
            server.outcomes[class as usize][LOST] += 1;
        }
    }

    /// How long a server's answers to reads took since this was last asked, in microseconds, and how many there were.
    pub(crate) fn take_reads(&self, server: usize) -> (u64, u64) {
        let mut servers = self.servers.borrow_mut();
        servers.get_mut(server).map_or((0, 0), |server| std::mem::take(&mut server.reads))
    }

    /// A connection ended by itself.
    pub(crate) fn lost(&self, was_up: bool) {
        if was_up {
            self.shared.connections_lost.inc();
        }
    }

    /// Adds what was counted to the shared families.
    pub(crate) fn publish(&self) {
        for (counts, class) in self.sent.iter().zip(CLASSES) {
            for (count, target) in counts.iter().zip(["primary", "replica"]) {
                let count = count.take();
                if count > 0 {
                    self.shared.commands.with_label_values(&[class, target]).inc_by(count);
                }
            }
        }
        for server in self.servers.borrow_mut().iter_mut() {
            for (counts, class) in server.outcomes.iter_mut().zip(CLASSES) {
                for (count, outcome) in counts.iter_mut().zip(OUTCOMES) {
                    if *count > 0 {
                        let labels = [class, outcome, &server.name];
                        self.shared.answers.with_label_values(&labels).inc_by(std::mem::take(count));
                    }
                }
            }
            server.series.take(&mut server.latency);
        }
        for (series, counted) in self.classes.iter().zip(self.total.borrow_mut().iter_mut()) {
            series.take(counted);
        }
    }

    /// Tells what is at hand here, as a difference to what was told before: other workers have theirs.
    pub(crate) fn level(&self, now: Levels) {
        let before = self.levels.replace(now);
        for (at, kind) in POOL.into_iter().enumerate() {
            self.shared.pool.with_label_values(&[kind]).add(now.pool[at] - before.pool[at]);
        }
        for (at, side) in BUFFERS.into_iter().enumerate() {
            self.shared.buffers.with_label_values(&[side]).add(now.buffers[at] - before.buffers[at]);
        }
        self.shared.queued_commands.add(now.queued[0] - before.queued[0]);
        self.shared.queued_bytes.add(now.queued[1] - before.queued[1]);
    }
}
