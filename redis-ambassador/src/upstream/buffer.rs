//! A byte queue: written at the end, consumed at the front.

/// An emptied buffer larger than this gives its memory back at once,
const KEPT: usize = 1 << 20;
/// and one larger than this when it has not been used for a while.
const SMALL: usize = 4 << 10;

#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    /// Something was added since [`Buffer::rest`].
    used: bool,
}

impl Buffer {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.used = true;
        if self.start > 0 && bytes.len() > self.bytes.capacity() - self.bytes.len() {
            self.compact();
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Moves what is left to the beginning, unless that is more than there was consumed: each byte is moved once, on
    /// average, at most.
    #[cold]
    fn compact(&mut self) {
        if self.start >= self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Takes `count` bytes off the front.
    #[inline]
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.bytes.len() {
            self.start = 0;
            self.bytes.clear();
            if self.bytes.capacity() > KEPT {
                self.bytes = Vec::new();
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.consume(self.len());
    }

    /// Gives memory back that has not been needed since the last call. Memory that is needed again and again stays:
    /// fresh memory costs more than copying to it.
    pub(crate) fn rest(&mut self) {
        if !std::mem::take(&mut self.used) && self.is_empty() && self.bytes.capacity() > SMALL {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out(steps in proptest::collection::vec((0usize..3000, 0usize..4000, any::<bool>()), 1..200)) {
            let (mut buffer, mut expected) = (Buffer::default(), std::collections::VecDeque::new());
            let mut next = 0u8;
            for (more, less, rests) in steps {
                let bytes: Vec<u8> = (0..more).map(|_| { next = next.wrapping_add(1); next }).collect();
                buffer.extend(&bytes);
                expected.extend(bytes);
                let less = less.min(expected.len());
                buffer.consume(less);
                expected.drain(..less);
                if rests {
                    buffer.rest();
                }
                prop_assert!(buffer.as_slice().iter().eq(expected.iter()));
                prop_assert_eq!((buffer.len(), buffer.is_empty()), (expected.len(), expected.is_empty()));
            }
        }
    }

    #[test]
    fn memory_comes_back() {
        let mut buffer = Buffer::default();
        buffer.extend(&vec![1; 2 * KEPT]);
        buffer.clear();
        assert_eq!(buffer.bytes.capacity(), 0);
        buffer.extend(&[1; 2 * SMALL]);
        buffer.rest();
        buffer.clear();
        buffer.extend(b"x");
        buffer.rest();
        assert!(buffer.bytes.capacity() >= 2 * SMALL, "it was used, and is not empty");
        buffer.clear();
        buffer.rest();
        assert_eq!(buffer.bytes.capacity(), 0);
    }
}
