//! A mapping's rules once they are known to be valid.

use std::sync::Arc;

use regex::Regex;

use super::MetricType;
use super::template::Template;
use crate::family::store::{HistogramOptions, SummaryOptions};

/// What a matching rule does.
///
/// ```
/// use metrics_adapter::mapping::{Action, Mapping};
///
/// let mapping = Mapping::parse("mappings: [{match: 'debug.*', name: x, action: drop}]").unwrap();
/// assert_eq!(mapping.rules[0].action, Action::Drop);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Give name and labels.
    Map,
    /// Drop the event.
    Drop,
}

/// What observations end in.
///
/// ```
/// use metrics_adapter::mapping::{Mapping, ObserverKind};
///
/// assert_eq!(Mapping::default().defaults.observer, ObserverKind::Summary);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObserverKind {
    /// A summary.
    #[default]
    Summary,
    /// A histogram, classic and native.
    Histogram,
}

/// The `defaults` of a mapping file.
///
/// ```
/// let mapping = metrics_adapter::mapping::Mapping::parse("defaults: {ttl: 1m}").unwrap();
/// assert_eq!(mapping.defaults.ttl, 60_000);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// For rules and unmatched names without an `observer_type`.
    pub observer: ObserverKind,
    /// Whether literals win over stars instead of earlier rules over later ones.
    pub glob_disable_ordering: bool,
    /// Milliseconds after which a series without update goes; 0 keeps it.
    pub ttl: u64,
    /// Options of summaries.
    pub summary: Arc<SummaryOptions>,
    /// Options of histograms.
    pub histogram: Arc<HistogramOptions>,
}

/// One entry of `mappings`.
///
/// ```
/// let text = "mappings:\n  - match: a.*\n    name: a\n";
/// let mapping = metrics_adapter::mapping::Mapping::parse(text).unwrap();
/// assert_eq!((mapping.rules[0].line, mapping.rules[0].text.as_str()), (2, "a.*"));
/// ```
#[derive(Clone, Debug)]
pub struct Rule {
    /// The line of its `match`, from 1.
    pub line: u64,
    /// Its `match` as written.
    pub text: String,
    pub(super) matcher: Matcher,
    pub(super) name: Template,
    /// Sorted by label name.
    pub(super) labels: Vec<(Arc<str>, Template)>,
    /// Only events of this type.
    pub metric_type: Option<MetricType>,
    /// What it does.
    pub action: Action,
    /// Help text of the family.
    pub help: Option<Arc<str>>,
    /// Factor on every value.
    pub scale: Option<f64>,
    /// Whether a label that the event brings along stays as it is.
    pub honor_labels: bool,
    /// Milliseconds after which a series without update goes; 0 keeps it.
    pub ttl: u64,
    pub(super) observer: ObserverKind,
    pub(super) summary: Arc<SummaryOptions>,
    pub(super) histogram: Arc<HistogramOptions>,
}

impl Rule {
    /// Its `name` as written.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.raw()
    }
}

#[derive(Clone, Debug)]
pub(super) enum Matcher {
    Glob(String),
    Pattern(Box<Regex>),
}
