//! RabbitMQ's management API, named as rabbitmq_exporter names it.

use std::borrow::Cow;
use std::time::Instant;

use crate::family::Kind::{self, Counter, Gauge};
use crate::reader::json::Json;
use crate::reader::{Builder, ReadError};
use crate::source::app::GatherError;
use crate::source::app::http::Fetch;

type Fields = &'static [(&'static [&'static str], &'static str, Kind, &'static str)];

const OVERVIEW: Fields = &[
    (&["object_totals", "channels"], "rabbitmq_channels", Gauge, "Channels."),
    (&["object_totals", "connections"], "rabbitmq_connections", Gauge, "Connections."),
    (&["object_totals", "consumers"], "rabbitmq_consumers", Gauge, "Consumers."),
    (&["object_totals", "queues"], "rabbitmq_queues", Gauge, "Queues."),
    (&["object_totals", "exchanges"], "rabbitmq_exchanges", Gauge, "Exchanges."),
    (&["queue_totals", "messages"], "rabbitmq_queue_messages_global", Gauge, "Messages in the cluster."),
    (
        &["queue_totals", "messages_ready"],
        "rabbitmq_queue_messages_ready_global",
        Gauge,
        "Messages ready in the cluster.",
    ),
    (
        &["queue_totals", "messages_unacknowledged"],
        "rabbitmq_queue_messages_unacknowledged_global",
        Gauge,
        "Messages delivered and not acknowledged in the cluster.",
    ),
    (
        &["message_stats", "publish_details", "rate"],
        "rabbitmq_messages_publish_rate",
        Gauge,
        "Messages published a second.",
    ),
    (
        &["message_stats", "deliver_no_ack_details", "rate"],
        "rabbitmq_messages_deliver_no_ack_rate",
        Gauge,
        "Messages delivered without acknowledgement a second.",
    ),
    (
        &["message_stats", "deliver_details", "rate"],
        "rabbitmq_messages_deliver_rate",
        Gauge,
        "Messages delivered with acknowledgement a second.",
    ),
];

const QUEUE: Fields = &[
    (&["messages"], "rabbitmq_queue_messages", Gauge, "Messages of a queue."),
    (&["messages_ready"], "rabbitmq_queue_messages_ready", Gauge, "Messages ready."),
    (
        &["messages_unacknowledged"],
        "rabbitmq_queue_messages_unacknowledged",
        Gauge,
        "Messages not acknowledged.",
    ),
    (
        &["messages_ready_ram"],
        "rabbitmq_queue_messages_ready_ram",
        Gauge,
        "Messages ready that are in memory.",
    ),
    (
        &["messages_unacknowledged_ram"],
        "rabbitmq_queue_messages_unacknowledged_ram",
        Gauge,
        "Messages not acknowledged that are in memory.",
    ),
    (
        &["head_message_timestamp"],
        "rabbitmq_queue_head_message_timestamp",
        Gauge,
        "Timestamp that the first message carries.",
    ),
    (
        &["message_stats", "publish_details", "rate"],
        "rabbitmq_queue_messages_publish_rate",
        Gauge,
        "Messages published a second.",
    ),
    (
        &["message_stats", "deliver_no_ack_details", "rate"],
        "rabbitmq_queue_messages_deliver_no_ack_rate",
        Gauge,
        "Messages delivered without acknowledgement a second.",
    ),
    (
        &["message_stats", "deliver_details", "rate"],
        "rabbitmq_queue_messages_deliver_rate",
        Gauge,
        "Messages delivered with acknowledgement a second.",
    ),
    (
        &["garbage_collection", "min_heap_size"],
        "rabbitmq_queue_gc_min_heap",
        Gauge,
        "Least heap of the queue's process, in words.",
    ),
    (
        &["garbage_collection", "min_bin_vheap_size"],
        "rabbitmq_queue_gc_min_vheap",
        Gauge,
        "Least binary heap of the queue's process, in words.",
    ),
    (
        &["garbage_collection", "fullsweep_after"],
        "rabbitmq_queue_gc_collections_before_fullsweep",
        Gauge,
        "Small garbage collections before a full one, at most.",
    ),
    (
        &["garbage_collection", "minor_gcs"],
        "rabbitmq_queue_gc_minor_collections_total",
        Counter,
        "Small garbage collections.",
    ),
    (&["messages_ram"], "rabbitmq_queue_messages_ram", Gauge, "Messages in memory."),
    (&["messages_persistent"], "rabbitmq_queue_messages_persistent", Gauge, "Persistent messages."),
    (&["message_bytes"], "rabbitmq_queue_message_bytes", Gauge, "Bytes of message bodies."),
    (&["message_bytes_ready"], "rabbitmq_queue_message_bytes_ready", Gauge, "Bytes of bodies ready."),
    (
        &["message_bytes_unacknowledged"],
        "rabbitmq_queue_message_bytes_unacknowledged",
        Gauge,
        "Bytes of bodies not acknowledged.",
    ),
    (&["message_bytes_ram"], "rabbitmq_queue_message_bytes_ram", Gauge, "Bytes of bodies in memory."),
    (
        &["message_bytes_persistent"],
        "rabbitmq_queue_message_bytes_persistent",
        Gauge,
        "Bytes of persistent bodies.",
    ),
    (&["consumers"], "rabbitmq_queue_consumers", Gauge, "Consumers of a queue."),
    (
        &["consumer_utilisation"],
        "rabbitmq_queue_consumer_utilisation",
        Gauge,
        "Share of time consumers are ready.",
    ),
    (&["memory"], "rabbitmq_queue_memory", Gauge, "Memory of a queue, in bytes."),
    (&["reductions"], "rabbitmq_queue_reductions_total", Counter, "Work done by the queue's process."),
    (&["disk_reads"], "rabbitmq_queue_disk_reads_total", Counter, "Messages read from disk."),
    (&["disk_writes"], "rabbitmq_queue_disk_writes_total", Counter, "Messages written to disk."),
    (
        &["message_stats", "publish"],
        "rabbitmq_queue_messages_published_total",
        Counter,
        "Messages published.",
    ),
    (
        &["message_stats", "confirm"],
        "rabbitmq_queue_messages_confirmed_total",
        Counter,
        "Messages confirmed.",
    ),
    (
        &["message_stats", "deliver"],
        "rabbitmq_queue_messages_delivered_total",
        Counter,
        "Messages delivered with acknowledgement.",
    ),
    (
        &["message_stats", "deliver_no_ack"],
        "rabbitmq_queue_messages_delivered_noack_total",
        Counter,
        "Messages delivered without acknowledgement.",
    ),
    (
        &["message_stats", "get"],
        "rabbitmq_queue_messages_get_total",
        Counter,
        "Messages fetched with acknowledgement.",
    ),
    (
        &["message_stats", "get_no_ack"],
        "rabbitmq_queue_messages_get_noack_total",
        Counter,
        "Messages fetched without acknowledgement.",
    ),
    (
        &["message_stats", "redeliver"],
        "rabbitmq_queue_messages_redelivered_total",
        Counter,
        "Messages delivered again.",
    ),
    (
        &["message_stats", "return_unroutable"],
        "rabbitmq_queue_messages_returned_total",
        Counter,
        "Messages returned.",
    ),
    (&["message_stats", "ack"], "rabbitmq_queue_messages_ack_total", Counter, "Messages acknowledged."),
];

/// Limits of a queue: its argument, the key of its policy, the metric.
const LIMITS: [(&str, &str, &str, &str); 2] = [
    ("x-max-length", "max-length", "rabbitmq_queue_max_length", "Messages ready that a queue may hold."),
    (
        "x-max-length-bytes",
        "max-length-bytes",
        "rabbitmq_queue_max_length_bytes",
        "Bytes of messages ready that a queue may hold.",
    ),
];

/// Lists of which the length counts.
const NODES: [(&str, &str, &str); 4] = [
    ("slave_nodes", "rabbitmq_queue_slaves_nodes_len", "Mirrors of a queue."),
    (
        "synchronised_slave_nodes",
        "rabbitmq_queue_synchronised_slave_nodes_len",
        "Mirrors that hold all of a queue.",
    ),
    ("members", "rabbitmq_queue_member_nodes_len", "Members of a quorum queue."),
    ("online", "rabbitmq_queue_online_nodes_len", "Members of a quorum queue that are there."),
];

const EXCHANGE: Fields = &[
    (
        &["message_stats", "publish"],
        "rabbitmq_exchange_messages_published_total",
        Counter,
        "Messages published.",
    ),
    (
        &["message_stats", "confirm"],
        "rabbitmq_exchange_messages_confirmed_total",
        Counter,
        "Messages confirmed.",
    ),
    (
        &["message_stats", "deliver"],
        "rabbitmq_exchange_messages_delivered_total",
        Counter,
        "Messages delivered with acknowledgement.",
    ),
    (
        &["message_stats", "deliver_no_ack"],
        "rabbitmq_exchange_messages_delivered_noack_total",
        Counter,
        "Messages delivered without acknowledgement.",
    ),
    (
        &["message_stats", "get"],
        "rabbitmq_exchange_messages_get_total",
        Counter,
        "Messages fetched with acknowledgement.",
    ),
    (
        &["message_stats", "get_no_ack"],
        "rabbitmq_exchange_messages_get_noack_total",
        Counter,
        "Messages fetched without acknowledgement.",
    ),
    (&["message_stats", "ack"], "rabbitmq_exchange_messages_ack_total", Counter, "Messages acknowledged."),
    (
        &["message_stats", "redeliver"],
        "rabbitmq_exchange_messages_redelivered_total",
        Counter,
        "Messages delivered again.",
    ),
    (
        &["message_stats", "return_unroutable"],
        "rabbitmq_exchange_messages_returned_total",
        Counter,
        "Messages returned.",
    ),
    (
        &["message_stats", "publish_in"],
        "rabbitmq_exchange_messages_published_in_total",
        Counter,
        "Messages into an exchange.",
    ),
    (
        &["message_stats", "publish_out"],
        "rabbitmq_exchange_messages_published_out_total",
        Counter,
        "Messages out of an exchange.",
    ),
];

const NODE: Fields = &[
    (&["uptime"], "rabbitmq_uptime", Gauge, "Time since the start of a node, in milliseconds."),
    (&["running"], "rabbitmq_running", Gauge, "Whether a node runs."),
    (&["mem_used"], "rabbitmq_node_mem_used", Gauge, "Memory in use, in bytes."),
    (&["mem_limit"], "rabbitmq_node_mem_limit", Gauge, "Memory at which publishers are held, in bytes."),
    (&["mem_alarm"], "rabbitmq_node_mem_alarm", Gauge, "Whether the memory limit is reached."),
    (&["disk_free"], "rabbitmq_node_disk_free", Gauge, "Free disk space, in bytes."),
    (&["disk_free_alarm"], "rabbitmq_node_disk_free_alarm", Gauge, "Whether the disk is nearly full."),
    (
        &["disk_free_limit"],
        "rabbitmq_node_disk_free_limit",
        Gauge,
        "Free space at which publishers are held, in bytes.",
    ),
    (&["fd_used"], "rabbitmq_fd_used", Gauge, "File descriptors in use."),
    (&["fd_total"], "rabbitmq_fd_available", Gauge, "File descriptors allowed."),
    (&["sockets_used"], "rabbitmq_sockets_used", Gauge, "Sockets in use."),
    (&["sockets_total"], "rabbitmq_sockets_available", Gauge, "Sockets allowed."),
];

const PARTS: [&str; 4] = ["overview", "nodes", "queues", "exchanges"];

/// Asks for overview, nodes, queues and exchanges.
pub(super) async fn gather(fetch: &Fetch, out: &mut Builder) -> Result<(), GatherError> {
    let (mut bodies, mut seconds) = ([const { Vec::new() }; 4], [0.0; 4]);
    for ((name, body), seconds) in PARTS.iter().zip(&mut bodies).zip(&mut seconds) {
        let start = Instant::now();
        *body = fetch.sibling(&format!("/api/{name}"))?.fetch().await?;
        *seconds = start.elapsed().as_secs_f64();
    }
    let mut parts = [const { Json::Null }; 4];
    for (body, part) in bodies.iter().zip(&mut parts) {
        *part = Json::parse(body)?;
    }
    let at = read(&parts, out)?;
    for (module, seconds) in MODULES.into_iter().zip(seconds) {
        let labels = [("cluster", at.cluster.as_str()), ("node", &at.node), ("module", module)];
        out.put("rabbitmq_module_scrape_duration_seconds", "Time this part took.", Gauge, &labels, seconds);
    }
    Ok(())
}

/// The exporter's words for the parts.
const MODULES: [&str; 4] = ["overview", "node", "queue", "exchange"];

/// Who answered.
struct At {
    cluster: String,
    node: String,
}

/// All answers in one object, by the last part of their paths.
pub(super) fn read_all(bytes: &[u8], out: &mut Builder) -> Result<(), ReadError> {
    let all = Json::parse(bytes)?;
    read(&PARTS.map(|name| all.member(name).cloned().unwrap_or(Json::Null)), out)?;
    Ok(())
}

fn read([overview, nodes, queues, exchanges]: &[Json<'_>; 4], out: &mut Builder) -> Result<At, ReadError> {
    let cluster = text(overview, "cluster_name")
        .ok_or_else(|| ReadError::new("no overview of RabbitMQ: there is no `cluster_name`"))?;
    let own = text(overview, "node").unwrap_or_default();
    let at_cluster = [("cluster", cluster.as_str())];
    fields(overview, OVERVIEW, &at_cluster, out);
    let version = text(overview, "rabbitmq_version").unwrap_or_default();
    let erlang = text(overview, "erlang_version").unwrap_or_default();
    let labels = [("cluster", cluster.as_str()), ("rabbitmq", &version), ("erlang", &erlang), ("node", &own)];
    out.put("rabbitmq_version_info", "Always 1; the labels say what runs.", Gauge, &labels, 1.0);
    let is_own = |node: &str| if node == own { "1" } else { "0" };
    for node in items(nodes) {
        let name = text(node, "name").unwrap_or_default();
        let labels = [("cluster", cluster.as_str()), ("node", &name), ("self", is_own(&name))];
        fields(node, NODE, &labels, out);
        count(node, "partitions", "rabbitmq_partitions", "Partitions that a node sees.", &labels, out);
    }
    for queue in items(queues) {
        let get = |key: &str| text(queue, key).unwrap_or_default();
        let (vhost, name, durable, policy, node) =
            (get("vhost"), get("name"), get("durable"), get("policy"), get("node"));
        let labels = [
            ("cluster", cluster.as_str()),
            ("vhost", &vhost),
            ("queue", &name),
            ("durable", &durable),
            ("policy", &policy),
            ("self", is_own(&node)),
        ];
        fields(queue, QUEUE, &labels, out);
        // A queue of which nothing was counted yet has none of these.
        for (path, name, kind, help) in QUEUE {
            if *kind == Counter && queue.at(path).and_then(Json::number).is_none() {
                out.put(name, help, *kind, &labels, 0.0);
            }
        }
        for (key, name, help) in NODES {
            count(queue, key, name, help, &labels, out);
        }
        for (argument, policy, name, help) in LIMITS {
            let own = queue.at(&["arguments", argument]).and_then(Json::number);
            let by_policy = queue.at(&["effective_policy_definition", policy]).and_then(Json::number);
            if let Some(limit) = own.into_iter().chain(by_policy).reduce(f64::min) {
                out.put(name, help, Gauge, &labels, limit);
            }
        }
        let (mut state, since) = (get("state"), timestamp(&get("idle_since")));
        if let Some(since) = since {
            let help = "Since when a queue has nothing to do, in seconds since 1970.";
            out.put("rabbitmq_queue_idle_since_seconds", help, Gauge, &labels, since);
            if state == "running" {
                "idle".clone_into(&mut state);
            }
        }
        if !state.is_empty() {
            let labels = [&labels[..], &[("state", &state)]].concat();
            let running = f64::from(u8::from(matches!(&*state, "running" | "idle")));
            let help = "Whether a queue runs; the label says its state.";
            out.put("rabbitmq_queue_state", help, Gauge, &labels, running);
        }
    }
    for exchange in items(exchanges) {
        let (vhost, name) =
            (text(exchange, "vhost").unwrap_or_default(), text(exchange, "name").unwrap_or_default());
        let labels = [("cluster", cluster.as_str()), ("vhost", &vhost), ("exchange", &name)];
        fields(exchange, EXCHANGE, &labels, out);
    }
    for module in MODULES {
        let labels = [("cluster", cluster.as_str()), ("node", &own), ("module", module)];
        out.put("rabbitmq_module_up", "Whether this part could be read.", Gauge, &labels, 1.0);
    }
    Ok(At { node: own, cluster })
}

/// `2026-01-02T03:04:05.678+00:00`, or a blank for the `T` and no offset, in seconds since 1970.
fn timestamp(text: &str) -> Option<f64> {
    let (date, time) = text.split_once(['T', ' '])?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let sign = time.find(['+', '-', 'Z']).unwrap_or(time.len());
    let (time, offset) = time.split_at(sign);
    let mut time = time.splitn(3, ':').map(|part| part.parse::<f64>().ok());
    let (hour, minute, second) = (time.next()??, time.next()??, time.next()??);
    let offset = match offset.trim_end_matches('Z').split_once(':') {
        Some((hours, minutes)) => {
            let minutes = hours.get(1..)?.parse::<f64>().ok()? * 60.0 + minutes.parse::<f64>().ok()?;
            if hours.starts_with('-') { -minutes } else { minutes }
        }
        None => 0.0,
    };
    if !((1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day)) {
        return None;
    }
    // Years that begin in March, so that a leap day is a year's last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 719_469;
    Some(days as f64 * 86_400.0 + hour * 3600.0 + (minute - offset) * 60.0 + second)
}

fn count(value: &Json<'_>, key: &str, name: &str, help: &str, labels: &[(&str, &str)], out: &mut Builder) {
    if let Some(list @ Json::List(_)) = value.member(key) {
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        out.put(name, help, Gauge, labels, items(list).len() as f64);
    }
}

fn items<'a>(list: &'a Json<'a>) -> &'a [Json<'a>] {
    match list {
        Json::List(items) => items,
        _ => &[],
    }
}

fn text(value: &Json<'_>, key: &str) -> Option<String> {
    value.member(key).and_then(Json::text).map(Cow::into_owned)
}

fn fields(value: &Json<'_>, table: Fields, labels: &[(&str, &str)], out: &mut Builder) {
    for (path, name, kind, help) in table {
        if let Some(number) = value.at(path).and_then(Json::number) {
            out.put(name, help, *kind, labels, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::timestamp;

    #[test]
    fn timestamps() {
        assert_eq!(timestamp("1970-01-01 00:00:00"), Some(0.0));
        assert_eq!(timestamp("2000-02-29T12:00:00.000+00:00"), Some(951_825_600.0));
        assert_eq!(timestamp("2000-03-01T01:30:00.5+01:30"), Some(951_868_800.5));
        assert_eq!(timestamp("2026-11-27T05:44:08Z"), Some(1_795_758_248.0));
        assert_eq!(timestamp("1969-12-31 00:00:00"), None);
        assert_eq!(timestamp("now"), None);
    }
}
