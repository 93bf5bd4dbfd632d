//! The families of several sources as one page, with every disagreement resolved.
//!
//! The source that comes first in the configuration wins: its type and help are the family's, and of two equal
//! series its one is shown. Plain numbers of another type are shown under the winner's type. What cannot stand
//! beside the winner (numbers in a histogram's family, a second series with the same labels, a name that is a
//! histogram's `_count`) is left out and reported.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::hash_table::{self, HashTable};

use super::normal::{fits, series};
use super::{Family, Kind, Visitor, Walk};

/// Normalised families of one source: ascending names, samples ascending by labels.
pub type Part = Arc<Vec<Family>>;

/// Samples of one source that are not on the page because an earlier source has the name or the series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Which of the parts lost.
    pub part: usize,
    /// What was left out, for example `up{a="1"}`.
    pub what: String,
    /// Why.
    pub reason: Reason,
    /// How many samples.
    pub samples: usize,
}

/// Why samples were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The series is there already.
    Series,
    /// The name belongs to a family of a type that cannot hold them.
    Type,
}

impl Reason {
    /// The word on the page.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Series => "series",
            Self::Type => "type",
        }
    }
}

/// All parts in name order.
pub struct Union {
    parts: Vec<Part>,
    entries: Vec<Entry>,
    /// The entry, the share in it and the sample that come next.
    at: (usize, usize, usize),
}

struct Entry {
    kind: Kind,
    help: (usize, usize),
    shares: Vec<Share>,
}

struct Share {
    part: usize,
    family: usize,
    left_out: HashSet<usize>,
}

/// Samples passed on per step.
const SAMPLES_PER_STEP: usize = 512;

impl Union {
    /// Puts the parts together; earlier parts win.
    #[must_use]
    pub fn new(parts: Vec<Part>) -> (Self, Vec<Conflict>) {
        let mut order: Vec<(usize, usize)> = (0..parts.len())
            .flat_map(|part| (0..parts[part].len()).map(move |family| (part, family)))
            .collect();
        order.sort_unstable_by(|a, b| {
            let name = |(part, family): (usize, usize)| &parts[part][family].name;
            name(*a).cmp(name(*b)).then(a.cmp(b))
        });
        let mut conflicts = Vec::new();
        let composed = composed_names(&parts, &order);
        let mut entries = Vec::new();
        for shares in order.chunk_by(|a, b| parts[a.0][a.1].name == parts[b.0][b.1].name) {
            entries.extend(entry(&parts, shares, &composed, &mut conflicts));
        }
        (Self { parts, entries, at: (0, 0, 0) }, conflicts)
    }

    /// Series on the page.
    #[must_use]
    pub fn series(&self) -> usize {
        let shares = self.entries.iter().flat_map(|entry| &entry.shares);
        shares.map(|share| self.parts[share.part][share.family].samples.len() - share.left_out.len()).sum()
    }

    fn family(&self, share: &Share) -> &Family {
        &self.parts[share.part][share.family]
    }
}

/// Names of the series that histograms and summaries are written as, and the part they belong to.
fn composed_names(parts: &[Part], order: &[(usize, usize)]) -> HashMap<String, usize> {
    let mut names = HashMap::new();
    for (part, family) in order {
        let family = &parts[*part][*family];
        let suffixes: &[&str] = match family.kind {
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            Kind::Summary => &["_sum", "_count"],
            _ => &[],
        };
        for suffix in suffixes {
            names.entry([family.name.as_str(), suffix].concat()).or_insert(*part);
        }
    }
    names
}

fn entry(
    parts: &[Part],
    shares: &[(usize, usize)],
    composed: &HashMap<String, usize>,
    conflicts: &mut Vec<Conflict>,
) -> Option<Entry> {
    let first = &parts[shares[0].0][shares[0].1];
    if composed.contains_key(&first.name) {
        conflicts.extend(shares.iter().map(|(part, family)| {
            let samples = parts[*part][*family].samples.len();
            Conflict { part: *part, what: first.name.clone(), reason: Reason::Type, samples }
        }));
        return None;
    }
    let mut entry = Entry { kind: first.kind, help: shares[0], shares: Vec::new() };
    for (part, at) in shares {
        let family = &parts[*part][*at];
        if !family.help.is_empty() && parts[entry.help.0][entry.help.1].help.is_empty() {
            entry.help = (*part, *at);
        }
        if !fits(entry.kind, family.kind) {
            let samples = family.samples.len();
            conflicts.push(Conflict {
                part: *part,
                what: family.name.clone(),
                reason: Reason::Type,
                samples,
            });
            continue;
        }
        entry.shares.push(Share { part: *part, family: *at, left_out: HashSet::new() });
    }
    leave_out_twins(parts, &mut entry.shares, conflicts);
    Some(entry)
}

