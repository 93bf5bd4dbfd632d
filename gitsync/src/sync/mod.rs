//! When to sync and when to give up. Pure: outcomes in, the next step out.

use std::time::Duration;

/// The rules, as set by the flags.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Pause after an attempt.
    pub period: Duration,
    /// Pause until the first success.
    pub init_period: Duration,
    /// Give up at so many failures in a row: 0 and 1 at the first, negative never.
    pub max_failures: i64,
    /// The same until the first success.
    pub init_max_failures: i64,
    /// Leave after the first success.
    pub one_time: bool,
    /// While attempts fail, pauses double up to this.
    pub max_period: Option<Duration>,
    /// Go on whatever fails once a good tree is or was published. Off when somebody asked for a
    /// limit.
    pub serve_stale: bool,
}

impl Policy {
    fn grown(&self, period: Duration, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.max_period.map_or(period, |max| period.saturating_mul(1 << doublings).min(max.max(period)))
    }
}

/// A pause that differs from `pause` by up to `jitter` (0 to 1) of it; `random` is from 0 to 1.
/// Many processes that were started together so don't ask the remote together.
pub fn spread(pause: Duration, jitter: f64, random: f64) -> Duration {
    Duration::try_from_secs_f64(pause.as_secs_f64() * (1.0 + jitter * (2.0 * random - 1.0))).unwrap_or(pause)
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well. `settled`: the ref is the published commit's own hash and can't move any more.
    Success {
        /// Nothing more to look for.
        settled: bool,
    },
    /// Not well. `serving`: a good tree is published all the same.
    Failure {
        /// Whether consumers have something to read.
        serving: bool,
    },
    /// The hook before publication said no. That is neither the remote's fault nor ours, so it doesn't count as a
    /// failure: the hook is asked again after its pause, as often as it takes. One-time work has one try.
    Refused {
        /// The hook's pause.
        pause: Duration,
    },
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Pause, then try again.
    Wait(Duration),
    /// Nothing can change any more; stay for hooks and the HTTP endpoint.
    Rest,
    /// One-time work is done.
    Finish,
    /// Too many failures.
    GiveUp,
}

/// Counts failures and knows whether there was a success.
#[derive(Debug)]
pub struct Schedule {
    policy: Policy,
    failures: u32,
    succeeded: bool,
}

