//! One series: its identity, its value, its end.

use std::hash::BuildHasher;
use std::sync::Arc;

use super::Plan;
use super::histogram::{Buckets, HistogramOptions};
use super::set::Members;
use super::summary::{SummaryOptions, Windowed};
use crate::family::{Kind, PackedLabels, Value};
use crate::statsd::Event;

/// What names a series on the page; shared with the scrape's index.
#[derive(Debug, PartialEq, Eq)]
pub struct SeriesName {
    /// The family.
    pub family: Arc<str>,
    /// Labels sorted by name.
    pub labels: PackedLabels,
}

/// The type of a series and how it is kept.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// A counter.
    Counter,
    /// A gauge.
    Gauge,
    /// A summary.
    Summary(Arc<SummaryOptions>),
    /// A histogram.
    Histogram(Arc<HistogramOptions>),
    /// A gauge of how many different members a set saw within this many milliseconds.
    Set(u64),
}

impl Behaviour {
    /// The type its family is written with.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Counter => Kind::Counter,
            Self::Gauge | Self::Set(_) => Kind::Gauge,
            Self::Summary(_) => Kind::Summary,
            Self::Histogram(_) => Kind::Histogram,
        }
    }
}

#[derive(Debug)]
enum State {
    /// Whole increments are kept apart, so that they are exact beyond 2^53 as long as they are whole.
    Counter {
        whole: u64,
        rest: f64,
    },
    Gauge(f64),
    Summary(Box<(Windowed, Arc<SummaryOptions>)>),
    Histogram(Box<(Buckets, Arc<HistogramOptions>)>),
    Set(Box<(Members, u64)>),
}

#[derive(Debug)]
pub(super) struct Series {
    pub(super) family: u32,
    pub(super) name: Arc<SeriesName>,
    ttl: u64,
    updated: u64,
    state: State,
}

impl Series {
    pub(super) fn new(family: u32, name: Arc<SeriesName>, plan: &Plan<'_>, now: u64) -> Self {
        let state = match plan.behaviour {
            Behaviour::Counter => State::Counter { whole: 0, rest: 0.0 },
            Behaviour::Gauge => State::Gauge(0.0),
            Behaviour::Summary(options) => {
                State::Summary(Box::new((Windowed::new(options, now), Arc::clone(options))))
            }
            Behaviour::Histogram(options) => {
                State::Histogram(Box::new((Buckets::new(options), Arc::clone(options))))
            }
            Behaviour::Set(window) => State::Set(Box::new((Members::new(*window, now), *window))),
        };
        Self { family, name, ttl: plan.ttl, updated: now, state }
    }

    /// Whether events meant for `behaviour` can be applied; a set and a gauge share a family type.
    pub(super) fn fits(&self, behaviour: &Behaviour) -> bool {
        matches!(self.state, State::Set(_)) == matches!(behaviour, Behaviour::Set(_))
    }

    pub(super) fn has_expired(&self, now: u64) -> bool {
        self.ttl > 0 && self.updated.saturating_add(self.ttl) < now
    }

    /// Applies an event and returns by how many bytes the series grew.
    pub(super) fn update(
        &mut self,
        event: Event<'_>,
        scale: f64,
        now: u64,
        hasher: &foldhash::fast::RandomState,
    ) -> isize {
        self.updated = now;
        match (&mut self.state, event) {
            (State::Counter { whole, rest }, Event::Count(value)) => count(whole, rest, value * scale),
            (State::Gauge(gauge), Event::Set(value)) => *gauge = value * scale,
            (State::Gauge(gauge), Event::Move(value)) => *gauge += value * scale,
            (State::Summary(summary), Event::Observe(value, times)) => {
                let (summary, options) = &mut **summary;
                let before = summary.heap_bytes();
                summary.observe(value * scale, times, options, now);
                return summary.heap_bytes() as isize - before as isize;
            }
            (State::Histogram(histogram), Event::Observe(value, times)) => {
                let (buckets, options) = &mut **histogram;
                let before = buckets.heap_bytes();
                buckets.observe(value * scale, times, options);
                return buckets.heap_bytes() as isize - before as isize;
            }
            (State::Set(set), Event::Member(member)) => {
                let (members, window) = &mut **set;
                let before = members.heap_bytes();
                members.insert(hasher.hash_one(member), *window, now);
                return members.heap_bytes() as isize - before as isize;
            }
            (state, event) => debug_assert!(false, "{event:?} does not fit {state:?}"),
        }
        0
    }

    pub(super) fn read(&mut self, now: u64) -> Value {
        match &mut self.state {
            State::Counter { whole, rest } => Value::Number(*whole as f64 + *rest),
            State::Gauge(gauge) => Value::Number(*gauge),
            State::Summary(summary) => Value::Summary(summary.0.read(&summary.1, now)),
            State::Histogram(histogram) => Value::Histogram(histogram.0.read(&histogram.1)),
            State::Set(set) => Value::Number(set.0.count(set.1, now)),
        }
    }

    /// Bytes on the heap that are this series' alone.
    pub(super) fn heap_bytes(&self) -> usize {
        let state = match &self.state {
            State::Counter { .. } | State::Gauge(_) => 0,
            State::Summary(summary) => size_of::<(Windowed, Arc<SummaryOptions>)>() + summary.0.heap_bytes(),
            State::Histogram(histogram) => {
                size_of::<(Buckets, Arc<HistogramOptions>)>() + histogram.0.heap_bytes()
            }
            State::Set(set) => size_of::<(Members, u64)>() + set.0.heap_bytes(),
        };
        state + self.name.labels.heap_bytes()
    }
}

fn count(whole: &mut u64, rest: &mut f64, value: f64) {
    let integer = value as u64;
    match whole.checked_add(integer) {
        // The cast saturates, so only a value that comes back unchanged is whole.
        Some(sum) if integer as f64 == value && integer < u64::MAX => *whole = sum,
        _ => *rest += value,
    }
}
