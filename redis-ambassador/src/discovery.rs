//! Servers that are named by something that changes: a DNS name with many addresses, or a file.
//!
//! What is named is asked for its role like any other server; what is no longer named is let go.

use crate::address::ServerAddr;
use crate::topology::Monitor;
use common::config::FromSetting;
use common::watch::Watch;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where servers are named.
///
/// ```
/// # let mut config = redis_ambassador::Config::new("10.0.0.1:6379".parse()?, vec![]);
/// use redis_ambassador::Discover;
///
/// config.discover = vec![Discover::Dns { host: "redis.shop.svc".into(), port: 6379 }];
/// # Ok::<(), redis_ambassador::InvalidAddr>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discover {
    /// Every address that a name resolves to, with this port.
    Dns {
        /// The name.
        host: String,
        /// The port of all of them.
        port: u16,
    },
    /// A file with one address on each line; what follows a `#` is not read.
    File(PathBuf),
}

impl FromSetting for Discover {
    fn from_setting(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no source of servers (write dns:name:port or file:/path)");
        match text.split_once(':') {
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(path.into())),
            Some(("dns", name)) => match name.parse() {
                Ok(ServerAddr::Tcp { host, port }) => Ok(Self::Dns { host, port }),
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Discover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns { host, port } => write!(f, "dns:{host}:{port}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// A file larger than this is not read, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// How long until a changed file is noticed where the system sends no notifications.
const POLL: Duration = Duration::from_secs(2);

/// Follows a source for ever. Cancel safe.
pub(crate) async fn follow(monitor: Arc<Monitor>, source: Discover, interval: Duration) {
    let mut named = BTreeSet::new();
    let mut watch = match &source {
        Discover::File(path) => Some(Watch::new([path.clone()], POLL)),
        Discover::Dns { .. } => None,
    };
    let mut quiet = false;
    loop {
        match look(&source).await {
            Ok(now) if now.is_empty() => {
                // More likely a mistake than a wish to have no server.
                if !std::mem::replace(&mut quiet, true) {
                    tracing::warn!(%source, "no servers are named; those known before stay");
                }
            }
            Ok(now) => {
                quiet = false;
                for gone in named.difference(&now) {
                    tracing::info!(%source, server = %gone, "server no longer named");
                    monitor.remove(gone);
                }
                for new in now.difference(&named) {
                    tracing::info!(%source, server = %new, "server named");
                    monitor.add(new);
                }
                named = now;
            }
            Err(error) => {
                if !std::mem::replace(&mut quiet, true) {
                    tracing::warn!(%source, %error, "cannot look up servers; those known before stay");
                }
            }
        }
        match &mut watch {
            Some(watch) => watch.changed().await,
            None => tokio::time::sleep(interval).await,
        }
    }
}

async fn look(source: &Discover) -> std::io::Result<BTreeSet<ServerAddr>> {
    match source {
        Discover::Dns { host, port } => {
            let found = tokio::net::lookup_host((host.as_str(), *port)).await?;
            Ok(found.map(|at| ServerAddr::Tcp { host: at.ip().to_string(), port: at.port() }).collect())
        }
        Discover::File(path) => read(path),
    }
}

fn read(path: &Path) -> std::io::Result<BTreeSet<ServerAddr>> {
    if std::fs::metadata(path)?.len() > MAX_FILE {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    parse(&std::fs::read_to_string(path)?).map_err(std::io::Error::other)
}

/// The addresses in a file; a mistake anywhere is one in all, since a missing server is worse than a late one.
fn parse(text: &str) -> Result<BTreeSet<ServerAddr>, String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| line.parse().map_err(|error| format!("line {}: {error}", index + 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read() {
        for text in ["dns:redis.default.svc:6379", "file:/etc/redis/servers"] {
            assert_eq!(Discover::from_setting(text).unwrap().to_string(), text);
        }
        for text in ["", "dns:", "dns:host", "file:relative", "http://x", "dns:unix:/x"] {
            assert!(Discover::from_setting(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_are_read() {
        let found = parse("# servers\n10.0.0.1:6379\n\n10.0.0.2:6379 # second\n10.0.0.1:6379\n").unwrap();
        assert_eq!(found.len(), 2);
        assert!(parse("10.0.0.1:6379\nnonsense\n").unwrap_err().starts_with("line 2"));
    }
}
