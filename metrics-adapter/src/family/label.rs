//! Labels of a sample, owned pairs or packed in one string.

/// Borrowed labels of one sample, in the order they are written.
#[derive(Clone, Copy, Debug)]
pub enum Labels<'a> {
    /// Separate strings.
    Pairs(&'a [(String, String)]),
    /// One allocation for all of them.
    Packed(&'a PackedLabels),
}

impl<'a> Labels<'a> {
    /// No label at all.
    pub const NONE: Labels<'static> = Labels::Pairs(&[]);

    /// Name and value pairs.
    #[must_use]
    pub fn iter(self) -> LabelsIter<'a> {
        match self {
            Labels::Pairs(pairs) => LabelsIter::Pairs(pairs.iter()),
            Labels::Packed(packed) => LabelsIter::Packed(&packed.0),
        }
    }
}

impl<'a> IntoIterator for Labels<'a> {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;

    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

/// Iterator of [`Labels::iter`].
#[derive(Clone, Debug)]
pub enum LabelsIter<'a> {
    /// Over separate strings.
    Pairs(std::slice::Iter<'a, (String, String)>),
    /// Over the rest of the packed bytes.
    Packed(&'a str),
}

impl<'a> Iterator for LabelsIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            LabelsIter::Pairs(pairs) => pairs.next().map(|(name, value)| (name.as_str(), value.as_str())),
            LabelsIter::Packed(rest) => {
                let (name, tail) = rest.split_once(NAME_END)?;
                let length_end = tail.find(LENGTH_END)?;
                let length = usize::from_str_radix(tail.get(..length_end)?, 16).ok()?;
                let start = length_end + LENGTH_END.len_utf8();
                let value = tail.get(start..start + length)?;
                *rest = tail.get(start + length..)?;
                Some((name, value))
            }
        }
    }
}

// A label name is an identifier, so a control character ends it; a value is free text and carries its length.
const NAME_END: char = '\x01';
const LENGTH_END: char = '\x02';

/// Labels sorted by name in one string: what the StatsD store keeps per series.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackedLabels(Box<str>);

impl PackedLabels {
    /// Packs pairs that are already sorted by name.
    pub fn from_sorted<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        use std::fmt::Write as _;
        let mut packed = String::new();
        for (name, value) in pairs {
            packed.push_str(name);
            packed.push(NAME_END);
            // Writing to a String cannot fail.
            let _ = write!(packed, "{:x}", value.len());
            packed.push(LENGTH_END);
            packed.push_str(value);
        }
        Self(packed.into_boxed_str())
    }

    /// Name and value pairs.
    pub fn iter(&self) -> LabelsIter<'_> {
        LabelsIter::Packed(&self.0)
    }

    /// Bytes held on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.0.len()
    }
}

impl<'a> IntoIterator for &'a PackedLabels {
    type Item = (&'a str, &'a str);
    type IntoIter = LabelsIter<'a>;

    fn into_iter(self) -> LabelsIter<'a> {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packing_keeps_every_pair(pairs in prop::collection::vec(("[a-z_]{1,8}", any::<String>()), 0..6)) {
            let packed = PackedLabels::from_sorted(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            let back: Vec<_> = packed.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(back, pairs);
        }
    }
}
