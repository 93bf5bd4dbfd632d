//! The status page: listeners, rates, drops, names without a mapping, busy families.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::shutdown::Shutdown;
use common::status::{Cell, Chart, Health, Section, Status};

use super::config::Config;
use super::drops::KernelDrops;
use super::shared::{Shared, lock};
use crate::ingest::Counts;

/// Time between two points of the charts.
const STEP: Duration = Duration::from_secs(5);
/// Points kept.
const POINTS: usize = 60;
/// Families with a chart.
const CHARTS: usize = 12;
/// Names without a mapping that are listed.
const UNMAPPED: usize = 100;

/// What the charts show, sampled in the background.
#[derive(Clone, Debug, Default)]
pub(super) struct History(Arc<Mutex<VecDeque<Point>>>);

#[derive(Clone, Debug, Default)]
struct Point {
    lines: u64,
    errors: u64,
    drops: u64,
    /// Estimated updates of the busiest families within this step.
    busiest: Vec<(String, u64)>,
}

impl History {
    pub(super) async fn record(self, shared: Arc<Shared>, drops: KernelDrops, shutdown: Shutdown) {
        let mut tick = tokio::time::interval(STEP);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = shutdown.triggered() => return,
            }
            let point = {
                let mut ingest = lock(&shared.ingest);
                let busiest = ingest.busiest.most(CHARTS * 2);
                let busiest = busiest.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
                ingest.busiest.clear();
                let counts = &ingest.counts;
                Point { lines: counts.lines, errors: refused(counts), busiest, drops: 0 }
            };
            let dropped = shared.traffic.udp_drops.load(Ordering::Relaxed) + drops.total().unwrap_or(0);
            let mut points = lock(&self.0);
            points.push_back(Point { drops: dropped, ..point });
            if points.len() > POINTS + 1 {
                points.pop_front();
            }
        }
    }
}

fn refused(counts: &Counts) -> u64 {
    counts.rejected.iter().sum()
}

/// Everything a look at the page needs.
pub(super) struct Look {
    pub(super) shared: Arc<Shared>,
    pub(super) drops: KernelDrops,
    pub(super) config: Config,
    pub(super) history: History,
}

impl Look {
    pub(super) fn look(&self) -> Status {
        let (counts, rules, unmapped, offenders) = {
            let ingest = lock(&self.shared.ingest);
            let own = |top: Vec<(&str, u64)>| -> Vec<(String, u64)> {
                top.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
            };
            let unmapped = own(ingest.unmapped.most(UNMAPPED));
            (ingest.counts.clone(), ingest.mapping().rules.len(), unmapped, own(ingest.offenders.most(20)))
        };
        let points: Vec<Point> = lock(&self.history.0).iter().cloned().collect();
        let (health, headline) = self.headline(&counts, &points);
        let mut status = Status::new(health, headline)
            .section(self.listeners(&counts))
            .section(self.losses(&counts))
            .section(self.held(rules))
            .section(Section::charts("Last five minutes", overall(&points)));
        let charts = busiest(&points);
        if !charts.is_empty() {
            status = status.section(Section::charts("Busiest families", charts));
        }
        if !offenders.is_empty() {
            let rows = offenders.into_iter().map(|(name, count)| vec![name.into(), count.to_string().into()]);
            let title = "Refused by a limit (names with digits count as *)";
            status = status.section(Section::table(title, &["name", "events"], rows.collect()));
        }
        if !unmapped.is_empty() {
            let rows = unmapped.into_iter().map(|(name, count)| {
                let rule = suggestion(&name);
                vec![name.into(), count.to_string().into(), rule.into()]
            });
            let columns = ["name", "events (estimate)", "rule to paste"];
            status = status.section(Section::table("Names without a mapping", &columns, rows.collect()));
        }
        status
    }

