//! How far replicas are behind, in time. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When the primary had which offset.
#[derive(Debug, Default)]
pub(super) struct LagClock {
    samples: VecDeque<(Instant, u64)>,
}

/// Time between two samples.
const SPACING: Duration = Duration::from_millis(100);
/// Samples kept: the last [`MAX_LAG`] of them.
const MAX_SAMPLES: usize = 3000;
/// Longer lags are not told apart.
pub(crate) const MAX_LAG: Duration = Duration::from_secs(300);

impl LagClock {
    /// The primary's offset now.
    pub(super) fn add(&mut self, now: Instant, offset: u64) {
        match self.samples.back() {
            // A new history.
            Some((_, last)) if *last > offset => self.samples.clear(),
            // Nothing was written: what was behind the earlier sample is behind this one.
            Some((since, last)) if *last == offset || now.saturating_duration_since(*since) < SPACING => {
                return;
            }
            _ => {}
        }
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now, offset));
    }

    /// For how long a replica with this offset has lacked something that the primary had.
    pub(super) fn lag(&self, now: Instant, offset: u64) -> Duration {
        let behind = self.samples.partition_point(|(_, sample)| *sample <= offset);
        self.samples.get(behind).map_or(Duration::ZERO, |(since, _)| now.saturating_duration_since(*since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_the_first_thing_that_is_missing() {
        let (mut clock, start) = (LagClock::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        assert_eq!(clock.lag(at(0), 0), Duration::ZERO);
        for (second, offset) in [(1, 100), (2, 100), (3, 200), (4, 300)] {
            clock.add(at(second), offset);
        }
        assert_eq!(clock.lag(at(5), 300), Duration::ZERO);
        assert_eq!(clock.lag(at(5), 250), Duration::from_secs(1));
        assert_eq!(clock.lag(at(5), 150), Duration::from_secs(2));
        assert_eq!(clock.lag(at(5), 50), Duration::from_secs(4));
        clock.add(at(6), 10);
        assert_eq!(clock.lag(at(7), 50), Duration::ZERO);
    }

    #[test]
    fn samples_are_bounded() {
        let (mut clock, start) = (LagClock::default(), Instant::now());
        (0..50_000).for_each(|step| clock.add(start + Duration::from_millis(step * 10), step));
        assert!(clock.samples.len() <= MAX_SAMPLES);
        assert!(clock.lag(start + Duration::from_secs(500), 0) >= MAX_LAG);
    }
}
