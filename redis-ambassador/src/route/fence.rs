//! Read your own writes: which keys were written lately, and which replicas have those writes.
//!
//! Writes are counted into epochs. A prober closes an epoch, waits until its writes are answered, asks the primary
//! for its replication offset, which then cannot be below that of any of these writes, and asks the replicas for
//! theirs. A replica that has passed the offset has *caught up* with the epoch. A read may go to a replica when every
//! key it names was last written in an epoch the replica has caught up with.
//!
//! Keys are kept as hashes in a table of fixed size; two keys with one slot only cost a read its replica. One table
//! serves all workers; its atomics are the only thing they share. Atomic changes cost as much as all else about a write,
//! so a worker counts its own unanswered writes and tells the others only whether it has any; and one that is alone
//! just stores what it notes of a key.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Slots of the table: at 8 bytes each, half a megabyte.
const SLOTS: usize = 1 << 16;
/// Epochs whose writes may be unanswered at one time.
const UNSETTLED: u64 = 32;
/// Servers with a number beyond this never catch up, so reads of fresh keys avoid them.
const SERVERS: usize = 64;

/// See the module's description.
#[derive(Debug)]
pub struct Fence {
    slots: Box<[AtomicU64]>,
    /// The open epoch; the first is 1.
    epoch: AtomicU64,
    /// The last epoch with a write that may have touched any key.
    global: AtomicU64,
    /// The last epoch with any write.
    last: AtomicU64,
    /// Workers with unanswered writes of each epoch.
    unanswered: [AtomicU32; UNSETTLED as usize],
    caught_up: [AtomicU64; SERVERS],
}

