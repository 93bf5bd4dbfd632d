//! The newest commit wins: what a hook missed while it worked or waited is skipped.

use std::sync::{Arc, Mutex, PoisonError};

use common::shutdown::Shutdown;
use tokio::sync::{oneshot, watch};

use super::{HookError, Runner};
use crate::metrics::{Metrics, Status};
use crate::news::News;
use crate::protocol::ObjectId;

/// One hook and its task.
pub(crate) struct Worker {
    newest: watch::Sender<Option<Arc<News>>>,
    /// The commit that was handled last.
    done: Arc<Mutex<Option<ObjectId>>>,
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
        let done = Arc::new(Mutex::default());
        let handled = Arc::clone(&done);
        shutdown.spawn(async move {
            let work = async {
                match once {
                    true => try_once(&*runner, wanted, &metrics, sender).await,
                    false => keep_trying(&*runner, wanted, &metrics, &handled).await,
                }
            };
            tokio::select! {
                () = work => {}
                () = token.cancelled() => {}
            }
        });
        Self { newest, done, outcome: Some(outcome) }
    }

    /// Hands over a publication; the same commit again does nothing. What was missed before it is
    /// told with it.
    pub(crate) fn send(&self, news: &Arc<News>) {
        let done = *self.done.lock().unwrap_or_else(PoisonError::into_inner);
        self.newest.send_if_modified(|last| {
            if last.as_ref().is_some_and(|last| last.new == news.new) {
                return false;
            }
            let missed = last.take().filter(|last| done != Some(last.new) && Some(last.new) == news.old);
            *last = Some(missed.map_or_else(|| Arc::clone(news), |missed| Arc::new(missed.and_then(news))));
            true
        });
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
    mut wanted: watch::Receiver<Option<Arc<News>>>,
    metrics: &Metrics,
    outcome: oneshot::Sender<Result<(), HookError>>,
) {
    let Ok(news) = wanted.wait_for(Option::is_some).await.map(|news| news.clone()) else { return };
    if let Some(news) = news {
        let _ = outcome.send(run_once(runner, &news, metrics).await);
    }
}

async fn keep_trying<R: Runner>(
    runner: &R,
    mut wanted: watch::Receiver<Option<Arc<News>>>,
    metrics: &Metrics,
    handled: &Mutex<Option<ObjectId>>,
) {
    let mut done = None;
    loop {
        let is_new = |newest: &Option<Arc<News>>| newest.as_ref().is_some_and(|news| Some(news.new) != done);
        let next = wanted.wait_for(is_new).await.map(|newest| newest.clone());
        let Ok(Some(news)) = next else { return };
        match run_once(runner, &news, metrics).await {
            Ok(()) => {
                done = Some(news.new);
                *handled.lock().unwrap_or_else(PoisonError::into_inner) = done;
            }
            Err(_) => tokio::time::sleep(runner.backoff()).await,
        }
    }
}

/// Runs a hook once, counted and logged.
pub(super) async fn run_once<R: Runner>(runner: &R, news: &News, metrics: &Metrics) -> Result<(), HookError> {
    let (result, commit) = (runner.run(news).await, news.new);
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
    use std::time::{Duration, SystemTime};

    use common::metrics::Registry;

    use super::*;
    use crate::repo::{Change, ChangeKind, Changes};

    struct Scripted {
        ran: Mutex<Vec<ObjectId>>,
        changes: Mutex<Vec<usize>>,
        failures: Mutex<u32>,
    }

    impl Runner for Scripted {
        fn name(&self) -> &'static str {
            "exechook"
        }

        fn backoff(&self) -> Duration {
            Duration::from_secs(3)
        }

        async fn run(&self, news: &News) -> Result<(), HookError> {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.ran.lock().unwrap().push(news.new);
            self.changes.lock().unwrap().push(news.changes.as_ref().map_or(0, |changes| changes.total));
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

    fn news(old: u8, new: u8) -> Arc<News> {
        let path = vec![new];
        let changes = Changes {
            total: 1,
            listed: vec![Change { path, kind: ChangeKind::Added }],
            ..Changes::default()
        };
        Arc::new(News {
            new: id(new),
            old: Some(id(old)),
            changes: Some(changes),
            commit: None,
            repository: String::new(),
            reference: String::new(),
            source: None,
            at: SystemTime::now(),
        })
    }

    fn scripted(failures: u32) -> Arc<Scripted> {
        Arc::new(Scripted {
            ran: Mutex::default(),
            changes: Mutex::default(),
            failures: Mutex::new(failures),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_wins_and_failures_are_repeated() {
        let (runner, shutdown) = (scripted(1), Shutdown::new());
        let metrics = Metrics::register(&Registry::new());
        let worker = Worker::start(Arc::clone(&runner), false, metrics, &shutdown);
        worker.send(&news(0, 1));
        tokio::time::sleep(Duration::from_millis(500)).await;
        worker.send(&news(1, 2));
        worker.send(&news(2, 3));
        tokio::time::sleep(Duration::from_secs(20)).await;
        worker.send(&news(2, 3));
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(*runner.ran.lock().unwrap(), [id(1), id(3)]);
        assert_eq!(*runner.changes.lock().unwrap(), [1, 3], "what was missed is told with the next");
        shutdown.trigger();
        assert!(shutdown.drain(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn once_is_one_try_and_its_outcome() {
        let shutdown = Shutdown::new();
        let metrics = Metrics::register(&Registry::new());
        let mut worker = Worker::start(scripted(1), true, metrics.clone(), &shutdown);
        worker.send(&news(0, 1));
        assert!(worker.finish().await.is_err());
        let mut idle = Worker::start(scripted(1), true, metrics, &shutdown);
        assert!(idle.finish().await.is_ok());
    }
}
