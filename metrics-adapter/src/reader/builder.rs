//! Collecting samples into families under a bound.

use std::collections::HashMap;

use crate::family::{Family, Kind, PackedLabels, Packer, Sample, Value};

/// What reading a document gave.
///
/// ```
/// use metrics_adapter::family::{Family, Kind};
/// use metrics_adapter::source::app::Reading;
///
/// let family = Family::new("orders_total", "Orders taken.", Kind::Counter).with(&[], 7.0);
/// let reading = Reading { skipped: 1, first_skip: Some("no number".into()), ..Reading::of(vec![family]) };
/// assert_eq!(reading.samples(), 1);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The families, in the order of their first sample.
    pub families: Vec<Family>,
    /// Values that could not be taken.
    pub skipped: u64,
    /// Why the first of them could not.
    pub first_skip: Option<String>,
}

impl Reading {
    /// Families and nothing skipped.
    ///
    /// ```
    /// assert_eq!(metrics_adapter::source::app::Reading::of(vec![]).skipped, 0);
    /// ```
    #[must_use]
    pub fn of(families: Vec<Family>) -> Self {
        Self { families, ..Self::default() }
    }

    /// Samples in all families.
    ///
    /// ```
    /// assert_eq!(metrics_adapter::source::app::Reading::default().samples(), 0);
    /// ```
    #[must_use]
    pub fn samples(&self) -> usize {
        self.families.iter().map(|family| family.samples.len()).sum()
    }
}

/// Puts samples into families; those over the bound are skipped and counted.
#[derive(Debug)]
pub struct Builder {
    reading: Reading,
    index: HashMap<String, usize>,
    /// Where the last sample went.
    last: Option<usize>,
    /// Samples that still fit.
    room: usize,
    packer: Packer,
}

impl Builder {
    /// At most `limit` samples.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            reading: Reading::default(),
            index: HashMap::new(),
            last: None,
            room: limit,
            packer: Packer::default(),
        }
    }

    /// Adds one number. Help and kind of the first sample of a name stay.
    pub fn add(&mut self, name: &str, help: &str, kind: Kind, labels: PackedLabels, value: f64) {
        self.add_value(name, help, kind, labels, Value::Number(value));
    }

    /// The same with borrowed labels.
    pub fn put(&mut self, name: &str, help: &str, kind: Kind, labels: &[(&str, &str)], value: f64) {
        labels.iter().for_each(|(name, value)| self.packer.push(name, value));
        let labels = self.packer.finish();
        self.add(name, help, kind, labels, value);
    }

    /// Adds a value of any form.
    pub fn add_value(&mut self, name: &str, help: &str, kind: Kind, labels: PackedLabels, value: Value) {
        if self.room == 0 {
            return self.skip(|| "there are more samples than `max_series` allows".to_owned());
        }
        self.room -= 1;
        self.family(name, help, kind).samples.push(Sample { labels, value });
    }

    /// The family of this name, made if it is not there.
    pub fn family(&mut self, name: &str, help: &str, kind: Kind) -> &mut Family {
        let families = &mut self.reading.families;
        // Most samples belong to the family of the one before.
        if self.last.is_some_and(|last| families[last].name == name) {
            return &mut families[self.last.unwrap_or_default()];
        }
        let at = match self.index.get(name) {
            Some(at) => *at,
            None => {
                self.index.insert(name.to_owned(), families.len());
                families.push(Family::new(name, help, kind));
                families.len() - 1
            }
        };
        self.last = Some(at);
        &mut families[at]
    }

    /// Counts a value that could not be taken.
    pub fn skip(&mut self, why: impl FnOnce() -> String) {
        self.reading.skipped += 1;
        if self.reading.first_skip.is_none() {
            self.reading.first_skip = Some(why());
        }
    }

    /// What was collected; families without samples are left out.
    #[must_use]
    pub fn finish(mut self) -> Reading {
        self.reading.families.retain(|family| !family.samples.is_empty());
        self.reading
    }
}
