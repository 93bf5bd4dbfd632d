//! The way of a line that was not seen before, or is unusual, or wrong.

use std::sync::Arc;

use super::top::pattern_of;
use super::{Ingest, is_negative_count, times};
use crate::family::PackedLabels;
use crate::family::store::{LineKey, Plan, Refusal, Seen, SeriesId, Store};
use crate::mapping::{Action, Mapped, MetricType};
use crate::statsd::shape::Shape;
use crate::statsd::{Event, Notice, Observer, Tags, Type};

/// Parses a line in full. When its series can be told from its shape alone it is remembered.
pub(super) fn take(ingest: &mut Ingest, store: &mut Store, line: &[u8], shape: Option<&Shape<'_>>, now: u64) {
    let parser = ingest.parser;
    let single = shape.is_some_and(Shape::is_single);
    parser.read(line, &mut Taker { ingest, store, key: shape.map(super::key), single, now });
}

struct Taker<'a> {
    ingest: &'a mut Ingest,
    store: &'a mut Store,
    key: Option<LineKey<'a>>,
    /// Whether the line holds one value only.
    single: bool,
    now: u64,
}

impl Observer for Taker<'_> {
    fn notice(&mut self, notice: Notice) {
        let counts = &mut self.ingest.counts;
        match notice {
            Notice::Rejected(reason) => counts.rejected[reason as usize] += 1,
            Notice::TagErrors(number) => counts.tag_errors += u64::from(number),
            Notice::Sample => counts.samples += 1,
            Notice::Tagged => counts.tagged += 1,
            Notice::DogstatsdEvent => counts.dogstatsd_events += 1,
            Notice::DogstatsdServiceCheck => counts.dogstatsd_service_checks += 1,
        }
    }

    fn event(&mut self, name: &str, tags: &Tags<'_>, kind: Type, event: Event<'_>) {
        let times = times(event);
        if times == 0 {
            return;
        }
        let mapped = self.map(name, kind.into(), times);
        let rule = mapped.as_ref().map(|mapped| mapped.rule);
        let mut seen = Seen {
            series: None,
            scale: rule.and_then(|rule| self.ingest.mapping.rules[rule].scale).unwrap_or(1.0),
            tag_errors: tags.errors,
            tagged: !tags.is_empty(),
            mapped: rule.is_some(),
        };
        if rule.is_some_and(|rule| self.ingest.mapping.rules[rule].action == Action::Drop) {
            self.ingest.counts.dropped += times;
            return self.remember(seen);
        }
        let Some(id) = self.place(name, tags, kind, event, seen.scale, mapped.as_deref()) else { return };
        self.store.update(id, event, seen.scale, self.now);
        self.ingest.counts.events[MetricType::from(kind) as usize] += times;
        seen.series = Some(id);
        self.remember(seen);
    }
}

impl Taker<'_> {
    fn map(&mut self, name: &str, kind: MetricType, times: u64) -> Option<Arc<Mapped>> {
        let ingest = &mut *self.ingest;
        ingest.counts.cache_gets += times;
        if let Some(known) = ingest.cache.find(name, kind) {
            ingest.counts.cache_hits += times;
            return known;
        }
        ingest.counts.cache_hits += times - 1;
        let mapped = ingest.mapping.find(name, kind).map(Arc::new);
        ingest.cache.remember(name, kind, mapped.clone());
        mapped
    }

    /// Finds or creates the series; counts why not.
    fn place(
        &mut self,
        name: &str,
        tags: &Tags<'_>,
        kind: Type,
        event: Event<'_>,
        scale: f64,
        mapped: Option<&Mapped>,
    ) -> Option<SeriesId> {
        let times = times(event);
        let escaped;
        let family: &str = match mapped {
            Some(mapped) if mapped.name.is_empty() => {
                self.ingest.counts.empty_names += times;
                return None;
            }
            Some(mapped) => {
                self.ingest.counts.mapped += times;
                &mapped.name
            }
            None => {
                self.ingest.counts.unmapped += times;
                self.ingest.unmapped.add(name, times);
                escaped = crate::statsd::escape::escape_name(name);
                &escaped
            }
        };
        if family.is_empty() {
            // Name tags can use a name up; nothing could be written for it.
            self.ingest.counts.empty_names += times;
            return None;
        }
        if is_negative_count(event, scale) {
            self.ingest.counts.negative_counters += 1;
            return None;
        }
        let mapping = Arc::clone(&self.ingest.mapping);
        let rule = mapped.map(|mapped| &mapping.rules[mapped.rule]);
        let labels = labels(tags, mapped, rule.is_some_and(|rule| rule.honor_labels));
        let behaviour =
            mapping.behaviour(mapped.map(|mapped| mapped.rule), kind, self.ingest.options.set_window);
        let plan = Plan {
            help: rule.and_then(|rule| rule.help.as_ref()).unwrap_or(&self.ingest.default_help),
            behaviour: &behaviour,
            ttl: rule.map_or(mapping.defaults.ttl, |rule| rule.ttl),
        };
        let refusal = match self.store.resolve(family, labels, &plan, self.now) {
            Ok(id) => return Some(id),
            Err(refusal) => refusal,
        };
        self.refused(refusal, name, family, kind.into(), times);
        None
    }

    fn refused(&mut self, refusal: Refusal, name: &str, family: &str, kind: MetricType, times: u64) {
        let counts = &mut self.ingest.counts;
        match refusal {
            Refusal::Conflict => counts.conflicts.add(kind, family, times),
            Refusal::ReservedLabel => counts.reserved_labels += times,
            Refusal::SeriesLimit => counts.series_limited += times,
            Refusal::MemoryLimit => counts.memory_limited += times,
        }
        if matches!(refusal, Refusal::SeriesLimit | Refusal::MemoryLimit) {
            self.ingest.offenders.add(&pattern_of(name), times);
        }
    }

    fn remember(&mut self, seen: Seen) {
        // Room for a few spellings of each series (tag orders differ between clients).
        let bound = 2 * self.store.len() + 4096;
        if let Some(key) = self.key.as_ref().filter(|_| self.single || seen.tag_errors == 0) {
            self.store.lines().remember(key, seen, bound);
        }
    }
}

/// The event's labels and the rule's, sorted. The rule's win unless it honours the event's.
fn labels(tags: &Tags<'_>, mapped: Option<&Mapped>, honor: bool) -> PackedLabels {
    let own = mapped.map_or(&[][..], |mapped| &mapped.labels);
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(own.len() + 4);
    let overridden = |name: &str| !honor && own.iter().any(|(label, _)| **label == *name);
    pairs.extend(tags.iter().filter(|(name, _)| !overridden(name)));
    let kept = |name: &str| honor && tags.value(name).is_some();
    pairs.extend(own.iter().filter(|(name, _)| !kept(name)).map(|(name, value)| (&**name, &**value)));
    pairs.sort_unstable();
    PackedLabels::new(pairs)
}
