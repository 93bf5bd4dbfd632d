//! What an encoder makes: request bodies.

use std::time::SystemTime;

use bytes::Bytes;

use crate::family::Visitor;

/// One request's body, compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) body: Bytes,
    /// Samples in it.
    pub(super) samples: u64,
}

/// Encodes round after round of families.
pub(super) trait Encoder: Send {
    /// Starts a round; its samples carry this time.
    fn start(&mut self, now: SystemTime);
    /// Receives the families of the round, in the order of their names.
    fn visitor(&mut self) -> &mut dyn Visitor;
    /// Ends the round.
    fn finish(&mut self);
    /// The batches that are complete.
    fn take(&mut self) -> Vec<Batch>;
}

/// Milliseconds since 1970; times before it count as 0.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Nanoseconds since 1970.
pub(super) fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
