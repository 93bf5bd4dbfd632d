//! Redis `INFO`, named as redis_exporter names it.

use std::path::PathBuf;

use common::secret::{self, ExposeSecret};

use crate::family::Kind::{self, Counter, Gauge};
use crate::family::{PackedLabels, Summary, Value};
use crate::reader::{Builder, ReadError, number};
use crate::source::app::GatherError;

/// Commands in one go: AUTH where there is a password, and what the exporter asks for.
///
/// # Errors
/// The password file cannot be read.
pub(super) fn commands(login: Option<&(String, PathBuf)>) -> Result<Vec<u8>, GatherError> {
    let mut out = Vec::new();
    let mut command = |words: &[&str]| {
        out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
    };
    if let Some((user, path)) = login {
        let password = secret::read(path).map_err(|error| GatherError(common::error::chain(&error)))?;
        match user.as_str() {
            "" => command(&["AUTH", password.expose_secret()]),
            user => command(&["AUTH", user, password.expose_secret()]),
        }
    }
    for words in [
        &["INFO", "ALL"][..],
        // Not `*`: the answer would hold passwords.
        &["CONFIG", "GET", "max*"],
        &["CONFIG", "GET", "databases"],
        &["CONFIG", "GET", "io-threads"],
        &["SLOWLOG", "LEN"],
        &["SLOWLOG", "GET", "1"],
        &["LATENCY", "LATEST"],
        &["QUIT"],
    ] {
        command(words);
    }
    Ok(out)
}

enum Reply<'a> {
    Text(&'a str),
    Error(&'a str),
    List(Vec<Reply<'a>>),
}

impl<'a> Reply<'a> {
    fn text(&self) -> &'a str {
        if let Self::Text(text) = self { text } else { "" }
    }

    fn items(&self) -> &[Self] {
        if let Self::List(items) = self { items } else { &[] }
    }

    fn number(&self, at: usize) -> Option<f64> {
        number(self.items().get(at)?.text())
    }
}

/// The next reply, in which lists may be `depth` deep; `None` at the end or where the answer is cut.
fn reply<'a>(text: &mut &'a str, depth: u8) -> Option<Reply<'a>> {
    let (line, rest) = text.split_once("\r\n")?;
    *text = rest;
    let (kind, line) = line.split_at_checked(1)?;
    match kind {
        "+" | ":" => Some(Reply::Text(line)),
        "-" => Some(Reply::Error(line)),
        "$" => {
            let Ok(length) = line.parse::<usize>() else { return Some(Reply::Text("")) };
            let content = text.get(..length)?;
            *text = text.get(length..)?.strip_prefix("\r\n")?;
            Some(Reply::Text(content))
        }
        "*" if depth > 0 => {
            let items = (0..line.parse::<u32>().unwrap_or(0)).map(|_| reply(text, depth - 1));
            Some(Reply::List(items.collect::<Option<_>>()?))
        }
        _ => None,
    }
}

/// Lists within lists that these commands answer with.
const DEPTH: u8 = 4;

pub(super) fn read(bytes: &[u8], login: bool, out: &mut Builder) -> Result<(), ReadError> {
    let text = String::from_utf8_lossy(bytes);
    let mut text: &str = &text;
    if login && let Some(Reply::Error(error)) = reply(&mut text, DEPTH) {
        return Err(ReadError::new(format!("Redis refuses the password: {error}")));
    }
    let told = match reply(&mut text, DEPTH) {
        Some(Reply::Text(text)) if text.contains(':') => text,
        Some(Reply::Error(error)) => {
            return Err(ReadError::new(format!("Redis answered INFO with `{error}`")));
        }
        _ => return Err(ReadError::new("no answer of Redis to INFO")),
    };
    info(told, out);
    // What a server or an ACL does not allow is not on the page.
    for _ in 0..3 {
        let Some(pairs) = reply(&mut text, DEPTH) else { break };
        for pair in pairs.items().chunks_exact(2) {
            let Some(value) = number(pair[1].text()) else { continue };
            match pair[0].text() {
                "databases" => empty_databases(told, value, out),
                name @ ("maxmemory" | "maxclients" | "io-threads") => {
                    let name = format!("redis_config_{}", name.replace('-', "_"));
                    out.put(&name, "Setting of the server.", Gauge, &[], value);
                }
                _ => {}
            }
        }
    }
    let mut put = |name: &str, help: &str, labels: &[(&str, &str)], value: Option<f64>| {
        if let Some(value) = value {
            out.put(name, help, Gauge, labels, value);
        }
    };
    let length = reply(&mut text, DEPTH).and_then(|length| number(length.text()));
    put("redis_slowlog_length", "Entries of the slow log.", &[], length);
    if let Some(Reply::List(entries)) = reply(&mut text, DEPTH) {
        let last = |at| entries.first().map_or(Some(0.0), |entry| entry.number(at));
        put("redis_slowlog_last_id", "Number of the last entry of the slow log.", &[], last(0));
        let seconds = last(2).map(|micros| micros / 1e6);
        put("redis_last_slow_execution_duration_seconds", "Time of the last slow command.", &[], seconds);
    }
    for event in reply(&mut text, DEPTH).iter().flat_map(Reply::items) {
        let labels = [("event_name", event.items().first().map_or("", Reply::text))];
        put("redis_latency_spike_last", "When the last spike was.", &labels, event.number(1));
        let seconds = event.number(2).map(|millis| millis / 1e3);
        put("redis_latency_spike_duration_seconds", "Length of the last spike.", &labels, seconds);
    }
    Ok(())
}

