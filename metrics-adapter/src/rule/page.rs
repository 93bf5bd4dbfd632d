//! Groups samples into the families of a page.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
    by_name: HashMap<String, usize, foldhash::fast::RandomState>,
    samples: usize,
}

#[derive(Debug)]
struct Collected {
    name: String,
    help: String,
    kind: Kind,
    samples: Vec<(Arc<Ready>, f64)>,
    /// Its name is not to be changed.
    verbatim: bool,
}

/// A sample of which everything but the value is known, ready for the page.
#[derive(Debug)]
pub struct Ready {
    name: String,
    help: String,
    kind: Kind,
    labels: Vec<(String, String)>,
    /// The rule input up to the value.
    input: String,
    /// Its place in the family of the last page; a hint, for the next one mostly has the same order.
    rank: AtomicU32,
}

impl Clone for Ready {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            help: self.help.clone(),
            kind: self.kind,
            labels: self.labels.clone(),
            input: self.input.clone(),
            rank: AtomicU32::default(),
        }
    }
}

/// A family whose samples share their labels with whoever knew them beforehand, so that a page that is the same
/// as the last one but for its numbers copies no text.
#[derive(Clone, Debug)]
pub struct SharedFamily {
    /// As [`Family::name`].
    pub name: String,
    /// As [`Family::help`].
    pub help: String,
    /// As [`Family::kind`].
    pub kind: Kind,
    samples: Vec<(Arc<Ready>, f64)>,
}

impl SharedFamily {
    /// Labels and values.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = (&[(String, String)], f64)> {
        self.samples.iter().map(|(ready, value)| (ready.labels.as_slice(), *value))
    }

    /// The same as a family with labels of its own.
    #[must_use]
    pub fn to_family(&self) -> Family {
        let mut family = Family::new(self.name.as_str(), self.help.as_str(), self.kind);
        family.samples.reserve_exact(self.samples.len());
        self.samples().for_each(|(labels, value)| family.push(labels.to_vec(), value));
        family
    }
}

impl From<Family> for SharedFamily {
    /// Samples that are no plain numbers are left out.
    fn from(family: Family) -> Self {
        let ready = |labels| Ready {
            name: String::new(),
            help: String::new(),
            kind: family.kind,
            labels,
            input: String::new(),
            rank: AtomicU32::default(),
        };
        let number = |sample: Sample| match sample.value {
            Value::Number(value) => Some((Arc::new(ready(sample.labels)), value)),
            _ => None,
        };
        let samples = family.samples.into_iter().filter_map(number).collect();
        Self { name: family.name, help: family.help, kind: family.kind, samples }
    }
}

impl Ready {
    /// As [`Page::push`] would take it on a page of this style.
    #[must_use]
    pub fn new(style: NameStyle, matched: Matched, input: &str) -> Self {
        let mut name = matched.name;
        if style == NameStyle::One {
            remove_reserved_suffixes(&mut name);
        }
        let mut labels = matched.labels;
        labels.sort();
        Self {
            name,
            help: matched.help,
            kind: matched.kind,
            labels,
            input: input.into(),
            rank: AtomicU32::default(),
        }
    }
}

impl Page {
    /// An empty page.
    #[must_use]
    pub fn new(style: NameStyle) -> Self {
        Self { style, ..Self::default() }
    }

    /// Adds one sample. `input` is the rule input up to the value; it tells samples apart that would
    /// otherwise be the same.
    pub fn push(&mut self, matched: Matched, input: &str) {
        let value = matched.value;
        self.push_ready(&Arc::new(Ready::new(self.style, matched, input)), value);
    }

    /// Adds one sample that was prepared before.
    pub fn push_ready(&mut self, ready: &Arc<Ready>, value: f64) {
        let index = match self.by_name.get(&ready.name) {
            Some(index) => *index,
            None => {
                self.families.push(Collected {
                    name: ready.name.clone(),
                    help: ready.help.clone(),
                    kind: ready.kind,
                    samples: Vec::new(),
                    verbatim: false,
                });
                self.by_name.insert(ready.name.clone(), self.families.len() - 1);
                self.families.len() - 1
            }
        };
        let family = &mut self.families[index];
        if family.kind != ready.kind {
            family.kind = Kind::Untyped;
        }
        self.samples += 1;
        family.samples.push((Arc::clone(ready), value));
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
        self.samples += 1;
        let (name, help) = (name.to_owned(), help.to_owned());
        let (input, rank) = (String::new(), AtomicU32::default());
        let ready = Ready { name, help, kind: Kind::Gauge, labels, input, rank };
        self.families[index].samples.push((Arc::new(ready), 1.0));
    }

