//! Shutdown as an argument: a token that comes in, a tracker that is awaited under a deadline.
//!
//! Libraries never touch signals; the binary's `runtime` turns SIGTERM and SIGINT into
//! [`Shutdown::trigger`]. Order: unready first, stop accepting, then drain.

use std::future::Future;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tells tasks to stop and knows which of them are still running. Clones share both.
///
/// ```
/// use common::shutdown::Shutdown;
/// use std::time::Duration;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let shutdown = Shutdown::new();
/// let stop = shutdown.clone();
/// shutdown.spawn(async move { stop.triggered().await });
/// assert_eq!(shutdown.running(), 1);
///
/// shutdown.trigger();
/// assert!(shutdown.is_triggered());
/// assert!(shutdown.drain(Duration::from_secs(5)).await, "all tasks have ended");
/// # });
/// ```
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// A shutdown that nobody has asked for yet.
    ///
    /// ```
    /// assert!(!common::shutdown::Shutdown::new().is_triggered());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everybody to stop. Further calls do nothing.
    ///
    /// ```
    /// let shutdown = common::shutdown::Shutdown::new();
    /// shutdown.trigger();
    /// assert!(shutdown.is_triggered());
    /// ```
    pub fn trigger(&self) {
        self.token.cancel();
    }

    /// Whether a stop was asked for.
    ///
    /// ```
    /// assert!(!common::shutdown::Shutdown::new().is_triggered());
    /// ```
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until a stop is asked for. Cancel safe.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let shutdown = common::shutdown::Shutdown::new();
    /// shutdown.trigger();
    /// shutdown.triggered().await;
    /// # });
    /// ```
    pub async fn triggered(&self) {
        self.token.cancelled().await;
    }

    /// The token itself, for code that takes one.
    ///
    /// ```
    /// let shutdown = common::shutdown::Shutdown::new();
    /// shutdown.trigger();
    /// assert!(shutdown.token().is_cancelled());
    /// ```
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Triggers with its parent but can be triggered alone; its tasks are its own.
    ///
    /// ```
    /// let shutdown = common::shutdown::Shutdown::new();
    /// let part = shutdown.child();
    /// part.trigger();
    /// assert!(!shutdown.is_triggered(), "the rest goes on");
    /// ```
    #[must_use]
    pub fn child(&self) -> Self {
        Self { token: self.token.child_token(), tasks: TaskTracker::new() }
    }

    /// Spawns a task that [`Shutdown::drain`] waits for.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let task = common::shutdown::Shutdown::new().spawn(async { 7 });
    /// assert_eq!(task.await.unwrap(), 7);
    /// # });
    /// ```
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Counts a future that the caller polls itself (a `spawn_local` task) as a task.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let shutdown = common::shutdown::Shutdown::new();
    /// let work = shutdown.track(async { 7 });
    /// assert_eq!(shutdown.running(), 1);
    /// assert_eq!(work.await, 7);
    /// # });
    /// ```
    pub fn track<F: Future>(&self, task: F) -> tokio_util::task::task_tracker::TrackedFuture<F> {
        self.tasks.track_future(task)
    }

    /// Number of tasks still running.
    ///
    /// ```
    /// assert_eq!(common::shutdown::Shutdown::new().running(), 0);
    /// ```
    #[must_use]
    pub fn running(&self) -> usize {
        self.tasks.len()
    }

    /// Waits for all tasks, at most `deadline`; false when some are still running then. Cancel safe.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let shutdown = common::shutdown::Shutdown::new();
    /// shutdown.spawn(std::future::pending::<()>());
    /// assert!(!shutdown.drain(Duration::from_millis(1)).await, "this task never ends");
    /// # });
    /// ```
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_tasks_but_not_for_ever() {
        let shutdown = Shutdown::new();
        let inner = shutdown.clone();
        shutdown.spawn(async move { inner.triggered().await });
        let stubborn = shutdown.spawn(std::future::pending::<()>());
        shutdown.trigger();
        assert!(!shutdown.drain(Duration::from_secs(1)).await);
        assert_eq!(shutdown.running(), 1);
        stubborn.abort();
        assert!(shutdown.drain(Duration::from_secs(1)).await);
    }

    #[test]
    fn a_child_stops_with_its_parent_but_not_the_reverse() {
        let parent = Shutdown::new();
        let (first, second) = (parent.child(), parent.child());
        first.trigger();
        assert!(!parent.is_triggered() && !second.is_triggered());
        parent.trigger();
        assert!(second.is_triggered());
    }
}
