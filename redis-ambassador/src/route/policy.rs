//! Which replica is asked next. Pure.

/// How reads are spread over the replicas that are fit.
///
/// ```
/// # let mut config = redis_ambassador::Config::new("10.0.0.1:6379".parse()?, vec![]);
///
/// config.reads.policy = redis_ambassador::Policy::Nearest;
/// # Ok::<(), redis_ambassador::InvalidAddr>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// The one with the least outstanding requests for its weight; slower ones count as busier.
    #[default]
    Least,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// Those that answer probes soonest.
    Nearest,
    /// Those of the own zone while there are any.
    Zone,
    /// None: the primary answers everything.
    Primary,
    /// Replicas and nobody else: without one that is fit and fresh, reads wait.
    Replica,
}

impl Policy {
    /// Every policy, by the name it has in settings.
    pub const NAMES: [(&'static str, Self); 7] = [
        ("least-outstanding", Self::Least),
        ("round-robin", Self::RoundRobin),
        ("random", Self::Random),
        ("nearest", Self::Nearest),
        ("zone-first", Self::Zone),
        ("primary-only", Self::Primary),
        ("replica-only", Self::Replica),
    ];

    /// Its name in settings.
    ///
    /// ```
    /// assert_eq!(redis_ambassador::Policy::Zone.name(), "zone-first");
    /// ```
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, policy)| *policy == self).map_or("", |(name, _)| name)
    }
}

/// A replica that may serve reads, and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its number.
    pub server: usize,
    /// Its share of the reads; 0 is none.
    pub weight: u32,
    /// In the zone of this ambassador.
    pub local: bool,
    /// Round trip of a probe, in microseconds, when one was measured.
    pub distance: Option<u32>,
    /// How long its answers take of late, in microseconds; 0 when it was not asked.
    pub latency: u32,
}

/// Requests outstanding on one server count in steps of this size: those of one turn of the loop stay together, and
/// are written and answered together, unless they are many.
const STEP: u32 = 16;
/// Differences of latency below this many microseconds are noise.
const NOISE: u32 = 300;
/// Of so many turns one belongs to a server that counts as slow, so that what is known of it doesn't grow old.
const EXPLORATION: usize = 64;
/// A slow server counts at most this many times as busy, as a power of two.
const MAX_SLOWNESS: u32 = 6;

/// Chooses among the candidates it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chooser {
    policy: Policy,
    /// Servers by number, without repetition.
    servers: Vec<usize>,
    /// By position in `servers`: weight and slowness.
    burdens: Vec<(u32, u32)>,
    /// Positions of those that count as slow.
    slow: Vec<u16>,
    /// Positions in the order of turns; a heavy server comes more often.
    order: Vec<u16>,
}

impl Chooser {
    /// Prepares a choice.
    pub fn new(policy: Policy, candidates: &[Candidate]) -> Self {
        let mut eligible: Vec<Candidate> =
            candidates.iter().filter(|candidate| candidate.weight > 0).copied().collect();
        match policy {
            Policy::Primary => eligible.clear(),
            Policy::Zone if eligible.iter().any(|candidate| candidate.local) => {
                eligible.retain(|candidate| candidate.local);
            }
            Policy::Nearest => {
                let nearest = eligible.iter().filter_map(|candidate| candidate.distance).min();
                if let Some(nearest) = nearest {
                    // Half as far again is as near.
                    let limit = nearest.saturating_add((nearest / 2).max(NOISE));
                    eligible.retain(|candidate| candidate.distance.is_some_and(|distance| distance <= limit));
                }
            }
            _ => {}
        }
        let quickest =
            eligible.iter().map(|candidate| candidate.latency).filter(|latency| *latency > 0).min();
        let slowness = |candidate: &Candidate| slowness(candidate.latency, quickest.unwrap_or(0));
        let burdens: Vec<_> =
            eligible.iter().map(|candidate| (candidate.weight, slowness(candidate))).collect();
        let slow = (0u16..).zip(&burdens).filter(|(_, (_, slowness))| *slowness > 0).map(|(at, _)| at);
        Self {
            policy,
            slow: slow.collect(),
            order: turns(&burdens),
            servers: eligible.iter().map(|candidate| candidate.server).collect(),
            burdens,
        }
    }

    /// The servers it chooses among.
    pub fn servers(&self) -> &[usize] {
        &self.servers
    }

    /// The policy it follows.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Picks one. `turn` says whose turn it is among equals, `random` is any number.
    #[inline]
    pub fn pick(&self, outstanding: impl Fn(usize) -> u32, turn: usize, random: u64) -> Option<usize> {
        match (self.policy, self.servers.as_slice()) {
            (_, []) => None,
            (_, [only]) => Some(*only),
            (Policy::RoundRobin, servers) => Some(servers[usize::from(self.order[turn % self.order.len()])]),
            (Policy::Random, servers) => {
                Some(servers[usize::from(self.order[(random % self.order.len() as u64) as usize])])
            }
            (_, servers) => {
                if let Some(explored) = self.explored(turn)
                    && outstanding(servers[explored]) == 0
                {
                    return Some(servers[explored]);
                }
                let burden = |at: usize| {
                    let (weight, slowness) = self.burdens[at];
                    (outstanding(servers[at]) / (STEP * weight) + 1) << slowness
                };
                let mut best = usize::from(self.order[turn % self.order.len()]);
                let mut least = burden(best);
                for at in 0..servers.len() {
                    let burden = burden(at);
                    if burden < least {
                        (best, least) = (at, burden);
                    }
                }
                Some(servers[best])
            }
        }
    }

