//! Lines out of a TCP stream.

/// Longest line, without its line feed, that a stream may carry.
pub const MAX_LINE: usize = 4095;

/// A stream that sent a line longer than [`MAX_LINE`]; it cannot be trusted to be in step any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line is longer than {MAX_LINE} bytes")]
pub struct LineTooLong;

/// Cuts a stream, given in any pieces, into lines. Keeps at most one unfinished line.
#[derive(Debug, Default)]
pub struct Lines {
    unfinished: Vec<u8>,
}

impl Lines {
    /// Passes every line that `piece` completes to `each`, without `\n` or `\r\n`.
    ///
    /// # Errors
    /// When a line grows beyond [`MAX_LINE`]; lines before it have been passed on.
    pub fn push(&mut self, piece: &[u8], mut each: impl FnMut(&[u8])) -> Result<(), LineTooLong> {
        let mut rest = piece;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if self.unfinished.len() + line.len() > MAX_LINE {
                return Err(LineTooLong);
            }
            if self.unfinished.is_empty() {
                each(without_return(line));
            } else {
                self.unfinished.extend_from_slice(line);
                each(without_return(&self.unfinished));
                self.unfinished.clear();
            }
        }
        if self.unfinished.len() + rest.len() > MAX_LINE {
            return Err(LineTooLong);
        }
        self.unfinished.extend_from_slice(rest);
        Ok(())
    }

    /// The last line of a stream that ended without a line feed.
    #[must_use]
    pub fn finish(&self) -> Option<&[u8]> {
        (!self.unfinished.is_empty()).then_some(&self.unfinished)
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for piece in pieces {
            if lines.push(piece, |line| out.push(line.to_vec())).is_err() {
                return (out, true);
            }
        }
        out.extend(lines.finish().map(<[u8]>::to_vec));
        (out, false)
    }

    #[test]
    fn lines_lose_their_ends() {
        let (lines, failed) = cut(&[b"a:1|c\r\nb:2|c\n\nlast"]);
        assert_eq!(lines, [&b"a:1|c"[..], b"b:2|c", b"", b"last"]);
        assert!(!failed);
    }

    #[test]
    fn a_long_line_ends_the_stream() {
        let fits = [vec![b'x'; MAX_LINE], b"\n".to_vec()].concat();
        assert_eq!(cut(&[&fits]).0.len(), 1);
        assert!(cut(&[b"ok:1|c\n", &vec![b'x'; MAX_LINE + 1]]).1);
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same_lines(stream in prop::collection::vec(
            prop_oneof![4 => Just(b'x'), 1 => Just(b'\n'), 1 => Just(b'\r'), 1 => any::<u8>()], 0..300), at in any::<prop::sample::Index>(), at2 in any::<prop::sample::Index>()) {
            let whole = cut(&[&stream]);
            let mut cuts = [at.index(stream.len() + 1), at2.index(stream.len() + 1)];
            cuts.sort_unstable();
            let split = cut(&[&stream[..cuts[0]], &stream[cuts[0]..cuts[1]], &stream[cuts[1]..]]);
            prop_assert_eq!(whole, split);
        }
    }
}
