//! Pushing the families of a [`Source`]: OTLP over HTTP, and Prometheus remote write 1.0
//! and 2.0.
//!
//! Once every [`Target::interval`] all families are collected, encoded, compressed and put into a queue of bounded
//! bytes, from which they are sent one request after the other, the oldest first. What the receiver cannot take
//! now is tried again with growing pauses; what it refuses is counted and dropped, and so is the oldest when the
//! queue is full. A request that is tried again carries the same timestamps, so that a receiver which got it the
//! first time takes it for what it is.
//!
//! The encoders are pure: they take families as a [`Visitor`](crate::family::Visitor) and give request bodies.
//!
//! ```
//! use std::sync::Arc;
//! use metrics_adapter::push::{Protocol, Pusher, Target};
//! # fn start(everything: Arc<dyn metrics_adapter::source::Source>, shutdown: metrics_adapter::Shutdown)
//! # -> Result<(), metrics_adapter::push::PushError> {
//! let target = Target::new(Protocol::RemoteWrite1, "http://prometheus:9090/api/v1/write");
//! let pusher = Pusher::new(target, everything)?;
//! let state = pusher.state(); // its families belong on the page
//! shutdown.spawn(pusher.run(shutdown.clone()));
//! # Ok(())
//! # }
//! ```

mod batch;
mod flatten;
mod otlp;
mod queue;
mod remote_write;
mod send;
mod stale;
mod state;
mod target;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use common::shutdown::Shutdown;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use batch::Encoder;
use queue::Queue;
use send::Sender;
pub use state::{State, families};
pub use target::{Protocol, PushError, Target};

use crate::source::Source;

/// Longest wait for what is left when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Steps of a walk after which other tasks get their turn.
const STEPS_PER_TURN: usize = 16;

/// Pushes to one target.
pub struct Pusher {
    target: Target,
    source: Arc<dyn Source>,
    sender: Sender,
    state: Arc<State>,
    queue: Arc<Queue>,
    more: Arc<Notify>,
}

impl Pusher {
    /// Checks the target and prepares a client for it; nothing is sent yet.
    ///
    /// # Errors
    /// A URL, a label or TLS settings that cannot be used.
    pub fn new(target: Target, source: Arc<dyn Source>) -> Result<Self, PushError> {
        let state = Arc::new(State::new(target.checked()?));
        let sender = Sender::new(&target, Arc::clone(&state))?;
        let queue = Arc::new(Queue::new(target.queue_bytes));
        Ok(Self { target, source, sender, state, queue, more: Arc::default() })
    }

    /// Counters of what was sent and lost, for the page and for status pages.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// Pushes until shutdown, then once more, for which the receiver gets a few seconds.
    pub async fn run(self, shutdown: Shutdown) {
        let Self { target, source, sender, state, queue, more } = self;
        tracing::info!(target = state.target(), protocol = %target.protocol, "pushing metrics");
        let mut collector = Collector {
            encoder: target.encoder(SystemTime::now()),
            source,
            state: Arc::clone(&state),
            queue: Arc::clone(&queue),
            patience: target.interval.min(Duration::from_secs(10)),
        };
        let sending = async {
            loop {
                more.notified().await;
                while let Some(batch) = queue.take() {
                    state.waiting(&queue);
                    sender.send(&batch, &shutdown).await;
                }
            }
        };
        let collecting = async {
            let mut tick = tokio::time::interval(target.interval);
            tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                tick.tick().await;
                collector.collect().await;
                more.notify_one();
            }
        };
        tokio::select! {
            () = sending => {}
            () = collecting => {}
            () = shutdown.triggered() => {}
        }
        let last = async {
            collector.collect().await;
            while let Some(batch) = queue.take() {
                if !sender.send_once(&batch).await {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, last).await;
    }
}

impl std::fmt::Debug for Pusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pusher").field("target", &self.state.target()).finish_non_exhaustive()
    }
}

/// Turns what the source holds into batches.
struct Collector {
    encoder: Box<dyn Encoder>,
    source: Arc<dyn Source>,
    state: Arc<State>,
    queue: Arc<Queue>,
    patience: Duration,
}

impl Collector {
    async fn collect(&mut self) {
        let mut walk = match self.source.collect(Instant::now() + self.patience).await {
            Ok(walk) => walk,
            Err(error) => {
                self.state.uncollected();
                return tracing::warn!(target = self.state.target(), %error, "nothing to push this time");
            }
        };
        self.encoder.start(SystemTime::now());
        let mut steps = 0;
        while walk.peek().is_some() {
            walk.step(self.encoder.visitor());
            self.enqueue();
            steps += 1;
            if steps % STEPS_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.encoder.finish();
        self.enqueue();
    }

    fn enqueue(&mut self) {
        for batch in self.encoder.take() {
            self.state.dropped(self.queue.push(batch));
            self.state.waiting(&self.queue);
        }
    }
}

#[cfg(test)]
mod tests;