    /// The position of the slow server whose turn it is to show whether it still is.
    #[inline]
    fn explored(&self, turn: usize) -> Option<usize> {
        if self.slow.is_empty() || turn % EXPLORATION != EXPLORATION - 1 {
            return None;
        }
        Some(usize::from(self.slow[turn / EXPLORATION % self.slow.len()]))
    }
}

/// How much slower than the quickest, as a power of two.
fn slowness(latency: u32, quickest: u32) -> u32 {
    if quickest == 0 || latency <= quickest.saturating_add(NOISE) {
        return 0;
    }
    (latency / quickest).max(1).ilog2().min(MAX_SLOWNESS)
}

/// The order of turns in which every position comes as often as its weight, evenly spread.
fn turns(burdens: &[(u32, u32)]) -> Vec<u16> {
    let divisor = burdens.iter().fold(0, |divisor, (weight, _)| common_divisor(divisor, *weight));
    if divisor == 0 {
        return Vec::new();
    }
    let weights: Vec<i64> = burdens.iter().map(|(weight, _)| i64::from(weight / divisor)).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0; weights.len()];
    let mut order = Vec::with_capacity(total as usize);
    for _ in 0..total {
        credit.iter_mut().zip(&weights).for_each(|(credit, weight)| *credit += weight);
        let next = (0..credit.len()).rev().max_by_key(|at| credit[*at]).unwrap_or(0);
        credit[next] -= total;
        order.push(next as u16);
    }
    order
}

fn common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(server: usize) -> Candidate {
        Candidate { server, weight: 1, local: false, distance: None, latency: 0 }
    }

    fn shares(chooser: &Chooser, turns: usize) -> Vec<usize> {
        let mut shares = vec![0; 4];
        let picks = (0..turns).filter_map(|turn| chooser.pick(|_| 0, turn, turn as u64 * 7));
        picks.for_each(|server| shares[server] += 1);
        shares
    }

    #[test]
    fn the_least_busy_wins_and_equals_take_turns() {
        let chooser = Chooser::new(Policy::Least, &[0, 1, 2].map(candidate));
        let busy = |server: usize| [70, 20, 31][server];
        assert_eq!(chooser.pick(busy, 1, 0), Some(1));
        assert_eq!(chooser.pick(busy, 2, 0), Some(2));
        assert_eq!(chooser.pick(busy, 0, 0), Some(1));
        assert_eq!(Chooser::new(Policy::Least, &[]).pick(busy, 0, 0), None);
        assert_eq!(shares(&chooser, 30), [10, 10, 10, 0]);
    }

    #[test]
    fn weights_share_turns_and_load() {
        let candidates = [Candidate { weight: 30, ..candidate(0) }, Candidate { weight: 10, ..candidate(1) }];
        for policy in [Policy::Least, Policy::RoundRobin, Policy::Random] {
            assert_eq!(shares(&Chooser::new(policy, &candidates), 400), [300, 100, 0, 0], "{policy:?}");
        }
        let chooser = Chooser::new(Policy::Least, &candidates);
        assert_eq!(chooser.pick(|server| [16 * 10, 16 * 10][server], 3, 0), Some(0));
        let none = [Candidate { weight: 0, ..candidate(0) }, candidate(1)];
        assert_eq!(shares(&Chooser::new(Policy::Least, &none), 10), [0, 10, 0, 0]);
    }

    #[test]
    fn a_slow_server_counts_as_busy() {
        let candidates =
            [Candidate { latency: 200, ..candidate(0) }, Candidate { latency: 1700, ..candidate(1) }];
        let chooser = Chooser::new(Policy::Least, &candidates);
        assert_eq!(shares(&chooser, 10), [10, 0, 0, 0]);
        assert_eq!(chooser.pick(|server| [16 * 8, 0][server], 0, 0), Some(1));
        let near = [Candidate { latency: 200, ..candidate(0) }, Candidate { latency: 450, ..candidate(1) }];
        assert_eq!(shares(&Chooser::new(Policy::Least, &near), 10), [5, 5, 0, 0]);
    }

    #[test]
    fn every_slow_server_is_tried_now_and_then() {
        let slow = |server| Candidate { latency: 50_000, ..candidate(server) };
        let chooser =
            Chooser::new(Policy::Least, &[Candidate { latency: 200, ..candidate(0) }, slow(1), slow(2)]);
        assert_eq!(shares(&chooser, 8 * EXPLORATION), [8 * EXPLORATION - 8, 4, 4, 0]);
        // One that has not answered the last attempt gets no other.
        let busy = |server: usize| u32::from(server != 0);
        assert!((0..8 * EXPLORATION).all(|turn| chooser.pick(busy, turn, 0) == Some(0)));
    }

    #[test]
    fn zones_and_distances_narrow_the_choice() {
        let zoned = [candidate(0), Candidate { local: true, ..candidate(1) }];
        assert_eq!(shares(&Chooser::new(Policy::Zone, &zoned), 10), [0, 10, 0, 0]);
        assert_eq!(shares(&Chooser::new(Policy::Zone, &zoned[..1]), 10), [10, 0, 0, 0]);
        let far = |server, distance| Candidate { distance, ..candidate(server) };
        let spread = [far(0, Some(900)), far(1, Some(1000)), far(2, Some(9000)), far(3, None)];
        assert_eq!(shares(&Chooser::new(Policy::Nearest, &spread), 10), [5, 5, 0, 0]);
        assert_eq!(shares(&Chooser::new(Policy::Nearest, &[far(3, None)]), 10), [0, 0, 0, 10]);
        assert_eq!(shares(&Chooser::new(Policy::Primary, &zoned), 10), [0; 4]);
    }
}
