//! The keys of a request, as hashes.

use super::hub::Hub;
use crate::command::{Classified, Effect, Request, visit_keys};

/// Hashes of a request's keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    hashes: [u32; MAX_KEYS],
    count: usize,
    /// The hash of the only key; 0 when there are several, none, or not all are known.
    pub(super) single: u32,
    /// These are all the keys that the request can touch.
    pub(super) complete: bool,
}

/// A request with more keys than this counts as touching any key.
const MAX_KEYS: usize = 32;

impl Keys {
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.hashes[..self.count].iter().copied()
    }
}

impl Hub {
    /// Hashes of the keys a request names.
    #[inline]
    pub(super) fn keys(&self, request: &Request<'_>, classified: &Classified<'_>, effect: Effect) -> Keys {
        let mut keys = Keys::default();
        if effect == Effect::PrimaryRead {
            return keys;
        }
        let Some(command) = classified.command else { return keys };
        let (mut count, hashes) = (0usize, &mut keys.hashes);
        let complete = visit_keys(command, request, |key| {
            if let Some(slot) = hashes.get_mut(count) {
                *slot = key_hash(key);
            }
            count += 1;
        });
        keys.count = count.min(MAX_KEYS);
        keys.complete = complete && count <= MAX_KEYS;
        keys.single = if count == 1 && keys.complete { keys.hashes[0] } else { 0 };
        keys
    }
}

/// A hash of a key, never 0. Collisions only cost a read its replica.
#[inline]
pub(super) fn key_hash(key: &[u8]) -> u32 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut hash = key.len() as u64;
    let mut words = key.chunks_exact(8);
    for word in &mut words {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
        hash = (hash.rotate_left(23) ^ word).wrapping_mul(PRIME);
    }
    for &byte in words.remainder() {
        hash = (hash.rotate_left(9) ^ u64::from(byte)).wrapping_mul(PRIME);
    }
    ((hash ^ (hash >> 29)).wrapping_mul(PRIME) >> 32) as u32 | 1
}
