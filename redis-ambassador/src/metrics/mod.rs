//! What the ambassador counts.

mod journal;
mod latency;
mod worker;

pub(crate) use journal::{ClientLine, Failover, Journal, MAX_CLIENTS, Slow, now};
pub(crate) use latency::Latencies;
pub(crate) use worker::{Levels, WorkerMetrics};

use crate::topology::Observation;
use common::metrics::prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use common::metrics::{FromFn, WORK_SECONDS, register};
use latency::Family;

/// Handles on all families. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) commands: IntCounterVec,
    answers: IntCounterVec,
    pub(crate) answer_seconds: Family,
    pub(crate) command_seconds: Family,
    role: IntGaugeVec,
    offset: IntGaugeVec,
    lag: GaugeVec,
    lag_bytes: IntGaugeVec,
    fit: IntGaugeVec,
    ejections: IntCounterVec,
    pool: IntGaugeVec,
    buffers: IntGaugeVec,
    queued_commands: IntGauge,
    queued_bytes: IntGauge,
    pub(crate) replica_share: Gauge,
    pub(crate) slow: IntCounter,
    pub(crate) journal: Journal,
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
fn share(name: &str, help: &str) -> Gauge {
    Gauge::new(format!("{PREFIX}_{name}"), help).unwrap()
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
            answers: counters(
                "answers_total",
                "What became of commands, by what they do, how it ended (ok, error, lost) and the server.",
                &["class", "outcome", "server"],
            ),
            answer_seconds: Family::new(
                "answer_seconds",
                "Upstream: time from sending a command to a server to its answer.",
                "server",
            ),
            command_seconds: Family::new(
                "command_seconds",
                "Downstream: time from a command's arrival to its answer, waiting included.",
                "class",
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
            lag_bytes: gauges(
                "server_lag_bytes",
                "How many bytes of its primary a replica lacks.",
                &["server"],
            ),
            fit: gauges("server_fit", "Whether a server may answer reads as a replica.", &["server"]),
            ejections: counters(
                "ejections_total",
                "Times a replica was taken out of use for reads, by reason: lagging, slow, failing.",
                &["reason", "server"],
            ),
            pool: gauges(
                "upstream_pool",
                "Connections to servers: shared, own (of one client), spare (ready for one), going (no new commands).",
                &["kind"],
            ),
            buffers: gauges(
                "buffered_bytes",
                "Bytes held: client_input (not yet carried out), client_output (not yet taken), server_requests (not yet answered).",
                &["side"],
            ),
            queued_commands: gauge("queued_commands", "Commands that wait for a server that can take them."),
            queued_bytes: gauge("queued_bytes", "Bytes of those commands."),
            replica_share: share(
                "replica_read_share",
                "Share of the reads of the last minute that replicas answered.",
            ),
            slow: counter("slow_commands_total", "Commands that took longer than --slow-log."),
            journal: Journal::default(),
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
            &self.slow,
        ];
        counters.into_iter().for_each(|counter| register(registry, counter.clone()));
        [&self.clients, &self.upstreams, &self.primary_known, &self.queued_commands, &self.queued_bytes]
            .into_iter()
            .for_each(|gauge| register(registry, gauge.clone()));
        register(registry, self.outage.clone());
        register(registry, self.commands.clone());
        register(registry, self.answers.clone());
        let latencies = [self.answer_seconds.clone(), self.command_seconds.clone()];
        let collect = move || latencies.iter().filter_map(Family::collect).collect();
        register(registry, FromFn::new(collect));
        [&self.lag_bytes, &self.fit, &self.pool, &self.buffers]
            .into_iter()
            .for_each(|gauges| register(registry, gauges.clone()));
        register(registry, self.ejections.clone());
        register(registry, self.replica_share.clone());
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
    pub(crate) fn lag(&self, server: &str, lag: std::time::Duration, bytes: u64) {
        self.lag.with_label_values(&[server]).set(lag.as_secs_f64());
        self.lag_bytes.with_label_values(&[server]).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Notes whether a server may answer reads.
    pub(crate) fn fit(&self, server: &str, fit: bool) {
        self.fit.with_label_values(&[server]).set(i64::from(fit));
    }

    /// A replica gets no more reads, for a reason of ours.
    pub(crate) fn ejected(&self, server: &str, reason: &str) {
        self.ejections.with_label_values(&[reason, server]).inc();
    }

    /// Answers a server has given: to reads, and in all.
    pub(crate) fn answers_of(&self, server: &str) -> (u64, u64) {
        let mut counts = [0; 3];
        for (count, class) in counts.iter_mut().zip(worker::CLASSES) {
            *count = ["ok", "error"]
                .map(|end| self.answers.with_label_values(&[class, end, server]).get())
                .iter()
                .sum();
        }
        (counts[0], counts.iter().sum())
    }

    /// Reads that went to the primary, and to replicas.
    pub(crate) fn reads(&self) -> (u64, u64) {
        let of = |target| self.commands.with_label_values(&["read", target]).get();
        (of("primary"), of("replica"))
    }
}
