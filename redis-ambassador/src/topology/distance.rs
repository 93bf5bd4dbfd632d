//! How long a server takes to answer probes. Pure.

use std::time::Duration;

/// The last few round trips. The quickest of them counts, since what delays one of them is seldom the server.
#[derive(Debug, Clone, Default)]
pub(super) struct Distance {
    trips: [Option<Duration>; KEPT],
    next: usize,
    slow: bool,
}

const KEPT: usize = 3;

impl Distance {
    /// Notes a round trip.
    pub(super) fn add(&mut self, trip: Duration) {
        self.trips[self.next] = Some(trip);
        self.next = (self.next + 1) % KEPT;
    }

    /// The quickest round trip of late.
    pub(super) fn get(&self) -> Option<Duration> {
        self.trips.iter().flatten().min().copied()
    }

    /// Whether a replica is slow: every round trip of late took longer than the limit, and much longer than those of
    /// the primary, since otherwise it is the way there that is slow, or this machine. Once it is, it has to be twice
    /// as quick. A limit of zero is none.
    pub(super) fn judge(&mut self, limit: Duration, primary: Option<Duration>) -> bool {
        let limit = if self.slow { limit / 2 } else { limit };
        let all = self.slow || self.trips.iter().all(Option::is_some);
        self.slow = !limit.is_zero()
            && all
            && self
                .get()
                .is_some_and(|trip| trip > limit && primary.is_none_or(|primary| trip > primary * 2));
        self.slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_is_what_is_always_slow() {
        let (limit, mut distance) = (Duration::from_millis(100), Distance::default());
        let ms = Duration::from_millis;
        let mut after = |trips: &[u64], primary| {
            trips.iter().for_each(|trip| distance.add(ms(*trip)));
            distance.judge(limit, primary)
        };
        assert!(!after(&[300, 300], Some(ms(1))));
        assert!(!after(&[50], Some(ms(1))));
        assert!(!after(&[300, 300, 300], Some(ms(200))), "the primary is no quicker");
        assert!(after(&[300, 300, 300], Some(ms(1))));
        assert!(after(&[90], Some(ms(1))), "not yet good");
        assert!(!after(&[40], Some(ms(1))));
        assert_eq!(distance.get(), Some(ms(40)));
        assert!(!distance.judge(Duration::ZERO, None));
    }
}
