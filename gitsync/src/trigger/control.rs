//! How requests from outside and the sync loop talk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::app::Trigger;
use crate::engine::Report;

/// An attempt that ended.
#[derive(Debug)]
pub(crate) struct Finished {
    number: u64,
    /// `None`: it has no commit of its own.
    pub(crate) result: Result<Option<Report>, String>,
    pub(crate) took: Duration,
}

/// The loop's side: tells what it does.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Arc<AtomicU64>,
    finished: watch::Sender<Option<Arc<Finished>>>,
}

/// The side of those who ask. Clones share.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    trigger: Trigger,
    started: Arc<AtomicU64>,
    finished: watch::Receiver<Option<Arc<Finished>>>,
}

impl Progress {
    pub(crate) fn new(trigger: &Trigger) -> (Self, Control) {
        let started = Arc::new(AtomicU64::new(0));
        let (sender, finished) = watch::channel(None);
        let control = Control { trigger: trigger.clone(), started: Arc::clone(&started), finished };
        (Self { started, finished: sender }, control)
    }

    /// An attempt begins.
    pub(crate) fn begin(&self) {
        self.started.fetch_add(1, Ordering::SeqCst);
    }

    /// It ended.
    pub(crate) fn end(&self, result: Result<Option<Report>, String>, took: Duration) {
        let number = self.started.load(Ordering::SeqCst);
        self.finished.send_replace(Some(Arc::new(Finished { number, result, took })));
    }
}

impl Control {
    /// Starts an attempt as soon as possible.
    pub(crate) fn fire(&self) {
        self.trigger.fire();
    }

    /// The same; what the remote said from then on is new enough.
    pub(crate) fn fire_since(&self, then: Instant) {
        self.trigger.fire_since(then);
    }

    /// The same for a push that the remote told of.
    pub(crate) fn fire_pushed(&self, then: Instant) {
        self.trigger.fire_pushed(then);
    }

    /// Starts one and waits for the end of an attempt that began after this call. `None` when the
    /// loop ended. Cancel safe.
    pub(crate) async fn sync(&self, then: Instant) -> Option<Arc<Finished>> {
        let mut finished = self.finished.clone();
        let running = self.started.load(Ordering::SeqCst);
        self.fire_since(then);
        let is_later = |last: &Option<Arc<Finished>>| last.as_ref().is_some_and(|one| one.number > running);
        finished.wait_for(is_later).await.ok()?.clone()
    }
}
