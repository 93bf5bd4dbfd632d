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
    /// Go on whatever fails once a good tree is or was published. Off when somebody asked for a
    /// limit.
    pub serve_stale: bool,
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
                    Next::Wait(period)
                }
            }
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
    fn one_time_and_settled() {
        let once = Policy { one_time: true, ..policy(0, 0) };
        assert_eq!(Schedule::new(once).after(Outcome::Success { settled: true }), Next::Finish);
        assert_eq!(Schedule::new(policy(0, 0)).after(Outcome::Success { settled: true }), Next::Rest);
    }
}