    fn headline(&self, counts: &Counts, points: &[Point]) -> (Health, String) {
        let rate = rate(points, |point| point.lines).last().copied().flatten().unwrap_or(0.0);
        let dropping = rate_of_last(points, |point| point.drops) > 0.0;
        let limited = counts.series_limited + counts.memory_limited > 0;
        let health = match (dropping, limited) {
            (true, _) => Health::Bad,
            (false, true) => Health::Warning,
            (false, false) => Health::Good,
        };
        let series = lock(&self.shared.store).len();
        let trouble = match (dropping, limited) {
            (true, _) => ", packets are being lost",
            (false, true) => ", some series were refused by a limit",
            (false, false) => "",
        };
        (health, format!("{series} series from {rate:.0} lines/s{trouble}"))
    }

    fn listeners(&self, counts: &Counts) -> Section {
        let traffic = &self.shared.traffic;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let config = &self.config;
        let mut facts: Vec<(&str, Cell)> = Vec::new();
        if let Some(address) = &config.udp {
            facts.push(("UDP", format!("{address}: {} packets", count(&traffic.udp_packets)).into()));
        }
        if let Some(address) = &config.tcp {
            let (all, open) = (count(&traffic.tcp_connections), traffic.tcp_open.load(Ordering::Relaxed));
            facts.push(("TCP", format!("{address}: {all} connections, {open} open").into()));
        }
        if let Some(name) = &config.unixgram {
            facts.push(("Unix", format!("{name}: {} packets", count(&traffic.unixgram_packets)).into()));
        }
        if let Some(relay) = &self.shared.relay {
            let text = format!("{}: {} packets sent, {} lost", relay.target, count(&relay.packets), {
                count(&relay.drops) + count(&relay.errors)
            });
            facts.push(("Relay", text.into()));
        }
        facts.push(("Lines", counts.lines.to_string().into()));
        facts.push(("Samples", counts.samples.to_string().into()));
        facts.push(("Unmapped events", counts.unmapped.to_string().into()));
        Section::facts("Listeners", facts)
    }

    fn losses(&self, counts: &Counts) -> Section {
        let judged = |number: u64| {
            let health = if number == 0 { Health::Good } else { Health::Warning };
            Cell::new(health, number.to_string())
        };
        let kernel = self.drops.total().map_or_else(|| "not known".into(), judged);
        let conflicts = counts.conflicts.iter().map(|(_, _, count)| count).sum();
        Section::facts(
            "Losses",
            [
                ("UDP packets dropped by the kernel", kernel),
                (
                    "UDP packets dropped from the queue",
                    judged(self.shared.traffic.udp_drops.load(Ordering::Relaxed)),
                ),
                ("Lines and samples refused", judged(refused(counts))),
                ("Tags skipped", judged(counts.tag_errors)),
                ("Type conflicts", judged(conflicts)),
                ("Refused by --max-series", judged(counts.series_limited)),
                ("Refused by --memory-limit", judged(counts.memory_limited)),
            ],
        )
    }

    fn held(&self, rules: usize) -> Section {
        let (series, bytes) = {
            let store = lock(&self.shared.store);
            (store.len(), store.bytes())
        };
        let mapping = match &self.config.mapping {
            Some(path) => format!("{} ({rules} rules)", path.display()),
            None => "none".to_owned(),
        };
        let reloads = self.shared.traffic.failed_reloads.load(Ordering::Relaxed);
        let health = if reloads == 0 { Health::Neutral } else { Health::Warning };
        Section::facts(
            "Held",
            [
                ("Series", Cell::from(format!("{series} of at most {}", self.config.limits.series))),
                ("Memory of series", format!("{:.1} MB", bytes as f64 / 1e6).into()),
                ("Mapping", mapping.into()),
                ("Failed reloads", Cell::new(health, reloads.to_string())),
            ],
        )
    }
}

