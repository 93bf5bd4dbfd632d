//! The status page: who is who, and who answers what.

use crate::config::Config;
use crate::metrics::Metrics;
use crate::topology::{Monitor, Observation, describe};
use common::status::{Cell, Health, Section, Status};
use std::sync::Arc;

/// Makes the page's source.
pub(crate) fn page(
    monitor: Arc<Monitor>,
    metrics: Metrics,
    config: Config,
) -> impl Fn() -> Status + Send + Sync + 'static {
    move || {
        let topology = monitor.current();
        let primary_offset = topology.observations.iter().find_map(|observation| match observation {
            Observation::Primary { offset, .. } => Some(*offset),
            _ => None,
        });
        let answers: Vec<u64> =
            topology.servers.iter().map(|server| metrics.answers_of(&server.to_string())).collect();
        let total: u64 = answers.iter().sum();
        let rows = topology.servers.iter().enumerate().map(|(server, address)| {
            let observation = &topology.observations[server];
            let standing = topology.view.servers[server];
            let (health, part) =
                match (topology.view.primary == Some(server), standing.fit, standing.reachable) {
                    (true, ..) => (Health::Good, "writes and reads"),
                    (_, true, _) => (Health::Good, "reads"),
                    (_, _, true) => (Health::Warning, "none"),
                    _ => (Health::Bad, "none"),
                };
            let lag = match (observation, primary_offset) {
                (Observation::Replica { offset: Some(offset), .. }, Some(primary)) => {
                    format!("{} B, {:?}", primary.saturating_sub(*offset), topology.lags[server])
                }
                _ => "-".to_owned(),
            };
            let share = if total == 0 { 0.0 } else { answers[server] as f64 * 100.0 / total as f64 };
            vec![
                Cell::from(address.to_string()),
                Cell::new(health, describe(observation)),
                Cell::new(health, part),
                Cell::from(lag),
                Cell::from(answers[server].to_string()),
                Cell::from(format!("{share:.1} %")),
            ]
        });
        let columns = ["Server", "Role", "Serves", "Behind", "Answers", "Share"];
        let servers = Section::table("Servers", &columns, rows.collect());
        let facts = [
            ("Clients", metrics.clients.get().to_string()),
            ("Connections to servers", metrics.upstreams.get().to_string()),
            ("Consistency", format!("{:?}", config.consistency).to_lowercase()),
            ("Reads sent to the primary for consistency", metrics.fenced.get().to_string()),
            ("Reads retried", metrics.retried.get().to_string()),
            ("Commands held for a server", metrics.held.get().to_string()),
            ("Writes whose answer was lost", metrics.lost_replies.get().to_string()),
            ("Changes of the primary", metrics.failovers.get().to_string()),
        ];
        let health = if topology.view.primary.is_some() { Health::Good } else { Health::Bad };
        let summary = match topology.view.primary {
            Some(primary) => format!(
                "primary {}, {} replicas serve reads",
                topology.name(primary),
                topology.view.replicas().count()
            ),
            None => "no primary is known".to_owned(),
        };
        Status::new(health, summary).section(servers).section(Section::facts("Now", facts))
    }
}
