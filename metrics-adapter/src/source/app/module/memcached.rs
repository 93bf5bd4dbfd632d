//! memcached's `stats`, named as memcached_exporter names them.

use std::collections::BTreeMap;

use super::{Entry, from_table};
use crate::family::Kind::{Counter, Gauge};
use crate::reader::{Builder, ReadError, number};

/// All that is asked, in one go.
pub(super) const COMMANDS: &[u8] = b"stats\r\nstats settings\r\nstats items\r\nstats slabs\r\nquit\r\n";

const STATS: &[Entry] = &[
    ("uptime", "memcached_uptime_seconds", Counter, 1.0, "Time since the start."),
    ("time", "memcached_time_seconds", Gauge, 1.0, "The server's clock."),
    ("rusage_user", "memcached_process_user_cpu_seconds_total", Counter, 1.0, "Processor time in user mode."),
    (
        "rusage_system",
        "memcached_process_system_cpu_seconds_total",
        Counter,
        1.0,
        "Processor time in the kernel.",
    ),
    ("bytes_read", "memcached_read_bytes_total", Counter, 1.0, "Bytes received."),
    ("bytes_written", "memcached_written_bytes_total", Counter, 1.0, "Bytes sent."),
    ("curr_connections", "memcached_current_connections", Gauge, 1.0, "Open connections."),
    ("total_connections", "memcached_connections_total", Counter, 1.0, "Connections so far."),
    (
        "rejected_connections",
        "memcached_connections_rejected_total",
        Counter,
        1.0,
        "Connections over the limit.",
    ),
    (
        "conn_yields",
        "memcached_connections_yielded_total",
        Counter,
        1.0,
        "Times a connection had to let others go first.",
    ),
    (
        "listen_disabled_num",
        "memcached_connections_listener_disabled_total",
        Counter,
        1.0,
        "Times no connection was accepted because of the limit.",
    ),
    ("accepting_conns", "memcached_accepting_connections", Gauge, 1.0, "Whether connections are accepted."),
    ("bytes", "memcached_current_bytes", Gauge, 1.0, "Bytes of items."),
    ("limit_maxbytes", "memcached_limit_bytes", Gauge, 1.0, "Bytes that items may take."),
    ("curr_items", "memcached_current_items", Gauge, 1.0, "Items."),
    ("total_items", "memcached_items_total", Counter, 1.0, "Items stored so far."),
    ("evictions", "memcached_items_evicted_total", Counter, 1.0, "Items removed to make room."),
    ("reclaimed", "memcached_items_reclaimed_total", Counter, 1.0, "Items put in the place of expired ones."),
    (
        "store_too_large",
        "memcached_item_too_large_total",
        Counter,
        1.0,
        "Items refused because of their size.",
    ),
    (
        "store_no_memory",
        "memcached_item_no_memory_total",
        Counter,
        1.0,
        "Items refused because there was no memory.",
    ),
    (
        "direct_reclaims",
        "memcached_direct_reclaims_total",
        Counter,
        1.0,
        "Times a worker had to make room itself.",
    ),
    ("lru_crawler_starts", "memcached_lru_crawler_starts_total", Counter, 1.0, "Starts of the LRU crawler."),
    (
        "crawler_reclaimed",
        "memcached_lru_crawler_reclaimed_total",
        Counter,
        1.0,
        "Items freed by the LRU crawler.",
    ),
    (
        "crawler_items_checked",
        "memcached_lru_crawler_items_checked_total",
        Counter,
        1.0,
        "Items looked at by the LRU crawler.",
    ),
    (
        "moves_to_cold",
        "memcached_lru_crawler_moves_to_cold_total",
        Counter,
        1.0,
        "Items moved to the cold list.",
    ),
    (
        "moves_to_warm",
        "memcached_lru_crawler_moves_to_warm_total",
        Counter,
        1.0,
        "Items moved to the warm list.",
    ),
    (
        "moves_within_lru",
        "memcached_lru_crawler_moves_within_lru_total",
        Counter,
        1.0,
        "Items moved within the hot or warm list.",
    ),
    ("total_malloced", "memcached_malloced_bytes", Gauge, 1.0, "Bytes taken for slab pages."),
    (
        "unexpected_napi_ids",
        "memcached_unexpected_napi_ids_total",
        Counter,
        1.0,
        "Unexpected ids of network queues.",
    ),
    (
        "round_robin_fallback",
        "memcached_round_robin_fallback_total",
        Counter,
        1.0,
        "Connections given to threads in turn.",
    ),
];

