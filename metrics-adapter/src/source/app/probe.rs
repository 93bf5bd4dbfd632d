//! Looking at an address or a file: which format it has, what it would give, and a configuration to paste.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::config::{Config, Options};
use super::explain::written;
use super::http::{self, Fetch};
use super::module;
use super::{GatherError, file, limits};
use crate::family::normal::Normal;
use crate::reader::csv::rows;
use crate::reader::json::Json;
use crate::reader::key_value::KeyValue;
use crate::reader::{Builder, Reader, Reading, number};

/// What was found.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The format, for people.
    pub format: String,
    /// The samples it would give, as a page.
    pub page: String,
    /// A configuration that gives them.
    pub configuration: String,
}

/// Time for fetching.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Samples that are shown.
const SAMPLES: usize = 1000;

/// Fetches an `http://` or `https://` address or reads a file, and guesses.
///
/// # Errors
/// It cannot be read, or no format fits.
pub async fn probe(what: &str) -> Result<Probed, GatherError> {
    let by_http = what.starts_with("http://") || what.starts_with("https://");
    let bytes = if by_http {
        let uri = http::address(what).map_err(GatherError)?;
        let client = http::client_for(&uri, &common::client::TlsOptions::default()).map_err(GatherError)?;
        let fetch = Fetch::get(uri, client, limits::BYTES);
        let fetched = tokio::time::timeout(TIMEOUT, fetch.fetch()).await;
        fetched.map_err(|_| GatherError(format!("{what}: no answer within {} s", TIMEOUT.as_secs())))??
    } else {
        file::read(Path::new(what), limits::BYTES, None).await?
    };
    guess(&bytes, what, by_http)
}

struct Guess {
    format: &'static str,
    /// The `type` for an address, and for a file with this format.
    kind: &'static str,
    file_format: &'static str,
    reading: Reading,
    /// Further lines of the source.
    lines: String,
}

fn guess(bytes: &[u8], what: &str, by_http: bool) -> Result<Probed, GatherError> {
    let guess = modules(bytes, by_http)
        .or_else(|| prometheus(bytes))
        .or_else(|| json(bytes))
        .or_else(|| table(bytes))
        .or_else(|| key_value(bytes));
    let Some(guess) = guess else {
        let start = crate::reader::shortened(&String::from_utf8_lossy(&bytes[..bytes.len().min(400)]), 80);
        let hint = "use http_text, file or tail with `format: regex`";
        return Err(GatherError(format!("{what}: no known format (it starts with `{start}`); {hint}")));
    };
    let absolute = std::path::absolute(what).unwrap_or_else(|_| what.into());
    let quoted = if by_http { what.to_owned() } else { absolute.display().to_string() };
    let quoted = serde_json::Value::from(quoted);
    let mut configuration = String::from("sources:\n");
    let _ = match by_http {
        true => writeln!(configuration, "- type: {}\n  url: {quoted}", guess.kind),
        false => writeln!(configuration, "- type: file\n  path: {quoted}\n  format: {}", guess.file_format),
    };
    if by_http && guess.kind == "http_text" {
        let _ = writeln!(configuration, "  format: {}", guess.file_format);
    }
    configuration.push_str(&guess.lines);
    // What is shown is what the configuration gives.
    let parsed = Config::parse(&configuration, Path::new("probe.yaml"), Options::default());
    let parsed = parsed.map_err(|error| GatherError(error.to_string()))?;
    let reading = match parsed.sources.first().and_then(|source| source.gather.read(bytes)) {
        Some(reading) => reading?,
        None => guess.reading,
    };
    let (families, _) = Normal::default().apply(reading.families);
    Ok(Probed { format: guess.format.to_owned(), page: written(families), configuration })
}

fn modules(bytes: &[u8], by_http: bool) -> Option<Guess> {
    if !by_http {
        return None;
    }
    let (format, kind, reading) = module::guess(bytes, SAMPLES)?;
    Some(Guess { format, kind, file_format: "", reading, lines: String::new() })
}

fn prometheus(bytes: &[u8]) -> Option<Guess> {
    let reading = Reader::Prometheus.read(bytes, SAMPLES).ok().filter(|reading| reading.samples() > 0)?;
    // `key: 5` could be a sample as well, but no exporter ends names so.
    if reading.families.iter().any(|family| family.name.ends_with(':')) {
        return None;
    }
    Some(Guess {
        format: "a Prometheus page",
        kind: "prometheus",
        file_format: "prometheus",
        reading,
        lines: String::new(),
    })
}

fn json(bytes: &[u8]) -> Option<Guess> {
    let document = Json::parse(bytes).ok().filter(|value| matches!(value, Json::Map(_) | Json::List(_)))?;
    // Every number with its path first; arrays of objects become labels by a field that names them.
    let mut metrics = String::new();
    entries(&document, "$", "app", &mut metrics, 0);
    let reading =
        Reader::Json { metrics: Vec::new(), prefix: "app_".to_owned() }.read(bytes, SAMPLES).ok()?;
    let lines =
        if metrics.is_empty() { "  prefix: app_\n".to_owned() } else { format!("  metrics:\n{metrics}") };
    Some(Guess { format: "JSON", kind: "http_json", file_format: "json", reading, lines })
}