/// Per second, from one point to the next; `None` for the first.
fn rate(points: &[Point], of: impl Fn(&Point) -> u64) -> Vec<Option<f64>> {
    let difference = |pair: &[Point]| of(&pair[1]).saturating_sub(of(&pair[0])) as f64 / STEP.as_secs_f64();
    points.windows(2).map(|pair| Some(difference(pair))).collect()
}

fn rate_of_last(points: &[Point], of: impl Fn(&Point) -> u64) -> f64 {
    rate(points, of).last().copied().flatten().unwrap_or(0.0)
}

fn overall(points: &[Point]) -> Vec<Chart> {
    let chart =
        |title: &str, values| Chart { title: title.to_owned(), unit: "per second".to_owned(), values };
    vec![
        chart("lines", rate(points, |point| point.lines)),
        chart("refused lines and samples", rate(points, |point| point.errors)),
        chart("packets dropped", rate(points, |point| point.drops)),
    ]
}

fn busiest(points: &[Point]) -> Vec<Chart> {
    let mut totals = std::collections::HashMap::<&str, u64>::new();
    for (name, count) in points.iter().flat_map(|point| &point.busiest) {
        *totals.entry(name).or_default() += count;
    }
    let mut names: Vec<(&str, u64)> = totals.into_iter().collect();
    names.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let values = |name: &str| {
        let count =
            |point: &Point| point.busiest.iter().find(|(known, _)| known == name).map_or(0, |(_, n)| *n);
        points.iter().map(|point| Some(count(point) as f64 / STEP.as_secs_f64())).collect()
    };
    let chart = |(name, _): &(&str, u64)| Chart {
        title: (*name).to_owned(),
        unit: "updates per second (estimate)".to_owned(),
        values: values(name),
    };
    names.iter().take(CHARTS).map(chart).collect()
}

/// A rule for a name, to be pasted into the mapping file: what looks like an id becomes a label.
fn suggestion(name: &str) -> String {
    let components: Vec<&str> = name.split('.').collect();
    let is_id = |component: &str| component.is_empty() || component.bytes().any(|byte| byte.is_ascii_digit());
    let word = |component: &str| crate::statsd::escape::escape_name(component).into_owned();
    let mut glob = Vec::new();
    let mut words = Vec::new();
    let mut labels = Vec::new();
    for (at, component) in components.iter().enumerate() {
        if is_id(component) && components.len() > 1 {
            glob.push("*");
            let before =
                at.checked_sub(1).map_or_else(|| "part".to_owned(), |before| word(components[before]));
            labels.push(if is_id(&before) { format!("part_{}", at + 1) } else { format!("{before}_id") });
        } else {
            glob.push(component);
            words.push(word(component));
        }
    }
    let name = if words.is_empty() { "renamed".to_owned() } else { words.join("_") };
    let mut rule = format!("- match: \"{}\"\n  name: \"{name}\"", glob.join("."));
    if !labels.is_empty() {
        rule.push_str("\n  labels:");
        for (at, label) in labels.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(rule, "\n    {label}: \"${{{}}}\"", at + 1);
        }
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Mapping, MetricType};

    #[test]
    fn suggested_rules_are_valid_and_match() {
        for name in ["app.user42.login", "a.b", "single", "9.9", "web.host-1.cpu0.idle"] {
            let rule = suggestion(name);
            let mapping =
                Mapping::parse(&format!("mappings:\n{rule}\n")).unwrap_or_else(|p| panic!("{p}\n{rule}"));
            assert!(mapping.find(name, MetricType::Counter).is_some(), "{rule}");
        }
        let expected = "- match: \"app.*.login\"\n  name: \"app_login\"\n  labels:\n    app_id: \"${1}\"";
        assert_eq!(suggestion("app.user42.login"), expected);
    }

    #[test]
    fn rates_are_differences() {
        let points: Vec<Point> = [0, 50, 100].map(|lines| Point { lines, ..Point::default() }).into();
        assert_eq!(rate(&points, |point| point.lines), [Some(10.0), Some(10.0)]);
    }
}