impl Default for Fence {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            epoch: AtomicU64::new(1),
            global: AtomicU64::new(0),
            last: AtomicU64::new(0),
            unanswered: std::array::from_fn(|_| AtomicU32::new(0)),
            caught_up: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Fence {
    /// Keeps the open epoch from being settled until [`Fence::leave`], and returns it.
    fn enter(&self) -> u64 {
        loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            let unanswered = &self.unanswered[(epoch % UNSETTLED) as usize];
            unanswered.fetch_add(1, Ordering::SeqCst);
            // The prober closes an epoch before it looks at its count: one of us sees the other.
            if self.epoch.load(Ordering::SeqCst) == epoch {
                return epoch;
            }
            unanswered.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn leave(&self, epoch: u64) {
        self.unanswered[(epoch % UNSETTLED) as usize].fetch_sub(1, Ordering::SeqCst);
    }

    /// Notes a write that may have touched any key, and is over. Returns its epoch.
    pub fn mark_all(&self) -> u64 {
        let epoch = self.epoch.load(Ordering::SeqCst);
        self.global.fetch_max(epoch, Ordering::Release);
        self.note_last(epoch);
        epoch
    }

    #[inline]
    fn note_last(&self, epoch: u64) {
        if self.last.load(Ordering::Relaxed) < epoch {
            self.last.fetch_max(epoch, Ordering::Release);
        }
    }

    /// The epoch a replica has caught up with.
    #[inline]
    pub fn caught_up(&self, server: usize) -> u64 {
        self.caught_up.get(server).map_or(0, |caught_up| caught_up.load(Ordering::Acquire))
    }

    /// The epoch a server must have caught up with to answer a read of these keys.
    #[inline]
    pub fn needed(&self, keys: impl Iterator<Item = u32>) -> u64 {
        let slots = keys.map(|key| self.slots[key as usize % SLOTS].load(Ordering::Acquire));
        slots.fold(self.global.load(Ordering::Acquire), u64::max)
    }

    /// The last epoch in which anything was written; replicas need not be asked once they have caught up with it.
    pub fn last_write(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// Prober: closes the open epoch, unless too many are unsettled, and returns the latest epoch up to which every
    /// write is answered.
    pub fn close_epoch(&self, settled: u64) -> u64 {
        let mut open = self.epoch.load(Ordering::SeqCst);
        if open < settled + UNSETTLED - 1 {
            open = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        }
        let mut now = settled;
        while now + 1 < open && self.unanswered[((now + 1) % UNSETTLED) as usize].load(Ordering::SeqCst) == 0
        {
            now += 1;
        }
        now
    }

    /// Prober: a replica's offset has passed that of the epoch.
    pub fn catch_up(&self, server: usize, epoch: u64) {
        if let Some(caught_up) = self.caught_up.get(server) {
            caught_up.fetch_max(epoch, Ordering::Release);
        }
    }

    /// Forgets what is known of a server (it was empty, restarted, or follows another primary now).
    pub fn forget(&self, server: usize) {
        if let Some(caught_up) = self.caught_up.get(server) {
            caught_up.store(0, Ordering::Release);
        }
    }
}

/// One worker's writes. Not shared between threads.
#[derive(Debug)]
pub struct Writes {
    fence: Arc<Fence>,
    /// No other worker notes keys.
    alone: bool,
    /// Unanswered writes of each epoch. While there are any, the fence is told that there are.
    unanswered: [Cell<u32>; UNSETTLED as usize],
}

impl Writes {
    /// Those of a worker, which may be the only one.
    pub fn new(fence: Arc<Fence>, alone: bool) -> Self {
        Self { fence, alone, unanswered: std::array::from_fn(|_| Cell::new(0)) }
    }

    /// Notes a write that is about to be sent and whose answer will be reported with [`Writes::answered`]. No keys
    /// means that any may be touched. Returns its epoch.
    #[inline]
    pub fn write(&self, keys: Option<impl Iterator<Item = u32>>) -> u64 {
        let mut epoch = self.fence.epoch.load(Ordering::SeqCst);
        // An epoch that is held open may be joined: it cannot be settled before the last of its writes is answered.
        if self.unanswered[(epoch % UNSETTLED) as usize].get() == 0 {
            epoch = self.fence.enter();
        }
        let unanswered = &self.unanswered[(epoch % UNSETTLED) as usize];
        unanswered.set(unanswered.get() + 1);
        self.mark_in(epoch, keys);
        epoch
    }

    /// The answer to a write of that epoch has come, or never will.
    #[inline]
    pub fn answered(&self, epoch: u64) {
        let unanswered = &self.unanswered[(epoch % UNSETTLED) as usize];
        unanswered.set(unanswered.get() - 1);
        if unanswered.get() == 0 {
            self.fence.leave(epoch);
        }
    }

    /// Notes a write whose answer has come but is not yet passed on. Returns its epoch.
    pub fn mark(&self, keys: Option<impl Iterator<Item = u32>>) -> u64 {
        let epoch = self.fence.epoch.load(Ordering::SeqCst);
        self.mark_in(epoch, keys);
        epoch
    }

    #[inline]
    fn mark_in(&self, epoch: u64, keys: Option<impl Iterator<Item = u32>>) {
        let slots = &self.fence.slots;
        match keys {
            // Epochs only grow, so whoever is alone has no later one to lose.
            Some(keys) if self.alone => {
                keys.for_each(|key| slots[key as usize % SLOTS].store(epoch, Ordering::Release));
            }
            Some(keys) => keys.for_each(|key| {
                slots[key as usize % SLOTS].fetch_max(epoch, Ordering::Release);
            }),
            None => {
                self.fence.global.fetch_max(epoch, Ordering::Release);
            }
        }
        self.fence.note_last(epoch);
    }
}

/// Offsets of settled epochs that some replica has not passed yet. Pure book-keeping of the prober.
#[derive(Debug, Default)]
pub struct Milestones {
    /// Epoch and an offset of the primary that is not below any write of it; both grow.
    marks: std::collections::VecDeque<(u64, u64)>,
}

/// More milestones than this are thinned out from the middle; replicas then catch up in larger steps.
const MAX_MILESTONES: usize = 512;

impl Milestones {
    /// The primary's offset, read after all writes up to `epoch` were answered.
    pub fn add(&mut self, epoch: u64, offset: u64) {
        if self.marks.back().is_some_and(|(_, last)| *last > offset) {
            // Another history (a new primary): old offsets mean nothing in it.
            self.marks.clear();
        }
        match self.marks.back_mut() {
            Some(back) if back.0 == epoch || back.1 == offset => back.0 = back.0.max(epoch),
            _ => self.marks.push_back((epoch, offset)),
        }
        if self.marks.len() > MAX_MILESTONES {
            let (mut index, count) = (0, self.marks.len());
            self.marks.retain(|_| {
                index += 1;
                index % 2 == 0 || index == count
            });
        }
    }

    /// The latest epoch whose offset is not above `offset`.
    pub fn reached(&self, offset: u64) -> u64 {
        let passed = self.marks.partition_point(|(_, mark)| *mark <= offset);
        passed.checked_sub(1).and_then(|at| self.marks.get(at)).map_or(0, |(epoch, _)| *epoch)
    }

    /// Drops what every replica has passed.
    pub fn trim(&mut self, epoch: u64) {
        while self.marks.len() > 1 && self.marks[1].0 <= epoch {
            self.marks.pop_front();
        }
    }

    /// A new primary: its offsets belong to another history.
    pub fn clear(&mut self) {
        self.marks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(hash: u32) -> std::iter::Once<u32> {
        std::iter::once(hash)
    }

    fn parts(alone: bool) -> (Arc<Fence>, Writes) {
        let fence = Arc::new(Fence::default());
        (Arc::clone(&fence), Writes::new(fence, alone))
    }

    impl Fence {
        fn passed(&self, server: usize, keys: std::iter::Once<u32>) -> bool {
            self.needed(keys) <= self.caught_up(server)
        }
    }

    #[test]
    fn a_read_waits_for_the_replica_to_pass_the_write() {
        let (fence, writes) = parts(true);
        assert!(fence.passed(1, key(7)));
        let epoch = writes.write(Some(key(7)));
        assert!(!fence.passed(1, key(7)) && fence.passed(1, key(8)));
        assert_eq!(fence.close_epoch(0), 0, "the write is not answered yet");
        writes.answered(epoch);
        assert_eq!(fence.close_epoch(0), epoch + 1);
        fence.catch_up(1, epoch);
        assert!(fence.passed(1, key(7)) && !fence.passed(2, key(7)));
    }

    #[test]
    fn a_write_without_keys_counts_for_all() {
        let (fence, writes) = parts(true);
        let epoch = writes.write(None::<std::iter::Empty<u32>>);
        assert!(!fence.passed(1, key(3)));
        fence.catch_up(1, epoch);
        assert!(fence.passed(1, key(3)));
        fence.forget(1);
        assert!(!fence.passed(1, key(3)));
    }

    #[test]
    fn unanswered_writes_hold_their_epoch_and_the_later_ones() {
        let (fence, writes) = parts(true);
        let first = writes.write(Some(key(1)));
        let mut settled = 0;
        for _ in 0..100 {
            settled = fence.close_epoch(settled);
        }
        assert_eq!(settled, 0);
        let second = writes.write(Some(key(2)));
        assert!(second > first && second < UNSETTLED);
        writes.answered(first);
        settled = fence.close_epoch(settled);
        assert_eq!(settled, second - 1);
        writes.answered(second);
        assert!(fence.close_epoch(settled) >= second);
    }

    #[test]
    fn writes_of_one_worker_count_together() {
        let (fence, writes) = parts(true);
        let (first, second) = (writes.write(Some(key(1))), writes.write(Some(key(2))));
        assert_eq!(first, second);
        writes.answered(first);
        assert_eq!(fence.close_epoch(0), 0, "the second is not answered yet");
        // Another write while the epoch is closed and unsettled belongs to the next one.
        let third = writes.write(Some(key(1)));
        assert_eq!(third, first + 1);
        writes.answered(second);
        assert_eq!(fence.close_epoch(0), first);
        fence.catch_up(1, first);
        assert!(!fence.passed(1, key(1)) && fence.passed(1, key(2)));
        writes.answered(third);
        assert!(fence.close_epoch(first) >= third);
    }

    #[test]
    fn workers_hold_epochs_and_keys_independently() {
        let (fence, one) = parts(false);
        let other = Writes::new(Arc::clone(&fence), false);
        let (first, second) = (one.write(Some(key(1))), other.write(Some(key(1))));
        one.answered(first);
        assert_eq!(fence.close_epoch(0), 0, "the other's is not answered yet");
        let later = one.write(Some(key(1)));
        other.answered(second);
        assert_eq!(fence.close_epoch(0), first);
        fence.catch_up(1, first);
        assert!(later > first && !fence.passed(1, key(1)));
    }

    #[test]
    fn milestones_translate_offsets_to_epochs() {
        let mut milestones = Milestones::default();
        for (epoch, offset) in [(1, 100), (2, 100), (4, 250), (5, 300)] {
            milestones.add(epoch, offset);
        }
        assert_eq!([99, 100, 249, 250, 1000].map(|offset| milestones.reached(offset)), [0, 2, 2, 4, 5]);
        milestones.trim(4);
        assert_eq!(milestones.reached(260), 4);
        milestones.add(9, 50);
        assert_eq!(milestones.reached(260), 9);
        for epoch in 10..5000 {
            milestones.add(epoch, epoch * 10);
        }
        assert!(milestones.marks.len() <= MAX_MILESTONES);
        assert_eq!(milestones.reached(u64::MAX), 4999);
    }
}
