//! One form for the families of every source: valid names, sorted labels, static labels, no series twice.

use std::borrow::Cow;
use std::collections::HashMap;

use super::relabel::Relabel;
use super::{Family, Kind, Labels, PackedLabels, Packer, Sample, Value};

/// Appends a text as part of a metric name: what is not allowed becomes `_`, a leading digit gets one in front.
pub fn push_name(out: &mut String, text: &str) {
    if out.is_empty() && text.starts_with(|c: char| c.is_ascii_digit()) {
        out.push('_');
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    out.extend(text.chars().map(|c| if allowed(c) { c } else { '_' }));
}

/// A valid metric name: the text itself where it is one.
#[must_use]
pub fn metric_name(text: &str) -> Cow<'_, str> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b':';
    if !text.is_empty() && text.bytes().all(allowed) && !text.as_bytes()[0].is_ascii_digit() {
        return Cow::Borrowed(text);
    }
    let mut name = String::with_capacity(text.len() + 1);
    push_name(&mut name, text);
    Cow::Owned(if name.is_empty() { "_".to_owned() } else { name })
}

/// Whether this is a name that a label may have on a page.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    !text.is_empty()
        && text.bytes().all(allowed)
        && !text.as_bytes()[0].is_ascii_digit()
        && !text.starts_with("__")
}

fn label_name(text: &str) -> Option<Cow<'_, str>> {
    if is_label(text) {
        return Some(Cow::Borrowed(text));
    }
    let name = metric_name(text).replace(':', "_");
    (!name.starts_with("__")).then_some(Cow::Owned(name))
}

/// What is done to every sample of a source.
///
/// ```
/// use metrics_adapter::source::app::Normal;
///
/// let normal = Normal { labels: vec![("shop".into(), "corner".into())], uniform: true, ..Normal::default() };
/// ```
#[derive(Clone, Debug, Default)]
pub struct Normal {
    /// Labels of every sample that does not have them itself.
    pub labels: Vec<(String, String)>,
    /// Rules, applied in their order after the labels were added.
    pub relabel: Vec<Relabel>,
    /// Whether names and values are brought to base units, and counters to `_total`.
    pub uniform: bool,
}

/// Endings of names that are no base units: what they become, and the factor.
pub const UNITS: [(&str, &str, f64); 21] = [
    ("_ms", "_seconds", 1e-3),
    ("_msec", "_seconds", 1e-3),
    ("_millis", "_seconds", 1e-3),
    ("_milliseconds", "_seconds", 1e-3),
    ("_us", "_seconds", 1e-6),
    ("_usec", "_seconds", 1e-6),
    ("_micros", "_seconds", 1e-6),
    ("_microseconds", "_seconds", 1e-6),
    ("_ns", "_seconds", 1e-9),
    ("_nanos", "_seconds", 1e-9),
    ("_nanoseconds", "_seconds", 1e-9),
    ("_minutes", "_seconds", 60.0),
    ("_hours", "_seconds", 3600.0),
    ("_kb", "_bytes", 1024.0),
    ("_kilobytes", "_bytes", 1024.0),
    ("_mb", "_bytes", 1_048_576.0),
    ("_megabytes", "_bytes", 1_048_576.0),
    ("_gb", "_bytes", 1_073_741_824.0),
    ("_gigabytes", "_bytes", 1_073_741_824.0),
    ("_percent", "_ratio", 0.01),
    ("_pct", "_ratio", 0.01),
];

/// Base units and the usual endings of names, with the values to match.
fn uniform(family: &mut Family) {
    let total = family.name.ends_with("_total");
    if family.kind == Kind::Untyped && total {
        family.kind = Kind::Counter;
    }
    let base = family.name.strip_suffix("_total").unwrap_or(&family.name);
    let unit = UNITS.iter().find_map(|(unit, better, factor)| {
        Some((base.strip_suffix(unit).filter(|rest| !rest.is_empty())?, better, *factor))
    });
    let (mut name, factor) = match unit {
        Some((rest, better, factor)) => ([rest, better].concat(), factor),
        None => (base.to_owned(), 1.0),
    };
    if total || family.kind == Kind::Counter {
        name.push_str("_total");
    } else if family.kind == Kind::Info && !name.ends_with("_info") {
        name.push_str("_info");
    }
    family.name = name;
    if factor != 1.0 {
        family.samples.iter_mut().for_each(|sample| scale(&mut sample.value, factor));
    }
}

