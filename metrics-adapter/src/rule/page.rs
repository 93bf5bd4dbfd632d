//! Groups samples into the families of a page.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::name::remove_reserved_suffixes;
use super::set::Matched;
use crate::family::{Family, Kind, Sample, Value};

/// How names end up on the page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameStyle {
    /// As jmx_exporter 1.x: reserved suffixes are taken off, and counters get `_total` back.
    #[default]
    One,
    /// As jmx_exporter 0.x: names stay as the rules made them.
    Zero,
}

/// Collects the samples of one scrape.
#[derive(Debug, Default)]
pub struct Page {
    style: NameStyle,
    families: Vec<Collected>,
    by_name: HashMap<String, usize>,
}

#[derive(Debug)]
struct Collected {
    name: String,
    help: String,
    kind: Kind,
    samples: Vec<Unwritten>,
    /// Its name is not to be changed.
    verbatim: bool,
}

/// Labels, value and rule input of a sample.
type Unwritten = (Vec<(String, String)>, f64, String);

impl Page {
    /// An empty page.
    #[must_use]
    pub fn new(style: NameStyle) -> Self {
        Self { style, ..Self::default() }
    }

    /// Adds one sample. `input` is the rule input up to the value; it tells samples apart that would
    /// otherwise be the same.
    pub fn push(&mut self, matched: Matched, input: String) {
        let mut name = matched.name;
        if self.style == NameStyle::One {
            remove_reserved_suffixes(&mut name);
        }
        let mut labels = matched.labels;
        labels.sort();
        let index = match self.by_name.entry(name) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let name = entry.key().clone();
                self.families.push(Collected {
                    name,
                    help: matched.help,
                    kind: matched.kind,
                    samples: Vec::new(),
                    verbatim: false,
                });
                *entry.insert(self.families.len() - 1)
            }
        };
        let family = &mut self.families[index];
        if family.kind != matched.kind {
            family.kind = Kind::Untyped;
        }
        family.samples.push((labels, matched.value, input));
    }

    /// Adds a constant 1 under a name that keeps its suffix.
    pub fn push_verbatim(&mut self, name: &str, help: &str, mut labels: Vec<(String, String)>) {
        labels.sort();
        let index = *self.by_name.entry(format!("{name} verbatim")).or_insert_with(|| {
            let (name, help) = (name.to_owned(), help.to_owned());
            self.families.push(Collected {
                name,
                help,
                kind: Kind::Gauge,
                samples: Vec::new(),
                verbatim: true,
            });
            self.families.len() - 1
        });
        self.families[index].samples.push((labels, 1.0, String::new()));
    }

    /// Adds everything of another page of the same style; families of one name become one.
    pub fn merge(&mut self, other: Self) {
        if self.families.is_empty() {
            *self = other;
            return;
        }
        let keys: HashMap<usize, String> =
            other.by_name.into_iter().map(|(key, index)| (index, key)).collect();
        for (index, family) in other.families.into_iter().enumerate() {
            let key = keys.get(&index).unwrap_or(&family.name).clone();
            match self.by_name.entry(key) {
                Entry::Occupied(entry) => {
                    let known = &mut self.families[*entry.get()];
                    if known.kind != family.kind {
                        known.kind = Kind::Untyped;
                    }
                    known.samples.extend(family.samples);
                }
                Entry::Vacant(entry) => {
                    entry.insert(self.families.len());
                    self.families.push(family);
                }
            }
        }
    }

    /// Number of samples so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.families.iter().map(|family| family.samples.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.families.is_empty()
    }

    /// The families, every sample of them with labels of its own.
    #[must_use]
    pub fn finish(self) -> Vec<Family> {
        let style = self.style;
        self.families.into_iter().map(|family| family.finish(style)).collect()
    }
}

impl Collected {
    fn finish(mut self, style: NameStyle) -> Family {
        self.samples.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.2.cmp(&b.2)));
        let clash = self.samples.windows(2).any(|pair| pair[0].0 == pair[1].0);
        if clash {
            for (labels, _, input) in &mut self.samples {
                labels.push(("_objectname".to_owned(), std::mem::take(input)));
                labels.sort();
            }
            self.samples.sort_by(|a, b| a.0.cmp(&b.0));
            // The same leaf twice, say through overlapping patterns: one of them is enough.
            self.samples.dedup_by(|later, earlier| later.0 == earlier.0);
        }
        if self.kind == Kind::Counter && style == NameStyle::One && !self.verbatim {
            self.name.push_str("_total");
        }
        let samples = self.samples.into_iter();
        let samples =
            samples.map(|(labels, value, _)| Sample { labels, value: Value::Number(value) }).collect();
        Family { name: self.name, help: self.help, kind: self.kind, samples }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(name: &str, kind: Kind, labels: &[(&str, &str)]) -> Matched {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Matched { name: name.to_owned(), help: "h".to_owned(), kind, labels, value: 1.0 }
    }

    #[test]
    fn suffixes_and_mixed_types() {
        let mut page = Page::new(NameStyle::One);
        page.push(matched("a_total", Kind::Gauge, &[]), "x".into());
        page.push(matched("b_total", Kind::Counter, &[]), "x".into());
        page.push(matched("c", Kind::Counter, &[("l", "1")]), "x".into());
        page.push(matched("c", Kind::Gauge, &[]), "y".into());
        let families = page.finish();
        let names: Vec<(&str, Kind)> = families.iter().map(|f| (f.name.as_str(), f.kind)).collect();
        assert_eq!(names, [("a", Kind::Gauge), ("b_total", Kind::Counter), ("c", Kind::Untyped)]);
    }

    #[test]
    fn merged_pages_are_one() {
        let page = |name: &str, kind, label: &str| {
            let mut page = Page::new(NameStyle::One);
            page.push(matched(name, kind, &[("l", label)]), "x".into());
            page.push_verbatim("i_info", "h", vec![("l".into(), label.into())]);
            page
        };
        let mut one = page("a_total", Kind::Counter, "1");
        one.merge(page("a_total", Kind::Counter, "2"));
        one.merge(page("b", Kind::Gauge, "3"));
        let families = one.finish();
        let found: Vec<_> = families.iter().map(|f| (f.name.as_str(), f.samples.len())).collect();
        assert_eq!(found, [("a_total", 2), ("i_info", 3), ("b", 1)]);
    }

    #[test]
    fn clashing_samples_are_told_apart() {
        let mut page = Page::new(NameStyle::One);
        page.push(matched("a", Kind::Gauge, &[("l", "1")]), "d<x=1><>A".into());
        page.push(matched("a", Kind::Gauge, &[("l", "1")]), "d<x=2><>A".into());
        page.push(matched("a", Kind::Gauge, &[("l", "1")]), "d<x=2><>A".into());
        page.push(matched("a", Kind::Gauge, &[("l", "2")]), "d<x=3><>A".into());
        let family = page.finish().remove(0);
        assert_eq!(family.samples.len(), 3);
        assert_eq!(family.samples[0].labels[0], ("_objectname".to_owned(), "d<x=1><>A".to_owned()));
        assert!(family.samples.iter().all(|sample| sample.labels.len() == 2));
    }
}
