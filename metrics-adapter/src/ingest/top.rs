//! The most frequent names of a stream, in bounded memory.

use std::collections::HashMap;

/// Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams"
/// (2005): a new name takes the place and the count of the rarest one, so counts are never too low.
#[derive(Clone, Debug)]
pub struct Top {
    counts: HashMap<Box<str>, u64>,
    capacity: usize,
}

/// Longer names are cut.
const MAX_NAME: usize = 200;

impl Top {
    /// Keeps so many names.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { counts: HashMap::new(), capacity }
    }

    /// Counts a name.
    pub fn add(&mut self, name: &str, times: u64) {
        let cut = (0..=MAX_NAME.min(name.len())).rev().find(|at| name.is_char_boundary(*at));
        let name = &name[..cut.unwrap_or(0)];
        if let Some(count) = self.counts.get_mut(name) {
            *count += times;
            return;
        }
        let mut base = 0;
        if self.counts.len() >= self.capacity {
            let rarest = self.counts.iter().min_by_key(|(_, count)| **count);
            if let Some((rarest, count)) = rarest.map(|(name, count)| (name.clone(), *count)) {
                base = count;
                self.counts.remove(&rarest);
            }
        }
        self.counts.insert(name.into(), base + times);
    }

    /// The most frequent names, first the most frequent.
    #[must_use]
    pub fn most(&self, number: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<(&str, u64)> = self.counts.iter().map(|(name, count)| (&**name, *count)).collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        all.truncate(number);
        all
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.clear();
    }
}

/// The pattern of a name: components with digits become `*`, so that names made from ids count together.
#[must_use]
pub(super) fn pattern_of(name: &str) -> String {
    let vague = |component: &&str| component.bytes().any(|byte| byte.is_ascii_digit());
    let parts = name.split('.').map(|component| if vague(&component) { "*" } else { component });
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_names_survive_a_flood() {
        let mut top = Top::new(10);
        for n in 0..10_000 {
            top.add("often", 1);
            top.add(&format!("once{n}"), 1);
        }
        let (name, count) = top.most(1)[0];
        assert_eq!(name, "often");
        assert!((10_000..11_100).contains(&count), "{count}");
        assert_eq!(top.most(100).len(), 10);
        top.add(&"é".repeat(300), 1);
    }

    #[test]
    fn patterns() {
        assert_eq!(pattern_of("a.user1234.b.c"), "a.*.b.c");
    }
}
