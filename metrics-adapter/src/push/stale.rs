//! Which series were sent the last time, so that the end of one is told to the receiver at once rather than
//! guessed after five minutes.

use std::collections::HashMap;

/// Series remembered; of further ones the end is not told.
const MOST: usize = 200_000;
/// Stands between names and values, which are UTF-8 and so never hold it.
const END: u8 = 0xFF;

/// The NaN that Prometheus takes for the end of a series.
pub(super) const STALE: f64 = f64::from_bits(0x7FF0_0000_0000_0002);

/// Series of the last two rounds.
#[derive(Debug, Default)]
pub(super) struct Memory {
    rounds: HashMap<Box<[u8]>, u64>,
    round: u64,
    key: Vec<u8>,
}

impl Memory {
    /// Starts a round.
    pub(super) fn start(&mut self) {
        self.round += 1;
    }

    /// A series is there in this round.
    pub(super) fn see<'a>(&mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.key.clear();
        for (name, value) in labels {
            for text in [name, value] {
                self.key.extend_from_slice(text.as_bytes());
                self.key.push(END);
            }
        }
        let room = self.rounds.len() < MOST;
        if let Some(round) = self.rounds.get_mut(&*self.key) {
            *round = self.round;
        } else if room {
            self.rounds.insert(self.key.as_slice().into(), self.round);
        }
    }

    /// Ends the round: the series that were there in the one before and are no longer, which are forgotten.
    pub(super) fn gone(&mut self) -> Vec<Box<[u8]>> {
        let round = self.round;
        self.rounds.extract_if(|_, seen| *seen != round).map(|(key, _)| key).collect()
    }
}

/// The labels of a remembered series.
pub(super) fn labels(key: &[u8]) -> Vec<(&str, &str)> {
    let mut texts = key.split(|byte| *byte == END).map(|text| std::str::from_utf8(text).unwrap_or_default());
    let mut labels = Vec::new();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        labels.push((name, value));
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_series_is_told_once() {
        let mut memory = Memory::default();
        let (a, b) = ([("__name__", "a"), ("k", "v")], [("__name__", "b")]);
        memory.start();
        memory.see(a);
        memory.see(b);
        assert!(memory.gone().is_empty());
        memory.start();
        memory.see(b);
        let gone = memory.gone();
        assert_eq!(gone.iter().map(|key| labels(key)).collect::<Vec<_>>(), [a.to_vec()]);
        memory.start();
        memory.see(b);
        assert!(memory.gone().is_empty());
    }
}
