//! HAProxy's statistics as CSV, named as haproxy_exporter names them. Columns are found by their names.

use crate::family::Kind::{self, Counter, Gauge};
use crate::reader::csv::{Row, rows};
use crate::reader::{Builder, ReadError, number};

/// Column, name, kind, factor, help, and whether frontends (f), backends (b) and servers (s) have it.
const COLUMNS: &[(&str, &str, Kind, f64, &str, &str)] = &[
    ("qcur", "current_queue", Gauge, 1.0, "bs", "Requests in the queue."),
    ("qmax", "max_queue", Gauge, 1.0, "bs", "Most requests that were in the queue."),
    ("scur", "current_sessions", Gauge, 1.0, "fbs", "Sessions."),
    ("smax", "max_sessions", Gauge, 1.0, "fbs", "Most sessions there were."),
    ("slim", "limit_sessions", Gauge, 1.0, "fbs", "Sessions that are allowed."),
    ("stot", "sessions_total", Counter, 1.0, "fbs", "Sessions so far."),
    ("bin", "bytes_in_total", Counter, 1.0, "fbs", "Bytes received."),
    ("bout", "bytes_out_total", Counter, 1.0, "fbs", "Bytes sent."),
    ("dreq", "requests_denied_total", Counter, 1.0, "f", "Requests denied by rules."),
    ("ereq", "request_errors_total", Counter, 1.0, "f", "Requests with errors."),
    ("econ", "connection_errors_total", Counter, 1.0, "bs", "Connections that failed."),
    ("eresp", "response_errors_total", Counter, 1.0, "bs", "Responses with errors."),
    ("wretr", "retry_warnings_total", Counter, 1.0, "bs", "Connections that were tried again."),
    ("wredis", "redispatch_warnings_total", Counter, 1.0, "bs", "Requests sent to another server."),
    ("weight", "weight", Gauge, 1.0, "bs", "Weight."),
    ("act", "current_server", Gauge, 1.0, "b", "Active servers."),
    ("chkfail", "check_failures_total", Counter, 1.0, "s", "Health checks that failed."),
    ("downtime", "downtime_seconds_total", Counter, 1.0, "s", "Time spent down."),
    ("lbtot", "server_selected_total", Counter, 1.0, "bs", "Times a server was selected."),
    ("rate", "current_session_rate", Gauge, 1.0, "fbs", "Sessions within the last second."),
    ("rate_lim", "limit_session_rate", Gauge, 1.0, "f", "Sessions per second that are allowed."),
    ("rate_max", "max_session_rate", Gauge, 1.0, "fbs", "Most sessions within a second."),
    ("check_duration", "check_duration_seconds", Gauge, 0.001, "s", "Time of the last health check."),
    ("req_tot", "http_requests_total", Counter, 1.0, "f", "HTTP requests."),
    ("cli_abrt", "client_aborts_total", Counter, 1.0, "bs", "Transfers ended by the client."),
    ("srv_abrt", "server_aborts_total", Counter, 1.0, "bs", "Transfers ended by the server."),
    ("comp_in", "compressor_bytes_in_total", Counter, 1.0, "fb", "Bytes given to compression."),
    ("comp_out", "compressor_bytes_out_total", Counter, 1.0, "fb", "Bytes that came out of compression."),
    ("comp_byp", "compressor_bytes_bypassed_total", Counter, 1.0, "fb", "Bytes left uncompressed."),
    ("comp_rsp", "http_responses_compressed_total", Counter, 1.0, "fb", "Responses compressed."),
    (
        "qtime",
        "http_queue_time_average_seconds",
        Gauge,
        0.001,
        "bs",
        "Time in the queue, of the last 1024 requests.",
    ),
    (
        "ctime",
        "http_connect_time_average_seconds",
        Gauge,
        0.001,
        "bs",
        "Time to connect, of the last 1024 requests.",
    ),
    (
        "rtime",
        "http_response_time_average_seconds",
        Gauge,
        0.001,
        "bs",
        "Time to the response, of the last 1024 requests.",
    ),
    (
        "ttime",
        "http_total_time_average_seconds",
        Gauge,
        0.001,
        "bs",
        "Whole time, of the last 1024 requests.",
    ),
    ("conn_tot", "connections_total", Counter, 1.0, "f", "Connections."),
];

const RESPONSES: [(&str, &str); 6] = [
    ("hrsp_1xx", "1xx"),
    ("hrsp_2xx", "2xx"),
    ("hrsp_3xx", "3xx"),
    ("hrsp_4xx", "4xx"),
    ("hrsp_5xx", "5xx"),
    ("hrsp_other", "other"),
];

pub(super) fn read(text: &str, out: &mut Builder) -> Result<(), ReadError> {
    let mut found = false;
    let table = rows(text, ',', None, |line, row| {
        found = true;
        one(line, row, out);
    })?;
    match table.has("pxname") && table.has("svname") && table.has("type") && found {
        true => Ok(()),
        false => {
            Err(ReadError::at(1, "no statistics of HAProxy: pxname, svname and type are expected as columns"))
        }
    }
}

fn one(line: u64, row: &Row<'_>, out: &mut Builder) {
    let name = row.field("pxname").unwrap_or_default();
    let server = row.field("svname").unwrap_or_default();
    let (kind, letter) = match row.field("type") {
        Some("0") => ("frontend", 'f'),
        Some("1") => ("backend", 'b'),
        Some("2") => ("server", 's'),
        _ => return,
    };
    let mut labels = vec![(if kind == "frontend" { "frontend" } else { "backend" }, name)];
    if kind == "server" {
        labels.push(("server", server));
    }
    for (column, metric, metric_kind, scale, who, help) in COLUMNS {
        let Some(value) = row.field(column).filter(|value| who.contains(letter) && !value.is_empty()) else {
            continue;
        };
        match number(value) {
            Some(number) => {
                out.put(&format!("haproxy_{kind}_{metric}"), help, *metric_kind, &labels, number * scale);
            }
            None => out.skip(|| {
                format!("line {line}: {column}: `{}` is no number", crate::reader::shortened(value, 40))
            }),
        }
    }
    for (column, code) in RESPONSES {
        if let Some(value) = row.field(column).and_then(number) {
            let labels = [&labels[..], &[("code", code)]].concat();
            let metric = format!("haproxy_{kind}_http_responses_total");
            out.put(&metric, "HTTP responses by class.", Counter, &labels, value);
        }
    }
    let status = row.field("status").unwrap_or_default();
    if kind != "frontend" && !status.is_empty() {
        // A server that is going down (`UP 1/3`) or draining still serves.
        let up = status.starts_with("UP") || matches!(status, "OPEN" | "no check" | "DRAIN");
        let metric = format!("haproxy_{kind}_up");
        out.put(&metric, "Whether it is in service.", Gauge, &labels, f64::from(u8::from(up)));
    }
}

/// `show info`, which only the socket has.
pub(super) fn read_info(text: &str, out: &mut Builder) {
    let value = |wanted: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once(": "));
        pairs.find(|(key, _)| *key == wanted).map(|(_, value)| value.trim())
    };
    if let (Some(version), Some(date)) = (value("Version"), value("Release_date")) {
        let labels = [("version", version), ("release_date", date)];
        out.put("haproxy_version_info", "Always 1; the labels say what runs.", Gauge, &labels, 1.0);
    }
    if let Some(idle) = value("Idle_pct").and_then(number) {
        out.put("haproxy_process_idle_time_percent", "Time spent waiting for events.", Gauge, &[], idle);
    }
}
