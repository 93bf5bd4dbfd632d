//! Pages of other exporters: text 0.0.4 and OpenMetrics 1.0.
//!
//! Timestamps and exemplars are dropped: what is on our page is from now.

use std::borrow::Cow;
use std::collections::HashMap as Map;

use foldhash::fast::RandomState;

use super::{Builder, ReadError};
use crate::family::{Histogram, Kind, PackedLabels, Sample, Summary, Value};

type HashMap<K, V> = Map<K, V, RandomState>;

/// Labels of one sample.
const MAX_LABELS: usize = 128;

/// What `# TYPE` and `# HELP` said about a name.
#[derive(Debug, Default)]
struct Head {
    kind: Option<Kind>,
    help: String,
}

/// Reads a page.
///
/// # Errors
/// A line that is neither a comment nor a sample.
pub fn read(bytes: &[u8], out: &mut Builder) -> Result<(), ReadError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = memchr::memchr_iter(b'\n', &bytes[..error.valid_up_to()]).count() as u64 + 1;
        ReadError::at(line, "not UTF-8")
    })?;
    let mut page = Page::default();
    let mut labels = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let wrong = |reason: String| ReadError::at(at as u64 + 1, reason);
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() {
            continue;
        }
        if let Some(comment) = line.strip_prefix('#') {
            if comment.trim() == "EOF" {
                break;
            }
            page.comment(comment.trim_start());
            continue;
        }
        let sample = sample(line, &mut labels).map_err(wrong)?;
        page.sample(&sample, &mut labels, out);
    }
    page.finish(out);
    Ok(())
}

struct Line<'a> {
    name: &'a str,
    value: f64,
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// Histograms and summaries come in several lines; they are put together here.
#[derive(Debug, Default)]
struct Page<'a> {
    heads: HashMap<&'a str, Head>,
    /// The last sample's family, where that is one of plain numbers: most samples have the name of the one before.
    plain: Option<(&'a str, Kind)>,
    /// The family of several lines, and its series by labels.
    composed: Vec<Composed>,
    index: HashMap<String, usize>,
}

#[derive(Debug)]
struct Composed {
    name: String,
    kind: Kind,
    samples: Vec<Sample>,
    series: HashMap<PackedLabels, usize>,
}

impl<'a> Page<'a> {
    fn comment(&mut self, comment: &'a str) {
        self.plain = None;
        let mut words = comment.splitn(3, [' ', '\t']);
        let (word, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let rest = words.next().unwrap_or_default().trim();
        match word {
            "HELP" => self.heads.entry(name).or_default().help = unescape(rest),
            "TYPE" => {
                let kind = match rest {
                    "counter" => Kind::Counter,
                    "gauge" | "stateset" => Kind::Gauge,
                    "histogram" => Kind::Histogram,
                    "summary" => Kind::Summary,
                    "info" => Kind::Info,
                    _ => Kind::Untyped,
                };
                self.heads.entry(name).or_default().kind.get_or_insert(kind);
            }
            _ => {}
        }
    }

    fn sample(&mut self, line: &Line<'a>, labels: &mut Labels<'a>, out: &mut Builder) {
        if let Some((_, kind)) = self.plain.filter(|(name, _)| *name == line.name) {
            return out.add(line.name, "", kind, packed(labels), line.value);
        }
        // In OpenMetrics `# TYPE` names the family without the suffix of its samples.
        let known = |suffix: &'static str, kinds: &[Kind]| {
            let base = line.name.strip_suffix(suffix)?;
            let kind = self.heads.get(base)?.kind.filter(|kind| kinds.contains(kind))?;
            Some((base, kind, suffix))
        };
        let exact = self.heads.get(line.name).and_then(|head| head.kind);
        let composed = match exact {
            Some(kind @ (Kind::Summary | Kind::Histogram)) => Some((line.name, kind, "")),
            Some(_) => None,
            None => known("_bucket", &[Kind::Histogram])
                .or_else(|| known("_sum", &[Kind::Histogram, Kind::Summary]))
                .or_else(|| known("_count", &[Kind::Histogram, Kind::Summary])),
        };
        if let Some((base, kind, suffix)) = composed {
            return self.compose(base, kind, suffix, line, labels, out);
        }
        let (base, kind) = match exact {
            Some(kind) => (line.name, kind),
            None if known("_created", &[Kind::Counter, Kind::Histogram, Kind::Summary]).is_some() => return,
            None => {
                let base = known("_total", &[Kind::Counter]).or_else(|| known("_info", &[Kind::Info]));
                base.map_or((line.name, Kind::Untyped), |(base, kind, _)| (base, kind))
            }
        };
        let help = self.heads.get(base).map_or("", |head| head.help.as_str());
        out.add(line.name, help, kind, packed(labels), line.value);
        self.plain = Some((line.name, kind));
    }

