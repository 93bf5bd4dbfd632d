//! Apache's `server-status?auto`, named as apache_exporter names it.

use std::collections::BTreeMap;

use super::{Entry, from_table};
use crate::family::Kind::{Counter, Gauge};
use crate::reader::{Builder, ReadError, number};

const TABLE: &[Entry] = &[
    ("Total Accesses", "apache_accesses_total", Counter, 1.0, "Requests served."),
    ("Total kBytes", "apache_sent_kilobytes_total", Counter, 1.0, "Kilobytes sent."),
    ("Total Duration", "apache_duration_ms_total", Counter, 1.0, "Time spent on requests, in milliseconds."),
    ("CPULoad", "apache_cpuload", Gauge, 1.0, "Share of a processor used by all workers, in percent."),
    ("Uptime", "apache_uptime_seconds_total", Counter, 1.0, "Time since the start."),
];

const LABELLED: &[(&str, &str, &str, &str, &str)] = &[
    ("BusyWorkers", "apache_workers", "state", "busy", "Workers by state."),
    ("IdleWorkers", "apache_workers", "state", "idle", "Workers by state."),
    ("Processes", "apache_processes", "state", "all", "Server processes by state."),
    ("Stopping", "apache_processes", "state", "stopping", "Server processes by state."),
    ("ConnsTotal", "apache_connections", "state", "total", "Connections by state."),
    ("ConnsAsyncWriting", "apache_connections", "state", "writing", "Connections by state."),
    ("ConnsAsyncKeepAlive", "apache_connections", "state", "keepalive", "Connections by state."),
    ("ConnsAsyncClosing", "apache_connections", "state", "closing", "Connections by state."),
    ("Load1", "apache_load", "interval", "1min", "Load average of the machine."),
    ("Load5", "apache_load", "interval", "5min", "Load average of the machine."),
    ("Load15", "apache_load", "interval", "15min", "Load average of the machine."),
    (
        "ParentServerConfigGeneration",
        "apache_generation",
        "type",
        "config",
        "Restarts, by what was read again.",
    ),
    ("ParentServerMPMGeneration", "apache_generation", "type", "mpm", "Restarts, by what was read again."),
];

const SCOREBOARD: [(char, &str); 11] = [
    ('_', "idle"),
    ('S', "startup"),
    ('R', "read"),
    ('W', "reply"),
    ('K', "keepalive"),
    ('D', "dns"),
    ('C', "closing"),
    ('L', "logging"),
    ('G', "graceful_stop"),
    ('I', "idle_cleanup"),
    ('.', "open_slot"),
];

pub(super) fn read(text: &str, out: &mut Builder) -> Result<(), ReadError> {
    let (mut cpu, mut known) = (BTreeMap::<&str, f64>::new(), 0);
    let (mut version, mut mpm) = ("UNKNOWN", "UNKNOWN");
    let (mut balancer, mut worker) = ("", "");
    for line in text.lines() {
        let Some((key, value)) = line.split_once(':').map(|(key, value)| (key.trim(), value.trim())) else {
            continue;
        };
        match key {
            "ServerVersion" => version = value,
            "ServerMPM" => mpm = value,
            "Scoreboard" => scoreboard(value, out),
            "CPUUser" | "CPUChildrenUser" => *cpu.entry("user").or_default() += number(value).unwrap_or(0.0),
            "CPUSystem" | "CPUChildrenSystem" => {
                *cpu.entry("system").or_default() += number(value).unwrap_or(0.0);
            }
            _ if key.starts_with("ProxyBalancer[") => proxy(key, value, &mut balancer, &mut worker, out),
            _ => {
                let Some(value) = number(value) else { continue };
                if let Some((_, name, label, word, help)) = LABELLED.iter().find(|entry| entry.0 == key) {
                    out.put(name, help, Gauge, &[(label, word)], value);
                    known += 1;
                } else {
                    known += usize::from(from_table(TABLE, key, value, &[], out));
                }
            }
        }
    }
    if known == 0 {
        let start = crate::reader::shortened(text, 60);
        return Err(ReadError::new(format!("no page of server-status?auto: `{start}`")));
    }
    if !text.contains("\nCPULoad:") {
        // An idle server leaves it out; the exporter does not.
        from_table(TABLE, "CPULoad", 0.0, &[], out);
    }
    for (kind, seconds) in cpu {
        out.put(
            "apache_cpu_time_ms_total",
            "Processor time, in milliseconds.",
            Counter,
            &[("type", kind)],
            seconds * 1000.0,
        );
    }
    out.put(
        "apache_info",
        "Always 1; the labels say what runs.",
        Gauge,
        &[("version", version), ("mpm", mpm)],
        1.0,
    );
    if let Some(number) = version_number(version) {
        out.put("apache_version", "Version as a number: 2.04057 is 2.4.57.", Gauge, &[], number);
    }
    Ok(())
}

/// `Apache/2.4.57 (Debian)` as 2.04057.
fn version_number(version: &str) -> Option<f64> {
    let numbers = version.split_once('/')?.1.split(' ').next()?;
    let mut parts = numbers.split('.');
    let (major, minor, patch) = (parts.next()?, parts.next()?, parts.next()?);
    format!("{major}.{minor:0>2}{patch:0>3}").parse().ok()
}

fn scoreboard(board: &str, out: &mut Builder) {
    let mut counts: BTreeMap<String, f64> =
        SCOREBOARD.iter().map(|(_, state)| ((*state).to_owned(), 0.0)).collect();
    for slot in board.chars() {
        let state = SCOREBOARD.iter().find(|(known, _)| *known == slot).map(|(_, state)| (*state).to_owned());
        // A page of odd characters must not make a series of each.
        let state = state
            .unwrap_or_else(|| if slot.is_ascii_graphic() { slot.to_string() } else { "other".to_owned() });
        *counts.entry(state).or_default() += 1.0;
    }
    for (state, count) in counts {
        out.put("apache_scoreboard", "Slots of the scoreboard by state.", Gauge, &[("state", &state)], count);
    }
}

fn proxy<'a>(key: &'a str, value: &'a str, balancer: &mut &'a str, worker: &mut &'a str, out: &mut Builder) {
    let Some((_, rest)) = key.split_once(']') else { return };
    if rest == "Name" {
        *balancer = value;
        return;
    }
    let Some((_, field)) = rest.strip_prefix("Worker[").and_then(|rest| rest.split_once(']')) else { return };
    let labels = [("balancer", *balancer), ("worker", *worker)];
    let kilobytes = || number(value.trim_end_matches(['k', 'K']));
    let (name, kind, value) = match field {
        "Name" => {
            *worker = value;
            return;
        }
        "Status" => {
            let labels = [("balancer", *balancer), ("worker", *worker), ("status", value)];
            out.put("apache_proxy_balancer_status", "State of a balancer's worker.", Gauge, &labels, 1.0);
            return;
        }
        "Elected" => ("apache_proxy_balancer_accesses_total", Counter, number(value)),
        "Busy" => ("apache_proxy_balancer_busy", Gauge, number(value)),
        "Sent" => ("apache_proxy_balancer_request_kbytes_total", Counter, kilobytes()),
        "Rcvd" => ("apache_proxy_balancer_response_kbytes_total", Counter, kilobytes()),
        _ => return,
    };
    if let Some(value) = value {
        out.put(name, "Of a balancer's worker.", kind, &labels, value);
    }
}
