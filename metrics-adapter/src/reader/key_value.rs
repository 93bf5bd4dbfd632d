//! Lines of key and value: `key: value`, `key=value`, `key<TAB>value`, `STAT key value`.

use super::Builder;
use super::metric::Metric;
use super::template::Template;
use crate::family::Kind;
use crate::family::normal::push_name;

/// How lines are split, and what is taken.
#[derive(Clone, Debug, Default)]
pub struct KeyValue {
    /// Between key and value; without it the first of `:`, `=`, tab and blank.
    pub separator: Option<String>,
    /// What to take; when empty every number is a gauge named by its key.
    pub metrics: Vec<KeyMetric>,
    /// In front of names made from keys.
    pub prefix: String,
}

/// One entry of `metrics` over keys.
#[derive(Clone, Debug)]
pub struct KeyMetric {
    /// What it is called, and how the value is read.
    pub metric: Metric,
    /// The key, with `*` for any characters; each is a reference, `$1` for the first.
    pub key: String,
    /// Names, and templates over the stars.
    pub labels: Vec<(String, Template)>,
}

impl KeyValue {
    /// Key and value of a line.
    #[must_use]
    pub fn split<'a>(&self, line: &'a str) -> Option<(&'a str, &'a str)> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (key, value) = match &self.separator {
            Some(separator) => line.split_once(separator.as_str())?,
            None => line.split_once([':', '=', '\t', ' '])?,
        };
        Some((key.trim(), value.trim()))
    }

    pub(super) fn read(&self, text: &str, out: &mut Builder) {
        let mut seen = vec![false; self.metrics.len()];
        for (key, value) in text.lines().filter_map(|line| self.split(line)) {
            if self.metrics.is_empty() {
                if let Some(number) = super::number(value) {
                    let mut name = self.prefix.clone();
                    push_name(&mut name, key);
                    let kind = if name.ends_with("_total") { Kind::Counter } else { Kind::Gauge };
                    out.put(&name, "", kind, &[], number);
                }
                continue;
            }
            for (metric, seen) in self.metrics.iter().zip(&mut seen) {
                *seen |= metric.read(key, value, out);
            }
        }
        for (metric, _) in
            self.metrics.iter().zip(seen).filter(|(metric, seen)| !seen && !metric.key.contains('*'))
        {
            out.skip(|| format!("there is no key `{}`", metric.key));
        }
    }
}

impl KeyMetric {
    fn read(&self, key: &str, value: &str, out: &mut Builder) -> bool {
        let Some(stars) = stars(&self.key, key) else { return false };
        let star = |name: &str| stars.get(name.parse::<usize>().ok()?.checked_sub(1)?).copied();
        let name = self.metric.name.expand(star);
        match self.metric.value(value) {
            Some(number) => {
                let labels = self.labels.iter().map(|(name, template)| (name, template.expand(star)));
                out.add(&name, &self.metric.help, self.metric.kind, labels.collect(), number);
            }
            None => out.skip(|| format!("{name}: `{}` is no number", super::shortened(value, 40))),
        }
        true
    }
}

/// What each `*` of the pattern stands for; each takes as little as possible, the last one the rest.
fn stars<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut pieces = pattern.split('*');
    let mut rest = text.strip_prefix(pieces.next()?)?;
    let mut found = Vec::new();
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        let at = match pieces.peek() {
            None => rest.len().checked_sub(piece.len()).filter(|at| rest.get(*at..) == Some(piece))?,
            Some(_) => rest.find(piece)?,
        };
        found.push(&rest[..at]);
        rest = &rest[at + piece.len()..];
    }
    rest.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::stars;

    #[test]
    fn stars_capture() {
        assert_eq!(stars("cmdstat_*", "cmdstat_get"), Some(vec!["get"]));
        assert_eq!(stars("items:*:*", "items:4:number"), Some(vec!["4", "number"]));
        assert_eq!(stars("a", "a"), Some(vec![]));
        assert_eq!(stars("a", "ab"), None);
        assert_eq!(stars("*_x", "é_x"), Some(vec!["é"]));
        assert_eq!(stars("*é", "aé"), Some(vec!["a"]));
        assert_eq!(stars("a*a", "a"), None);
    }
}
