//! What a configuration says about one metric, and the readers by format.

use std::borrow::Cow;

use super::csv::Csv;
use super::json::Json;
use super::json_path::Path;
use super::key_value::KeyValue;
use super::pattern::PatternMetric;
use super::template::Template;
use super::{Builder, ReadError, Reading, prometheus};
use crate::family::{Kind, PackedLabels};

/// Name, type and value of one metric.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Its name; may refer to captures.
    pub name: Template,
    /// Help text.
    pub help: String,
    /// Type.
    pub kind: Kind,
    /// Factor on every value, to reach base units.
    pub scale: f64,
    /// Words that stand for numbers (`green: 0`); `*` is any other word.
    pub words: Vec<(String, f64)>,
}

impl Metric {
    /// The number behind a text, scaled.
    #[must_use]
    pub fn value(&self, text: &str) -> Option<f64> {
        if self.kind == Kind::Info {
            return Some(1.0);
        }
        let named =
            |wanted: &str| self.words.iter().find(|(word, _)| word == wanted).map(|(_, value)| *value);
        named(text.trim())
            .or_else(|| super::number(text).map(|number| number * self.scale))
            .or_else(|| named("*"))
    }

    fn json_value(&self, value: &Json<'_>) -> Option<f64> {
        match value {
            Json::Whole(_) | Json::Number(_) if self.words.is_empty() && self.kind != Kind::Info => {
                value.number().map(|number| number * self.scale)
            }
            Json::Bool(_) if self.words.is_empty() => value.number(),
            _ => value.text().and_then(|text| self.value(&text)),
        }
    }
}

/// The value of a label in a JSON document.
#[derive(Clone, Debug)]
pub enum JsonLabel {
    /// What a path finds.
    Path(Path),
    /// A text with references to the steps of the metric's path.
    Text(Template),
}

/// One entry of `metrics` over JSON: objects selected by a path, one or more values in each.
#[derive(Clone, Debug)]
pub struct JsonMetric {
    /// Selects the objects.
    pub path: Path,
    /// The path as written.
    pub text: String,
    /// Metrics, and where in the object their values are.
    pub values: Vec<(Metric, Path)>,
    /// Labels of every sample.
    pub labels: Vec<(String, JsonLabel)>,
}

impl JsonMetric {
    /// Whether anything is named by what the path took.
    fn captures(&self) -> bool {
        let refers = |label: &JsonLabel| matches!(label, JsonLabel::Text(text) if text.plain().is_none());
        self.labels.iter().any(|(_, label)| refers(label))
            || self.values.iter().any(|(metric, _)| metric.name.plain().is_none())
    }

    fn read(&self, document: &Json<'_>, out: &mut Builder) -> Result<(), ReadError> {
        let found = self.path.select_with(document, document, self.captures())?;
        if found.is_empty() && self.path.is_single() {
            out.skip(|| format!("`{}` selects nothing", self.text));
        }
        for one in found {
            let capture = |name: &str| {
                let at = name.parse::<usize>().ok()?.checked_sub(1)?;
                one.captures.get(at).map(String::as_str)
            };
            let labels = self.labels.iter().map(|(name, label)| {
                let text = match label {
                    JsonLabel::Text(template) => template.expand(capture),
                    JsonLabel::Path(path) => {
                        path.first(document, one.value).and_then(Json::text).unwrap_or_default()
                    }
                };
                (name, text)
            });
            let mut labels: PackedLabels = labels.collect();
            for (at, (metric, path)) in self.values.iter().enumerate() {
                let name = match metric.name.plain() {
                    Some(name) => Cow::Borrowed(name),
                    None => metric.name.expand(capture),
                };
                let last = at + 1 == self.values.len();
                match path.first(document, one.value) {
                    None | Some(Json::Null) => {
                        out.skip(|| format!("{name}: there is no value in `{}`", self.text));
                    }
                    Some(value) => match metric.json_value(value) {
                        Some(number) => {
                            let labels = if last { std::mem::take(&mut labels) } else { labels.clone() };
                            out.add(&name, &metric.help, metric.kind, labels, number);
                        }
                        None => out.skip(|| {
                            let text =
                                value.text().map(|text| format!(" (`{}`)", super::shortened(&text, 40)));
                            format!("{name}: {}{} is no number", value.kind(), text.unwrap_or_default())
                        }),
                    },
                }
            }
        }
        Ok(())
    }
}

/// A document's format, and what to take from it.
#[derive(Clone, Debug)]
pub enum Reader {
    /// JSON; without metrics every number is taken under its path.
    Json {
        /// What to take.
        metrics: Vec<JsonMetric>,
        /// In front of names made from paths.
        prefix: String,
    },
    /// Text by regular expressions.
    Pattern(Vec<PatternMetric>),
    /// Lines of key and value.
    KeyValue(KeyValue),
    /// A table.
    Csv(Csv),
    /// A Prometheus page, text 0.0.4 or OpenMetrics.
    Prometheus,
}

impl Reader {
    /// Reads a whole document; at most `limit` samples.
    ///
    /// # Errors
    /// It is not of this format.
    pub fn read(&self, bytes: &[u8], limit: usize) -> Result<Reading, ReadError> {
        let mut out = Builder::new(limit);
        match self {
            Self::Json { metrics, prefix } => {
                let document = Json::parse(bytes)?;
                if metrics.is_empty() {
                    every_number(&document, &mut prefix.clone(), &mut out);
                }
                for metric in metrics {
                    metric.read(&document, &mut out)?;
                }
            }
            Self::Pattern(metrics) => {
                let text = String::from_utf8_lossy(bytes);
                metrics.iter().for_each(|metric| metric.read(&text, &mut out));
            }
            Self::KeyValue(lines) => lines.read(&String::from_utf8_lossy(bytes), &mut out),
            Self::Csv(csv) => csv.read(&String::from_utf8_lossy(bytes), &mut out)?,
            Self::Prometheus => prometheus::read(bytes, &mut out)?,
        }
        Ok(out.finish())
    }
}

/// Every number of a document as a gauge named by its path; items of arrays get the label `index`.
fn every_number(value: &Json<'_>, name: &mut String, out: &mut Builder) {
    fn walk(value: &Json<'_>, name: &mut String, labels: &mut Vec<(String, String)>, out: &mut Builder) {
        match value {
            Json::Whole(_) | Json::Number(_) | Json::Bool(_) => {
                if let Some(number) = value.number() {
                    let kind = if name.ends_with("_total") { Kind::Counter } else { Kind::Gauge };
                    let name = if name.is_empty() { "value" } else { name.as_str() };
                    out.add(name, "", kind, labels.as_slice().into(), number);
                }
            }
            Json::Text(_) | Json::Null => {}
            Json::Map(members) => {
                for (key, value) in members {
                    let length = name.len();
                    if !name.is_empty() && !name.ends_with('_') {
                        name.push('_');
                    }
                    crate::family::normal::push_name(name, key);
                    walk(value, name, labels, out);
                    name.truncate(length);
                }
            }
            Json::List(items) => {
                let label = match labels.len() {
                    0 => "index".to_owned(),
                    deeper => format!("index_{}", deeper + 1),
                };
                for (at, item) in items.iter().enumerate() {
                    labels.push((label.clone(), at.to_string()));
                    walk(item, name, labels, out);
                    labels.pop();
                }
            }
        }
    }
    walk(value, name, &mut Vec::new(), out);
}
