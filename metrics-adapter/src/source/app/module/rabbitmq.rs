//! RabbitMQ's management API, named as rabbitmq_exporter names it.

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
        &["arguments", "x-max-length"],
        "rabbitmq_queue_max_length",
        Gauge,
        "Messages ready that a queue may hold.",
    ),
    (
        &["arguments", "x-max-length-bytes"],
        "rabbitmq_queue_max_length_bytes",
        Gauge,
        "Bytes of messages ready that a queue may hold.",
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

const EXCHANGE: Fields = &[
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
    let mut bodies = [const { Vec::new() }; 4];
    for (name, body) in PARTS.iter().zip(&mut bodies) {
        *body = fetch.sibling(&format!("/api/{name}"))?.fetch().await?;
    }
    let mut parts = [const { Json::Null }; 4];
    for (body, part) in bodies.iter().zip(&mut parts) {
        *part = Json::parse(body)?;
    }
    Ok(read(&parts, out)?)
}

/// All answers in one object, by the last part of their paths.
pub(super) fn read_all(bytes: &[u8], out: &mut Builder) -> Result<(), ReadError> {
    let all = Json::parse(bytes)?;
    read(&PARTS.map(|name| all.member(name).cloned().unwrap_or(Json::Null)), out)
}

fn read([overview, nodes, queues, exchanges]: &[Json<'_>; 4], out: &mut Builder) -> Result<(), ReadError> {
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
        for (key, name) in [
            ("slave_nodes", "rabbitmq_queue_slave_nodes_len"),
            ("synchronised_slave_nodes", "rabbitmq_queue_synchronised_slave_nodes_len"),
        ] {
            count(queue, key, name, "Mirrors of a queue.", &labels, out);
        }
        let state = get("state");
        if !state.is_empty() {
            let labels =
                [("cluster", cluster.as_str()), ("vhost", &vhost), ("queue", &name), ("state", &state)];
            let running = f64::from(u8::from(matches!(&*state, "running" | "idle")));
            out.put(
                "rabbitmq_queue_state",
                "Whether a queue runs; the label says its state.",
                Gauge,
                &labels,
                running,
            );
        }
    }
    for exchange in items(exchanges) {
        let (vhost, name) =
            (text(exchange, "vhost").unwrap_or_default(), text(exchange, "name").unwrap_or_default());
        let labels = [("cluster", cluster.as_str()), ("vhost", &vhost), ("exchange", &name)];
        fields(exchange, EXCHANGE, &labels, out);
    }
    for module in ["overview", "node", "queue", "exchange"] {
        let labels = [("cluster", cluster.as_str()), ("node", &own), ("module", module)];
        out.put("rabbitmq_module_up", "Whether this part could be read.", Gauge, &labels, 1.0);
    }
    Ok(())
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
    value.member(key).and_then(Json::text)
}

fn fields(value: &Json<'_>, table: Fields, labels: &[(&str, &str)], out: &mut Builder) {
    for (path, name, kind, help) in table {
        if let Some(number) = value.at(path).and_then(Json::number) {
            out.put(name, help, *kind, labels, number);
        }
    }
}
