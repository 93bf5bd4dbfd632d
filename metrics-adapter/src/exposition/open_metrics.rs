//! OpenMetrics 1.0.
//!
//! OpenMetrics demands `_total` at the end of every counter sample. Adding it would rename the series of whoever
//! switches from text 0.0.4, so a counter without it is written as `unknown`, under the name it always had.

use super::Writer;
use super::text::{write_help, write_sample, write_type};
use crate::family::{Kind, Labels, Value, Visitor};

/// Writer of OpenMetrics 1.0.
#[derive(Debug, Default)]
pub struct OpenMetrics {
    out: Vec<u8>,
    name: String,
    suffix: &'static str,
    /// Families that were written and are the beginning of the current name, shortest first. Names come in order.
    beginnings: Vec<String>,
}

impl Visitor for OpenMetrics {
    fn family(&mut self, name: &str, help: &str, kind: Kind) {
        while self.beginnings.last().is_some_and(|beginning| !name.starts_with(beginning)) {
            self.beginnings.pop();
        }
        // Beside a family `a`, a counter `a_total` would be a second family of that name.
        let free = |base: &str| !base.is_empty() && !self.beginnings.iter().any(|known| known == base);
        let (base, suffix, kind) = match kind {
            Kind::Counter => match name.strip_suffix("_total") {
                Some(base) if free(base) => (base, "_total", kind),
                _ => (name, "", Kind::Untyped),
            },
            Kind::Info => match name.strip_suffix("_info") {
                Some(base) if free(base) => (base, "_info", kind),
                _ => (name, "", Kind::Gauge),
            },
            _ => (name, "", kind),
        };
        self.beginnings.push(base.to_owned());
        base.clone_into(&mut self.name);
        self.suffix = suffix;
        write_type(&mut self.out, base, kind.as_open_metrics());
        if !help.is_empty() {
            write_help(&mut self.out, base, help, true);
        }
    }

    fn sample(&mut self, labels: Labels<'_>, value: &Value) {
        write_sample(&mut self.out, &self.name, self.suffix, labels, value);
    }
}

impl Writer for OpenMetrics {
    fn take(&mut self) -> Vec<u8> {
        // The next piece will be about as long.
        let room = Vec::with_capacity(self.out.len());
        std::mem::replace(&mut self.out, room)
    }

    fn len(&self) -> usize {
        self.out.len()
    }

    fn finish(&mut self) {
        self.out.extend_from_slice(b"# EOF\n");
    }
}

#[cfg(test)]
mod tests {
    use crate::exposition::{Format, page};
    use crate::family::{Families, Family, Kind};

    #[test]
    fn series_keep_their_names() {
        let families = vec![
            Family::new("a_total", "A \"q\"", Kind::Counter).with(&[], 1.0),
            Family::new("b", "B", Kind::Counter).with(&[], 2.0),
            Family::new("b_c", "", Kind::Gauge).with(&[], 3.0),
            Family::new("b_total", "", Kind::Counter).with(&[], 4.0),
            Family::new("c_info", "C", Kind::Info).with(&[("v", "1")], 1.0),
        ];
        let text = page(&mut Families::sorted(families), Format::OpenMetrics);
        let expected = "# TYPE a counter\n# HELP a A \\\"q\\\"\na_total 1\n\
            # TYPE b unknown\n# HELP b B\nb 2\n# TYPE b_c gauge\nb_c 3\n# TYPE b_total unknown\nb_total 4\n\
            # TYPE c info\n# HELP c C\nc_info{v=\"1\"} 1\n# EOF\n";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
