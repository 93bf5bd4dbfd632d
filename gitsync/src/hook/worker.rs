//! The newest commit wins: what a hook missed while it worked or waited is skipped.

use std::sync::Arc;

use common::shutdown::Shutdown;
use tokio::sync::{oneshot, watch};

use super::{HookError, Runner};
use crate::metrics::{Metrics, Status};
use crate::protocol::ObjectId;

/// One hook and its task.
pub(crate) struct Worker {
    newest: watch::Sender<Option<ObjectId>>,
    outcome: Option<oneshot::Receiver<Result<(), HookError>>>,
}

impl Worker {
    /// `once`: one try only, whose outcome [`Worker::finish`] gives.
    pub(crate) fn start<R: Runner>(
        runner: Arc<R>,
        once: bool,
        metrics: Metrics,
        shutdown: &Shutdown,
    ) -> Self {
        let (newest, wanted) = watch::channel(None);
        let (sender, outcome) = oneshot::channel();
        let token = shutdown.token().clone();
        shutdown.spawn(async move {
            let work = async {
                match once {
                    true => try_once(&*runner, wanted, &metrics, sender).await,
                    false => keep_trying(&*runner, wanted, &metrics).await,
                }
            };
            tokio::select! {
                () = work => {}
                () = token.cancelled() => {}
            }
        });
        Self { newest, outcome: Some(outcome) }
    }

    /// Hands over a commit; the same one again does nothing.
    pub(crate) fn send(&self, commit: ObjectId) {
        self.newest.send_if_modified(|last| last.replace(commit) != Some(commit));
    }

    /// Waits for the single try, if there was something to do.
    pub(crate) async fn finish(&mut self) -> Result<(), HookError> {
        if self.newest.borrow().is_none() {
            return Ok(());
        }
        match self.outcome.take() {
            // A task that ended by shutdown has no outcome.
            Some(outcome) => outcome.await.unwrap_or(Ok(())),
            None => Ok(()),
        }
    }
}

async fn try_once<R: Runner>(
    runner: &R,
    mut wanted: watch::Receiver<Option<ObjectId>>,
    metrics: &Metrics,
    outcome: oneshot::Sender<Result<(), HookError>>,
) {
    let Ok(commit) = wanted.wait_for(Option::is_some).await.map(|commit| *commit) else { return };
    if let Some(commit) = commit {
        let _ = outcome.send(run_once(runner, commit, metrics).await);
    }
}

async fn keep_trying<R: Runner>(
    runner: &R,
    mut wanted: watch::Receiver<Option<ObjectId>>,
    metrics: &Metrics,
) {
    let mut done = None;
    loop {
        let next = wanted.wait_for(|newest| newest.is_some() && *newest != done).await.map(|newest| *newest);
        let Ok(Some(commit)) = next else { return };
        match run_once(runner, commit, metrics).await {
            Ok(()) => done = Some(commit),
            Err(_) => tokio::time::sleep(runner.backoff()).await,
        }
    }
}

/// Runs a hook once, counted and logged.
pub(super) async fn run_once<R: Runner>(
    runner: &R,
    commit: ObjectId,
    metrics: &Metrics,
) -> Result<(), HookError> {
    let result = runner.run(commit).await;
    let status = if result.is_ok() { Status::Success } else { Status::Error };
    metrics.hook(runner.name(), status);
    match &result {
        Ok(()) => tracing::debug!(hook = runner.name(), hash = %commit, "hook done"),
        Err(error) => tracing::error!(hook = runner.name(), hash = %commit, %error, "hook failed"),
    }
    result
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use common::metrics::Registry;

    use super::*;

    struct Scripted {
        ran: Mutex<Vec<ObjectId>>,
        failures: Mutex<u32>,
    }

    impl Runner for Scripted {
        fn name(&self) -> &'static str {
            "exechook"
        }

        fn backoff(&self) -> Duration {
            Duration::from_secs(3)
        }

        async fn run(&self, commit: ObjectId) -> Result<(), HookError> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.ran.lock().unwrap().push(commit);
            let mut failures = self.failures.lock().unwrap();
            if *failures == 0 {
                return Ok(());
            }
            *failures -= 1;
            Err(HookError::Status { url: "x".to_owned(), status: 500 })
        }
    }

    fn id(digit: u8) -> ObjectId {
        ObjectId::from_bytes([digit; 20])
    }

    fn scripted(failures: u32) -> Arc<Scripted> {
        Arc::new(Scripted { ran: Mutex::default(), failures: Mutex::new(failures) })
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_wins_and_failures_are_repeated() {
        let (runner, shutdown) = (scripted(1), Shutdown::new());
        let metrics = Metrics::register(&Registry::new());
        let worker = Worker::start(Arc::clone(&runner), false, metrics, &shutdown);
        worker.send(id(1));
        tokio::time::sleep(Duration::from_millis(500)).await;
        worker.send(id(2));
        worker.send(id(3));
        tokio::time::sleep(Duration::from_secs(20)).await;
        worker.send(id(3));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(*runner.ran.lock().unwrap(), [id(1), id(3)]);
        shutdown.trigger();
        assert!(shutdown.drain(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn once_is_one_try_and_its_outcome() {
        let shutdown = Shutdown::new();
        let metrics = Metrics::register(&Registry::new());
        let mut worker = Worker::start(scripted(1), true, metrics.clone(), &shutdown);
        worker.send(id(1));
        assert!(worker.finish().await.is_err());
        let mut idle = Worker::start(scripted(1), true, metrics, &shutdown);
        assert!(idle.finish().await.is_ok());
    }
}
