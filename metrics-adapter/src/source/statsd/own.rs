//! The adapter's own families, under the peer's names where the peer has them.

use std::sync::atomic::{AtomicU64, Ordering};

use common::metrics::prometheus::proto::{MetricFamily, MetricType as Proto};

use super::shared::{Shared, lock};
use crate::family::{Family, Kind, PackedLabels};
use crate::ingest::Counts;
use crate::mapping::MetricType;
use crate::statsd::Reason;

/// Prefix of the peer's own families.
const PREFIX: &str = "statsd_exporter_";

/// Names no series may take: everything this module and the process collector write.
pub(super) fn names() -> Vec<&'static str> {
    let own = TABLE.iter().map(|(name, _, _)| *name);
    own.chain(PROCESS).collect()
}

const PROCESS: [&str; 12] = [
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
    "metrics_adapter_build_info",
    "statsd_metric_mapper_cache_length",
    "statsd_metric_mapper_cache_gets_total",
    "statsd_metric_mapper_cache_hits_total",
    "metrics_adapter_scrapes_refused_total",
];

/// Full name, type and help of every family with the prefix.
const TABLE: &[(&str, Kind, &str)] = &[
    ("statsd_exporter_build_info", Kind::Gauge, "Always 1; the labels say what was built."),
    ("statsd_exporter_config_reloads_total", Kind::Counter, "Reloads of the mapping, by outcome."),
    ("statsd_exporter_event_queue_flushed_total", Kind::Counter, "Batches of lines applied to the series."),
    ("statsd_exporter_events_total", Kind::Counter, "Events that reached a series, by type."),
    ("statsd_exporter_events_unmapped_total", Kind::Counter, "Events no mapping matched."),
    ("statsd_exporter_events_actions_total", Kind::Counter, "Events a mapping matched, by its action."),
    (
        "statsd_exporter_events_conflict_total",
        Kind::Counter,
        "Events whose name belongs to a family of another type.",
    ),
    ("statsd_exporter_events_error_total", Kind::Counter, "Events not applied, by reason."),
    ("statsd_exporter_lines_total", Kind::Counter, "Lines received, empty ones included."),
    ("statsd_exporter_samples_total", Kind::Counter, "Samples received, valid or not."),
    ("statsd_exporter_sample_errors_total", Kind::Counter, "Lines and samples not taken, by reason."),
    ("statsd_exporter_tags_total", Kind::Counter, "Samples received with tags."),
    ("statsd_exporter_tag_errors_total", Kind::Counter, "Tags not taken."),
    ("statsd_exporter_udp_packets_total", Kind::Counter, "UDP packets received."),
    (
        "statsd_exporter_udp_packet_drops_total",
        Kind::Counter,
        "UDP packets dropped because too many were waiting.",
    ),
    (
        "statsd_exporter_udp_kernel_drops_total",
        Kind::Counter,
        "UDP packets the kernel dropped because the socket's buffer was full.",
    ),
    ("statsd_exporter_udp_packets_waiting", Kind::Gauge, "UDP packets received and waiting for the parser."),
    ("statsd_exporter_unixgram_packets_total", Kind::Counter, "Unix datagrams received."),
    ("statsd_exporter_tcp_connections_total", Kind::Counter, "TCP connections accepted."),
    ("statsd_exporter_tcp_connections_open", Kind::Gauge, "TCP connections open now."),
    ("statsd_exporter_tcp_connection_errors_total", Kind::Counter, "TCP connections that failed."),
    (
        "statsd_exporter_tcp_too_long_lines_total",
        Kind::Counter,
        "TCP connections closed because of a line too long.",
    ),
    ("statsd_exporter_loaded_mappings", Kind::Gauge, "Rules in use."),
    ("statsd_exporter_metrics_total", Kind::Counter, "Families created, by type."),
    ("statsd_exporter_series", Kind::Gauge, "Series held."),
    ("statsd_exporter_series_bytes", Kind::Gauge, "Estimated memory the series hold."),
    (
        "statsd_exporter_series_refused_total",
        Kind::Counter,
        "Events dropped because their series would be one too many, by limit.",
    ),
    ("statsd_exporter_line_cache_length", Kind::Gauge, "Lines whose series is known without parsing."),
    (
        "statsd_exporter_dogstatsd_messages_total",
        Kind::Counter,
        "DogStatsD messages that are no metrics, by type.",
    ),
    ("statsd_exporter_relay_packets_total", Kind::Counter, "Packets sent to the relay target."),
    (
        "statsd_exporter_relay_lines_relayed_total",
        Kind::Counter,
        "Lines put into packets for the relay target.",
    ),
    (
        "statsd_exporter_relay_long_lines_total",
        Kind::Counter,
        "Lines too long for a packet to the relay target.",
    ),
    (
        "statsd_exporter_relay_drops_total",
        Kind::Counter,
        "Packets dropped because too many waited for the relay target.",
    ),
    (
        "statsd_exporter_relay_errors_total",
        Kind::Counter,
        "Packets the relay target did not get because sending failed.",
    ),
];

