//! JVMs over JMX as a source among others.

use std::path::Path;
use std::time::Instant;

use super::config::Problem;
use super::raw::RawSource;
use super::{Gather, GatherError, Gathering};
use crate::family::{Family, Kind};
use crate::reader::Reading;
use crate::rule::page::SharedFamily;
use crate::source::jmx::{ABOUT_A_PAGE, Config, JmxSource, RULE_SETS};

pub(super) struct JmxGather(JmxSource);

/// From a file of jmx_exporter (`config`), or an `address` or `url` with rules beside it.
pub(super) fn build(raw: &RawSource, base: &Path) -> Result<JmxGather, Problem> {
    if let Some(file) = &raw.config {
        let own = ["address", "url", "username", "password_file", "rule_set", "rules"];
        if let Some((key, line)) = raw.present().into_iter().find(|(key, _)| own.contains(key)) {
            return Err(Problem::at(line, format!("{key}: the file of `config` has it")));
        }
        let config = Config::load(&base.join(&file.value.0));
        let config = config.map_err(|error| Problem::at(file.line, format!("config: {error}")))?;
        for key in config.page_keys() {
            tracing::warn!(file = &*file.value.0, key, "this key {ABOUT_A_PAGE}");
        }
        return Ok(JmxGather(JmxSource::new(config)));
    }
    let Some(address) = raw.address.as_ref().or(raw.url.as_ref()) else {
        let key = if raw.kind.as_ref().is_some_and(|kind| &*kind.value == "jmx") { "address" } else { "url" };
        return Err(Problem { line: None, reason: format!("{key}: either this or `config` is needed") });
    };
    // JSON is YAML, and escapes whatever the values hold.
    let mut file = serde_json::Map::new();
    let mut put = |key: &str, value: serde_json::Value| file.insert(key.to_owned(), value);
    let local = ["service:", "attach:", "hsperfdata:"];
    if let Some(url) = &raw.url {
        super::http::address(&url.value.0)
            .map_err(|reason| Problem::at(url.line, format!("url: {reason}")))?;
        put("jmxUrl", url.value.0.clone().into());
    } else if local.iter().any(|start| address.value.starts_with(start)) {
        put("jmxUrl", address.value.0.clone().into());
    } else {
        put("hostPort", address.value.0.clone().into());
    }
    if let Some(user) = &raw.username {
        put("username", user.value.0.clone().into());
    }
    if let Some(password) = &raw.password_file {
        put("passwordFile", base.join(&password.value.0).display().to_string().into());
    }
    if let Some(set) = &raw.rule_set {
        put("jvmMetrics", true.into());
        let name = set.value.0.as_str();
        if !RULE_SETS.iter().any(|(known, _)| *known == name) {
            let known: Vec<&str> = RULE_SETS.iter().map(|(known, _)| *known).collect();
            let reason = format!("rule_set: `{name}` is none of {}", known.join(", "));
            return Err(Problem::at(set.line, reason));
        }
        put("includes", vec![format!("builtin:{name}")].into());
    }
    let mut line = address.line;
    if let Some(rules) = &raw.rules {
        put("rules", rules.value.clone());
        line = rules.line;
    }
    let text = serde_json::Value::Object(file).to_string();
    let config = Config::from_text(&text, &base.join("adapter.yaml"));
    config.map(JmxSource::new).map(JmxGather).map_err(|error| Problem::at(line, error.reason))
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

    fn read(&self, document: &[u8]) -> Option<Result<Reading, GatherError>> {
        let text = String::from_utf8_lossy(document);
        let (families, failed) = self.0.read(text.lines().filter(|line| !line.trim().is_empty()));
        let mut reading = Reading::of(families);
        reading.skipped = failed.len() as u64;
        reading.first_skip = failed.into_iter().next();
        Some(Ok(reading))
    }

    fn down(&self) -> Vec<Family> {
        let help = "Non-zero if this scrape failed.";
        vec![Family::new("jmx_scrape_error", help, Kind::Gauge).with(&[], 1.0)]
    }
}

fn all_ones(family: &SharedFamily) -> bool {
    family.samples().len() > 0 && family.samples().all(|(_, value)| value == 1.0)
}