    fn compose(
        &mut self,
        base: &str,
        kind: Kind,
        suffix: &str,
        line: &Line<'_>,
        labels: &mut Labels<'_>,
        out: &mut Builder,
    ) {
        let own = match (kind, suffix) {
            (Kind::Histogram, "_bucket") => "le",
            (Kind::Summary, "") => "quantile",
            _ => "",
        };
        let bound = labels.iter().position(|(name, _)| *name == own).map(|at| labels.remove(at).1);
        labels.sort_unstable();
        let labels = packed(labels);
        let at = match self.index.get(base) {
            Some(at) => *at,
            None => {
                let (samples, series) = (Vec::new(), HashMap::default());
                self.composed.push(Composed { name: base.to_owned(), kind, samples, series });
                self.index.insert(base.to_owned(), self.composed.len() - 1);
                self.composed.len() - 1
            }
        };
        let family = &mut self.composed[at];
        let at = match family.series.get(&labels) {
            Some(at) => *at,
            None => {
                let value = match kind {
                    Kind::Summary => Value::Summary(Summary::default()),
                    _ => Value::Histogram(Histogram::default()),
                };
                family.series.insert(labels.clone(), family.samples.len());
                family.samples.push(Sample { labels, value });
                family.samples.len() - 1
            }
        };
        let bound = bound.as_deref().and_then(super::number);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "counts; a cast saturates"
        )]
        let count = line.value as u64;
        match (&mut family.samples[at].value, suffix, bound) {
            (Value::Histogram(histogram), "_bucket", Some(bound)) => {
                if bound == f64::INFINITY {
                    histogram.count = count;
                } else {
                    histogram.buckets.push((bound, count));
                }
            }
            (Value::Summary(summary), "", Some(quantile)) => summary.quantiles.push((quantile, line.value)),
            (Value::Histogram(Histogram { sum, .. }) | Value::Summary(Summary { sum, .. }), "_sum", _) => {
                *sum = line.value;
            }
            (
                Value::Histogram(Histogram { count: known, .. })
                | Value::Summary(Summary { count: known, .. }),
                "_count",
                _,
            ) => {
                *known = count;
            }
            _ => out.skip(|| format!("`{}` is no part of a {kind}", super::shortened(line.name, 80))),
        }
    }

    fn finish(self, out: &mut Builder) {
        for family in self.composed {
            let help = self.heads.get(family.name.as_str()).map_or("", |head| head.help.as_str());
            for mut sample in family.samples {
                match &mut sample.value {
                    Value::Histogram(histogram) => histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0)),
                    Value::Summary(summary) => summary.quantiles.sort_by(|a, b| a.0.total_cmp(&b.0)),
                    Value::Number(_) => {}
                }
                out.add_value(&family.name, help, family.kind, sample.labels, sample.value);
            }
        }
    }
}

fn packed(labels: &Labels<'_>) -> PackedLabels {
    PackedLabels::new(labels.iter().map(|(name, value)| (*name, &**value)))
}

fn sample<'a>(line: &'a str, labels: &mut Labels<'a>) -> Result<Line<'a>, String> {
    let wrong = |what: &str| format!("{what} in `{}`", super::shortened(line, 80));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = line.find(|c| !is_name(c)).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(wrong("no metric name"));
    }
    labels.clear();
    if let Some(inner) = rest.trim_start().strip_prefix('{') {
        rest = inner;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.split_once('=').ok_or_else(|| wrong("a label without value"))?;
            let after =
                after.trim_start().strip_prefix('"').ok_or_else(|| wrong("a label value without quotes"))?;
            let (value, after) = quoted(after).ok_or_else(|| wrong("a label value without end"))?;
            if labels.len() >= MAX_LABELS {
                return Err(wrong("too many labels"));
            }
            labels.push((label.trim(), value));
            rest = after;
        }
    }
    // What follows the value is a timestamp or an exemplar.
    let value = rest.split_ascii_whitespace().next().ok_or_else(|| wrong("no value"))?;
    let value = value.parse().map_err(|_| wrong("a value that is no number"))?;
    Ok(Line { name, value })
}

/// The text up to the closing quote without escapes, and what follows.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = memchr::memchr2(b'"', b'\\', text.as_bytes())?;
    if text.as_bytes()[end] == b'"' {
        return Some((text[..end].into(), &text[end + 1..]));
    }
    let mut value = text[..end].to_owned();
    let mut characters = text[end..].char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value.into(), &text[end + at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                c @ ('"' | '\\') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
    None
}

fn unescape(text: &str) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, characters.clone().next()) {
            ('\\', Some(next @ ('n' | '\\' | '"'))) => {
                characters.next();
                out.push(if next == 'n' { '\n' } else { next });
            }
            _ => out.push(c),
        }
    }
    out
}