/// `stats` of a server with external storage.
const EXTSTORE: &[Entry] = &[
    (
        "extstore_compact_lost",
        "memcached_extstore_compact_lost_total",
        Counter,
        1.0,
        "Items lost in a compaction because they were locked.",
    ),
    (
        "extstore_compact_rescues",
        "memcached_extstore_compact_rescued_total",
        Counter,
        1.0,
        "Items moved to another page by a compaction.",
    ),
    (
        "extstore_compact_skipped",
        "memcached_extstore_compact_skipped_total",
        Counter,
        1.0,
        "Items that a compaction left out because they were not in use.",
    ),
    ("extstore_page_allocs", "memcached_extstore_pages_allocated_total", Counter, 1.0, "Pages taken."),
    (
        "extstore_page_evictions",
        "memcached_extstore_pages_evicted_total",
        Counter,
        1.0,
        "Pages given up with what they held.",
    ),
    (
        "extstore_page_reclaims",
        "memcached_extstore_pages_reclaimed_total",
        Counter,
        1.0,
        "Empty pages freed.",
    ),
    ("extstore_pages_free", "memcached_extstore_pages_free", Gauge, 1.0, "Pages without items."),
    ("extstore_pages_used", "memcached_extstore_pages_used", Gauge, 1.0, "Pages with items."),
    (
        "extstore_objects_evicted",
        "memcached_extstore_objects_evicted_total",
        Counter,
        1.0,
        "Items removed from external storage.",
    ),
    (
        "extstore_objects_read",
        "memcached_extstore_objects_read_total",
        Counter,
        1.0,
        "Items read from external storage.",
    ),
    (
        "extstore_objects_written",
        "memcached_extstore_objects_written_total",
        Counter,
        1.0,
        "Items written to external storage.",
    ),
    ("extstore_objects_used", "memcached_extstore_objects_used", Gauge, 1.0, "Items in external storage."),
    (
        "extstore_bytes_evicted",
        "memcached_extstore_bytes_evicted_total",
        Counter,
        1.0,
        "Bytes removed from external storage.",
    ),
    (
        "extstore_bytes_written",
        "memcached_extstore_bytes_written_total",
        Counter,
        1.0,
        "Bytes written to external storage.",
    ),
    (
        "extstore_bytes_read",
        "memcached_extstore_bytes_read_total",
        Counter,
        1.0,
        "Bytes read from external storage.",
    ),
    (
        "extstore_bytes_used",
        "memcached_extstore_bytes_used",
        Counter,
        1.0,
        "Bytes of items in external storage.",
    ),
    (
        "extstore_bytes_fragmented",
        "memcached_extstore_bytes_fragmented",
        Gauge,
        1.0,
        "Bytes of pages that hold no item.",
    ),
    (
        "extstore_limit_maxbytes",
        "memcached_extstore_bytes_limit",
        Gauge,
        1.0,
        "Bytes that external storage may take.",
    ),
    (
        "extstore_io_queue",
        "memcached_extstore_io_queue_depth",
        Gauge,
        1.0,
        "Items that wait for external storage.",
    ),
];

