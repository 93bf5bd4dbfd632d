//! Groups samples into the families of a page.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::name::remove_reserved_suffixes;
use super::set::Matched;
use crate::exposition::escaped;
use crate::family::{Family, Kind, Labels, PackedLabels, Sample, Value};

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
    by_name: HashMap<Arc<str>, usize, foldhash::fast::RandomState>,
    samples: usize,
    pool: Pool,
}

#[derive(Debug)]
struct Collected {
    name: Arc<str>,
    help: Arc<str>,
    kind: Kind,
    samples: Vec<(Arc<Ready>, f64)>,
    /// Its name is not to be changed.
    verbatim: bool,
}

/// A sample of which everything but the value is known, ready for the page.
#[derive(Debug)]
pub struct Ready {
    name: Arc<str>,
    /// Only where it may be wanted: a family shows the help of its first sample.
    help: Option<Arc<str>>,
    kind: Kind,
    labels: Arc<LabelSet>,
    /// The rule input up to the value: that of the bean, and what is behind it.
    input: (Arc<str>, Arc<str>),
    /// Its place in the family of the last page, see [`Order`].
    order: AtomicU64,
    /// Index of its family on the last page; a hint.
    family: AtomicU32,
}

/// Labels, and how text pages show them.
#[derive(Debug, PartialEq, Eq)]
struct LabelSet {
    pairs: PackedLabels,
    /// `{name="value",…}` with escapes, or nothing.
    text: Box<str>,
}

impl LabelSet {
    fn new(mut pairs: Vec<(String, String)>) -> Self {
        pairs.sort();
        let mut text = String::new();
        write_labels(&mut text, &pairs);
        Self { pairs: pairs.into(), text: text.into() }
    }
}

fn write_labels(out: &mut String, pairs: &[(String, String)]) {
    for (index, (name, value)) in pairs.iter().enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        out.push_str(name);
        out.push_str("=\"");
        escaped(value, true, |part| out.push_str(part));
        out.push('"');
    }
    if !pairs.is_empty() {
        out.push('}');
    }
}

/// Where a sample stood when its family was last put in order. Samples of one generation keep their order and
/// have different labels, so that a page with the same samples, or some of them, need not be sorted.
#[derive(Clone, Copy)]
struct Order {
    generation: u32,
    rank: u32,
}

impl Order {
    fn of(ready: &Ready) -> Self {
        let order = ready.order.load(Ordering::Relaxed);
        Self { generation: (order >> 32) as u32, rank: order as u32 }
    }

    fn give(self, ready: &Ready) {
        ready.order.store(u64::from(self.generation) << 32 | u64::from(self.rank), Ordering::Relaxed);
    }

    /// One that no sample has; never 0, which is none.
    fn next_generation() -> u32 {
        static LAST: AtomicU32 = AtomicU32::new(0);
        match LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1) {
            0 => Self::next_generation(),
            generation => generation,
        }
    }
}

/// Texts and labels that many samples have in common.
#[derive(Debug, Default)]
pub struct Pool {
    texts: HashSet<Arc<str>, foldhash::fast::RandomState>,
    /// The attributes of a bean come one after the other and mostly have the same labels.
    labels: Option<Arc<LabelSet>>,
}

impl Pool {
    /// The one copy of this text.
    pub fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&new));
        new
    }

    fn labels(&mut self, mut pairs: Vec<(String, String)>) -> Arc<LabelSet> {
        pairs.sort();
        let same = |known: &LabelSet| {
            let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            known.pairs.iter().eq(pairs)
        };
        match &self.labels {
            Some(known) if same(known) => Arc::clone(known),
            _ => Arc::clone(self.labels.insert(Arc::new(LabelSet::new(pairs)))),
        }
    }

    /// Forgets what nobody uses any more.
    pub fn tidy(&mut self) {
        self.texts.retain(|text| Arc::strong_count(text) > 1);
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
    pub fn samples(&self) -> impl ExactSizeIterator<Item = (Labels<'_>, f64)> {
        self.samples.iter().map(|(ready, value)| (ready.labels.pairs.labels(), *value))
    }

    /// Labels as text pages show them (`{name="value"}`, with escapes, or nothing), and values.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = (&str, f64)> {
        self.samples.iter().map(|(ready, value)| (&*ready.labels.text, *value))
    }

    /// The same as a family with labels of its own.
    #[must_use]
    pub fn to_family(&self) -> Family {
        let mut family = Family::new(self.name.as_str(), self.help.as_str(), self.kind);
        family.samples.reserve_exact(self.samples.len());
        self.samples().for_each(|(labels, value)| family.push(labels, value));
        family
    }
}