fn scale(value: &mut Value, factor: f64) {
    match value {
        Value::Number(number) => *number *= factor,
        Value::Summary(summary) => {
            summary.sum *= factor;
            summary.quantiles.iter_mut().for_each(|(_, value)| *value *= factor);
        }
        Value::Histogram(histogram) => {
            histogram.sum *= factor;
            histogram.buckets.iter_mut().for_each(|(bound, _)| *bound *= factor);
            // Its bounds are powers of two, which they would not be any more.
            histogram.native = None;
        }
    }
}

/// Samples that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub samples: u64,
    /// Why the first of them.
    pub first: Option<String>,
}

impl LeftOut {
    fn note(&mut self, samples: usize, why: impl FnOnce() -> String) {
        self.samples += samples as u64;
        if self.first.is_none() && samples > 0 {
            self.first = Some(why());
        }
    }
}

impl Normal {
    /// Families by name and their samples by labels, both ascending and without duplicates.
    #[doc(hidden)]
    #[must_use]
    pub fn apply(&self, families: Vec<Family>) -> (Vec<Family>, LeftOut) {
        self.apply_again(families, &mut Order::default())
    }

    /// The same for a source that is read again and again: what it listed in the same order as the last time is
    /// not sorted anew.
    #[doc(hidden)]
    #[must_use]
    pub fn apply_again(&self, families: Vec<Family>, order: &mut Order) -> (Vec<Family>, LeftOut) {
        let mut out = LeftOut::default();
        let mut all = Grouped::default();
        let mut place = Place::new(&self.labels);
        for mut family in families {
            if let Cow::Owned(name) = metric_name(&family.name) {
                family.name = name;
            }
            if family.name == "target_info" {
                family.kind = Kind::Info;
            }
            if self.uniform {
                uniform(&mut family);
            }
            for sample in &mut family.samples {
                if let Some(labels) = place.complete(sample.labels.labels(), family.kind) {
                    sample.labels = labels;
                }
            }
            if self.relabel.is_empty() {
                all.add(family, &mut out);
            } else {
                self.relabelled(family, &mut all, &mut out);
            }
        }
        let mut families = all.families;
        families.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let mut orders = HashMap::default();
        for family in &mut families {
            let (name, known) = order.0.remove_entry(&family.name).unwrap_or_default();
            if let Some(found) = sort(family, known, &mut out) {
                orders.insert(if name.is_empty() { family.name.clone() } else { name }, found);
            }
        }
        order.0 = orders;
        families.retain(|family| !family.samples.is_empty());
        (families, out)
    }

    fn relabelled(&self, family: Family, all: &mut Grouped, out: &mut LeftOut) {
        let Family { name, help, kind, samples } = family;
        for mut sample in samples {
            let mut name = name.clone();
            let mut labels = Vec::from(std::mem::take(&mut sample.labels));
            let kept = self.relabel.iter().all(|rule| rule.apply(&mut name, &mut labels));
            if !kept {
                continue;
            }
            labels.retain(|(name, value)| is_label(name) && !value.is_empty());
            labels.sort_unstable();
            sample.labels = labels.into();
            let name = metric_name(&name).into_owned();
            all.add(Family { name, help: help.clone(), kind, samples: vec![sample] }, out);
        }
    }
}

/// Puts a source's own labels beside those of its samples, and all of them in order.
struct Place<'a> {
    /// Sorted.
    own: Vec<(&'a str, &'a str)>,
    room: Packer,
}

impl<'a> Place<'a> {
    fn new(labels: &'a [(String, String)]) -> Self {
        let mut own: Vec<_> = labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        own.sort_unstable();
        Self { own, room: Packer::default() }
    }

    /// The labels as they should be; nothing if they are so.
    fn complete(&mut self, labels: Labels<'_>, kind: Kind) -> Option<PackedLabels> {
        let written = match kind {
            Kind::Histogram => "le",
            Kind::Summary => "quantile",
            _ => "",
        };
        // Almost always the labels are valid and in order, and the source's own have to be put between them.
        let (mut last, mut own, mut added) = ("", self.own.iter().peekable(), false);
        self.room.clear();
        for (name, value) in labels {
            if name <= last || !is_label(name) || name == written || value.is_empty() {
                return Some(self.rebuild(labels, written));
            }
            while let Some((before, value)) = own.next_if(|(before, _)| *before < name) {
                self.room.push(before, value);
                added = true;
            }
            own.next_if(|(same, _)| *same == name);
            self.room.push(name, value);
            last = name;
        }
        for (name, value) in own {
            self.room.push(name, value);
            added = true;
        }
        added.then(|| self.room.finish())
    }