/// `stats` of a server that is a proxy.
const PROXY: &[Entry] = &[
    ("proxy_conn_requests", "memcached_proxy_conn_requests_total", Counter, 1.0, "Connections to backends."),
    (
        "proxy_conn_errors",
        "memcached_proxy_conn_errors_total",
        Counter,
        1.0,
        "Connections to backends that failed.",
    ),
    (
        "proxy_conn_oom",
        "memcached_proxy_conn_oom_total",
        Counter,
        1.0,
        "Connections for which there was no memory.",
    ),
    ("proxy_req_active", "memcached_proxy_req_active", Gauge, 1.0, "Requests on their way."),
    (
        "proxy_config_reloads",
        "memcached_proxy_config_reloads_total",
        Counter,
        1.0,
        "Reloads of the proxy's configuration.",
    ),
    (
        "proxy_config_reload_fails",
        "memcached_proxy_config_reload_fails_total",
        Counter,
        1.0,
        "Reloads that failed.",
    ),
    (
        "proxy_config_cron_runs",
        "memcached_proxy_config_cron_runs_total",
        Counter,
        1.0,
        "Runs of the proxy's timers.",
    ),
    (
        "proxy_config_cron_fails",
        "memcached_proxy_config_cron_fails_total",
        Counter,
        1.0,
        "Runs of the proxy's timers that failed.",
    ),
    ("proxy_backend_total", "memcached_proxy_backend_total", Gauge, 1.0, "Backends."),
    (
        "proxy_backend_marked_bad",
        "memcached_proxy_backend_marked_bad_total",
        Counter,
        1.0,
        "Times a backend was taken out.",
    ),
    ("proxy_backend_failed", "memcached_proxy_backend_failed", Gauge, 1.0, "Backends that fail."),
    (
        "proxy_request_failed_depth",
        "memcached_proxy_request_failed_depth_total",
        Counter,
        1.0,
        "Requests dropped because too many waited for a backend.",
    ),
];

/// `stats` of commands: key, command, status.
const COMMAND_STATS: [(&str, &str, &str); 14] = [
    ("get_hits", "get", "hit"),
    ("get_misses", "get", "miss"),
    ("delete_hits", "delete", "hit"),
    ("delete_misses", "delete", "miss"),
    ("incr_hits", "incr", "hit"),
    ("incr_misses", "incr", "miss"),
    ("decr_hits", "decr", "hit"),
    ("decr_misses", "decr", "miss"),
    ("cas_hits", "cas", "hit"),
    ("cas_misses", "cas", "miss"),
    ("cas_badval", "cas", "badval"),
    ("touch_hits", "touch", "hit"),
    ("touch_misses", "touch", "miss"),
    ("cmd_flush", "flush", "hit"),
];

/// What `cmd_set` counts besides: the exporter takes it off.
const CAS_STATS: [&str; 3] = ["cas_hits", "cas_misses", "cas_badval"];

const SETTINGS: &[Entry] = &[
    ("maxconns", "memcached_max_connections", Gauge, 1.0, "Connections that are allowed."),
    ("lru_crawler", "memcached_lru_crawler_enabled", Gauge, 1.0, "Whether the LRU crawler is on."),
    (
        "lru_crawler_sleep",
        "memcached_lru_crawler_sleep",
        Gauge,
        1.0,
        "Microseconds between two items of the LRU crawler.",
    ),
    (
        "lru_crawler_tocrawl",
        "memcached_lru_crawler_to_crawl",
        Gauge,
        1.0,
        "Items of one run of the LRU crawler.",
    ),
    (
        "lru_maintainer_thread",
        "memcached_lru_crawler_maintainer_thread",
        Gauge,
        1.0,
        "Whether lists are kept by a thread.",
    ),
    ("hot_lru_pct", "memcached_lru_crawler_hot_percent", Gauge, 1.0, "Share of memory for the hot list."),
    ("warm_lru_pct", "memcached_lru_crawler_warm_percent", Gauge, 1.0, "Share of memory for the warm list."),
    (
        "hot_max_factor",
        "memcached_lru_crawler_hot_max_factor",
        Gauge,
        1.0,
        "Age in the hot list, as a share of the cold one's.",
    ),
    (
        "warm_max_factor",
        "memcached_lru_crawler_warm_max_factor",
        Gauge,
        1.0,
        "Age in the warm list, as a share of the cold one's.",
    ),
];

