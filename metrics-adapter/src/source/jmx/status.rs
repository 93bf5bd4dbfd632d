//! The status page: each JVM with the phases of its scrapes, and its beans that no rule covers.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use common::status::{Cell, Chart, Health, Section, Status};

use super::explain::escape;
use crate::jmx::object_name::ObjectName;
use crate::rule::leaf::Leaf;
use crate::rule::name::safe;
use crate::rule::set::write_input;

/// Scrapes that the charts show.
const POINTS: usize = 60;
/// Beans without a rule that are remembered for each JVM, and attributes of each.
const MAX_BEANS: usize = 100;
const MAX_ATTRIBUTES: usize = 8;

/// Where the time of one scrape went, and what it came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Scrape {
    /// Opening the session.
    pub(super) connect: Duration,
    /// Asking for names.
    pub(super) names: Duration,
    /// Reading descriptions of beans that were not known.
    pub(super) describe: Duration,
    /// Reading values and applying the rules.
    pub(super) values: Duration,
    pub(super) total: Duration,
    pub(super) beans: usize,
    pub(super) samples: usize,
    pub(super) error: Option<String>,
}

/// What is known about one JVM, for the page; readable while a scrape runs.
#[derive(Debug, Default)]
pub(super) struct Look(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    last: Option<SystemTime>,
    scrapes: VecDeque<Scrape>,
    /// Attributes that no rule matches, by the rule input of their bean.
    uncovered: BTreeMap<String, Vec<String>>,
}

impl Look {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn scraped(&self, scrape: Scrape) {
        let mut seen = self.lock();
        seen.last = Some(SystemTime::now());
        if seen.scrapes.len() == POINTS {
            seen.scrapes.pop_front();
        }
        seen.scrapes.push_back(scrape);
    }

    /// Notes a value that no rule matches.
    pub(super) fn uncovered(&self, leaf: &Leaf<'_>) {
        let mut bean = String::with_capacity(96);
        write_input(&mut bean, &Leaf { path: &[], name: "", ..*leaf }, false);
        // What is behind the properties: `<>`.
        bean.truncate(bean.len() - 2);
        let mut place = String::new();
        write_input(&mut place, &Leaf { domain: "", properties: &[], ..*leaf }, false);
        let place = &place[2..];
        let mut seen = self.lock();
        if seen.uncovered.len() >= MAX_BEANS && !seen.uncovered.contains_key(&bean) {
            return;
        }
        let attributes = seen.uncovered.entry(bean).or_default();
        if attributes.len() < MAX_ATTRIBUTES && !attributes.iter().any(|known| known == place) {
            attributes.push(place.to_owned());
        }
    }

    /// Forgets beans that have gone; the names are those that are there.
    pub(super) fn only(&self, present: &HashSet<&str>) {
        let inputs: HashSet<String> =
            present.iter().filter_map(|name| Some(input_of(&name.parse().ok()?))).collect();
        // A table's columns stand behind the properties of its bean.
        let is_there = |bean: &String| {
            inputs.contains(bean)
                || bean.rfind(", ").is_some_and(|at| inputs.contains(&format!("{}>", &bean[..at])))
        };
        self.lock().uncovered.retain(|bean, _| is_there(bean));
    }
}

/// Domain and properties as patterns see them.
fn input_of(bean: &ObjectName) -> String {
    let properties: Vec<String> =
        bean.properties().iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{}<{}>", bean.domain(), properties.join(", "))
}

/// A rule that matches these attributes of a bean, ready to paste.
fn rule(bean: &str, attributes: &[String]) -> String {
    // `<path>name`: attributes of one path share a pattern only if there is no path.
    let plain: Vec<&str> = attributes.iter().filter_map(|place| place.strip_prefix("<>")).collect();
    let (domain, properties) = bean.split_once('<').unwrap_or((bean, ""));
    let first = properties.trim_end_matches('>').split(", ").next().and_then(|pair| pair.split_once('='));
    let prefix = safe(&format!("{domain}_{}", first.map_or("", |(_, value)| value))).to_lowercase();
    let (place, name) = match (plain.as_slice(), attributes.first()) {
        ([], Some(place)) => {
            let (path, name) = place[1..].split_once('>').unwrap_or(("", place));
            (escape(place), format!("{prefix}_{}_{}", safe(path), safe(name)).to_lowercase())
        }
        _ => {
            let names: Vec<String> = plain.iter().map(|name| escape(name)).collect();
            (format!("<>({})", names.join("|")), format!("{prefix}_$1"))
        }
    };
    let pattern = format!("^{}{place}: ", escape(bean)).replace('\'', "''");
    // On one line, since a page does not keep line breaks.
    format!("- {{pattern: '{pattern}', name: {name}}}")
}

