//! Which server gets a request. Pure: the state of the servers comes in, a choice goes out.

mod fence;
mod policy;
mod rules;

use crate::cluster::SlotMap;

pub use fence::{Fence, Milestones, Writes};
pub use policy::{Candidate, Chooser, Policy};
pub use rules::{ReadRules, Rule};

/// What the topology says of one server. Servers are known by a small number that never changes its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// It may serve reads.
    pub fit: bool,
    /// It answers at all.
    pub reachable: bool,
}

/// The servers as routing sees them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The server that takes writes, when one is known.
    pub primary: Option<usize>,
    /// Indexed by server number.
    pub servers: Vec<Standing>,
    /// Redis Cluster: who owns which slot. The primary is then the one that answers what concerns no key.
    pub cluster: Option<std::sync::Arc<SlotMap>>,
}

impl View {
    /// What keeps writes from being served, if anything does.
    pub fn lacks(&self) -> Option<&'static str> {
        match (&self.cluster, self.primary) {
            (_, None) => Some("no primary is known"),
            (Some(map), _) if !map.is_complete() => Some("slots of the cluster have no owner"),
            (Some(map), _) if !map.primaries().iter().all(|server| self.is_owner(*server)) => {
                Some("a primary of the cluster does not answer")
            }
            _ => None,
        }
    }

    /// Whether a server gets any requests.
    pub fn uses(&self, server: usize) -> bool {
        self.primary == Some(server)
            || self.servers.get(server).is_some_and(|standing| standing.fit)
            || self.is_owner(server)
    }

    /// Whether a server owns slots of a cluster.
    pub fn is_shard_primary(&self, server: usize) -> bool {
        self.cluster.as_ref().is_some_and(|map| map.owns(server))
    }

    /// Whether a server owns slots of a cluster and answers.
    pub fn is_owner(&self, server: usize) -> bool {
        self.is_shard_primary(server) && self.servers.get(server).is_some_and(|standing| standing.reachable)
    }

    /// The replicas that may serve reads.
    pub fn replicas(&self) -> impl Iterator<Item = usize> + '_ {
        let fit = self.servers.iter().enumerate().filter(|(_, standing)| standing.fit);
        fit.map(|(server, _)| server).filter(|server| Some(*server) != self.primary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_is_not_among_the_replicas() {
        let up = Standing { fit: true, reachable: true };
        let down = Standing::default();
        let view = View { primary: Some(0), servers: vec![up, up, down, up], ..View::default() };
        assert_eq!(view.replicas().collect::<Vec<_>>(), [1, 3]);
    }
}
