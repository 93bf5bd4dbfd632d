//! What the ambassador counts.

use crate::command::Effect;
use crate::topology::Observation;
use common::metrics::prometheus::local::LocalHistogram;
use common::metrics::prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use common::metrics::{LATENCY_SECONDS, WORK_SECONDS, register};
use std::cell::{Cell, RefCell};

/// Handles on all families. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) commands: IntCounterVec,
    answers: IntCounterVec,
    latency: HistogramVec,
    role: IntGaugeVec,
    offset: IntGaugeVec,
    lag: GaugeVec,
    pub(crate) clients: IntGauge,
    pub(crate) accepted: IntCounter,
    pub(crate) rejected: IntCounter,
    pub(crate) upstreams: IntGauge,
    pub(crate) connect_failures: IntCounter,
    connections_lost: IntCounter,
    pub(crate) held: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) retried: IntCounter,
    pub(crate) healed: IntCounter,
    pub(crate) fenced: IntCounter,
    pub(crate) denied: IntCounter,
    pub(crate) lost_replies: IntCounter,
    pub(crate) kicked: IntCounter,
    pub(crate) protocol_errors: IntCounter,
    pub(crate) error_replies: IntCounter,
    pub(crate) failovers: IntCounter,
    pub(crate) primary_known: IntGauge,
    pub(crate) outage: Histogram,
}

const PREFIX: &str = "redis_ambassador";

/// The names are constants of this file; one that prometheus refuses would fail every test.
#[expect(clippy::unwrap_used, reason = "constant names, checked by every test that makes a Metrics")]
fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(format!("{PREFIX}_{name}"), help).unwrap()
}

#[expect(clippy::unwrap_used, reason = "constant names, checked by every test that makes a Metrics")]
fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(format!("{PREFIX}_{name}"), help), labels).unwrap()
}

#[expect(clippy::unwrap_used, reason = "constant names, checked by every test that makes a Metrics")]
fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(format!("{PREFIX}_{name}"), help).unwrap()
}

#[expect(clippy::unwrap_used, reason = "constant names, checked by every test that makes a Metrics")]
fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(format!("{PREFIX}_{name}"), help), labels).unwrap()
}

#[expect(clippy::unwrap_used, reason = "constant names, checked by every test that makes a Metrics")]
fn histograms(name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let opts = HistogramOpts::new(format!("{PREFIX}_{name}"), help).buckets(LATENCY_SECONDS.to_vec());
    HistogramVec::new(opts, labels).unwrap()
}

#[expect(clippy::unwrap_used, reason = "constant names, checked by every test that makes a Metrics")]
fn float_gauges(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    GaugeVec::new(Opts::new(format!("{PREFIX}_{name}"), help), labels).unwrap()
}

#[expect(clippy::unwrap_used, reason = "constant names, checked by every test that makes a Metrics")]
fn histogram(name: &str, help: &str) -> Histogram {
    let opts = HistogramOpts::new(format!("{PREFIX}_{name}"), help).buckets(WORK_SECONDS.to_vec());
    Histogram::with_opts(opts).unwrap()
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            commands: counters(
                "commands_total",
                "Commands taken on, by what they do and where they went.",
                &["class", "target"],
            ),
            answers: counters("answers_total", "Answers by the server that gave them.", &["server"]),
            latency: histograms(
                "answer_seconds",
                "Time from taking a command on to its answer.",
                &["server"],
            ),
            role: gauges(
                "server_role",
                "1 for the role a server has: primary, replica, down, unknown.",
                &["server", "role"],
            ),
            offset: gauges("server_offset_bytes", "Replication offset a server told last.", &["server"]),
            lag: float_gauges(
                "server_lag_seconds",
                "For how long a replica has lacked something.",
                &["server"],
            ),
            clients: gauge("clients", "Client connections."),
            accepted: counter("clients_accepted_total", "Client connections accepted."),
            rejected: counter("clients_rejected_total", "Client connections refused for --max-clients."),
            upstreams: gauge("upstream_connections", "Connections to servers."),
            connect_failures: counter(
                "upstream_connect_failures_total",
                "Failed attempts to connect to a server.",
            ),
            connections_lost: counter(
                "upstream_lost_total",
                "Connections to servers that ended by themselves.",
            ),
            held: counter("commands_held_total", "Commands that waited for a server that could take them."),
            refused: counter("commands_expired_total", "Commands that waited longer than --failover-wait."),
            retried: counter("commands_retried_total", "Reads sent again after their connection was lost."),
            healed: counter(
                "commands_healed_total",
                "Commands sent again after READONLY, LOADING, MASTERDOWN or NOSCRIPT.",
            ),
            fenced: counter(
                "reads_fenced_total",
                "Reads sent to the primary because the replica lacked a recent write.",
            ),
            denied: counter("commands_denied_total", "Commands refused for --deny."),
            lost_replies: counter("replies_lost_total", "Writes whose answer was lost with the connection."),
            kicked: counter("clients_kicked_total", "Clients closed by the ambassador."),
            protocol_errors: counter("protocol_errors_total", "Requests that were not RESP."),
            error_replies: counter("error_replies_total", "Error answers from servers."),
            failovers: counter("failovers_total", "Changes of the primary."),
            primary_known: gauge("primary_known", "Whether a writable primary is known."),
            outage: histogram("primary_outage_seconds", "How long no writable primary was known."),
        }
    }
}