fn named(name: &str) -> Family {
    let full = [PREFIX, name].concat();
    let (kind, help) = TABLE
        .iter()
        .find(|(known, _, _)| *known == full)
        .map_or((Kind::Untyped, ""), |(_, kind, help)| (*kind, *help));
    Family::new(full, help, kind)
}

fn one(name: &str, value: f64) -> Family {
    named(name).with(&[], value)
}

fn by(name: &str, label: &str, values: &[(&str, f64)]) -> Family {
    values.iter().fold(named(name), |family, (word, value)| family.with(&[(label, word)], *value))
}

fn load(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

impl Shared {
    /// The adapter's own families as they are now; `kernel_drops` where they are known.
    pub(super) fn own_families(&self, build: &common::Build, kernel_drops: Option<u64>) -> Vec<Family> {
        let (counts, rules, cache) = {
            let ingest = lock(&self.ingest);
            (ingest.counts.clone(), ingest.mapping().rules.len(), ingest.cache_entries())
        };
        let mut families = counted(&counts);
        families.extend(self.traffic_families(kernel_drops));
        families.extend(self.store_families());
        families.extend(self.relay_families());
        families.push(one("loaded_mappings", rules as f64));
        let info = [("revision", build.revision), ("version", build.version)];
        families.push(named("build_info").with(&info, 1.0));
        if cache.1 > 0 {
            families.extend(cache_families(&counts, cache.0));
        }
        families
    }

    fn traffic_families(&self, kernel_drops: Option<u64>) -> Vec<Family> {
        let traffic = &self.traffic;
        let outcomes = [("failure", load(&traffic.failed_reloads)), ("success", load(&traffic.reloads))];
        let mut families = vec![
            by("config_reloads_total", "outcome", &outcomes),
            one("udp_packets_total", load(&traffic.udp_packets)),
            one("udp_packet_drops_total", load(&traffic.udp_drops)),
            one("udp_packets_waiting", traffic.udp_waiting.load(Ordering::Relaxed) as f64),
            one("unixgram_packets_total", load(&traffic.unixgram_packets)),
            one("tcp_connections_total", load(&traffic.tcp_connections)),
            one("tcp_connections_open", traffic.tcp_open.load(Ordering::Relaxed) as f64),
            one("tcp_connection_errors_total", load(&traffic.tcp_errors)),
            one("tcp_too_long_lines_total", load(&traffic.tcp_too_long)),
        ];
        families.extend(kernel_drops.map(|drops| one("udp_kernel_drops_total", drops as f64)));
        families
    }

    fn store_families(&self) -> Vec<Family> {
        let mut store = lock(&self.store);
        let kinds = [Kind::Counter, Kind::Gauge, Kind::Histogram, Kind::Summary];
        let held = kinds.map(|kind| (kind.as_text(), store.families_created(kind) as f64));
        vec![
            by("metrics_total", "type", &held),
            one("series", store.len() as f64),
            one("series_bytes", store.bytes() as f64),
            one("line_cache_length", store.lines().len() as f64),
        ]
    }

    fn relay_families(&self) -> Vec<Family> {
        let Some(relay) = &self.relay else { return Vec::new() };
        let counters = [
            ("relay_packets_total", &relay.packets),
            ("relay_lines_relayed_total", &relay.lines),
            ("relay_long_lines_total", &relay.long_lines),
            ("relay_drops_total", &relay.drops),
            ("relay_errors_total", &relay.errors),
        ];
        counters.iter().map(|(name, counter)| by(name, "target", &[(&relay.target, load(counter))])).collect()
    }
}

fn counted(counts: &Counts) -> Vec<Family> {
    let number = |count: u64| count as f64;
    let reasons = Reason::ALL.map(|reason| (reason.as_str(), number(counts.rejected[reason as usize])));
    let mut events: Vec<(&str, f64)> =
        MetricType::ALL.iter().map(|kind| (kind.as_str(), number(counts.events[*kind as usize]))).collect();
    events.push(("illegal", 0.0));
    let errors = [
        ("empty_metric_name", number(counts.empty_names)),
        ("illegal_negative_counter", number(counts.negative_counters)),
        ("reserved_label_name", number(counts.reserved_labels)),
    ];
    let refused =
        [("max_series", number(counts.series_limited)), ("memory_limit", number(counts.memory_limited))];
    let messages = [
        ("event", number(counts.dogstatsd_events)),
        ("service_check", number(counts.dogstatsd_service_checks)),
    ];
    let conflicts =
        counts.conflicts.iter().fold(named("events_conflict_total"), |family, (kind, name, count)| {
            family.with(&[("metric_name", name), ("type", kind.as_str())], number(count))
        });
    let mut families = vec![
        one("event_queue_flushed_total", number(counts.batches)),
        by("events_total", "type", &events),
        one("events_unmapped_total", number(counts.unmapped)),
        by(
            "events_actions_total",
            "action",
            &[("drop", number(counts.dropped)), ("map", number(counts.mapped))],
        ),
        by("events_error_total", "reason", &errors),
        one("lines_total", number(counts.lines)),
        one("samples_total", number(counts.samples)),
        by("sample_errors_total", "reason", &reasons),
        one("tags_total", number(counts.tagged)),
        one("tag_errors_total", number(counts.tag_errors)),
        by("series_refused_total", "limit", &refused),
        by("dogstatsd_messages_total", "type", &messages),
    ];
    if !conflicts.samples.is_empty() {
        families.push(conflicts);
    }
    families
}

fn cache_families(counts: &Counts, length: usize) -> Vec<Family> {
    let family = |name: &str, kind, help: &str, value| {
        Family::new(format!("statsd_metric_mapper_cache_{name}"), help, kind).with(&[], value)
    };
    vec![
        family("length", Kind::Gauge, "Mapping results remembered.", length as f64),
        family("gets_total", Kind::Counter, "Mapping results asked for.", counts.cache_gets as f64),
        family(
            "hits_total",
            Kind::Counter,
            "Mapping results that were remembered.",
            counts.cache_hits as f64,
        ),
    ]
}

/// Families of a prometheus registry (the process's) as ours.
pub(crate) fn convert(families: &[MetricFamily]) -> Vec<Family> {
    let convert = |family: &MetricFamily| {
        let kind = match family.get_field_type() {
            Proto::COUNTER => Kind::Counter,
            Proto::GAUGE => Kind::Gauge,
            _ => return None,
        };
        let mut ours = Family::new(family.name(), family.help(), kind);
        for metric in family.get_metric() {
            let labels = metric.get_label().iter().map(|pair| (pair.name(), pair.value()));
            let value = match kind {
                Kind::Counter => metric.get_counter().get_value(),
                _ => metric.get_gauge().get_value(),
            };
            ours.push(PackedLabels::new(labels), value);
        }
        Some(ours)
    };
    families.iter().filter_map(convert).collect()
}
