//! Labels of a sample, packed in one string.
//!
//! Each name and each value stands behind its length, a number to the base of 64 whose digits are ASCII characters: six
//! bits each, the last digit first, and another bit in all but the last one. So packed labels are one allocation, read
//! without searching, and equal where the pairs and their order are.

use std::cmp::Ordering;

/// Borrowed labels of one sample, in the order they are written.
///
/// ```
/// use metrics_adapter::family::{Labels, PackedLabels};
///
/// let packed = PackedLabels::new([("shop", "corner")]);
/// let labels: Labels<'_> = packed.labels();
/// assert_eq!(labels.value("shop"), Some("corner"));
/// assert_eq!(labels.iter().count(), 1);
/// assert!(Labels::NONE.is_empty());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels<'a>(&'a str);

impl<'a> Labels<'a> {
    /// No label at all.
    pub const NONE: Labels<'static> = Labels("");

    /// Name and value pairs.
    #[must_use]
    pub fn iter(self) -> LabelsIter<'a> {
        LabelsIter(self.0)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The value of the label of this name.
    #[must_use]
    pub fn value(self, name: &str) -> Option<&'a str> {
        self.iter().find_map(|(known, value)| (known == name).then_some(value))
    }
}

impl<'a> IntoIterator for Labels<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;

    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

/// By the first pair that differs, its name first.
impl Ord for Labels<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

impl PartialOrd for Labels<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Iterator of [`Labels::iter`].
///
/// ```
/// use metrics_adapter::family::PackedLabels;
///
/// for (name, value) in PackedLabels::new([("shop", "corner")]).iter() {
///     assert_eq!((name, value), ("shop", "corner"));
/// }
/// ```
#[derive(Clone, Debug)]
pub struct LabelsIter<'a>(&'a str);

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = unpack(self.0)?;
        let (value, rest) = unpack(rest)?;
        self.0 = rest;
        Some((name, value))
    }
}

const DIGIT: usize = 0x3f;
const MORE: u8 = 0x40;

#[inline]
fn pack(out: &mut String, text: &str) {
    let mut rest = text.len();
    while rest > DIGIT {
        out.push(char::from((rest & DIGIT) as u8 | MORE));
        rest >>= 6;
    }
    out.push(char::from(rest as u8));
    out.push_str(text);
}

/// The first text and what is behind it.
#[inline]
fn unpack(packed: &str) -> Option<(&str, &str)> {
    let bytes = packed.as_bytes();
    let (mut length, mut at) = (0, 0);
    loop {
        let digit = *bytes.get(at)?;
        length |= (usize::from(digit) & DIGIT) << (6 * at);
        at += 1;
        if digit & MORE == 0 {
            break;
        }
    }
    packed.get(at..)?.split_at_checked(length)
}

/// Labels of one sample in one allocation; the names are unique, and usually sorted.
///
/// ```
/// use metrics_adapter::family::PackedLabels;
///
/// let labels = PackedLabels::new([("shop", "corner"), ("till", "2")]);
/// assert_eq!(labels.iter().count(), 2);
/// assert_eq!(labels.labels().value("till"), Some("2"));
/// assert!(labels.heap_bytes() > 0);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PackedLabels(Box<str>);

impl PackedLabels {
    /// Packs pairs in their order.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut packer = Packer::default();
        pairs.into_iter().for_each(|(name, value)| packer.push(name, value));
        packer.finish()
    }

    /// The labels, borrowed.
    #[must_use]
    pub fn labels(&self) -> Labels<'_> {
        Labels(&self.0)
    }

    /// Name and value pairs.
    pub fn iter(&self) -> LabelsIter<'_> {
        self.labels().iter()
    }

    /// Bytes held on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.0.len()
    }
}

impl Ord for PackedLabels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.labels().cmp(&other.labels())
    }
}

impl PartialOrd for PackedLabels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<'a> IntoIterator for &'a PackedLabels {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;

    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for PackedLabels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut packer = Packer::default();
        pairs.into_iter().for_each(|(name, value)| packer.push(name.as_ref(), value.as_ref()));
        packer.finish()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> From<Vec<(N, V)>> for PackedLabels {
    fn from(pairs: Vec<(N, V)>) -> Self {
        pairs.into_iter().collect()
    }
}

impl<N: AsRef<str>, V: AsRef<str>> From<&[(N, V)]> for PackedLabels {
    fn from(pairs: &[(N, V)]) -> Self {
        pairs.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect()
    }
}

impl From<Labels<'_>> for PackedLabels {
    fn from(labels: Labels<'_>) -> Self {
        Self(labels.0.into())
    }
}

impl From<PackedLabels> for Vec<(String, String)> {
    fn from(packed: PackedLabels) -> Self {
        packed.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// Packs labels one by one into room that is used again.
#[derive(Debug, Default)]
pub struct Packer(String);

impl Packer {
    /// Adds a pair.
    #[inline]
    pub fn push(&mut self, name: &str, value: &str) {
        pack(&mut self.0, name);
        pack(&mut self.0, value);
    }

    /// Forgets what was added.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What was added so far.
    #[must_use]
    pub fn labels(&self) -> Labels<'_> {
        Labels(&self.0)
    }

    /// What was added, and begins anew with the same room.
    pub fn finish(&mut self) -> PackedLabels {
        let packed = PackedLabels(self.0.as_str().into());
        self.0.clear();
        packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
        prop::collection::vec(
            ("[a-z_]{1,8}|[a-z]{60,70}", prop_oneof![any::<String>(), "é{2000,2100}", "a{0,2}"]),
            0..6,
        )
    }

    proptest! {
        #[test]
        fn packing_keeps_every_pair_and_their_order(one in pairs(), two in pairs()) {
            let packed = PackedLabels::from(one.clone());
            prop_assert_eq!(&Vec::from(packed.clone()), &one);
            prop_assert_eq!(packed.cmp(&PackedLabels::from(two.clone())), one.cmp(&two));
            prop_assert_eq!(packed == PackedLabels::from(two.clone()), one == two);
            for (name, value) in one.iter().rev() {
                prop_assert!(one.iter().filter(|(known, _)| known == name).count() > 1 || packed.labels().value(name) == Some(value));
            }
        }

        #[test]
        fn what_was_not_packed_ends_early(text in any::<String>()) {
            Labels(&text).iter().for_each(|(name, value)| assert!(name.len() + value.len() < text.len()));
        }
    }
}
