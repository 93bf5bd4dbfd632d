//! What the nodes of a Redis Cluster say of each other.

use super::Observation;
use super::monitor::{Monitor, State};
use super::observe::text;
use crate::address::ServerAddr;
use crate::cluster::{Node, SlotMap, parse_nodes};
use crate::route::{Standing, View};
use redis::Value;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
use std::sync::Arc;

/// What each node said last, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct Views {
    nodes: HashMap<usize, Vec<Node>>,
    pub(super) map: Option<Arc<SlotMap>>,
    /// What nodes call each other.
    pub(super) aliases: Arc<HashMap<(String, u16), usize>>,
}

impl Monitor {
    /// Whether nodes are reached by the names that they announce.
    fn by_name(&self) -> bool {
        self.access().tls().is_some_and(|tls| tls.proves_hosts())
    }

    /// Asks a node whom it knows; cancel safe.
    pub(super) async fn learn_nodes(
        self: &Arc<Self>,
        server: usize,
        address: &Arc<ServerAddr>,
        connection: &mut Option<MultiplexedConnection>,
    ) {
        let answer = match connection {
            Some(open) => redis::cmd("CLUSTER").arg("NODES").query_async::<Value>(open).await.ok(),
            None => None,
        };
        let nodes = answer.as_ref().and_then(text).map(|text| parse_nodes(&text)).unwrap_or_default();
        let by_name = self.by_name();
        for node in nodes.iter().filter(|node| !node.failed) {
            if let Some(found) = reach(node, address, by_name) {
                self.add(&found);
            }
        }
        let mut state = self.lock();
        if !state.is_current(server, address) {
            return;
        }
        if nodes.is_empty() {
            // What it said before it fell silent no longer counts against what others say.
            if state.cluster.nodes.remove(&server).is_none() {
                return;
            }
        } else {
            state.cluster.nodes.insert(server, nodes);
        }
        if state.draw(by_name) {
            self.void_offsets();
            self.decide(&mut state);
        }
    }
}

/// Where a node is, given who told of it. Addresses are preferred, since names may not be resolvable here, unless
/// certificates have to prove names.
fn reach(node: &Node, told_by: &ServerAddr, by_name: bool) -> Option<ServerAddr> {
    let unknown = matches!(node.host.as_str(), "" | "?");
    let host = match (&node.hostname, told_by) {
        (Some(name), _) if by_name || unknown => name.clone(),
        (_, ServerAddr::Tcp { host, .. }) if unknown => host.clone(),
        _ if unknown => return None,
        _ => node.host.clone(),
    };
    // A node that is only being met has no port yet; the one that was asked is where it was asked.
    match node.port {
        0 if node.myself => Some(told_by.clone()),
        0 => None,
        port => Some(ServerAddr::Tcp { host, port }),
    }
}

impl State {
    /// Draws the map anew; true when it has changed.
    fn draw(&mut self, by_name: bool) -> bool {
        if self.cluster.nodes.is_empty() {
            // Nobody answers: the last map is the best there is.
            return false;
        }
        let numbers: HashMap<&ServerAddr, usize> = self
            .servers
            .iter()
            .enumerate()
            .filter(|(server, _)| !self.retired[*server])
            .map(|(server, address)| (&**address, server))
            .collect();
        let number = |asked: usize, node: &Node| {
            // The seed may be named differently from how the node calls itself.
            let address = reach(node, self.servers.get(asked)?, by_name)?;
            numbers.get(&address).copied()
        };
        let views = self.cluster.nodes.iter().map(|(asked, nodes)| (*asked, nodes.as_slice()));
        let map = SlotMap::new(views, number);
        if self.cluster.map.as_deref() == Some(&map) {
            return false;
        }
        let mut aliases = HashMap::new();
        for (asked, nodes) in &self.cluster.nodes {
            for node in nodes {
                let Some(server) = number(*asked, node) else { continue };
                for name in node.hostname.iter().chain([&node.host]).filter(|name| !name.is_empty()) {
                    aliases.insert((name.clone(), node.port), server);
                }
            }
        }
        tracing::info!(
            primaries = map.primaries().len(),
            complete = map.is_complete(),
            "slots of the cluster"
        );
        self.cluster.map = Some(Arc::new(map));
        self.cluster.aliases = Arc::new(aliases);
        true
    }

    /// Who serves what. The primary is the one that answers what concerns no key.
    pub(super) fn decide_cluster(&self) -> View {
        let map = self.cluster.map.clone();
        let mut servers: Vec<Standing> = self.observations.iter().map(standing).collect();
        for (server, standing) in servers.iter_mut().enumerate() {
            standing.fit &= map.as_ref().is_some_and(|map| map.followed(server).is_some());
        }
        let owns = |server: usize| map.as_ref().is_some_and(|map| map.owns(server));
        let claims =
            |server: usize| matches!(self.observations.get(server), Some(Observation::Primary { .. }));
        // Whoever is busy with a script goes on saying so, as one server would.
        let busy = Observation::Silent("BUSY".to_owned());
        let is_busy = |server: usize| self.observations.get(server) == Some(&busy);
        let stays = |server: &usize| owns(*server) && (claims(*server) || is_busy(*server));
        let first =
            || map.as_ref().and_then(|map| map.primaries().iter().copied().find(|server| claims(*server)));
        let primary = self.evidence.previous.filter(stays).or_else(first);
        View { primary, servers, cluster: map }
    }
}

fn standing(observation: &Observation) -> Standing {
    match observation {
        Observation::Unknown | Observation::Unreachable(_) => Standing::default(),
        Observation::Replica { link, offset, .. } => {
            Standing { fit: link != "sync" && offset.is_some(), reachable: true }
        }
        _ => Standing { fit: false, reachable: true },
    }
}