/// Leaves out what an earlier share has too.
fn leave_out_twins(parts: &[Part], shares: &mut [Share], conflicts: &mut Vec<Conflict>) {
    // One source alone has no series twice.
    if shares.len() < 2 {
        return;
    }
    let samples = |share: &Share| &parts[share.part][share.family].samples;
    let all = shares.iter().map(|share| samples(share).len()).sum();
    // By hash, since almost nothing is there twice; labels are compared where hashes are equal.
    let hasher = RandomState::default();
    let mut seen: HashTable<(u32, u32)> = HashTable::with_capacity(all);
    for at in 0..shares.len() {
        let mut left_out = HashSet::new();
        for (n, sample) in samples(&shares[at]).iter().enumerate() {
            let labels = |(share, n): (u32, u32)| &samples(&shares[share as usize])[n as usize].labels;
            let place = (u32::try_from(at).unwrap_or(u32::MAX), u32::try_from(n).unwrap_or(u32::MAX));
            let hash = |place: &(u32, u32)| hasher.hash_one(labels(*place));
            match seen.entry(hash(&place), |known| *labels(*known) == sample.labels, hash) {
                hash_table::Entry::Occupied(_) => {
                    left_out.insert(n);
                }
                hash_table::Entry::Vacant(free) => {
                    free.insert(place);
                }
            }
        }
        shares[at].left_out = left_out;
    }
    for share in shares.iter() {
        let Some(example) = share.left_out.iter().min() else { continue };
        let family = &parts[share.part][share.family];
        let what = series(&family.name, family.samples[*example].labels.labels());
        let (part, samples) = (share.part, share.left_out.len());
        conflicts.push(Conflict { part, what, reason: Reason::Series, samples });
    }
}

impl Walk for Union {
    fn peek(&self) -> Option<&str> {
        let entry = self.entries.get(self.at.0)?;
        entry.shares.first().map(|share| self.family(share).name.as_str())
    }

    fn step(&mut self, out: &mut dyn Visitor) {
        let (at, mut share_at, mut from) = self.at;
        let Some(entry) = self.entries.get(at) else { return };
        if (share_at, from) == (0, 0) {
            let Some(first) = entry.shares.first() else { return };
            out.family(&self.family(first).name, &self.parts[entry.help.0][entry.help.1].help, entry.kind);
        }
        let mut room = SAMPLES_PER_STEP;
        while let Some(share) = entry.shares.get(share_at) {
            let samples = &self.family(share).samples;
            let end = samples.len().min(from + room);
            for (at, sample) in samples.iter().enumerate().take(end).skip(from) {
                if share.left_out.is_empty() || !share.left_out.contains(&at) {
                    out.sample(sample.labels.labels(), &sample.value);
                }
            }
            room -= end - from;
            if end < samples.len() {
                self.at = (at, share_at, end);
                return;
            }
            (share_at, from) = (share_at + 1, 0);
            if room == 0 && share_at < entry.shares.len() {
                self.at = (at, share_at, 0);
                return;
            }
        }
        self.at = (at + 1, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::{Format, page};
    use crate::family::{Histogram, PackedLabels, Sample, Value};

    fn part(families: Vec<Family>) -> Part {
        Arc::new(crate::family::normal::Normal::default().apply(families).0)
    }

    #[test]
    fn the_earlier_source_wins_and_nothing_is_twice() {
        let mut histogram = Family::new("h", "H", Kind::Histogram);
        histogram
            .samples
            .push(Sample { labels: PackedLabels::default(), value: Value::Histogram(Histogram::default()) });
        let one = vec![Family::new("a", "", Kind::Gauge).with(&[("x", "1")], 1.0), histogram];
        let two = vec![
            Family::new("a", "A", Kind::Counter).with(&[("x", "1")], 2.0).with(&[("x", "2")], 3.0),
            Family::new("h", "", Kind::Gauge).with(&[], 4.0),
            Family::new("h_count", "", Kind::Gauge).with(&[], 5.0),
        ];
        let (mut union, conflicts) = Union::new(vec![part(one), part(two)]);
        let text = String::from_utf8(page(&mut union, Format::Text)).unwrap();
        let expected = "# HELP a A\n# TYPE a gauge\na{x=\"1\"} 1\na{x=\"2\"} 3\n\
            # HELP h H\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\n";
        assert_eq!(text, expected);
        let shown: Vec<_> =
            conflicts.iter().map(|c| (c.part, c.what.as_str(), c.reason, c.samples)).collect();
        let expected = [
            (1, "a{x=\"1\"}", Reason::Series, 1),
            (1, "h", Reason::Type, 1),
            (1, "h_count", Reason::Type, 1),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn many_samples_in_many_steps() {
        let many = |from: usize| {
            let mut family = Family::new("m", "", Kind::Gauge);
            (from..from + 1500).for_each(|n| family.push(vec![("n", format!("{n:05}"))], 1.0));
            part(vec![family])
        };
        let (mut union, conflicts) = Union::new(vec![many(0), many(1000), many(2500)]);
        assert_eq!(conflicts[0].samples, 500);
        assert_eq!(union.series(), 4000);
        let text = String::from_utf8(page(&mut union, Format::Text)).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("m{")).count(), 4000);
    }
}
