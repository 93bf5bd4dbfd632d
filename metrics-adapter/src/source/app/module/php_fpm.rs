//! PHP-FPM's status page (`json&full`), named as php-fpm_exporter names it.

use crate::family::Kind::{self, Counter, Gauge};
use crate::reader::json::Json;
use crate::reader::{Builder, ReadError};

const POOL: &[(&str, &str, Kind, &str)] = &[
    ("start since", "phpfpm_start_since", Counter, "Time since the start, in seconds."),
    ("accepted conn", "phpfpm_accepted_connections", Counter, "Requests accepted."),
    ("listen queue", "phpfpm_listen_queue", Gauge, "Connections that wait to be accepted."),
    ("max listen queue", "phpfpm_max_listen_queue", Counter, "Most connections that waited to be accepted."),
    ("listen queue len", "phpfpm_listen_queue_length", Gauge, "Connections that may wait to be accepted."),
    ("idle processes", "phpfpm_idle_processes", Gauge, "Idle processes."),
    ("active processes", "phpfpm_active_processes", Gauge, "Busy processes."),
    ("total processes", "phpfpm_total_processes", Gauge, "Processes."),
    ("max active processes", "phpfpm_max_active_processes", Counter, "Most processes that were busy."),
    (
        "max children reached",
        "phpfpm_max_children_reached",
        Counter,
        "Times the limit of processes was reached.",
    ),
    ("slow requests", "phpfpm_slow_requests", Counter, "Requests slower than request_slowlog_timeout."),
];

const PROCESS: &[(&str, &str, Kind, &str)] = &[
    ("requests", "phpfpm_process_requests", Counter, "Requests a process has served."),
    (
        "last request memory",
        "phpfpm_process_last_request_memory",
        Gauge,
        "Most memory of the last request, in bytes.",
    ),
    (
        "last request cpu",
        "phpfpm_process_last_request_cpu",
        Gauge,
        "Processor use of the last request, in percent.",
    ),
    ("request duration", "phpfpm_process_request_duration", Gauge, "Time of the request, in microseconds."),
];

const STATES: [&str; 6] =
    ["Idle", "Running", "Reading headers", "Getting request informations", "Finishing", "Ending"];

pub(super) fn read(bytes: &[u8], out: &mut Builder) -> Result<(), ReadError> {
    let status = Json::parse(bytes)?;
    let pool = status.member("pool").and_then(Json::text);
    let pool = pool.ok_or_else(|| ReadError::new("no status page of PHP-FPM as JSON: there is no `pool`"))?;
    let pool = &*pool;
    for (key, name, kind, help) in POOL {
        if let Some(value) = status.member(key).and_then(Json::number) {
            out.put(name, help, *kind, &[("pool", pool)], value);
        }
    }
    let Some(Json::List(processes)) = status.member("processes") else { return Ok(()) };
    for (at, process) in processes.iter().enumerate() {
        let child = at.to_string();
        let labels = [("pool", pool), ("child", child.as_str())];
        for (key, name, kind, help) in PROCESS {
            if let Some(value) = process.member(key).and_then(Json::number) {
                out.put(name, help, *kind, &labels, value);
            }
        }
        let state = process.member("state").and_then(Json::text).unwrap_or_default();
        let other = (!STATES.contains(&&*state) && !state.is_empty()).then_some(&*state);
        for known in STATES.into_iter().chain(other) {
            let labels = [&labels[..], &[("state", known)]].concat();
            let value = f64::from(u8::from(state == known));
            out.put("phpfpm_process_state", "State of a process.", Gauge, &labels, value);
        }
    }
    Ok(())
}