impl Metrics {
    /// Registers every family.
    pub fn register(&self, registry: &Registry) {
        let counters = [
            &self.accepted,
            &self.rejected,
            &self.connect_failures,
            &self.connections_lost,
            &self.held,
            &self.refused,
            &self.retried,
            &self.healed,
            &self.fenced,
            &self.denied,
            &self.lost_replies,
            &self.kicked,
            &self.protocol_errors,
            &self.error_replies,
            &self.failovers,
        ];
        counters.into_iter().for_each(|counter| register(registry, counter.clone()));
        [&self.clients, &self.upstreams, &self.primary_known]
            .into_iter()
            .for_each(|gauge| register(registry, gauge.clone()));
        register(registry, self.outage.clone());
        register(registry, self.commands.clone());
        register(registry, self.answers.clone());
        register(registry, self.latency.clone());
        register(registry, self.role.clone());
        register(registry, self.offset.clone());
        register(registry, self.lag.clone());
    }

    /// Notes what a server said of itself.
    pub(crate) fn observed(&self, server: &str, observation: &Observation) {
        let (role, offset) = match observation {
            Observation::Primary { offset, .. } => ("primary", Some(*offset)),
            Observation::Replica { offset, .. } => ("replica", *offset),
            Observation::Unreachable(_) | Observation::Loading => ("down", None),
            Observation::Unknown | Observation::Silent(_) => ("unknown", None),
        };
        for known in ["primary", "replica", "down", "unknown"] {
            self.role.with_label_values(&[server, known]).set(i64::from(known == role));
        }
        if let Some(offset) = offset {
            self.offset.with_label_values(&[server]).set(i64::try_from(offset).unwrap_or(i64::MAX));
        }
    }

    /// Notes how far a replica is behind.
    pub(crate) fn lag(&self, server: &str, lag: std::time::Duration) {
        self.lag.with_label_values(&[server]).set(lag.as_secs_f64());
    }

    /// Answers a server has given.
    pub(crate) fn answers_of(&self, server: &str) -> u64 {
        self.answers.with_label_values(&[server]).get()
    }
}

/// One worker's counts: plain numbers on the data path, added to the shared families now and then.
#[derive(Debug)]
pub(crate) struct WorkerMetrics {
    shared: Metrics,
    sent: [[Cell<u64>; 2]; 3],
    servers: RefCell<Vec<ServerCounts>>,
}

#[derive(Debug)]
struct ServerCounts {
    answers: u64,
    total: IntCounter,
    latency: LocalHistogram,
}

impl std::ops::Deref for WorkerMetrics {
    type Target = Metrics;

    fn deref(&self) -> &Metrics {
        &self.shared
    }
}

impl WorkerMetrics {
    pub(crate) fn new(shared: Metrics) -> Self {
        Self { shared, sent: Default::default(), servers: RefCell::default() }
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
            answers: 0,
            total: self.shared.answers.with_label_values(&[name]),
            latency: self.shared.latency.with_label_values(&[name]).local(),
        }
    }

    /// A command was taken on.
    #[inline]
    pub(crate) fn sent(&self, to_replica: bool, effect: Effect) {
        let count = &self.sent[effect as usize][usize::from(to_replica)];
        count.set(count.get() + 1);
    }

    /// A command was answered after so many microseconds.
    #[inline]
    pub(crate) fn answered(&self, server: usize, micros: u64) {
        if let Some(server) = self.servers.borrow_mut().get_mut(server) {
            server.answers += 1;
            server.latency.observe(micros as f64 / 1e6);
        }
    }

    /// A connection ended by itself.
    pub(crate) fn lost(&self, was_up: bool) {
        if was_up {
            self.shared.connections_lost.inc();
        }
    }

    /// Adds what was counted to the shared families.
    pub(crate) fn publish(&self) {
        for (counts, class) in self.sent.iter().zip(["read", "primary_read", "write"]) {
            for (count, target) in counts.iter().zip(["primary", "replica"]) {
                let count = count.take();
                if count > 0 {
                    self.shared.commands.with_label_values(&[class, target]).inc_by(count);
                }
            }
        }
        for server in self.servers.borrow_mut().iter_mut() {
            server.total.inc_by(std::mem::take(&mut server.answers));
            server.latency.flush();
        }
    }
}
