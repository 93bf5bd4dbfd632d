//! Follows writes to the replicas, while there are any to follow: see [`crate::route::Fence`].

use super::monitor::{Monitor, Shard};
use super::{Observation, observe};
use crate::route::{Fence, Milestones};
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
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

/// How far one primary's history is known.
#[derive(Debug, Default)]
struct Progress {
    milestones: Milestones,
    marked: u64,
}

/// Runs for ever. Cancel safe.
pub(super) async fn run(monitor: Arc<Monitor>, fence: Arc<Fence>) {
    let mut progress: HashMap<usize, Progress> = HashMap::new();
    let (mut settled, mut history) = (0, 0);
    loop {
        monitor.signal.wait().await;
        tokio::time::sleep(PAUSE).await;
        let shards = monitor.shards();
        let replicas = shards.iter().flat_map(|(_, _, replicas)| replicas).map(|(server, _)| *server);
        let slowest = replicas.map(|server| fence.caught_up(server)).min();
        if fence.last_write() <= slowest.unwrap_or(0) {
            monitor.signal.raised.store(false, Ordering::SeqCst);
            // A write between the look and the store would otherwise be missed.
            if fence.last_write() > slowest.unwrap_or(0) {
                monitor.signal.raise();
            }
            continue;
        }
        if slowest.is_none() {
            continue;
        }
        let now = monitor.history.load(Ordering::SeqCst);
        if now != history {
            history = now;
            progress.clear();
        }
        settled = fence.close_epoch(settled);
        join_all(shards.into_iter().map(|shard| {
            let mut known = progress.remove(&shard.0).unwrap_or_default();
            let (monitor, fence) = (&monitor, &fence);
            async move {
                let number = shard.0;
                follow(monitor, fence, shard, settled, history, &mut known).await;
                (number, known)
            }
        }))
        .await
        .into_iter()
        .for_each(|(number, known)| {
            progress.insert(number, known);
        });
    }
}

/// Asks one primary where it is, and its replicas whether they have got there.
async fn follow(
    monitor: &Monitor,
    fence: &Fence,
    (_, primary, replicas): Shard,
    settled: u64,
    history: u64,
    progress: &mut Progress,
) {
    let unchanged = || monitor.history.load(Ordering::SeqCst) == history;
    if replicas.is_empty() {
        return;
    }
    if settled > progress.marked
        && let Some(primary) = primary
        && let Some(offset) = primary_offset(primary).await
        && unchanged()
    {
        progress.milestones.add(settled, offset);
        progress.marked = settled;
    }
    let offsets = join_all(
        replicas
            .into_iter()
            .map(|(server, connection)| async move { Some((server, replica_offset(connection).await?)) }),
    )
    .await;
    if !unchanged() {
        return;
    }
    let mut least = u64::MAX;
    for offset in offsets {
        let reached = offset.map_or(0, |(server, offset)| {
            let epoch = progress.milestones.reached(offset);
            fence.catch_up(server, epoch);
            fence.caught_up(server)
        });
        least = least.min(reached);
    }
    progress.milestones.trim(least);
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
