//! A configuration that changes while it runs.

use crate::address::ServerAddr;
use crate::config::Config;
use crate::topology::Monitor;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Takes over changed servers, and names what cannot be taken over.
pub(crate) fn servers(monitor: &Arc<Monitor>, before: &Config, after: &Config) {
    let fixed = needing_a_restart(before, after);
    if !fixed.is_empty() {
        tracing::warn!(settings = fixed.join(", "), "changed settings that only count after a restart");
    }
    let (before, after) = (named(before), named(after));
    for gone in before.difference(&after) {
        tracing::info!(server = %gone, "server no longer configured");
        monitor.unconfigure(gone);
    }
    for new in after.difference(&before) {
        tracing::info!(server = %new, "server configured");
        monitor.configure(new);
    }
    tracing::info!("configuration read again");
}

fn named(config: &Config) -> BTreeSet<ServerAddr> {
    let servers = config.primary.iter().chain(&config.replicas).chain(&config.seeds).chain(&config.cluster);
    servers.cloned().collect()
}

/// The settings that differ and are only looked at when the process starts.
fn needing_a_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    macro_rules! differing {
        ($($field:ident => $name:literal),* $(,)?) => {{
            let mut names = Vec::new();
            $(if format!("{:?}", before.$field) != format!("{:?}", after.$field) { names.push($name); })*
            names
        }};
    }
    differing! {
        listen => "listen",
        client_tls => "tls-cert, tls-key, tls-client-ca",
        client_users_file => "client-users-file",
        discover => "discover",
        discover_interval => "discover-interval",
        sentinels => "sentinel",
        sentinel_name => "sentinel-name",
        sentinel_tls => "sentinel-tls",
        sentinel_user => "sentinel-user",
        sentinel_password_file => "sentinel-password-file",
        upstream_tls => "upstream-tls",
        upstream_user => "upstream-user",
        upstream_password_file => "upstream-password-file",
        consistency => "consistency",
        max_lag => "max-lag",
        max_latency => "max-latency",
        probe_interval => "probe-interval",
        probe_timeout => "probe-timeout",
        threads => "threads",
        admin_listen => "admin-listen",
        drain => "drain",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_change_is_named() {
        let before = Config::new("a:1".parse().unwrap(), Vec::new());
        let mut after = before.clone();
        after.deny = vec!["FLUSHALL".to_owned()];
        after.max_clients = 7;
        assert!(needing_a_restart(&before, &after).is_empty());
        after.threads = 2;
        after.sentinel_name = "other".to_owned();
        assert_eq!(needing_a_restart(&before, &after), ["sentinel-name", "threads"]);
    }
}