/// The whole page.
pub(super) fn status<'t>(targets: impl Iterator<Item = (&'t str, &'t Look)>) -> Status {
    let mut rows = Vec::new();
    let mut charts = Vec::new();
    let mut uncovered = Vec::new();
    let (mut failing, mut untried) = (0, 0);
    let milliseconds = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    for (name, look) in targets {
        let seen = look.lock();
        let Some(last) = seen.scrapes.back() else {
            untried += 1;
            rows.push(vec![Cell::from(name), Cell::from("not scraped yet")]);
            rows.last_mut().into_iter().for_each(|row| row.resize(9, Cell::from("")));
            continue;
        };
        failing += usize::from(last.error.is_some());
        let health = if last.error.is_some() { Health::Bad } else { Health::Good };
        rows.push(vec![
            Cell::from(name),
            Cell::new(health, last.error.clone().unwrap_or_else(|| "good".to_owned())),
            last.beans.to_string().into(),
            last.samples.to_string().into(),
            milliseconds(last.total).into(),
            milliseconds(last.connect).into(),
            milliseconds(last.names).into(),
            milliseconds(last.describe).into(),
            milliseconds(last.values).into(),
        ]);
        let chart = |what: &str, unit: &str, value: &dyn Fn(&Scrape) -> Option<f64>| Chart {
            title: format!("{name}: {what}"),
            unit: unit.to_owned(),
            values: seen.scrapes.iter().map(value).collect(),
        };
        let time = |phase: fn(&Scrape) -> Duration| {
            move |scrape: &Scrape| scrape.error.is_none().then(|| phase(scrape).as_secs_f64() * 1000.0)
        };
        charts.push(chart("scrape", "ms", &time(|scrape| scrape.total)));
        charts.push(chart("names", "ms", &time(|scrape| scrape.names)));
        charts.push(chart("values", "ms", &time(|scrape| scrape.values)));
        #[expect(clippy::cast_precision_loss, reason = "bounded far below 2^53")]
        charts.push(chart("samples", "", &|scrape| Some(scrape.samples as f64)));
        for (bean, attributes) in &seen.uncovered {
            uncovered.push(vec![
                Cell::from(name),
                Cell::from(bean.as_str()),
                Cell::from(rule(bean, attributes)),
            ]);
        }
    }
    let number = rows.len();
    let (health, headline) = match (failing, untried) {
        (0, 0) => (Health::Good, format!("{number} of {number} JVMs answer")),
        (0, untried) => (Health::Neutral, format!("{untried} of {number} JVMs not scraped yet")),
        (failing, _) => (Health::Bad, format!("{failing} of {number} JVMs cannot be read")),
    };
    let columns =
        ["JVM", "state", "beans", "samples", "last scrape", "connecting", "names", "descriptions", "values"];
    let mut page = Status::new(health, headline).section(Section::table("JVMs", &columns, rows));
    if !charts.is_empty() {
        page = page.section(Section::charts("Scrapes", charts));
    }
    if !uncovered.is_empty() {
        let title = "Beans with values that no rule matches, and a rule to paste";
        page = page.section(Section::table(title, &["JVM", "bean", "rule"], uncovered));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::leaf::LeafValue;
    use crate::rule::set::{Naming, Outcome, RuleSet};

    #[test]
    fn suggested_rules_match() {
        let look = Look::default();
        let bean: ObjectName = "a.b:type=X,name=\"it's, 1\"".parse().unwrap();
        let leaf = |path, name| Leaf {
            domain: bean.domain(),
            properties: bean.properties(),
            path,
            name,
            description: "",
            value: LeafValue::Boolean(true),
        };
        for name in ["One", "Two$", "One"] {
            look.uncovered(&leaf(&[], name));
        }
        look.only(&HashSet::from([bean.as_str()]));
        let seen = look.lock();
        let (input, attributes) = seen.uncovered.iter().next().unwrap();
        assert_eq!(attributes, &["<>One", "<>Two$"]);
        let text = rule(input, attributes);
        let rules: Vec<crate::rule::config::RuleConfig> =
            crate::yaml::from_str(&text, crate::yaml::Options::default()).unwrap();
        let rules = RuleSet::new(&rules, Naming::default()).unwrap();
        let Ok(Outcome::Sample(0, matched)) = rules.apply(&leaf(&[], "Two$"), &[]) else { panic!("{text}") };
        assert_eq!(matched.name, "a_b_x_Two_");
        let text = rule(input, &["<Use, a>used".to_owned()]);
        let rules: Vec<crate::rule::config::RuleConfig> =
            crate::yaml::from_str(&text, crate::yaml::Options::default()).unwrap();
        let rules = RuleSet::new(&rules, Naming::default()).unwrap();
        assert!(matches!(rules.apply(&leaf(&["Use", "a"], "used"), &[]), Ok(Outcome::Sample(..))), "{text}");
        drop(seen);
        look.only(&HashSet::new());
        assert!(look.lock().uncovered.is_empty());
    }
}
