//! How many different members a StatsD set saw in its window.

/// Members counted exactly; beyond, a HyperLogLog estimates within about 1.6 %.
const EXACT: usize = 512;
/// Registers of the estimator, a power of two.
const REGISTERS: usize = 4096;

/// Distinct members of one period.
#[derive(Clone, Debug)]
enum Distinct {
    /// Sorted hashes.
    Exact(Vec<u64>),
    /// Flajolet, Fusy, Gandouet and Meunier, "HyperLogLog" (2007).
    Estimated(Box<[u8; REGISTERS]>),
}

impl Distinct {
    fn insert(&mut self, hash: u64) {
        match self {
            Self::Exact(hashes) => match hashes.binary_search(&hash) {
                Ok(_) => {}
                Err(at) if hashes.len() < EXACT => hashes.insert(at, hash),
                Err(_) => {
                    let mut registers = Box::new([0; REGISTERS]);
                    hashes.iter().chain([&hash]).for_each(|hash| record(&mut registers, *hash));
                    *self = Self::Estimated(registers);
                }
            },
            Self::Estimated(registers) => record(registers, hash),
        }
    }

    fn count(&self) -> f64 {
        match self {
            Self::Exact(hashes) => hashes.len() as f64,
            Self::Estimated(registers) => estimate(registers),
        }
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Exact(hashes) => hashes.capacity() * size_of::<u64>(),
            Self::Estimated(_) => REGISTERS,
        }
    }
}

fn record(registers: &mut [u8; REGISTERS], hash: u64) {
    let index = (hash >> (64 - REGISTERS.trailing_zeros())) as usize;
    let rest = hash << REGISTERS.trailing_zeros();
    let rank = (rest.leading_zeros() + 1).min(64 - REGISTERS.trailing_zeros() + 1) as u8;
    registers[index] = registers[index].max(rank);
}

fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    let size = REGISTERS as f64;
    let sum: f64 = registers.iter().map(|rank| 2_f64.powi(-i32::from(*rank))).sum();
    let raw = 0.7213 / (1.0 + 1.079 / size) * size * size / sum;
    let empty = registers.iter().filter(|rank| **rank == 0).count();
    // Few members leave registers empty, and counting those is more exact.
    if raw <= 2.5 * size && empty > 0 { (size * (size / empty as f64).ln()).round() } else { raw.round() }
}

/// Distinct members over a sliding window: of two overlapping halves the older one answers.
#[derive(Clone, Debug)]
pub(super) struct Members {
    older: Distinct,
    newer: Distinct,
    turn_at: u64,
}

impl Members {
    /// An empty set; times in milliseconds.
    pub(super) fn new(window: u64, now: u64) -> Self {
        let empty = || Distinct::Exact(Vec::new());
        Self { older: empty(), newer: empty(), turn_at: now.saturating_add(window / 2) }
    }

    /// Adds a member, given by its hash.
    pub(super) fn insert(&mut self, hash: u64, window: u64, now: u64) {
        self.turn(window, now);
        self.older.insert(hash);
        self.newer.insert(hash);
    }

    /// Distinct members of the last half to whole window.
    pub(super) fn count(&mut self, window: u64, now: u64) -> f64 {
        self.turn(window, now);
        self.older.count()
    }

    /// Bytes held on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.older.heap_bytes() + self.newer.heap_bytes()
    }

    fn turn(&mut self, window: u64, now: u64) {
        if now < self.turn_at {
            return;
        }
        let half = (window / 2).max(1);
        let empty = || Distinct::Exact(Vec::new());
        let newer = std::mem::replace(&mut self.newer, empty());
        self.older = if now - self.turn_at < half { newer } else { empty() };
        self.turn_at = now.saturating_add(half);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    fn hash(n: u64) -> u64 {
        foldhash::quality::FixedState::default().hash_one(n)
    }

    #[test]
    fn exact_then_estimated() {
        let mut set = Members::new(1000, 0);
        for n in 0..1024 {
            set.insert(hash(n % 512), 1000, 0);
        }
        assert_eq!(set.count(1000, 0), 512.0);
        for size in [2_000, 20_000, 200_000] {
            (0..size).for_each(|n| set.insert(hash(n), 1000, 0));
            let off = (set.count(1000, 0) / size as f64 - 1.0).abs();
            assert!(off < 0.06, "{size}: {off}");
        }
        assert!(set.heap_bytes() <= 2 * REGISTERS);
    }

    #[test]
    fn members_leave_with_the_window() {
        let mut set = Members::new(1000, 0);
        set.insert(1, 1000, 0);
        set.insert(2, 1000, 900);
        assert_eq!(set.count(1000, 999), 2.0);
        set.insert(3, 1000, 1600);
        assert_eq!(set.count(1000, 5000), 0.0);
    }
}