const SLAB: &[Entry] = &[
    ("number", "memcached_slab_current_items", Gauge, 1.0, "Items of a slab class."),
    ("number_hot", "memcached_slab_hot_items", Gauge, 1.0, "Items in the hot list."),
    ("number_warm", "memcached_slab_warm_items", Gauge, 1.0, "Items in the warm list."),
    ("number_cold", "memcached_slab_cold_items", Gauge, 1.0, "Items in the cold list."),
    ("number_temp", "memcached_slab_temporary_items", Gauge, 1.0, "Items in the temporary list."),
    ("age", "memcached_slab_items_age_seconds", Gauge, 1.0, "Age of the oldest item."),
    ("age_hot", "memcached_slab_hot_age_seconds", Gauge, 1.0, "Age of the oldest item in the hot list."),
    ("age_warm", "memcached_slab_warm_age_seconds", Gauge, 1.0, "Age of the oldest item in the warm list."),
    ("evicted", "memcached_slab_items_evicted_total", Counter, 1.0, "Items removed to make room."),
    (
        "evicted_nonzero",
        "memcached_slab_items_evicted_nonzero_total",
        Counter,
        1.0,
        "Items with an expiry removed to make room.",
    ),
    (
        "evicted_time",
        "memcached_slab_items_evicted_time_seconds",
        Counter,
        1.0,
        "Time since the last evicted item was used.",
    ),
    (
        "evicted_unfetched",
        "memcached_slab_items_evicted_unfetched_total",
        Counter,
        1.0,
        "Items evicted without having been read.",
    ),
    (
        "expired_unfetched",
        "memcached_slab_items_expired_unfetched_total",
        Counter,
        1.0,
        "Items expired without having been read.",
    ),
    (
        "outofmemory",
        "memcached_slab_items_outofmemory_total",
        Counter,
        1.0,
        "Items refused because there was no memory.",
    ),
    (
        "reclaimed",
        "memcached_slab_items_reclaimed_total",
        Counter,
        1.0,
        "Items put in the place of expired ones.",
    ),
    ("tailrepairs", "memcached_slab_items_tailrepairs_total", Counter, 1.0, "Items that had to be repaired."),
    (
        "crawler_reclaimed",
        "memcached_slab_items_crawler_reclaimed_total",
        Counter,
        1.0,
        "Items freed by the LRU crawler.",
    ),
    ("moves_to_cold", "memcached_slab_items_moves_to_cold", Counter, 1.0, "Items moved to the cold list."),
    ("moves_to_warm", "memcached_slab_items_moves_to_warm", Counter, 1.0, "Items moved to the warm list."),
    ("moves_within_lru", "memcached_slab_items_moves_within_lru", Counter, 1.0, "Items moved within a list."),
    ("chunk_size", "memcached_slab_chunk_size_bytes", Gauge, 1.0, "Size of a chunk."),
    ("chunks_per_page", "memcached_slab_chunks_per_page", Gauge, 1.0, "Chunks of a page."),
    ("total_pages", "memcached_slab_current_pages", Gauge, 1.0, "Pages of the class."),
    ("total_chunks", "memcached_slab_current_chunks", Gauge, 1.0, "Chunks of the class."),
    ("used_chunks", "memcached_slab_chunks_used", Gauge, 1.0, "Chunks that hold items."),
    ("free_chunks", "memcached_slab_chunks_free", Gauge, 1.0, "Chunks that are free."),
    ("free_chunks_end", "memcached_slab_chunks_free_end", Gauge, 1.0, "Chunks at the end of the last page."),
    // A counter with the exporter, too.
    (
        "mem_requested",
        "memcached_slab_mem_requested_bytes",
        Counter,
        1.0,
        "Bytes that items of the class asked for.",
    ),
];

