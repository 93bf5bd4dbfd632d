//! A server's name, looked up again and again while it is in use.

use crate::address::ServerAddr;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What a name has been resolved to.
#[derive(Debug)]
pub(super) struct Name {
    /// `None` for what needs no resolving.
    host: Option<(String, u16)>,
    known: BTreeSet<IpAddr>,
    interval: Duration,
    next: Instant,
}

impl Name {
    pub(super) fn new(address: &ServerAddr, interval: Duration) -> Self {
        let host = match address {
            ServerAddr::Tcp { host, port } if host.parse::<IpAddr>().is_err() => Some((host.clone(), *port)),
            _ => None,
        };
        Self { host, known: BTreeSet::new(), interval, next: Instant::now() }
    }

    /// Whether the name now means entirely other addresses than before; looks no more often than the interval.
    pub(super) async fn has_moved(&mut self) -> bool {
        let Some((host, port)) = &self.host else { return false };
        if Instant::now() < self.next {
            return false;
        }
        self.next = Instant::now() + self.interval;
        let look = tokio::net::lookup_host((host.as_str(), *port));
        let Ok(Ok(found)) = tokio::time::timeout(self.interval, look).await else { return false };
        self.learn(found.map(|at| at.ip()).collect())
    }

    fn learn(&mut self, found: BTreeSet<IpAddr>) -> bool {
        if found.is_empty() {
            return false;
        }
        // A name with many addresses may show some of them at a time.
        let moved = !self.known.is_empty() && self.known.is_disjoint(&found);
        self.known = found;
        moved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_moves_when_nothing_of_it_stays() {
        let mut name = Name::new(&"redis.example:6379".parse().unwrap(), Duration::from_secs(1));
        let set = |ips: &[&str]| ips.iter().map(|ip| ip.parse().unwrap()).collect::<BTreeSet<IpAddr>>();
        assert!(!name.learn(set(&["10.0.0.1"])));
        assert!(!name.learn(set(&["10.0.0.1", "10.0.0.2"])));
        assert!(!name.learn(set(&[])), "a failed look-up is no move");
        assert!(!name.learn(set(&["10.0.0.2"])));
        assert!(name.learn(set(&["10.0.0.3"])));
        assert!(Name::new(&"10.0.0.1:1".parse().unwrap(), Duration::ZERO).host.is_none());
    }
}
