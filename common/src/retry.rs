//! The only backoff: exponential, jittered, capped, cancellable.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::shutdown::Shutdown;

/// How long to wait between attempts.
///
/// ```
/// use common::retry::Policy;
/// use std::time::Duration;
///
/// let policy = Policy::new(Duration::from_millis(100), Duration::from_secs(10));
/// assert_eq!(policy.longest, Duration::from_secs(10));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Wait before the second attempt.
    pub first: Duration,
    /// Longest wait, before jitter.
    pub longest: Duration,
}

impl Policy {
    /// A policy from its two bounds.
    ///
    /// ```
    /// use common::retry::Policy;
    /// use std::time::Duration;
    ///
    /// const POLICY: Policy = Policy::new(Duration::from_millis(100), Duration::from_secs(10));
    /// ```
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    fn delays(self) -> ExponentialBackoff {
        ExponentialBuilder::new()
            .with_min_delay(self.first)
            .with_max_delay(self.longest)
            .without_max_times()
            .with_jitter()
            .build()
    }
}

/// The waits of one series of attempts; each lies between the exponential step and twice that.
///
/// ```
/// use common::retry::{Backoff, Policy};
/// use std::time::Duration;
///
/// let mut backoff = Backoff::new(Policy::new(Duration::from_secs(1), Duration::from_secs(60)));
/// assert!(backoff.next_delay() >= Duration::from_secs(1));
/// assert!(backoff.next_delay() >= Duration::from_secs(2));
/// assert_eq!(backoff.failures(), 2);
/// backoff.reset();
/// assert_eq!(backoff.failures(), 0);
/// ```
#[derive(Debug)]
pub struct Backoff {
    policy: Policy,
    delays: ExponentialBackoff,
    failures: u32,
}

impl Backoff {
    /// Starts a series.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, delays: policy.delays(), failures: 0 }
    }

    /// Counts a failure and says how long to wait.
    pub fn next_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.delays.next().unwrap_or(self.policy.longest)
    }

    /// Failures since the last success.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// After a success: the next wait is the first again.
    pub fn reset(&mut self) {
        *self = Self::new(self.policy);
    }
}

/// Repeats `operation` until it succeeds, fails for good, or a stop is asked for (`None`).
///
/// `is_retryable` classifies first: what may not be repeated safely must be final. Cancel safe as
/// far as `operation` is.
///
/// ```
/// use common::retry::{Policy, retry};
/// use common::shutdown::Shutdown;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let policy = Policy::new(Duration::from_millis(1), Duration::from_millis(5));
/// let (shutdown, mut attempts) = (Shutdown::new(), 0);
/// let outcome = retry(&shutdown, policy, |error| *error == "busy", || {
///     attempts += 1;
///     std::future::ready(if attempts < 3 { Err("busy") } else { Ok(attempts) })
/// });
/// assert_eq!(outcome.await, Some(Ok(3)));
/// # });
/// ```
pub async fn retry<T, E, F, Fut>(
    shutdown: &Shutdown,
    policy: Policy,
    is_retryable: impl Fn(&E) -> bool,
    mut operation: F,
) -> Option<Result<T, E>>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut backoff = Backoff::new(policy);
    loop {
        let outcome = tokio::select! {
            outcome = operation() => outcome,
            () = shutdown.triggered() => return None,
        };
        match outcome {
            Err(error) if is_retryable(&error) => {}
            done => return Some(done),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = shutdown.triggered() => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy::new(Duration::from_millis(100), Duration::from_secs(1));

    #[test]
    fn waits_grow_to_the_cap_and_start_again() {
        let mut backoff = Backoff::new(POLICY);
        let first = backoff.next_delay();
        assert!(first >= POLICY.first && first <= POLICY.first * 2, "{first:?}");
        let last = (0..20).map(|_| backoff.next_delay()).last().unwrap();
        assert!(last >= POLICY.longest && last <= POLICY.longest * 2, "{last:?}");
        assert_eq!(backoff.failures(), 21);
        backoff.reset();
        assert!(backoff.next_delay() <= POLICY.first * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn final_errors_end_at_once_and_others_are_repeated() {
        let (mut calls, shutdown) = (0, Shutdown::new());
        let result = retry(
            &shutdown,
            POLICY,
            |error| *error < 3,
            || {
                calls += 1;
                let calls = calls;
                async move { Err::<(), i32>(calls) }
            },
        );
        assert_eq!(result.await, Some(Err(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_wait() {
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            stop.trigger();
        });
        let result = retry(&shutdown, POLICY, |()| true, || async { Err::<(), ()>(()) }).await;
        assert_eq!(result, None);
    }
}