/// Databases without keys are not in INFO.
fn empty_databases(info: &str, count: f64, out: &mut Builder) {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, and is bounded")]
    for db in (0..count.min(1000.0) as u32).map(|db| format!("db{db}")) {
        if !info.lines().any(|line| line.strip_prefix(&*db).is_some_and(|rest| rest.starts_with(':'))) {
            out.put("redis_db_keys", KEYS, Gauge, &[("db", &db)], 0.0);
            out.put("redis_db_keys_expiring", EXPIRING, Gauge, &[("db", &db)], 0.0);
        }
    }
}

const KEYS: &str = "Keys by database.";
const EXPIRING: &str = "Keys that expire, by database.";

/// The text of INFO alone.
pub(super) fn read_info(text: &str, out: &mut Builder) -> Result<(), ReadError> {
    match text.contains("redis_version:") {
        true => {
            info(text, out);
            Ok(())
        }
        false => Err(ReadError::new("no text of INFO: there is no `redis_version`")),
    }
}

fn info(text: &str, out: &mut Builder) {
    let value = |wanted: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
        pairs.find(|(key, _)| *key == wanted).map_or("", |(_, value)| value)
    };
    for (key, text) in text.lines().filter_map(|line| line.split_once(':')) {
        if let Some((_, name, kind)) = TABLE.iter().find(|(known, _, _)| *known == key) {
            let status = match text {
                "ok" => Some(1.0),
                "err" | "fail" => Some(0.0),
                _ => None,
            };
            if let Some(value) = number(text).or(status) {
                out.put(&format!("redis_{name}"), &format!("`{key}` of INFO."), *kind, &[], value);
            }
        } else if let Some(command) = key.strip_prefix("cmdstat_") {
            fields(text, |field, value| {
                let labels = [("cmd", command)];
                match field {
                    "calls" => out.put("redis_commands_total", "Calls by command.", Counter, &labels, value),
                    "usec" => {
                        let help = "Time spent by command.";
                        out.put("redis_commands_duration_seconds_total", help, Counter, &labels, value / 1e6);
                    }
                    "rejected_calls" => {
                        let help = "Calls refused before they ran, by command.";
                        out.put("redis_commands_rejected_calls_total", help, Counter, &labels, value);
                    }
                    "failed_calls" => {
                        let help = "Calls that failed, by command.";
                        out.put("redis_commands_failed_calls_total", help, Counter, &labels, value);
                    }
                    _ => {}
                }
            });
        } else if let Some(command) = key.strip_prefix("latency_percentiles_usec_") {
            percentiles(command, text, value(&format!("cmdstat_{command}")), out);
        } else if let Some(error) = key.strip_prefix("errorstat_") {
            let help = "Errors by their first word.";
            fields(text, |_, value| out.put("redis_errors_total", help, Counter, &[("err", error)], value));
        } else if let Some(db) = key.strip_prefix("db").filter(|db| db.bytes().all(|b| b.is_ascii_digit())) {
            let db = format!("db{db}");
            let labels = [("db", db.as_str())];
            fields(text, |field, value| match field {
                "keys" => out.put("redis_db_keys", KEYS, Gauge, &labels, value),
                "expires" => out.put("redis_db_keys_expiring", EXPIRING, Gauge, &labels, value),
                "avg_ttl" => {
                    let help = "Mean time to live of keys that expire, by database.";
                    out.put("redis_db_avg_ttl_seconds", help, Gauge, &labels, value / 1000.0);
                }
                _ => {}
            });
        } else if key.starts_with("slave") && text.contains("ip=") {
            replica(text, out);
        }
    }
    let info = [
        "redis_version",
        "redis_build_id",
        "redis_mode",
        "os",
        "maxmemory_policy",
        "tcp_port",
        "run_id",
        "process_id",
    ];
    let labels: Vec<(&str, &str)> =
        info.iter().map(|key| (*key, value(key))).chain([("role", value("role"))]).collect();
    out.put("redis_instance_info", "Always 1; the labels say what runs.", Gauge, &labels, 1.0);
    if let Some(micros) = number(value("latest_fork_usec")) {
        out.put("redis_latest_fork_seconds", "Time of the last fork.", Gauge, &[], micros / 1e6);
    }
    let now = number(value("server_time_usec")).map(|now| now / 1e6);
    if let (Some(now), Some(uptime)) = (now, number(value("uptime_in_seconds"))) {
        out.put("redis_start_time_seconds", "Start of the server.", Gauge, &[], (now - uptime).round());
    }
    if value("role") == "slave" {
        let labels = [("master_host", value("master_host")), ("master_port", value("master_port"))];
        let up = f64::from(u8::from(value("master_link_status") == "up"));
        out.put("redis_master_link_up", "Whether the primary is connected.", Gauge, &labels, up);
        for (key, name) in [
            ("master_sync_in_progress", "redis_master_sync_in_progress"),
            ("master_last_io_seconds_ago", "redis_master_last_io_seconds_ago"),
            ("slave_repl_offset", "redis_slave_repl_offset"),
        ] {
            if let Some(value) = number(value(key)) {
                out.put(name, "State of replication from the primary.", Gauge, &labels, value);
            }
        }
        let labels = [labels[0], labels[1], ("read_only", value("slave_read_only"))];
        out.put("redis_slave_info", "Always 1; the labels say what is replicated.", Gauge, &labels, 1.0);
    }
}

