//! The status page of the run mode.

use std::sync::Arc;
use std::time::SystemTime;

use common::status::{Cell, Chart, Health, Section, Status};

use super::runner::{Point, Runner, Slot, Snapshot};
use crate::family::normal::series;
use crate::family::{Sample, Value};

/// Samples that are listed.
const SAMPLES: usize = 2000;
/// Sources with charts.
const CHARTED: usize = 30;

type Looked = (Arc<Slot>, Option<Arc<Snapshot>>, Vec<Point>);

pub(super) fn look(runner: &Runner) -> Status {
    let sources: Vec<Looked> = runner
        .slots()
        .iter()
        .map(|slot| {
            let (last, points) = slot.history();
            (Arc::clone(slot), last, points)
        })
        .collect();
    let down =
        sources.iter().filter(|(_, last, _)| last.as_ref().is_some_and(|last| last.error.is_some())).count();
    let conflicts = runner.last_conflicts.load();
    let samples: usize =
        sources.iter().filter_map(|(_, last, _)| last.as_ref()).map(|last| last.samples).sum();
    let count = sources.len();
    let (health, headline) = match (down, conflicts.is_empty()) {
        (0, true) => (Health::Good, format!("{samples} samples from {count} sources")),
        (0, false) => {
            (Health::Warning, format!("{samples} samples from {count} sources, some of which disagree"))
        }
        (down, _) => (Health::Bad, format!("{down} of {count} sources cannot be gathered")),
    };
    let mut status = Status::new(health, headline).section(table(&sources));
    if !conflicts.is_empty() {
        let rows = conflicts.iter().map(|(source, what, reason)| {
            vec![source.clone().into(), what.clone().into(), reason.as_str().into()]
        });
        let title = "Left out because an earlier source has it (give sources different labels)";
        status = status.section(Section::table(title, &["source", "sample", "reason"], rows.collect()));
    }
    let charts: Vec<Chart> = sources.iter().take(CHARTED).flat_map(charts).collect();
    if charts.iter().any(|chart| chart.values.len() > 1) {
        status = status.section(Section::charts("Last gatherings", charts));
    }
    status.section(listing(&sources))
}

fn table(sources: &[Looked]) -> Section {
    let now = SystemTime::now();
    let row = |(slot, last, _): &Looked| -> Vec<Cell> {
        let options = &slot.options;
        let how = match options.interval {
            Some(interval) => format!("every {}", common::config::format_duration(interval)),
            None => "on scrape".to_owned(),
        };
        let mut cells = vec![options.name.clone().into(), options.kind.clone().into(), how.into()];
        let Some(last) = last else {
            cells.extend([Cell::from("not gathered yet"), "".into(), "".into(), "".into(), "".into()]);
            return cells;
        };
        let problem = match (&last.error, &last.first_skip) {
            (Some(error), _) => Cell::new(Health::Bad, error.clone()),
            (None, Some(skip)) => Cell::new(Health::Warning, format!("{} skipped: {skip}", last.skipped)),
            (None, None) => "".into(),
        };
        let state = match last.error {
            Some(_) => Cell::new(Health::Bad, "down"),
            None => Cell::new(Health::Good, "up"),
        };
        let age = now.duration_since(last.at).unwrap_or_default().as_secs();
        cells.extend([
            state,
            format!("{age} s ago").into(),
            format!("{:.1} ms", last.took.as_secs_f64() * 1000.0).into(),
            last.samples.to_string().into(),
            problem,
        ]);
        cells
    };
    let columns = ["source", "type", "gathered", "state", "last", "duration", "samples", "problem"];
    Section::table("Sources", &columns, sources.iter().map(row).collect())
}

fn charts((slot, _, points): &Looked) -> [Chart; 2] {
    let name = &slot.options.name;
    let seconds = points.iter().map(|point| Some(point.seconds * 1000.0)).collect();
    #[expect(clippy::cast_precision_loss, reason = "bounded by max_series")]
    let samples = points.iter().map(|point| point.up.then_some(point.samples as f64)).collect();
    [
        Chart { title: format!("{name}: duration"), unit: "ms".to_owned(), values: seconds },
        Chart { title: format!("{name}: series"), unit: "series".to_owned(), values: samples },
    ]
}

fn listing(sources: &[Looked]) -> Section {
    let mut rows = Vec::new();
    let mut more = 0;
    for (slot, last, _) in sources {
        let families = last.iter().flat_map(|last| last.families.iter());
        for (family, sample) in
            families.flat_map(|family| family.samples.iter().map(move |sample| (family, sample)))
        {
            if rows.len() < SAMPLES {
                let name = series(&family.name, sample.labels.labels());
                rows.push(vec![name.into(), text(sample).into(), slot.options.name.clone().into()]);
            } else {
                more += 1;
            }
        }
    }
    let title = match more {
        0 => "Current samples".to_owned(),
        more => format!("Current samples ({more} more are on the metrics page)"),
    };
    Section::table(title, &["sample", "value", "source"], rows)
}

fn text(sample: &Sample) -> String {
    match &sample.value {
        Value::Number(number) => {
            let mut out = Vec::new();
            crate::exposition::write_float(&mut out, *number);
            String::from_utf8_lossy(&out).into_owned()
        }
        Value::Summary(summary) => format!("count {}, sum {}", summary.count, summary.sum),
        Value::Histogram(histogram) => format!("count {}, sum {}", histogram.count, histogram.sum),
    }
}
