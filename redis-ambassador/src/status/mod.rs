//! The status page: who is who, who answers what, and what happened lately.

mod draw;
mod history;

pub(crate) use history::History;

use crate::config::Config;
use crate::metrics::{ClientLine, Failover, Metrics, Slow, now};
use crate::topology::{Monitor, Observation, Topology, describe};
use common::server::{Response, json};
use common::status::{Cell, Chart, Health, Section, Status};
use draw::Node;
use serde_json::{Value, json};
use std::sync::Arc;

/// What one service is looked at through.
#[derive(Clone)]
pub(crate) struct Source {
    /// Empty when there is one service only.
    pub(crate) name: String,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) metrics: Metrics,
    pub(crate) history: History,
    pub(crate) config: Config,
}

/// Slow commands and clients shown on the page; the rest is in the JSON.
const SHOWN: usize = 20;

/// Makes the page's source.
pub(crate) fn page(sources: Vec<Source>) -> impl Fn() -> Status + Send + Sync + 'static {
    move || {
        let views: Vec<View<'_>> = sources.iter().map(View::new).collect();
        let health = if views.iter().all(|view| view.topology.view.lacks().is_none()) {
            Health::Good
        } else {
            Health::Bad
        };
        let headline: Vec<String> = views.iter().map(View::headline).collect();
        let details = match views.as_slice() {
            [only] => only.details(),
            several => several.iter().map(|view| (view.source.name.clone(), view.details())).collect(),
        };
        let mut status = Status::new(health, headline.join("; ")).details(details);
        for view in &views {
            status = view.sections().into_iter().fold(status, Status::section);
        }
        status
    }
}

/// `/slowlog`: what took long, the newest first.
pub(crate) fn slow_log(sources: &[Source]) -> Response {
    let mut slow: Vec<Slow> =
        sources.iter().flat_map(|source| source.metrics.journal.slow_commands()).collect();
    slow.sort_by_key(|slow| std::cmp::Reverse(slow.at));
    json(common::server::StatusCode::OK, &slow.iter().map(slow_json).collect::<Value>())
}

/// One service at one moment.
struct View<'a> {
    source: &'a Source,
    topology: Arc<Topology>,
    nodes: Vec<Node>,
    answers: Vec<u64>,
}

impl<'a> View<'a> {
    fn new(source: &'a Source) -> Self {
        let topology = source.monitor.current();
        let answers: Vec<(u64, u64)> =
            topology.servers.iter().map(|server| source.metrics.answers_of(&server.to_string())).collect();
        let reads: u64 = answers.iter().map(|(reads, _)| reads).sum();
        let share = |server: usize| if reads == 0 { 0.0 } else { answers[server].0 as f64 / reads as f64 };
        let nodes =
            (0..topology.servers.len()).map(|server| node(&topology, server, share(server))).collect();
        let answers = answers.into_iter().map(|(_, all)| all).collect();
        Self { source, topology, nodes, answers }
    }

    fn titled(&self, title: &str) -> String {
        if self.source.name.is_empty() { title.to_owned() } else { format!("{}: {title}", self.source.name) }
    }

    fn headline(&self) -> String {
        let view = &self.topology.view;
        let text = match (view.lacks(), view.primary, &view.cluster) {
            (Some(lack), ..) => lack.to_owned(),
            (None, _, Some(map)) => format!(
                "cluster of {} primaries, {} replicas serve reads",
                map.primaries().len(),
                view.servers.iter().filter(|standing| standing.fit).count()
            ),
            (None, Some(primary), None) => format!(
                "primary {}, {} replicas serve reads",
                self.topology.name(primary),
                view.replicas().count()
            ),
            (None, None, None) => "no primary is known".to_owned(),
        };
        if self.source.name.is_empty() { text } else { format!("{}: {text}", self.source.name) }
    }