impl From<Family> for SharedFamily {
    /// Samples that are no plain numbers are left out.
    fn from(family: Family) -> Self {
        let ready = |labels| Ready {
            name: Arc::default(),
            help: None,
            kind: family.kind,
            labels: Arc::new(LabelSet::new(labels)),
            input: Default::default(),
            order: AtomicU64::default(),
            family: AtomicU32::default(),
        };
        let number = |sample: Sample| match sample.value {
            Value::Number(value) => Some((Arc::new(ready(sample.labels.into())), value)),
            _ => None,
        };
        let samples = family.samples.into_iter().filter_map(number).collect();
        Self { name: family.name, help: family.help, kind: family.kind, samples }
    }
}

impl Ready {
    /// As [`Page::push`] would take it on a page of this style. `bean` and `rest` are the rule input up to the value.
    #[must_use]
    pub fn new(style: NameStyle, matched: Matched, bean: &Arc<str>, rest: &str, pool: &mut Pool) -> Self {
        let mut name = matched.name;
        if style == NameStyle::One {
            remove_reserved_suffixes(&mut name);
        }
        Self {
            name: pool.text(&name),
            help: Some(matched.help.into()),
            kind: matched.kind,
            labels: pool.labels(matched.labels),
            input: (Arc::clone(bean), pool.text(rest)),
            order: AtomicU64::default(),
            family: AtomicU32::default(),
        }
    }

    /// Drops the help, which is long and only wanted of the first sample of a family.
    #[must_use]
    pub fn without_help(self) -> Self {
        Self { help: None, ..self }
    }