    /// Adds everything of another page of the same style; families of one name become one.
    pub fn merge(&mut self, other: Self) {
        if self.families.is_empty() {
            *self = other;
            return;
        }
        self.samples += other.samples;
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
        self.samples
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.families.is_empty()
    }

    /// The families, every sample of them with labels of its own.
    #[must_use]
    pub fn finish(self) -> Vec<Family> {
        self.finish_shared().iter().map(SharedFamily::to_family).collect()
    }

    /// [`Page::finish`] without copying any label.
    #[must_use]
    pub fn finish_shared(self) -> Vec<SharedFamily> {
        let style = self.style;
        self.families.into_iter().map(|family| family.finish(style)).collect()
    }
}

impl Collected {
    fn finish(mut self, style: NameStyle) -> SharedFamily {
        // Comparing numbers is cheap, and comparing labels is so where they are in order already.
        self.samples.sort_by_key(|(ready, _)| ready.rank.load(Ordering::Relaxed));
        self.samples.sort_by(|(a, _), (b, _)| a.labels.cmp(&b.labels).then_with(|| a.input.cmp(&b.input)));
        for (rank, (ready, _)) in (0..).zip(&self.samples) {
            ready.rank.store(rank, Ordering::Relaxed);
        }
        let clash = self.samples.windows(2).any(|pair| pair[0].0.labels == pair[1].0.labels);
        if clash {
            for (ready, _) in &mut self.samples {
                let ready = Arc::make_mut(ready);
                ready.labels.push(("_objectname".to_owned(), ready.input.clone()));
                ready.labels.sort();
            }
            self.samples.sort_by(|(a, _), (b, _)| a.labels.cmp(&b.labels));
            // The same leaf twice, say through overlapping patterns: one of them is enough.
            self.samples.dedup_by(|(later, _), (earlier, _)| later.labels == earlier.labels);
        }
        if self.kind == Kind::Counter && style == NameStyle::One && !self.verbatim {
            self.name.push_str("_total");
        }
        SharedFamily { name: self.name, help: self.help, kind: self.kind, samples: self.samples }
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
        page.push(matched("a_total", Kind::Gauge, &[]), "x");
        page.push(matched("b_total", Kind::Counter, &[]), "x");
        page.push(matched("c", Kind::Counter, &[("l", "1")]), "x");
        page.push(matched("c", Kind::Gauge, &[]), "y");
        let families = page.finish();
        let names: Vec<(&str, Kind)> = families.iter().map(|f| (f.name.as_str(), f.kind)).collect();
        assert_eq!(names, [("a", Kind::Gauge), ("b_total", Kind::Counter), ("c", Kind::Untyped)]);
    }

    #[test]
    fn merged_pages_are_one() {
        let page = |name: &str, kind, label: &str| {
            let mut page = Page::new(NameStyle::One);
            page.push(matched(name, kind, &[("l", label)]), "x");
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
        page.push(matched("a", Kind::Gauge, &[("l", "1")]), "d<x=1><>A");
        page.push(matched("a", Kind::Gauge, &[("l", "1")]), "d<x=2><>A");
        page.push(matched("a", Kind::Gauge, &[("l", "1")]), "d<x=2><>A");
        page.push(matched("a", Kind::Gauge, &[("l", "2")]), "d<x=3><>A");
        let family = page.finish().remove(0);
        assert_eq!(family.samples.len(), 3);
        assert_eq!(family.samples[0].labels[0], ("_objectname".to_owned(), "d<x=1><>A".to_owned()));
        assert!(family.samples.iter().all(|sample| sample.labels.len() == 2));
    }
}