    fn sections(&self) -> Vec<Section> {
        let metrics = &self.source.metrics;
        let mut order: Vec<Node> = self.nodes.clone();
        order.sort_by_key(|node| !node.takes_writes);
        let mut sections = vec![
            Section::drawing(self.titled("Topology"), draw::draw(metrics.clients.get(), &order)),
            Section::charts(self.titled("Last two minutes"), self.charts()),
            self.servers(),
            Section::facts(self.titled("Now"), self.facts()),
        ];
        let failovers = metrics.journal.failovers();
        if !failovers.is_empty() {
            let rows = failovers.iter().map(failover_row).collect();
            sections.push(Section::table(
                self.titled("Changes of the primary"),
                &["When", "From", "To", "No primary for"],
                rows,
            ));
        }
        let slow = metrics.journal.slow_commands();
        if !slow.is_empty() {
            let columns = ["When", "Command", "Took", "At the server", "Server", "Client", "Words, bytes"];
            let rows = slow.iter().take(SHOWN).map(slow_row).collect();
            sections.push(Section::table(self.titled("Slow commands"), &columns, rows));
        }
        let clients = metrics.journal.connected();
        if !clients.is_empty() {
            let columns = [
                "Client",
                "From",
                "Name",
                "Db",
                "RESP",
                "Connected",
                "Silent",
                "Unanswered",
                "Unread",
                "Connection",
            ];
            let rows = clients.iter().take(SHOWN).map(client_row).collect();
            sections.push(Section::table(self.titled("Connected clients"), &columns, rows));
        }
        sections
    }

    fn charts(&self) -> Vec<Chart> {
        let seconds = self.source.history.seconds();
        let chart = |title: &str, unit: &str, value: &dyn Fn(&history::Second) -> Option<f64>| Chart {
            title: title.to_owned(),
            unit: unit.to_owned(),
            values: seconds.iter().map(value).collect(),
        };
        vec![
            chart("Commands", "per second", &|second| Some(second.commands)),
            chart("Median latency", "ms", &|second| second.median.map(|seconds| seconds * 1e3)),
            chart("99 % stay below", "ms", &|second| second.tail.map(|seconds| seconds * 1e3)),
            chart("Median latency of servers", "ms", &|second| second.upstream.map(|seconds| seconds * 1e3)),
        ]
    }

    fn servers(&self) -> Section {
        let topology = &self.topology;
        let rows = self.nodes.iter().enumerate().map(|(server, node)| {
            let part = match (node.takes_writes, node.health) {
                (true, _) => "writes and reads".to_owned(),
                (_, Health::Good) => "reads".to_owned(),
                _ => topology
                    .unfit
                    .get(server)
                    .copied()
                    .flatten()
                    .map_or("none".to_owned(), |why| format!("none: {why}")),
            };
            let distance = topology.distances.get(server).copied().flatten();
            vec![
                Cell::from(node.address.clone()),
                Cell::new(node.health, describe(&topology.observations[server])),
                Cell::new(node.health, part),
                Cell::from(
                    lag(topology, server)
                        .map_or_else(|| "-".to_owned(), |(bytes, time)| format!("{bytes} B, {time:?}")),
                ),
                Cell::from(
                    distance
                        .map_or_else(|| "-".to_owned(), |trip| format!("{:.2} ms", trip.as_secs_f64() * 1e3)),
                ),
                Cell::from(self.answers[server].to_string()),
                Cell::from(format!("{:.1} %", node.reads * 100.0)),
            ]
        });
        let columns = ["Server", "Role", "Serves", "Behind", "Probe", "Answers", "Of the reads"];
        Section::table(self.titled("Servers"), &columns, rows.collect())
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let (metrics, config) = (&self.source.metrics, &self.source.config);
        let share = self.source.history.replica_share();
        vec![
            ("Clients", metrics.clients.get().to_string()),
            ("Connections to servers", metrics.upstreams.get().to_string()),
            ("Consistency", format!("{:?}", config.consistency).to_lowercase()),
            ("Policy for reads", config.reads.policy.name().to_owned()),
            (
                "Reads by replicas, last minute",
                share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0)),
            ),
            ("Reads sent to the primary for consistency", metrics.fenced.get().to_string()),
            ("Reads retried", metrics.retried.get().to_string()),
            ("Commands held for a server", metrics.held.get().to_string()),
            ("Writes whose answer was lost", metrics.lost_replies.get().to_string()),
            ("Changes of the primary", metrics.failovers.get().to_string()),
        ]
    }

    /// What machines read.
    fn details(&self) -> Value {
        let topology = &self.topology;
        let servers = self.nodes.iter().enumerate().map(|(server, node)| {
            let behind = lag(topology, server);
            json!({
                "address": node.address,
                "role": node.role,
                "writes": node.takes_writes,
                "fit": topology.view.servers[server].fit,
                "unfit": topology.unfit.get(server).copied().flatten(),
                "lag_bytes": behind.map(|(bytes, _)| bytes),
                "lag_seconds": behind.map(|(_, time)| time.as_secs_f64()),
                "answers": self.answers[server],
                "read_share": node.reads,
            })
        });
        let journal = &self.source.metrics.journal;
        json!({
            "primary": topology.view.primary.map(|primary| topology.name(primary)),
            "servers": servers.collect::<Value>(),
            "failovers": journal.failovers().iter().map(failover_json).collect::<Value>(),
            "slow": journal.slow_commands().iter().take(SHOWN).map(slow_json).collect::<Value>(),
            "clients": journal.connected().iter().map(client_json).collect::<Value>(),
        })
    }
}

