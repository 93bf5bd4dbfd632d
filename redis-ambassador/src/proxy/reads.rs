//! Which replica gets the next read, and which get none for a while.

use super::hub::Hub;
use crate::route::{Chooser, Policy};
use crate::upstream::Link;
use std::rc::Rc;

/// How one server has answered this worker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Health {
    /// Hub clock until which it gets no reads.
    until: u64,
    /// Failures in a row.
    strikes: u32,
    /// How long its answers to reads take of late, in microseconds.
    latency: u32,
}

/// How long a server that has just failed gets no reads, in microseconds, unless the topology clears it; twice as long
/// after each further failure.
const SUSPENSION: u64 = 250_000;
/// The longest suspension is this many doublings of the first.
const MAX_DOUBLINGS: u32 = 5;
/// From so many failures in a row on, only time clears a server.
const STUBBORN: u32 = 3;

impl Hub {
    /// The replica for the next read of a lane.
    #[inline]
    pub(super) fn replica(&self, lane: usize) -> Option<usize> {
        self.pick(&self.chooser.borrow(), lane)
    }

    /// The choice of a chooser for the next read of a lane.
    #[inline]
    pub(super) fn pick(&self, chooser: &Chooser, lane: usize) -> Option<usize> {
        match chooser.servers() {
            [] => return None,
            [only] => return Some(*only),
            _ => {}
        }
        let turn = self.turn.get();
        match chooser.policy() {
            // Whoever asks for turns gets them, although that splits what could be sent together.
            Policy::RoundRobin => self.turn.set(turn.wrapping_add(1)),
            _ => self.picked.set(true),
        }
        let lanes = self.lanes.borrow();
        let links = lanes.get(lane).map_or(&[][..], |lane| &lane.links);
        let outstanding = |server: usize| {
            links.get(server).and_then(Option::as_ref).map_or(0, |link| link.outstanding.get())
        };
        let thrown = if chooser.policy() == Policy::Random { self.throw() } else { 0 };
        chooser.pick(outstanding, turn, thrown)
    }

    /// Any number.
    pub(super) fn throw(&self) -> u64 {
        let mut state = self.dice.get();
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        self.dice.set(state);
        state
    }

    /// Whether reads that a replica could answer may go to nobody else.
    #[inline]
    pub(super) fn only_replicas(&self) -> bool {
        self.replicas_only.get()
    }

    /// Gives a server no reads for a while.
    pub(super) fn suspend(&self, server: usize) {
        let now = self.now();
        {
            let mut health = self.health.borrow_mut();
            if health.len() <= server {
                health.resize(server + 1, Health::default());
            }
            let health = &mut health[server];
            // What several connections tell at once is one failure.
            if health.until <= now {
                health.strikes = health.strikes.saturating_add(1);
            }
            health.until = now + (SUSPENSION << (health.strikes - 1).min(MAX_DOUBLINGS));
            if health.strikes == STUBBORN {
                let name = self.topology.borrow().name(server);
                self.metrics.ejected(&name, "failing");
            }
        }
        self.refresh_candidates();
    }

    /// The topology has looked at every server: what has failed only now and then is given another chance.
    pub(super) fn forgive(&self) {
        for health in self.health.borrow_mut().iter_mut().filter(|health| health.strikes < STUBBORN) {
            health.until = 0;
        }
    }

    /// Forgets what is known of a server whose number means another one now.
    pub(super) fn forget_health(&self, server: usize) {
        if let Some(health) = self.health.borrow_mut().get_mut(server) {
            *health = Health::default();
        }
    }

    /// Takes over how quickly servers have answered since the last look, and takes those out of use that let reads
    /// wait.
    pub(super) fn weigh_servers(&self) {
        let now = self.now();
        let count = self.view.borrow().servers.len();
        {
            let mut health = self.health.borrow_mut();
            if health.len() < count {
                health.resize(count, Health::default());
            }
            for (server, health) in health.iter_mut().enumerate() {
                let (sum, answers) = self.metrics.take_reads(server);
                health.latency = match sum.checked_div(answers) {
                    // Nobody asked it, perhaps because it was slow: bit by bit it gets another chance.
                    None => health.latency - health.latency.div_ceil(8),
                    Some(fresh) => {
                        if health.until <= now {
                            health.strikes = 0;
                        }
                        let fresh = fresh.min(u64::from(u32::MAX) / 4) as u32;
                        if health.latency == 0 { fresh } else { health.latency / 4 * 3 + fresh / 4 }
                    }
                };
            }
        }
        for server in self.late_servers(now) {
            let name = self.topology.borrow().name(server);
            tracing::warn!(server = name, "replica lets reads wait; it gets none for a while");
            self.metrics.ejected(&name, "slow");
            self.suspend(server);
        }
        self.refresh_candidates();
    }

    /// The replicas in use that have let a read wait for longer than is allowed.
    fn late_servers(&self, now: u64) -> Vec<usize> {
        let limit = self.live.get().max_latency.as_micros() as u64;
        if limit == 0 {
            return Vec::new();
        }
        let view = self.view.borrow();
        let health = self.health.borrow();
        let late = |link: &Rc<Link>| {
            let server = link.server.get();
            let state = link.state.borrow();
            let waits = state.waiters.front().is_some_and(|waiter| {
                waiter.anywhere && now.saturating_sub(waiter.since + u64::from(waiter.delay)) > limit
            });
            waits
                && view.primary != Some(server)
                && !view.is_owner(server)
                && health.get(server).is_none_or(|health| health.until <= now)
        };
        let lanes = self.lanes.borrow();
        let links = lanes.iter().flat_map(|lane| &lane.links).flatten();
        let mut servers: Vec<usize> = links.filter(|link| late(link)).map(|link| link.server.get()).collect();
        servers.sort_unstable();
        servers.dedup();
        servers
    }

    /// Decides anew which replicas get reads.
    pub(super) fn refresh_candidates(&self) {
        let now = self.now();
        let view = self.view.borrow();
        let chooser = {
            let health = self.health.borrow();
            let topology = self.topology.borrow();
            let rules = self.reads.borrow();
            // Distances change without anybody being woken.
            let latest = self.settings.latest.borrow();
            let candidates: Vec<_> = view
                .replicas()
                .filter(|server| health.get(*server).is_none_or(|health| health.until <= now))
                .filter_map(|server| {
                    let mut candidate = rules.candidate(server, topology.servers.get(server)?);
                    let distance = latest.distances.get(server).copied().flatten();
                    candidate.distance = distance.map(|trip| trip.as_micros().min(1 << 31) as u32);
                    candidate.latency = health.get(server).map_or(0, |health| health.latency);
                    Some(candidate)
                })
                .collect();
            if self.clustered.get() {
                self.cluster.borrow_mut().choose(&candidates, rules.policy);
            }
            Chooser::new(rules.policy, &candidates)
        };
        *self.chooser.borrow_mut() = chooser;
    }
}
