//! JVMs over JMX as a source among others.

use std::path::Path;
use std::time::Instant;

use super::config::Problem;
use super::raw::RawSource;
use super::{Gather, GatherError, Gathering};
use crate::family::{Family, Kind};
use crate::reader::Reading;
use crate::rule::page::SharedFamily;
use crate::source::jmx::{Config, JmxSource, RULE_SETS};

pub(super) struct JmxGather(JmxSource);

/// From a file of jmx_exporter (`config`), or an `address` and a rule set by name.
pub(super) fn build(raw: &RawSource, base: &Path) -> Result<JmxGather, Problem> {
    if let Some(file) = &raw.config {
        let beside = raw.present().into_iter();
        let mut beside =
            beside.filter(|(key, _)| ["address", "username", "password_file", "rule_set"].contains(key));
        if let Some((key, line)) = beside.next() {
            return Err(Problem::at(line, format!("{key}: the file of `config` has it")));
        }
        let config = Config::load(&base.join(&file.value.0));
        let config = config.map_err(|error| Problem::at(file.line, format!("config: {error}")))?;
        return Ok(JmxGather(JmxSource::new(config)));
    }
    let Some(address) = &raw.address else {
        return Err(Problem { line: None, reason: "config: either this or an address is needed".to_owned() });
    };
    // JSON is YAML, and escapes whatever the values hold.
    let mut file = serde_json::Map::new();
    let key = if address.value.starts_with("service:") { "jmxUrl" } else { "hostPort" };
    file.insert(key.to_owned(), address.value.0.clone().into());
    if let Some(user) = &raw.username {
        file.insert("username".to_owned(), user.value.0.clone().into());
    }
    if let Some(password) = &raw.password_file {
        file.insert("passwordFile".to_owned(), base.join(&password.value.0).display().to_string().into());
    }
    if let Some(set) = &raw.rule_set {
        file.insert("lowercaseOutputName".to_owned(), true.into());
        let name = set.value.0.as_str();
        if !RULE_SETS.iter().any(|(known, _)| *known == name) {
            let known: Vec<&str> = RULE_SETS.iter().map(|(known, _)| *known).collect();
            let reason = format!("rule_set: `{name}` is none of {}", known.join(", "));
            return Err(Problem::at(set.line, reason));
        }
        file.insert("includes".to_owned(), vec![format!("builtin:{name}")].into());
    }
    let text = serde_json::Value::Object(file).to_string();
    let config = Config::from_text(&text, &base.join("adapter.yaml"));
    config.map(JmxSource::new).map(JmxGather).map_err(|error| Problem::at(address.line, error.reason))
}

impl Gather for JmxGather {
    fn gather(&self) -> Gathering<'_> {
        Box::pin(async {
            let deadline: Option<Instant> = None;
            let page = self.0.scrape(deadline).await.map_err(|error| GatherError(error.to_string()))?;
            // The peer's page says `jmx_scrape_error 1` and is empty otherwise; here that is a source that is down.
            let failed = page.iter().find(|family| family.name == "jmx_scrape_error").is_some_and(all_ones);
            if failed {
                let reason = self.0.last_error().await;
                return Err(GatherError(reason.unwrap_or_else(|| "no JVM could be read".to_owned())));
            }
            Ok(Reading::of(page.iter().map(SharedFamily::to_family).collect()))
        })
    }

    fn down(&self) -> Vec<Family> {
        let help = "Non-zero if this scrape failed.";
        vec![Family::new("jmx_scrape_error", help, Kind::Gauge).with(&[], 1.0)]
    }
}

fn all_ones(family: &SharedFamily) -> bool {
    family.samples().len() > 0 && family.samples().all(|(_, value)| value == 1.0)
}
