//! `explain`, `lint` and `test` for a configuration.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use serde::Deserialize;

use super::config::{Config, Source};
use super::{GatherError, Reading};
use crate::exposition::{Format, page};
use crate::family::normal::UNITS;
use crate::family::{Families, Family};
use crate::yaml;

/// What gathering the sources once gives, as text; false when one of them is down or has skipped values. With a
/// document nothing is gathered: it stands in for the answer of the peer.
pub async fn explain(config: &Config, only: Option<&str>, document: Option<&[u8]>) -> (String, bool) {
    let (mut text, mut good) = (String::new(), true);
    let chosen = config.sources.iter().filter(|source| only.is_none_or(|name| name == source.options.name));
    for source in chosen {
        let start = Instant::now();
        let gathered = match document {
            Some(document) => {
                source.gather.read(document).unwrap_or_else(|| Err("it reads no documents".into()))
            }
            None => gathered(source).await,
        };
        let took = start.elapsed().as_secs_f64() * 1000.0;
        let (name, kind) = (&source.options.name, &source.options.kind);
        match gathered {
            Err(error) => {
                good = false;
                let _ = writeln!(text, "# {name} ({kind}): down: {error}");
            }
            Ok(reading) => {
                let (families, out) = source.options.normal.apply(reading.families);
                let samples: usize = families.iter().map(|family| family.samples.len()).sum();
                let _ = writeln!(text, "# {name} ({kind}): {samples} samples in {took:.1} ms");
                let skipped = reading.skipped + out.samples;
                if let Some(first) = reading.first_skip.or(out.first) {
                    good = false;
                    let _ = writeln!(text, "# {skipped} skipped, the first because: {first}");
                }
                text.push_str(&written(families));
            }
        }
    }
    (text, good)
}

async fn gathered(source: &Source) -> Result<Reading, GatherError> {
    let shutdown = common::shutdown::Shutdown::new();
    let started = std::sync::Arc::clone(&source.gather).start(shutdown.clone()).await;
    let gathered = match started {
        Ok(()) => tokio::time::timeout(source.options.timeout, source.gather.gather()).await,
        Err(error) => Ok(Err(error)),
    };
    shutdown.trigger();
    gathered.unwrap_or_else(|_| Err("not done within the timeout".into()))
}

/// Families as a page.
pub(super) fn written(families: Vec<Family>) -> String {
    String::from_utf8_lossy(&page(&mut Families::sorted(families), Format::Text)).into_owned()
}

/// What is likely a mistake, one line each.
#[must_use]
pub fn lint(config: &Config) -> Vec<String> {
    let mut findings = Vec::new();
    for (at, source) in config.sources.iter().enumerate() {
        let twin = config.sources[..at].iter().find(|earlier| {
            earlier.options.kind == source.options.kind
                && earlier.options.normal.labels == source.options.normal.labels
                && super::module::NAMES.contains(&&*source.options.kind)
        });
        let name = &source.options.name;
        if let Some(twin) = twin {
            findings.push(format!(
                "source `{name}`: it gives the same series as `{}`; give each `labels` of its own",
                twin.options.name
            ));
        }
        if let Some(interval) = source.options.interval.filter(|interval| *interval < source.options.timeout)
        {
            let interval = common::config::format_duration(interval);
            findings.push(format!("source `{name}`: its interval of {interval} is shorter than its timeout"));
        }
        findings.extend(source.gather.lint().iter().map(|finding| format!("source `{name}`: {finding}")));
        let Some((raw, _)) = &source.raw else { continue };
        for metric in raw.metrics.as_ref().map(|metrics| metrics.value.as_slice()).unwrap_or_default() {
            let Some(metric_name) = &metric.value.name else { continue };
            let kind = metric.value.kind.as_ref().map(|kind| kind.value.0.as_str());
            let at = format!("source `{name}`, line {}: `{}`", metric_name.line, metric_name.value.0);
            findings.extend(habits(&metric_name.value.0, kind, metric.value.scale.is_some(), &at));
        }
    }
    findings
}

/// What Prometheus's conventions say about a name.
fn habits(name: &str, kind: Option<&str>, scaled: bool, at: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let total = name.ends_with("_total");
    if kind == Some("counter") && !total {
        findings.push(format!("{at}: a counter's name ends in _total"));
    }
    if total && kind.is_some_and(|kind| kind != "counter") {
        findings.push(format!("{at}: only a counter's name ends in _total"));
    }
    let base = name.strip_suffix("_total").unwrap_or(name);
    for (unit, better, factor) in UNITS {
        if base.ends_with(unit) && !scaled {
            findings.push(format!("{at}: base units are {better}; use `scale: {factor}` and that name"));
        }
    }
    findings
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    tests: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: Option<String>,
    source: String,
    document: String,
    expect: Vec<String>,
}

/// Runs the cases of a file: documents, and the samples the named source makes of them.
///
/// # Errors
/// The file is not valid, or names a source that reads no documents.
pub fn test(config: &Config, path: &Path) -> Result<Vec<String>, String> {
    let fail = |reason: String| format!("{}: {reason}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    let options = yaml::Options { strict_booleans: true, ..yaml::Options::default() };
    let cases: Cases = yaml::from_str(&text, options).map_err(|error| fail(error.to_string()))?;
    let mut failures = Vec::new();
    for (at, case) in cases.tests.iter().enumerate() {
        let label = case.name.clone().unwrap_or_else(|| format!("test {}", at + 1));
        let source = config.sources.iter().find(|source| source.options.name == case.source);
        let source = source.ok_or_else(|| fail(format!("{label}: there is no source `{}`", case.source)))?;
        let reading = source.gather.read(case.document.as_bytes());
        let reading =
            reading.ok_or_else(|| fail(format!("{label}: `{}` reads no documents", case.source)))?;
        let reading = match reading {
            Ok(reading) => reading,
            Err(error) => {
                failures.push(format!("{label}: {error}"));
                continue;
            }
        };
        let (families, _) = source.options.normal.apply(reading.families);
        let page = written(families);
        let got: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
        for line in &case.expect {
            if !got.contains(&line.trim()) {
                failures.push(format!("{label}: not there: {line}"));
            }
        }
        for line in got {
            if !case.expect.iter().any(|expected| expected.trim() == line) {
                failures.push(format!("{label}: not expected: {line}"));
            }
        }
    }
    Ok(failures)
}