/// Entries of `metrics` for the numbers of a document, up to a sensible number of them.
fn entries(value: &Json<'_>, path: &str, name: &str, out: &mut String, depth: usize) {
    const MOST: usize = 8 << 10;
    if depth > 6 || out.len() > MOST {
        return;
    }
    let step =
        |key: &str| match key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !key.is_empty() {
            true => format!(".{key}"),
            false => format!("['{}']", key.replace('\\', "\\\\").replace('\'', "\\'")),
        };
    let named = |key: &str| {
        let mut full = format!("{name}_");
        crate::family::normal::push_name(&mut full, key);
        full
    };
    match value {
        Json::Map(members) => {
            for (key, value) in members {
                if value.number().is_some() && !matches!(value, Json::Text(_)) {
                    let path = serde_json::Value::from(format!("{path}{}", step(key)));
                    let _ = writeln!(out, "  - name: {}\n    path: {path}", named(key));
                } else {
                    entries(value, &format!("{path}{}", step(key)), &named(key), out, depth + 1);
                }
            }
        }
        Json::List(items) => {
            let Some(first @ Json::Map(members)) = items.first() else { return };
            let label = ["name", "id", "key"].into_iter().find(|key| first.member(key).is_some());
            let label = label.map_or_else(|| "index: \"$1\"".to_owned(), |key| format!("{key}: \"@.{key}\""));
            let numbers = members.iter().filter(|(key, value)| {
                matches!(value, Json::Whole(_) | Json::Number(_) | Json::Bool(_))
                    && !matches!(&**key, "id" | "key")
            });
            let mut values = String::new();
            for (key, _) in numbers {
                let mut suffix = String::new();
                crate::family::normal::push_name(&mut suffix, key);
                let path = serde_json::Value::from(format!("@{}", step(key)));
                let _ = writeln!(values, "      {suffix}: {path}");
            }
            if !values.is_empty() {
                let path = serde_json::Value::from(format!("{path}[*]"));
                let _ = write!(
                    out,
                    "  - name: {name}\n    path: {path}\n    labels: {{{label}}}\n    values:\n{values}"
                );
            }
        }
        _ => {}
    }
}

fn table(bytes: &[u8]) -> Option<Guess> {
    let text = String::from_utf8_lossy(bytes);
    let head = text.lines().next()?;
    let delimiter = [',', ';', '\t'].into_iter().find(|c| head.matches(*c).count() > 0)?;
    let mut first: Option<Vec<(String, String)>> = None;
    let columns: Vec<String> = head
        .trim_start_matches('#')
        .split(delimiter)
        .map(|name| name.trim().trim_matches('"').to_owned())
        .collect();
    rows(&text, delimiter, None, |_, row| {
        first.get_or_insert_with(|| {
            let field = |name: &String| Some((name.clone(), row.field(name)?.to_owned()));
            columns.iter().filter_map(field).collect()
        });
    })
    .ok()?;
    let first = first.filter(|fields| fields.len() == columns.len() && fields.len() > 1)?;
    let (numbers, texts): (Vec<_>, Vec<_>) =
        first.into_iter().partition(|(_, value)| number(value).is_some());
    if numbers.is_empty() || texts.is_empty() {
        return None;
    }
    let label = |name: &str| crate::family::normal::metric_name(name).replace(':', "_");
    let labels: Vec<String> = texts
        .iter()
        .filter(|(name, value)| !name.is_empty() && !value.is_empty())
        .take(3)
        .map(|(name, _)| format!("{}: \"${{{name}}}\"", label(name)))
        .collect();
    let mut lines = String::new();
    if delimiter != ',' {
        let _ = writeln!(lines, "  delimiter: {}", serde_json::Value::from(delimiter.to_string()));
    }
    lines.push_str("  metrics:\n");
    for (name, _) in numbers.iter().take(40) {
        let mut metric = "app_".to_owned();
        crate::family::normal::push_name(&mut metric, name);
        let column = serde_json::Value::from(name.as_str());
        let _ = writeln!(
            lines,
            "  - name: {metric}\n    column: {column}\n    labels: {{{}}}",
            labels.join(", ")
        );
    }
    Some(Guess {
        format: "a table (CSV)",
        kind: "http_text",
        file_format: "csv",
        reading: Builder::new(0).finish(),
        lines,
    })
}

fn key_value(bytes: &[u8]) -> Option<Guess> {
    let text = String::from_utf8_lossy(bytes);
    let reader = KeyValue { prefix: "app_".to_owned(), ..KeyValue::default() };
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')).count();
    let split =
        text.lines().filter_map(|line| reader.split(line)).filter(|(key, _)| !key.contains(' ')).count();
    let reading = Reader::KeyValue(reader).read(bytes, SAMPLES).ok()?;
    (split * 2 > lines && reading.samples() > 0).then(|| Guess {
        format: "lines of key and value",
        kind: "http_text",
        file_format: "key_value",
        reading,
        lines: "  prefix: app_\n".to_owned(),
    })
}

impl Probed {
    /// Names and types it would give, one line each.
    #[must_use]
    pub fn summary(&self) -> String {
        let families = self.page.lines().filter(|line| line.starts_with("# TYPE ")).count();
        let samples = self.page.lines().filter(|line| !line.starts_with('#')).count();
        format!("{}: {families} metrics, {samples} samples", self.format)
    }
}
