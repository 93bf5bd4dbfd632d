//! Batches that wait to be sent, bounded in bytes; the oldest go first, whether sent or dropped.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::batch::Batch;

/// The queue between collecting and sending.
#[derive(Debug)]
pub(super) struct Queue {
    limit: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    batches: VecDeque<Batch>,
    bytes: usize,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, inner: Mutex::default() }
    }

    /// Adds a batch; returns the number of samples that were dropped to make room for it.
    pub(super) fn push(&self, batch: Batch) -> u64 {
        let mut inner = self.lock();
        let size = batch.body.len();
        let mut dropped = 0;
        while inner.bytes + size > self.limit {
            let Some(oldest) = inner.batches.pop_front() else {
                // Larger than all the room there is.
                return dropped + batch.samples;
            };
            inner.bytes -= oldest.body.len();
            dropped += oldest.samples;
        }
        inner.bytes += size;
        inner.batches.push_back(batch);
        dropped
    }

    /// Takes the oldest out.
    pub(super) fn take(&self) -> Option<Batch> {
        let mut inner = self.lock();
        let batch = inner.batches.pop_front()?;
        inner.bytes -= batch.body.len();
        Some(batch)
    }

    /// Batches and bytes that wait.
    pub(super) fn waiting(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.batches.len(), inner.bytes)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_sample_is_lost_unseen(limit in 0_usize..500, sizes in prop::collection::vec((0_usize..200, any::<bool>()), 0..100)) {
            let queue = Queue::new(limit);
            let (mut pushed, mut gone) = (0, 0);
            for (number, (size, take)) in sizes.into_iter().enumerate() {
                let samples = number as u64 + 1;
                pushed += samples;
                gone += queue.push(Batch { body: vec![0; size].into(), samples });
                prop_assert!(queue.waiting().1 <= limit);
                if take {
                    gone += queue.take().map_or(0, |batch| batch.samples);
                }
            }
            let mut last = 0;
            while let Some(batch) = queue.take() {
                prop_assert!(batch.samples > last);
                last = batch.samples;
                gone += batch.samples;
            }
            prop_assert_eq!(pushed, gone);
            prop_assert_eq!(queue.waiting(), (0, 0));
        }
    }
}