/// A summary by command, of which INFO has the quantiles in one place and count and sum in another.
fn percentiles(command: &str, quantiles: &str, totals: &str, out: &mut Builder) {
    let mut summary = Summary::default();
    for (name, value) in quantiles.split(',').filter_map(|pair| pair.split_once('=')) {
        let name = name.strip_prefix('p').and_then(number);
        summary.quantiles.extend(name.zip(number(value)));
    }
    fields(totals, |field, value| match field {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        "calls" => summary.count = value as u64,
        "usec" => summary.sum = value,
        _ => {}
    });
    let labels = PackedLabels::new([("cmd", command)]);
    let help = "Time of calls in microseconds, by command.";
    out.add_value("redis_latency_percentiles_usec", help, Kind::Summary, labels, Value::Summary(summary));
}

/// `a=1,b=2` with numbers.
fn fields(text: &str, mut each: impl FnMut(&str, f64)) {
    for (field, value) in text.split(',').filter_map(|pair| pair.split_once('=')) {
        if let Some(value) = number(value) {
            each(field, value);
        }
    }
}

fn replica(text: &str, out: &mut Builder) {
    let value = |wanted: &str| {
        let mut pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == wanted).map_or("", |(_, value)| value)
    };
    let labels = [("slave_ip", value("ip")), ("slave_port", value("port")), ("slave_state", value("state"))];
    if let Some(offset) = number(value("offset")) {
        out.put("redis_connected_slave_offset_bytes", "Offset of a replica.", Gauge, &labels, offset);
    }
    if let Some(lag) = number(value("lag")) {
        out.put("redis_connected_slave_lag_seconds", "Lag of a replica.", Gauge, &labels, lag);
    }
}

