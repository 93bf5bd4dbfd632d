//! Follows writes to the replicas, while there are any to follow: see [`crate::route::Fence`].

use super::monitor::Monitor;
use super::{Observation, observe};
use crate::route::{Fence, Milestones};
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Pause between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(20);
/// A server that takes longer has not caught up, for now.
const PATIENCE: Duration = Duration::from_millis(250);

/// Raised by writers; the prober sleeps while it is not.
#[derive(Debug, Default)]
pub(crate) struct WriteSignal {
    raised: AtomicBool,
    notify: Notify,
}

impl WriteSignal {
    /// There is a write to follow. Costs one load while the prober is awake.
    #[inline]
    pub(crate) fn raise(&self) {
        if !self.raised.load(Ordering::Relaxed) && !self.raised.swap(true, Ordering::SeqCst) {
            self.notify.notify_one();
        }
    }

    async fn wait(&self) {
        while !self.raised.load(Ordering::SeqCst) {
            self.notify.notified().await;
        }
    }
}

/// Runs for ever. Cancel safe.
pub(super) async fn run(monitor: Arc<Monitor>, fence: Arc<Fence>) {
    let mut milestones = Milestones::default();
    let (mut settled, mut history, mut marked) = (0, 0, 0);
    loop {
        monitor.signal.wait().await;
        tokio::time::sleep(PAUSE).await;
        let (primary, replicas) = monitor.connections();
        let slowest = replicas.iter().map(|(server, _)| fence.caught_up(*server)).min().unwrap_or(0);
        if fence.last_write() <= slowest {
            monitor.signal.raised.store(false, Ordering::SeqCst);
            // A write between the look and the store would otherwise be missed.
            if fence.last_write() > slowest {
                monitor.signal.raise();
            }
            continue;
        }
        if replicas.is_empty() {
            continue;
        }
        let now = monitor.history.load(Ordering::SeqCst);
        if now != history {
            history = now;
            milestones.clear();
            marked = 0;
        }
        settled = fence.close_epoch(settled);
        if settled > marked
            && let Some(primary) = primary
            && let Some(offset) = primary_offset(primary).await
            && monitor.history.load(Ordering::SeqCst) == history
        {
            milestones.add(settled, offset);
            marked = settled;
        }
        let offsets =
            join_all(replicas.into_iter().map(|(server, connection)| async move {
                Some((server, replica_offset(connection).await?))
            }))
            .await;
        if monitor.history.load(Ordering::SeqCst) != history {
            continue;
        }
        let mut least = u64::MAX;
        for offset in offsets {
            let reached = offset.map_or(0, |(server, offset)| {
                let epoch = milestones.reached(offset);
                fence.catch_up(server, epoch);
                fence.caught_up(server)
            });
            least = least.min(reached);
        }
        milestones.trim(least);
    }
}

async fn primary_offset(mut connection: MultiplexedConnection) -> Option<u64> {
    match tokio::time::timeout(PATIENCE, observe::role(&mut connection)).await {
        Ok(Ok(Observation::Primary { offset, .. })) => Some(offset),
        _ => None,
    }
}

async fn replica_offset(mut connection: MultiplexedConnection) -> Option<u64> {
    match tokio::time::timeout(PATIENCE, observe::role(&mut connection)).await {
        Ok(Ok(Observation::Replica { offset, .. })) => offset,
        _ => None,
    }
}