    fn rebuild(&mut self, labels: Labels<'_>, written: &str) -> PackedLabels {
        let valid = labels.iter().filter_map(|(name, value)| Some((label_name(name)?, value)));
        let mut all: Vec<(Cow<'_, str>, &str)> =
            valid.filter(|(name, value)| !value.is_empty() && name != written).collect();
        for (name, value) in &self.own {
            if !all.iter().any(|(known, _)| known == name) {
                all.push((Cow::Borrowed(name), value));
            }
        }
        all.sort_unstable();
        all.dedup_by(|later, earlier| later.0 == earlier.0);
        all.into_iter().collect()
    }
}

#[derive(Default)]
struct Grouped {
    families: Vec<Family>,
    index: HashMap<String, usize>,
}

impl Grouped {
    fn add(&mut self, family: Family, out: &mut LeftOut) {
        match self.index.get(&family.name) {
            None => {
                self.index.insert(family.name.clone(), self.families.len());
                self.families.push(family);
            }
            Some(at) => {
                let known = &mut self.families[*at];
                if fits(known.kind, family.kind) {
                    known.samples.extend(family.samples);
                } else {
                    out.note(family.samples.len(), || {
                        format!("{} is both a {} and a {}", family.name, known.kind, family.kind)
                    });
                }
            }
        }
    }
}

/// Whether samples of one kind can stand in a family of another: plain numbers among each other.
#[must_use]
pub fn fits(family: Kind, other: Kind) -> bool {
    let composed = |kind| matches!(kind, Kind::Summary | Kind::Histogram);
    family == other || !(composed(family) || composed(other))
}

/// How the samples of each family stood before they were sorted.
#[derive(Debug, Default)]
pub struct Order(HashMap<String, Vec<u32>>);

/// Sorts by labels, first as the last time. Gives the order it found, if any was needed.
fn sort(family: &mut Family, known: Vec<u32>, out: &mut LeftOut) -> Option<Vec<u32>> {
    let samples = &family.samples;
    let sorted = |from: &[u32]| {
        let labels = |at: &u32| &samples[*at as usize].labels;
        from.is_sorted_by(|a, b| labels(a) < labels(b))
    };
    if samples.is_sorted_by(|a, b| a.labels < b.labels) {
        return None;
    }
    let mut from = known;
    if from.len() != samples.len() || !sorted(&from) {
        from = (0..u32::try_from(samples.len()).unwrap_or(u32::MAX)).collect();
        // Equal ones keep their order, so the first of a series stays.
        from.sort_by(|a, b| samples[*a as usize].labels.cmp(&samples[*b as usize].labels));
    }
    let mut taken: Vec<Option<Sample>> = std::mem::take(&mut family.samples).into_iter().map(Some).collect();
    family.samples = from.iter().filter_map(|at| taken[*at as usize].take()).collect();
    let before = family.samples.len();
    family.samples.dedup_by(|later, first| later.labels == first.labels);
    let name = &family.name;
    out.note(before - family.samples.len(), || format!("{name} has the same labels more than once"));
    Some(from)
}

/// A family's samples that are plain numbers, for tests and listings: `name{a="b"}` and the value.
pub fn numbers(family: &Family) -> impl Iterator<Item = (String, f64)> + '_ {
    family.samples.iter().filter_map(|sample| {
        let Value::Number(value) = sample.value else { return None };
        Some((series(&family.name, sample.labels.labels()), value))
    })
}

