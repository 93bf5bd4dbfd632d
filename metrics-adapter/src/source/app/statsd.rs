//! The StatsD listeners as a source among others.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use common::config::Layers;
use common::shutdown::Shutdown;

use super::config::Problem;
use super::raw::Scalar;
use super::{Gather, GatherError, Gathering, Starting};
use crate::family::store::StoreWalk;
use crate::family::{Family, Kind, Labels, Sample, Value, Visitor, Walk};
use crate::mapping::Mapping;
use crate::reader::Reading;
use crate::source::statsd::{self, APP, Config, Embedded};
use crate::statsd::{Event, Notice, Observer, Parser, Tags, Type};

pub(super) struct StatsdGather {
    config: Config,
    running: OnceLock<Embedded>,
}

/// Settings that are about files, whose paths are relative to the configuration.
const PATHS: [&str; 3] = ["statsd.mapping-config", "debug.dump-fsm", "statsd.listen-unixgram"];

impl StatsdGather {
    /// The keys are the flags of the `statsd` mode, except those about HTTP.
    pub(super) fn new(settings: &BTreeMap<String, Scalar>, base: &Path) -> Result<Self, Problem> {
        let mut layers = Layers::new(&APP);
        for (key, value) in settings {
            let fail = |reason: String| Problem::at(value.line, format!("settings: {key}: {reason}"));
            if key.starts_with("web.") {
                return Err(fail("the page is served by the run mode; use its flags".to_owned()));
            }
            let text = match PATHS.contains(&key.as_str())
                && !value.value.starts_with('@')
                && !value.value.is_empty()
            {
                true => base.join(&value.value.0).display().to_string(),
                false => value.value.0.clone(),
            };
            layers.flag(key, vec![text]).map_err(|error| fail(error.to_string()))?;
        }
        let line = settings.values().next().map_or(0, |value| value.line);
        let config = Config::from_settings(&layers.finish())
            .map_err(|error| Problem::at(line, format!("settings: {error}")))?;
        let made = Self { config, running: OnceLock::new() };
        made.mapping().map_err(|error| Problem::at(line, format!("settings: {error}")))?;
        Ok(made)
    }

    fn mapping(&self) -> Result<Mapping, String> {
        let Some(path) = &self.config.mapping else { return Ok(Mapping::default()) };
        Mapping::load(path).map_err(|error| common::error::chain(&error))
    }
}

impl Gather for StatsdGather {
    fn gather(&self) -> Gathering<'_> {
        Box::pin(async {
            let running =
                self.running.get().ok_or_else(|| GatherError::from("the listeners are not started"))?;
            Ok(Reading::of(collected(running.own_families(), running.walk())))
        })
    }

    fn read(&self, document: &[u8]) -> Option<Result<Reading, GatherError>> {
        let mapping = match self.mapping() {
            Ok(mapping) => Arc::new(mapping),
            Err(error) => return Some(Err(GatherError(error))),
        };
        let parser = Parser { styles: self.config.ingest.styles, sets: self.config.ingest.set_window > 0 };
        let mut refused = Vec::new();
        for line in document.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            parser.read(line, &mut Refusals(&mut refused));
        }
        let walk = crate::explain::stored(document, mapping, self.config.ingest, &mut refused);
        let mut reading = Reading::of(collected(Vec::new(), walk));
        reading.skipped = refused.len() as u64;
        reading.first_skip = refused.into_iter().next();
        Some(Ok(reading))
    }

    fn lint(&self) -> Vec<String> {
        let findings = self.mapping().map(|mapping| crate::mapping::lint(&mapping)).unwrap_or_default();
        let path = self.config.mapping.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        findings.into_iter().map(|finding| format!("{path}:{}: {}", finding.line, finding.message)).collect()
    }

    fn start(self: Arc<Self>, shutdown: Shutdown) -> Starting {
        Box::pin(async move {
            let started = statsd::embed(self.config.clone(), shutdown).await;
            let running = started.map_err(|error| GatherError(common::error::chain(&error)))?;
            let _ = self.running.set(running);
            Ok(())
        })
    }
}

/// Lines that give nothing, and why.
struct Refusals<'a>(&'a mut Vec<String>);

impl Observer for Refusals<'_> {
    fn event(&mut self, _: &str, _: &Tags<'_>, _: Type, _: Event<'_>) {}

    fn notice(&mut self, notice: Notice) {
        if let Notice::Rejected(reason) = notice {
            self.0.push(format!("refused: {}", reason.as_str()));
        }
    }
}

fn collected(own: Vec<Family>, mut walk: StoreWalk) -> Vec<Family> {
    let mut families = Collected(own);
    while walk.peek().is_some() {
        walk.step(&mut families);
    }
    families.0
}

/// Families as they are walked over.
struct Collected(Vec<Family>);

impl Visitor for Collected {
    fn family(&mut self, name: &str, help: &str, kind: Kind) {
        self.0.push(Family::new(name, help, kind));
    }

    fn sample(&mut self, labels: Labels<'_>, value: &Value) {
        let Some(family) = self.0.last_mut() else { return };
        family.samples.push(Sample { labels: labels.into(), value: value.clone() });
    }
}
