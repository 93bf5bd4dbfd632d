//! The StatsD listeners as a source among others.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use common::config::Layers;
use common::shutdown::Shutdown;

use super::config::Problem;
use super::raw::Scalar;
use super::{Gather, GatherError, Gathering, Starting};
use crate::family::{Family, Kind, Labels, Sample, Value, Visitor, Walk};
use crate::reader::Reading;
use crate::source::statsd::{self, APP, Config, Embedded};

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
        if let Some(path) = &config.mapping {
            let loaded = crate::mapping::Mapping::load(path);
            loaded
                .map_err(|error| Problem::at(line, format!("settings: {}", common::error::chain(&error))))?;
        }
        Ok(Self { config, running: OnceLock::new() })
    }
}

impl Gather for StatsdGather {
    fn gather(&self) -> Gathering<'_> {
        Box::pin(async {
            let running =
                self.running.get().ok_or_else(|| GatherError::from("the listeners are not started"))?;
            let mut families = Collected(running.own_families());
            let mut walk = running.walk();
            while walk.peek().is_some() {
                walk.step(&mut families);
            }
            Ok(Reading::of(families.0))
        })
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

/// Families as they are walked over.
struct Collected(Vec<Family>);

impl Visitor for Collected {
    fn family(&mut self, name: &str, help: &str, kind: Kind) {
        self.0.push(Family::new(name, help, kind));
    }

    fn sample(&mut self, labels: Labels<'_>, value: &Value) {
        let Some(family) = self.0.last_mut() else { return };
        let labels = labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        family.samples.push(Sample { labels, value: value.clone() });
    }
}