fn node(topology: &Topology, server: usize, reads: f64) -> Node {
    let observation = &topology.observations[server];
    let standing = topology.view.servers.get(server).copied().unwrap_or_default();
    let takes_writes = match &topology.view.cluster {
        Some(map) => map.owns(server) && standing.reachable,
        None => topology.view.primary == Some(server),
    };
    let health = match (takes_writes, standing.fit, standing.reachable) {
        (true, ..) | (_, true, _) => Health::Good,
        (_, _, true) => Health::Warning,
        _ => Health::Bad,
    };
    let role = match observation {
        _ if takes_writes => "primary",
        Observation::Primary { .. } => "former primary",
        Observation::Replica { .. } => "replica",
        Observation::Loading => "loading",
        Observation::Unreachable(_) => "unreachable",
        Observation::Unknown | Observation::Silent(_) => "unknown role",
    };
    let note = match (topology.unfit.get(server).copied().flatten(), lag(topology, server)) {
        (Some(why), _) => why.to_owned(),
        (None, Some((bytes, _))) => format!("{bytes} B behind"),
        _ => String::new(),
    };
    Node {
        address: topology.servers[server].to_string(),
        role: role.to_owned(),
        note,
        health,
        takes_writes,
        reads,
    }
}

/// How far a replica is behind its primary.
fn lag(topology: &Topology, server: usize) -> Option<(u64, std::time::Duration)> {
    let Observation::Replica { offset: Some(offset), .. } = topology.observations[server] else {
        return None;
    };
    let primary = match &topology.view.cluster {
        Some(map) => map.followed(server),
        None => topology.view.primary,
    }?;
    match topology.observations.get(primary)? {
        Observation::Primary { offset: ahead, .. } => {
            Some((ahead.saturating_sub(offset), topology.lags[server]))
        }
        _ => None,
    }
}

fn ago(at: u64) -> Cell {
    Cell::from(format!(
        "{} ago",
        common::config::format_duration(std::time::Duration::from_secs(now().saturating_sub(at)))
    ))
}

fn failover_row(failover: &Failover) -> Vec<Cell> {
    let Failover { at, from, to, outage } = failover;
    vec![ago(*at), Cell::from(from.clone()), Cell::from(to.clone()), Cell::from(format!("{outage:.3} s"))]
}

fn failover_json(failover: &Failover) -> Value {
    let Failover { at, from, to, outage } = failover;
    json!({ "at": at, "from": from, "to": to, "outage_seconds": outage })
}

fn slow_row(slow: &Slow) -> Vec<Cell> {
    let size = |size: Option<usize>| size.map_or_else(|| "-".to_owned(), |size| size.to_string());
    vec![
        ago(slow.at),
        Cell::new(if slow.error { Health::Warning } else { Health::Neutral }, slow.command.clone()),
        Cell::from(format!("{:.0} ms", slow.total * 1e3)),
        Cell::from(format!("{:.0} ms", slow.upstream * 1e3)),
        Cell::from(slow.server.clone()),
        Cell::from(slow.client.to_string()),
        Cell::from(format!("{}, {}", size(slow.arguments), size(slow.bytes))),
    ]
}

fn slow_json(slow: &Slow) -> Value {
    json!({
        "at": slow.at, "command": slow.command, "arguments": slow.arguments, "bytes": slow.bytes,
        "server": slow.server, "client": slow.client, "seconds": slow.total,
        "upstream_seconds": slow.upstream, "error": slow.error,
    })
}

fn client_row(client: &ClientLine) -> Vec<Cell> {
    [
        client.id.to_string(),
        client.from.clone(),
        client.name.clone(),
        client.db.to_string(),
        client.resp.to_string(),
        format!("{} s", client.age),
        format!("{} s", client.idle),
        client.unanswered.to_string(),
        format!("{} B", client.unread),
        if client.own { "own" } else { "shared" }.to_owned(),
    ]
    .map(Cell::from)
    .to_vec()
}

fn client_json(client: &ClientLine) -> Value {
    json!({
        "id": client.id, "from": client.from, "name": client.name, "db": client.db, "resp": client.resp,
        "age_seconds": client.age, "idle_seconds": client.idle, "unanswered": client.unanswered,
        "unread_bytes": client.unread, "own_connection": client.own,
    })
}
