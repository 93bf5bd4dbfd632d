//! Who owns which slot, from what several nodes say.

use super::{Node, SLOTS};

/// Nobody.
pub const NO_SERVER: u16 = u16::MAX;

/// Owners of slots and their replicas, by server number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotMap {
    owners: Box<[u16]>,
    /// By the primary's number; shorter than there are servers where the last have none.
    replicas: Vec<Vec<usize>>,
    primaries: Vec<usize>,
}

impl SlotMap {
    /// Puts together what nodes say. `number` finds the server of a node, given who was asked and the node.
    pub fn new<'a>(
        views: impl Iterator<Item = (usize, &'a [Node])> + Clone,
        number: impl Fn(usize, &Node) -> Option<usize>,
    ) -> Self {
        let mut owners = vec![NO_SERVER; usize::from(SLOTS)].into_boxed_slice();
        let mut epochs = vec![0u64; usize::from(SLOTS)];
        for (asked, nodes) in views.clone() {
            for node in nodes.iter().filter(|node| node.primary && !node.slots.is_empty()) {
                let Some(server) = number(asked, node).and_then(|server| u16::try_from(server).ok()) else {
                    continue;
                };
                for slot in node.slots.iter().flat_map(|(first, last)| *first..=*last).map(usize::from) {
                    // Of equal claims the owner's own counts.
                    let better = node.epoch > epochs[slot] || (node.epoch == epochs[slot] && node.myself);
                    if owners[slot] == NO_SERVER || better {
                        owners[slot] = server;
                        epochs[slot] = node.epoch;
                    }
                }
            }
        }
        let mut map = Self { owners, replicas: Vec::new(), primaries: Vec::new() };
        map.list_primaries();
        map.find_replicas(views, number);
        map
    }

    fn list_primaries(&mut self) {
        let mut primaries: Vec<usize> = self
            .owners
            .iter()
            .filter(|owner| **owner != NO_SERVER)
            .map(|owner| usize::from(*owner))
            .collect();
        primaries.sort_unstable();
        primaries.dedup();
        self.primaries = primaries;
    }

    fn find_replicas<'a>(
        &mut self,
        views: impl Iterator<Item = (usize, &'a [Node])> + Clone,
        number: impl Fn(usize, &Node) -> Option<usize>,
    ) {
        // What a replica says of itself comes last and counts.
        let mut follows = std::collections::BTreeMap::new();
        for own in [false, true] {
            for (asked, nodes) in views.clone() {
                for node in nodes.iter().filter(|node| !node.failed && node.myself == own) {
                    let Some(server) = number(asked, node) else { continue };
                    let primary =
                        node.follows.as_ref().and_then(|id| nodes.iter().find(|node| node.id == *id));
                    match primary.and_then(|primary| number(asked, primary)) {
                        Some(primary) if !node.primary => follows.insert(server, primary),
                        _ => follows.remove(&server),
                    };
                }
            }
        }
        for (replica, primary) in follows {
            if self.replicas.len() <= primary {
                self.replicas.resize(primary + 1, Vec::new());
            }
            self.replicas[primary].push(replica);
        }
    }

    /// The owner of a slot.
    pub fn owner(&self, slot: u16) -> Option<usize> {
        self.owners
            .get(usize::from(slot))
            .filter(|owner| **owner != NO_SERVER)
            .map(|owner| usize::from(*owner))
    }

    /// Every server that owns a slot, in order.
    pub fn primaries(&self) -> &[usize] {
        &self.primaries
    }

    /// The lowest of a server's slots.
    pub fn lowest_slot(&self, server: usize) -> Option<u16> {
        let at = self.owners.iter().position(|owner| usize::from(*owner) == server)?;
        u16::try_from(at).ok()
    }

    /// The replicas of a primary.
    pub fn replicas(&self, primary: usize) -> &[usize] {
        self.replicas.get(primary).map_or(&[], Vec::as_slice)
    }

    /// Whether a server owns any slot.
    pub fn owns(&self, server: usize) -> bool {
        self.primaries.binary_search(&server).is_ok()
    }

    /// The primary of a replica.
    pub fn followed(&self, replica: usize) -> Option<usize> {
        self.replicas.iter().position(|replicas| replicas.contains(&replica))
    }

    /// Whether every slot has an owner.
    pub fn is_complete(&self) -> bool {
        !self.owners.contains(&NO_SERVER)
    }

    /// A node has said who owns a slot now; true when that is news.
    pub fn learn(&mut self, slot: u16, server: usize) -> bool {
        let Ok(number) = u16::try_from(server) else { return false };
        match self.owners.get_mut(usize::from(slot)) {
            Some(owner) if *owner != number => *owner = number,
            _ => return false,
        }
        if let Err(at) = self.primaries.binary_search(&server) {
            self.primaries.insert(at, server);
        }
        true
    }
}