const SLAB_LRU: [(&str, &str); 4] = [
    ("hits_to_hot", "hot"),
    ("hits_to_warm", "warm"),
    ("hits_to_cold", "cold"),
    ("hits_to_temp", "temporary"),
];

/// `set` of the server (class `""`) and of the slab classes, without what `cas` stored.
#[derive(Default)]
struct Sets<'a>(BTreeMap<&'a str, (Option<f64>, f64)>);

impl<'a> Sets<'a> {
    fn add(&mut self, slab: &'a str, key: &str, value: f64) {
        if key == "cmd_set" {
            self.0.entry(slab).or_default().0 = Some(value);
        } else if CAS_STATS.contains(&key) {
            self.0.entry(slab).or_default().1 += value;
        }
    }

    fn put(self, out: &mut Builder) {
        for (slab, (sets, by_cas)) in self.0 {
            let Some(sets) = sets else { continue };
            command(slab, "set", "hit", (sets - by_cas).max(0.0), out);
        }
    }
}

fn command(slab: &str, command: &str, status: &str, value: f64, out: &mut Builder) {
    let labels = [("slab", slab), ("command", command), ("status", status)];
    if slab.is_empty() {
        out.put("memcached_commands_total", "Commands by result.", Counter, &labels[1..], value);
    } else {
        let help = "Commands of a slab class by result.";
        out.put("memcached_slab_commands_total", help, Counter, &labels, value);
    }
}

pub(super) fn read(text: &str, out: &mut Builder) -> Result<(), ReadError> {
    // The answers come one behind the other, each with an END.
    let (mut section, mut known) = (0, 0);
    let mut sets = Sets::default();
    for line in text.lines() {
        if line == "END" {
            section += 1;
            continue;
        }
        let Some((key, value)) = line.strip_prefix("STAT ").and_then(|rest| rest.split_once(' ')) else {
            let said = crate::reader::shortened(line, 80);
            // A server without slabs or settings answers ERROR to that command alone.
            if section == 0 {
                return Err(ReadError::new(format!("memcached answered `{said}`")));
            }
            section += usize::from(line == "ERROR");
            continue;
        };
        known += 1;
        stat(section, key, value, &mut sets, out);
    }
    sets.put(out);
    match (known, section) {
        (0, _) => Err(ReadError::new("memcached answered nothing")),
        (_, 0) => Err(ReadError::new("the answer of memcached ended early")),
        _ => Ok(()),
    }
}

fn stat<'a>(section: usize, key: &'a str, value: &str, sets: &mut Sets<'a>, out: &mut Builder) {
    let switch = match value {
        "yes" => Some(1.0),
        "no" => Some(0.0),
        _ => None,
    };
    let Some(value) = number(value).or(switch) else {
        if key == "version" {
            let help = "Always 1; the label says what runs.";
            out.put("memcached_version", help, Gauge, &[("version", value)], 1.0);
        }
        return;
    };
    if section == 1 {
        from_table(SETTINGS, key, value, &[], out);
        return;
    }
    let (slab, field) = key.strip_prefix("items:").unwrap_or(key).split_once(':').unwrap_or(("", key));
    if slab.is_empty() {
        for table in [STATS, EXTSTORE, PROXY] {
            from_table(table, key, value, &[], out);
        }
    } else {
        from_table(SLAB, field, value, &[("slab", slab)], out);
        if let Some((_, lru)) = SLAB_LRU.iter().find(|entry| entry.0 == field) {
            let labels = [("slab", slab), ("lru", *lru)];
            out.put("memcached_slab_lru_hits_total", "Hits by list.", Counter, &labels, value);
        }
    }
    sets.add(slab, field, value);
    if let Some((_, name, status)) = COMMAND_STATS.iter().find(|entry| entry.0 == field) {
        command(slab, name, status, value, out);
    }
}
