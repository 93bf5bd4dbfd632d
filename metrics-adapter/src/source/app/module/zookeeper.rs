//! ZooKeeper's `mntr`, named as zookeeper-exporter names it.

use crate::family::Kind;
use crate::family::normal::push_name;
use crate::reader::{Builder, ReadError, number};

const LEADS: &str = "Whether this server leads.";

/// What a server says to `ruok`.
pub(super) fn read_ruok(answer: &[u8], out: &mut Builder) {
    let well = f64::from(u8::from(answer == b"imok"));
    out.put(
        "zk_ruok",
        "Whether the server says that it is well; ruok has to be allowed.",
        Kind::Gauge,
        &[],
        well,
    );
}

pub(super) fn read(text: &str, out: &mut Builder) -> Result<(), ReadError> {
    if text.contains("is not executed because it is not in the whitelist") {
        let hint = "mntr is not allowed; set 4lw.commands.whitelist=mntr in zoo.cfg";
        return Err(ReadError::new(hint));
    }
    // A leader that leaves the clients to the others.
    if text.starts_with("This ZooKeeper instance is not currently serving requests") {
        out.put("zk_server_leader", LEADS, Kind::Gauge, &[], 1.0);
        return Ok(());
    }
    let mut known = false;
    for line in text.lines() {
        let Some((key, value)) = line.split_once('\t').filter(|(key, _)| key.starts_with("zk_")) else {
            continue;
        };
        known = true;
        match key {
            "zk_version" => {
                // `3.8.0-5a02a05, built on …`: the three numbers.
                let version =
                    value.split(|c: char| !(c.is_ascii_digit() || c == '.')).next().unwrap_or_default();
                let labels = [("version", version)];
                out.put("zk_version", "Always 1; the label says what runs.", Kind::Gauge, &labels, 1.0);
            }
            "zk_server_state" => {
                let leader = f64::from(u8::from(value == "leader"));
                out.put("zk_server_leader", LEADS, Kind::Gauge, &[], leader);
                out.put(
                    "zk_server_state",
                    "Always 1; the label says the role.",
                    Kind::Gauge,
                    &[("state", value)],
                    1.0,
                );
            }
            "zk_peer_state" => {
                let labels = [("state", value)];
                out.put("zk_peer_state", "Always 1; the label says the state.", Kind::Gauge, &labels, 1.0);
            }
            _ => {
                let Some(number) = number(value) else { continue };
                // Newer servers write `zk_name{label="value"}`.
                let (name, labels) = key.split_once('{').unwrap_or((key, ""));
                let labels: Vec<(&str, &str)> = labels
                    .trim_end_matches('}')
                    .split(',')
                    .filter_map(|pair| pair.split_once('='))
                    .map(|(label, value)| (label.trim(), value.trim_matches('"')))
                    .collect();
                let mut valid = String::new();
                push_name(&mut valid, name);
                let counts = name.starts_with("zk_packets_") || name.ends_with("_total");
                let kind = if counts { Kind::Counter } else { Kind::Gauge };
                out.put(&valid, &format!("`{name}` of mntr."), kind, &labels, number);
            }
        }
    }
    match known {
        true => Ok(()),
        false => {
            Err(ReadError::new(format!("no answer to mntr: `{}`", crate::reader::shortened(text.trim(), 80))))
        }
    }
}
