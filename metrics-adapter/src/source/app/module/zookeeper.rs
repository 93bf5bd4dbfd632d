//! ZooKeeper's `mntr`, named as zookeeper exporters name it: `zk_` and the key.

use crate::family::Kind;
use crate::family::normal::push_name;
use crate::reader::{Builder, ReadError, number};

pub(super) fn read(text: &str, out: &mut Builder) -> Result<(), ReadError> {
    if text.contains("is not executed because it is not in the whitelist") {
        let hint = "mntr is not allowed; set 4lw.commands.whitelist=mntr in zoo.cfg";
        return Err(ReadError::new(hint));
    }
    let mut known = false;
    for line in text.lines() {
        let Some((key, value)) = line.split_once('\t').filter(|(key, _)| key.starts_with("zk_")) else {
            continue;
        };
        known = true;
        match key {
            "zk_version" => {
                let version = value.split(',').next().unwrap_or_default();
                let labels = [("version", version)];
                out.put("zk_version", "Always 1; the label says what runs.", Kind::Gauge, &labels, 1.0);
            }
            "zk_server_state" => {
                let leader = f64::from(u8::from(value == "leader" || value == "standalone"));
                out.put("zk_server_leader", "Whether this server leads.", Kind::Gauge, &[], leader);
                out.put(
                    "zk_server_state",
                    "Always 1; the label says the role.",
                    Kind::Gauge,
                    &[("state", value)],
                    1.0,
                );
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