const TABLE: &[(&str, &str, Kind)] = &[
    ("uptime_in_seconds", "uptime_in_seconds", Gauge),
    ("process_id", "process_id", Gauge),
    ("io_threads_active", "io_threads_active", Gauge),
    ("connected_clients", "connected_clients", Gauge),
    ("blocked_clients", "blocked_clients", Gauge),
    ("tracking_clients", "tracking_clients", Gauge),
    ("clients_in_timeout_table", "clients_in_timeout_table", Gauge),
    ("cluster_connections", "cluster_connections", Gauge),
    ("maxclients", "max_clients", Gauge),
    ("client_recent_max_output_buffer", "client_recent_max_output_buffer_bytes", Gauge),
    ("client_recent_max_input_buffer", "client_recent_max_input_buffer_bytes", Gauge),
    ("allocator_active", "allocator_active_bytes", Gauge),
    ("allocator_allocated", "allocator_allocated_bytes", Gauge),
    ("allocator_resident", "allocator_resident_bytes", Gauge),
    ("allocator_frag_ratio", "allocator_frag_ratio", Gauge),
    ("allocator_frag_bytes", "allocator_frag_bytes", Gauge),
    ("allocator_rss_ratio", "allocator_rss_ratio", Gauge),
    ("allocator_rss_bytes", "allocator_rss_bytes", Gauge),
    ("used_memory", "memory_used_bytes", Gauge),
    ("used_memory_rss", "memory_used_rss_bytes", Gauge),
    ("used_memory_peak", "memory_used_peak_bytes", Gauge),
    ("used_memory_lua", "memory_used_lua_bytes", Gauge),
    ("used_memory_vm_eval", "memory_used_vm_eval_bytes", Gauge),
    ("used_memory_vm_functions", "memory_used_vm_functions", Gauge),
    ("used_memory_vm_total", "memory_used_vm_total", Gauge),
    ("used_memory_functions", "memory_used_functions", Gauge),
    ("used_memory_overhead", "memory_used_overhead_bytes", Gauge),
    ("used_memory_startup", "memory_used_startup_bytes", Gauge),
    ("used_memory_dataset", "memory_used_dataset_bytes", Gauge),
    ("used_memory_scripts", "memory_used_scripts_bytes", Gauge),
    ("used_memory_scripts_eval", "memory_used_scripts_eval_bytes", Gauge),
    ("number_of_cached_scripts", "number_of_cached_scripts", Gauge),
    ("number_of_functions", "number_of_functions", Gauge),
    ("number_of_libraries", "number_of_libraries", Gauge),
    ("maxmemory", "memory_max_bytes", Gauge),
    ("total_system_memory", "total_system_memory_bytes", Gauge),
    ("mem_fragmentation_ratio", "mem_fragmentation_ratio", Gauge),
    ("mem_fragmentation_bytes", "mem_fragmentation_bytes", Gauge),
    ("mem_clients_slaves", "mem_clients_slaves", Gauge),
    ("mem_clients_normal", "mem_clients_normal", Gauge),
    ("mem_cluster_links", "mem_cluster_links_bytes", Gauge),
    ("mem_aof_buffer", "mem_aof_buffer_bytes", Gauge),
    ("mem_replication_backlog", "mem_replication_backlog_bytes", Gauge),
    ("mem_not_counted_for_evict", "mem_not_counted_for_eviction_bytes", Gauge),
    ("mem_total_replication_buffers", "mem_total_replication_buffers_bytes", Gauge),
    ("lazyfree_pending_objects", "lazyfree_pending_objects", Gauge),
    ("lazyfreed_objects", "lazyfreed_objects", Gauge),
    ("active_defrag_running", "active_defrag_running", Gauge),
    ("migrate_cached_sockets", "migrate_cached_sockets_total", Gauge),
    ("active_defrag_hits", "defrag_hits", Gauge),
    ("active_defrag_misses", "defrag_misses", Gauge),
    ("active_defrag_key_hits", "defrag_key_hits", Gauge),
    ("active_defrag_key_misses", "defrag_key_misses", Gauge),
    ("expired_stale_perc", "expired_stale_percentage", Gauge),
    ("expired_time_cap_reached_count", "expired_time_cap_reached_total", Gauge),
    ("loading", "loading_dump_file", Gauge),
    ("async_loading", "async_loading", Gauge),
    ("rdb_changes_since_last_save", "rdb_changes_since_last_save", Gauge),
    ("rdb_bgsave_in_progress", "rdb_bgsave_in_progress", Gauge),
    ("rdb_last_save_time", "rdb_last_save_timestamp_seconds", Gauge),
    ("rdb_last_bgsave_status", "rdb_last_bgsave_status", Gauge),
    ("rdb_last_bgsave_time_sec", "rdb_last_bgsave_duration_sec", Gauge),
    ("rdb_current_bgsave_time_sec", "rdb_current_bgsave_duration_sec", Gauge),
    ("rdb_saves", "rdb_saves_total", Counter),
    ("rdb_last_cow_size", "rdb_last_cow_size_bytes", Gauge),
    ("aof_enabled", "aof_enabled", Gauge),
    ("aof_rewrite_in_progress", "aof_rewrite_in_progress", Gauge),
    ("aof_rewrite_scheduled", "aof_rewrite_scheduled", Gauge),
    ("aof_last_rewrite_time_sec", "aof_last_rewrite_duration_sec", Gauge),
    ("aof_current_rewrite_time_sec", "aof_current_rewrite_duration_sec", Gauge),
    ("aof_last_cow_size", "aof_last_cow_size_bytes", Gauge),
    ("aof_current_size", "aof_current_size_bytes", Gauge),
    ("aof_base_size", "aof_base_size_bytes", Gauge),
    ("aof_pending_rewrite", "aof_pending_rewrite", Gauge),
    ("aof_buffer_length", "aof_buffer_length", Gauge),
    ("aof_rewrite_buffer_length", "aof_rewrite_buffer_length", Gauge),
    ("aof_pending_bio_fsync", "aof_pending_bio_fsync", Gauge),
    ("aof_delayed_fsync", "aof_delayed_fsync", Gauge),
    ("aof_last_bgrewrite_status", "aof_last_bgrewrite_status", Gauge),
    ("aof_last_write_status", "aof_last_write_status", Gauge),
    ("module_fork_in_progress", "module_fork_in_progress", Gauge),
    ("module_fork_last_cow_size", "module_fork_last_cow_size", Gauge),
    ("instantaneous_ops_per_sec", "instantaneous_ops_per_sec", Gauge),
    ("pubsub_channels", "pubsub_channels", Gauge),
    ("pubsub_patterns", "pubsub_patterns", Gauge),
    ("dump_payload_sanitizations", "dump_payload_sanitizations", Counter),
    ("io_threaded_reads_processed", "io_threaded_reads_processed", Counter),
    ("io_threaded_writes_processed", "io_threaded_writes_processed", Counter),
    ("tracking_total_keys", "tracking_total_keys", Gauge),
    ("tracking_total_items", "tracking_total_items", Gauge),
    ("tracking_total_prefixes", "tracking_total_prefixes", Gauge),
    ("connected_slaves", "connected_slaves", Gauge),
    ("repl_backlog_size", "replication_backlog_bytes", Gauge),
    ("repl_backlog_active", "repl_backlog_is_active", Gauge),
    ("repl_backlog_first_byte_offset", "repl_backlog_first_byte_offset", Gauge),
    ("repl_backlog_histlen", "repl_backlog_history_bytes", Gauge),
    ("master_repl_offset", "master_repl_offset", Gauge),
    ("second_repl_offset", "second_repl_offset", Gauge),
    ("slave_expires_tracked_keys", "slave_expires_tracked_keys", Gauge),
    ("slave_priority", "slave_priority", Gauge),
    ("sync_full", "replica_resyncs_full", Gauge),
    ("sync_partial_ok", "replica_partial_resync_accepted", Gauge),
    ("sync_partial_err", "replica_partial_resync_denied", Gauge),
    ("cluster_enabled", "cluster_enabled", Gauge),
    ("total_connections_received", "connections_received_total", Counter),
    ("total_commands_processed", "commands_processed_total", Counter),
    ("rejected_connections", "rejected_connections_total", Counter),
    ("total_net_input_bytes", "net_input_bytes_total", Counter),
    ("total_net_output_bytes", "net_output_bytes_total", Counter),
    ("total_net_repl_input_bytes", "net_repl_input_bytes_total", Counter),
    ("total_net_repl_output_bytes", "net_repl_output_bytes_total", Counter),
    ("expired_keys", "expired_keys_total", Counter),
    ("evicted_keys", "evicted_keys_total", Counter),
    ("evicted_clients", "evicted_clients_total", Counter),
    ("keyspace_hits", "keyspace_hits_total", Counter),
    ("keyspace_misses", "keyspace_misses_total", Counter),
    ("total_reads_processed", "total_reads_processed", Counter),
    ("total_writes_processed", "total_writes_processed", Counter),
    ("total_error_replies", "total_error_replies", Counter),
    ("unexpected_error_replies", "unexpected_error_replies", Counter),
    ("used_cpu_sys", "cpu_sys_seconds_total", Counter),
    ("used_cpu_user", "cpu_user_seconds_total", Counter),
    ("used_cpu_sys_children", "cpu_sys_children_seconds_total", Counter),
    ("used_cpu_user_children", "cpu_user_children_seconds_total", Counter),
    ("used_cpu_sys_main_thread", "cpu_sys_main_thread_seconds_total", Counter),
    ("used_cpu_user_main_thread", "cpu_user_main_thread_seconds_total", Counter),
];