/// A series as it is written on a page.
#[must_use]
pub fn series(name: &str, labels: Labels<'_>) -> String {
    let mut text = name.to_owned();
    for (at, (label, value)) in labels.iter().enumerate() {
        text.push(if at == 0 { '{' } else { ',' });
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        text.extend([label, "=\"", &value, "\""]);
    }
    if !labels.is_empty() {
        text.push('}');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_labels_and_duplicates() {
        let normal = Normal {
            labels: vec![("app".into(), "x".into()), ("a".into(), "static".into())],
            ..Normal::default()
        };
        let families = vec![
            Family::new("b.c-d", "", Kind::Gauge)
                .with(&[("z-1", "1"), ("a", "own")], 1.0)
                .with(&[("empty", "")], 2.0),
            Family::new("b_c_d", "", Kind::Counter).with(&[("a", "own"), ("z_1", "1")], 9.0),
            Family::new("9", "", Kind::Gauge).with(&[("__x", "1")], 3.0),
            Family::new("9", "", Kind::Histogram).with(&[], 3.0),
        ];
        let (families, out) = normal.apply(families);
        let shown: Vec<_> = families.iter().flat_map(numbers).collect();
        let expected = [
            ("_9{a=\"static\",app=\"x\"}", 3.0),
            ("b_c_d{a=\"own\",app=\"x\",z_1=\"1\"}", 1.0),
            ("b_c_d{a=\"static\",app=\"x\"}", 2.0),
        ];
        assert_eq!(shown, expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(out.samples, 2);
    }

    proptest! {
        #[test]
        fn the_short_way_to_the_labels_is_the_long_one(
            pairs in prop::collection::vec(("[a-c]|le|__x|1", "[xy]?"), 0..5),
            own in prop::collection::btree_map("[a-d]", "[xy]", 0..3),
        ) {
            // A reader gives no name twice; which of two would stay is nobody's business.
            let pairs: Vec<(String, String)> = pairs.into_iter().collect::<std::collections::HashMap<_, _>>().into_iter().collect();
            let own: Vec<(String, String)> = own.into_iter().collect();
            let packed = PackedLabels::from(pairs);
            let mut place = Place::new(&own);
            for (kind, written) in [(Kind::Gauge, ""), (Kind::Histogram, "le")] {
                let short = place.complete(packed.labels(), kind).unwrap_or_else(|| packed.clone());
                prop_assert_eq!(short, place.rebuild(packed.labels(), written));
            }
        }
    }

    #[test]
    fn a_remembered_order_changes_nothing() {
        let read = |order: &[u32]| {
            let mut family = Family::new("n", "", Kind::Gauge);
            order.iter().for_each(|n| family.push(vec![("n", n.to_string())], f64::from(*n)));
            vec![family]
        };
        let mut order = Order::default();
        for numbers in
            [&[3, 1, 2][..], &[3, 1, 2], &[2, 3, 1], &[2, 2, 1], &[1, 2], &[9, 1, 9, 4], &[3, 1, 2]]
        {
            let again = Normal::default().apply_again(read(numbers), &mut order);
            assert_eq!(again, Normal::default().apply(read(numbers)), "{numbers:?}");
        }
    }

    #[test]
    fn base_units_and_endings() {
        let normal = Normal { uniform: true, ..Normal::default() };
        let mut families: Vec<Family> = [
            ("wait_ms_total", Kind::Untyped),
            ("size_kb", Kind::Gauge),
            ("jobs", Kind::Counter),
            ("cpu_percent", Kind::Gauge),
            ("ms", Kind::Gauge),
            ("build", Kind::Info),
            ("target_info", Kind::Gauge),
        ]
        .map(|(name, kind)| Family::new(name, "", kind).with(&[], 2.0))
        .to_vec();
        let summary = super::super::Summary { quantiles: vec![(0.5, 7.0)], sum: 14.0, count: 2 };
        let sample = Sample { labels: PackedLabels::default(), value: Value::Summary(summary) };
        families.push(Family { samples: vec![sample], ..Family::new("took_us", "", Kind::Summary) });
        let (families, _) = normal.apply(families);
        let kinds: Vec<_> = families.iter().map(|family| (family.name.as_str(), family.kind)).collect();
        let expected = [
            ("build_info", Kind::Info),
            ("cpu_ratio", Kind::Gauge),
            ("jobs_total", Kind::Counter),
            ("ms", Kind::Gauge),
            ("size_bytes", Kind::Gauge),
            ("target_info", Kind::Info),
            ("took_seconds", Kind::Summary),
            ("wait_seconds_total", Kind::Counter),
        ];
        assert_eq!(kinds, expected);
        let shown: Vec<_> = families.iter().flat_map(numbers).map(|(_, value)| value).collect();
        assert_eq!(shown, [2.0, 0.02, 2.0, 2.0, 2048.0, 2.0, 0.002]);
        let Value::Summary(summary) = &families[6].samples[0].value else { panic!() };
        assert!((summary.sum - 14e-6).abs() < 1e-12 && (summary.quantiles[0].1 - 7e-6).abs() < 1e-12);
    }
}