    /// The same with one more label, which tells it from samples that have the same labels otherwise.
    fn told_apart(&self) -> Self {
        let mut pairs = Vec::from(self.labels.pairs.clone());
        pairs.push(("_objectname".to_owned(), format!("{}{}", self.input.0, self.input.1)));
        Self {
            name: Arc::clone(&self.name),
            help: self.help.clone(),
            kind: self.kind,
            labels: Arc::new(LabelSet::new(pairs)),
            input: self.input.clone(),
            order: AtomicU64::default(),
            family: AtomicU32::default(),
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
        let ready = Ready::new(self.style, matched, &input.into(), "", &mut self.pool);
        self.push_ready(&Arc::new(ready), value);
    }

    /// Whether a sample can be added as it is: it has its help, or its family is there already.
    #[must_use]
    pub fn takes(&self, ready: &Ready) -> bool {
        ready.help.is_some() || self.has_family_of(ready)
    }

    /// Whether another sample of the same family was there before.
    #[must_use]
    pub fn has_family_of(&self, ready: &Ready) -> bool {
        self.find(ready).is_some()
    }

    /// Index of the family that a sample belongs to.
    fn find(&self, ready: &Ready) -> Option<usize> {
        let hint = ready.family.load(Ordering::Relaxed) as usize;
        match self.families.get(hint) {
            Some(family) if Arc::ptr_eq(&family.name, &ready.name) && !family.verbatim => Some(hint),
            _ => self.by_name.get(&ready.name).copied(),
        }
    }

    /// Adds one sample that was prepared before.
    pub fn push_ready(&mut self, ready: &Arc<Ready>, value: f64) {
        let index = self.find(ready).unwrap_or_else(|| {
            self.families.push(Collected {
                name: Arc::clone(&ready.name),
                help: ready.help.clone().unwrap_or_default(),
                kind: ready.kind,
                samples: Vec::new(),
                verbatim: false,
            });
            self.by_name.insert(Arc::clone(&ready.name), self.families.len() - 1);
            self.families.len() - 1
        });
        ready.family.store(index as u32, Ordering::Relaxed);
        let family = &mut self.families[index];
        if family.kind != ready.kind {
            family.kind = Kind::Untyped;
        }
        self.samples += 1;
        family.samples.push((Arc::clone(ready), value));
    }

    /// Adds a constant 1 under a name that keeps its suffix.
    pub fn push_verbatim(&mut self, name: &str, help: &str, labels: Vec<(String, String)>) {
        let index = *self.by_name.entry(format!("{name} verbatim").into()).or_insert_with(|| {
            self.families.push(Collected {
                name: name.into(),
                help: help.into(),
                kind: Kind::Gauge,
                samples: Vec::new(),
                verbatim: true,
            });
            self.families.len() - 1
        });
        self.samples += 1;
        let matched =
            Matched { name: name.into(), help: String::new(), kind: Kind::Gauge, labels, value: 1.0 };
        let ready = Ready::new(NameStyle::Zero, matched, &Arc::default(), "", &mut self.pool);
        self.families[index].samples.push((Arc::new(ready), 1.0));
    }

    /// Adds everything of another page of the same style; families of one name become one.
    pub fn merge(&mut self, other: Self) {
        if self.families.is_empty() {
            *self = other;
            return;
        }
        self.samples += other.samples;
        let keys: HashMap<usize, Arc<str>> =
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
        let samples = match in_known_order(std::mem::take(&mut self.samples)) {
            Ok(samples) => samples,
            Err(samples) => put_in_order(samples),
        };
        let mut name = String::from(&*self.name);
        if self.kind == Kind::Counter && style == NameStyle::One && !self.verbatim {
            name.push_str("_total");
        }
        SharedFamily { name, help: String::from(&*self.help), kind: self.kind, samples }
    }
}

type Samples = Vec<(Arc<Ready>, f64)>;

/// Puts samples where they stood on an earlier page, if they all stood on the same one.
fn in_known_order(samples: Samples) -> Result<Samples, Samples> {
    let Some(generation) = samples.first().map(|(ready, _)| Order::of(ready).generation) else {
        return Ok(samples);
    };
    let orders = samples.iter().map(|(ready, _)| Order::of(ready));
    let highest = orders.clone().map(|order| order.rank as usize).max().unwrap_or_default();
    if generation == 0
        || highest > samples.len().saturating_mul(4)
        || orders.clone().any(|order| order.generation != generation)
    {
        return Err(samples);
    }
    if samples.windows(2).all(|pair| Order::of(&pair[0].0).rank < Order::of(&pair[1].0).rank) {
        return Ok(samples);
    }
    let mut places: Vec<Option<u32>> = vec![None; highest + 1];
    for (at, order) in (0..).zip(orders) {
        // The same sample twice.
        if places[order.rank as usize].replace(at).is_some() {
            return Err(samples);
        }
    }
    let mut samples: Vec<Option<_>> = samples.into_iter().map(Some).collect();
    Ok(places.into_iter().flatten().filter_map(|at| samples[at as usize].take()).collect())
}

/// Sorts samples by their labels, and tells those apart that have the same ones.
fn put_in_order(mut samples: Samples) -> Samples {
    samples.sort_by(|(a, _), (b, _)| a.labels.pairs.cmp(&b.labels.pairs).then_with(|| a.input.cmp(&b.input)));
    let clash = samples.windows(2).any(|pair| pair[0].0.labels.pairs == pair[1].0.labels.pairs);
    if clash {
        for (ready, _) in &mut samples {
            *ready = Arc::new(ready.told_apart());
        }
        samples.sort_by(|(a, _), (b, _)| a.labels.pairs.cmp(&b.labels.pairs));
        // The same leaf twice, say through overlapping patterns: one of them is enough.
        samples.dedup_by(|(later, _), (earlier, _)| later.labels.pairs == earlier.labels.pairs);
        return samples;
    }
    let generation = Order::next_generation();
    for (rank, (ready, _)) in (0..).zip(&samples) {
        Order { generation, rank }.give(ready);
    }
    samples
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
        assert_eq!(family.samples[0].labels.iter().next(), Some(("_objectname", "d<x=1><>A")));
        assert!(family.samples.iter().all(|sample| sample.labels.iter().count() == 2));
    }
}