impl Schedule {
    /// Before the first attempt.
    pub fn new(policy: Policy) -> Self {
        Self { policy, failures: 0, succeeded: false }
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether there was a success in this process's life.
    pub fn has_succeeded(&self) -> bool {
        self.succeeded
    }

    /// Takes an attempt's outcome.
    pub fn after(&mut self, outcome: Outcome) -> Next {
        match outcome {
            Outcome::Success { settled } => {
                self.failures = 0;
                self.succeeded = true;
                match (self.policy.one_time, settled) {
                    (true, _) => Next::Finish,
                    (false, true) => Next::Rest,
                    (false, false) => Next::Wait(self.policy.period),
                }
            }
            Outcome::Failure { serving } => {
                self.failures = self.failures.saturating_add(1);
                let (limit, period) = if self.succeeded {
                    (self.policy.max_failures, self.policy.period)
                } else {
                    (self.policy.init_max_failures, self.policy.init_period)
                };
                let has_data = serving || self.succeeded;
                let tolerated = has_data && self.policy.serve_stale && !self.policy.one_time;
                if !tolerated && limit >= 0 && i64::from(self.failures) >= limit {
                    Next::GiveUp
                } else {
                    Next::Wait(self.policy.grown(period, self.failures))
                }
            }
            Outcome::Refused { .. } if self.policy.one_time => {
                self.failures = self.failures.saturating_add(1);
                Next::GiveUp
            }
            Outcome::Refused { pause } => Next::Wait(pause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TENTH: Duration = Duration::from_millis(100);
    const BAD: Outcome = Outcome::Failure { serving: false };
    const GOOD: Outcome = Outcome::Success { settled: false };

    fn policy(max: i64, init_max: i64) -> Policy {
        Policy {
            period: SECOND,
            init_period: TENTH,
            max_failures: max,
            init_max_failures: init_max,
            one_time: false,
            max_period: None,
            serve_stale: false,
        }
    }

    #[test]
    fn zero_and_one_both_mean_the_first_failure() {
        for max in [0, 1] {
            assert_eq!(Schedule::new(policy(max, max)).after(BAD), Next::GiveUp);
        }
    }

    #[test]
    fn success_resets_the_count_and_ends_the_initial_rules() {
        let mut schedule = Schedule::new(policy(3, -1));
        for _ in 0..10 {
            assert_eq!(schedule.after(BAD), Next::Wait(TENTH));
        }
        assert_eq!(schedule.after(GOOD), Next::Wait(SECOND));
        assert_eq!(schedule.after(BAD), Next::Wait(SECOND));
        assert_eq!(schedule.after(BAD), Next::Wait(SECOND));
        assert_eq!(schedule.after(GOOD), Next::Wait(SECOND));
        assert_eq!(schedule.failures(), 0);
        let last = (0..3).map(|_| schedule.after(BAD)).last();
        assert_eq!(last, Some(Next::GiveUp));
    }

    #[test]
    fn a_published_tree_is_served_unless_a_limit_was_asked_for() {
        let serving = Outcome::Failure { serving: true };
        let forgiving = Policy { serve_stale: true, ..policy(0, 0) };
        assert_eq!(Schedule::new(forgiving.clone()).after(serving), Next::Wait(TENTH));
        assert_eq!(Schedule::new(forgiving.clone()).after(BAD), Next::GiveUp);
        assert_eq!(Schedule::new(policy(0, 0)).after(serving), Next::GiveUp);
        let once = Policy { one_time: true, ..forgiving };
        assert_eq!(Schedule::new(once).after(serving), Next::GiveUp);
    }

    #[test]
    fn a_refusal_ends_only_what_has_one_try() {
        let refused = Outcome::Refused { pause: 3 * SECOND };
        let mut schedule = Schedule::new(policy(0, 0));
        for _ in 0..3 {
            assert_eq!((schedule.after(refused), schedule.failures()), (Next::Wait(3 * SECOND), 0));
        }
        assert_eq!(schedule.after(BAD), Next::GiveUp);
        let once = Policy { one_time: true, ..policy(5, 5) };
        assert_eq!(Schedule::new(once).after(refused), Next::GiveUp);
    }

    #[test]
    fn pauses_grow_while_attempts_fail_and_are_spread() {
        let mut schedule = Schedule::new(Policy { max_period: Some(5 * SECOND), ..policy(-1, -1) });
        assert_eq!(schedule.after(GOOD), Next::Wait(SECOND));
        let pauses: Vec<_> = (0..40).map(|_| schedule.after(BAD)).collect();
        assert_eq!(pauses[..4], [1, 2, 4, 5].map(|n| Next::Wait(n * SECOND)));
        assert_eq!(pauses[39], Next::Wait(5 * SECOND));
        assert_eq!(schedule.after(GOOD), Next::Wait(SECOND));
        assert_eq!(spread(SECOND, 0.0, 0.9), SECOND);
        assert_eq!(spread(SECOND, 0.5, 0.0), SECOND / 2);
        assert_eq!(spread(SECOND, 0.5, 1.0), SECOND * 3 / 2);
    }

    #[test]
    fn one_time_and_settled() {
        let once = Policy { one_time: true, ..policy(0, 0) };
        assert_eq!(Schedule::new(once).after(Outcome::Success { settled: true }), Next::Finish);
        assert_eq!(Schedule::new(policy(0, 0)).after(Outcome::Success { settled: true }), Next::Rest);
    }
}
