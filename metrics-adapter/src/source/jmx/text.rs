//! Text 0.0.4 as jmx_exporter writes it: numbers in the form of Java's `Double.toString`.

use std::fmt::Write as _;

use crate::jmx::number::write_double;
use crate::rule::page::SharedFamily;

/// Writes families as one page.
pub(super) fn write(families: &[&SharedFamily]) -> String {
    let samples: usize = families.iter().map(|family| family.samples().len()).sum();
    let mut out = String::with_capacity(samples * 96 + families.len() * 160);
    for family in families {
        if !family.help.is_empty() {
            let _ = write!(out, "# HELP {} ", family.name);
            escape(&mut out, &family.help, false);
            out.push('\n');
        }
        let _ = writeln!(out, "# TYPE {} {}", family.name, family.kind.as_text());
        for (pairs, number) in family.samples() {
            out.push_str(&family.name);
            labels(&mut out, pairs);
            out.push(' ');
            value(&mut out, number);
            out.push('\n');
        }
    }
    out
}

fn labels(out: &mut String, labels: &[(String, String)]) {
    for (index, (name, value)) in labels.iter().enumerate() {
        out.push(if index == 0 { '{' } else { ',' });
        out.push_str(name);
        out.push_str("=\"");
        escape(out, value, true);
        out.push('"');
    }
    if !labels.is_empty() {
        out.push('}');
    }
}

fn value(out: &mut String, number: f64) {
    if number.is_infinite() {
        out.push_str(if number > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        write_double(out, number);
    }
}

fn escape(out: &mut String, text: &str, quotes_too: bool) {
    if !text.contains(['\\', '\n', '"']) {
        return out.push_str(text);
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes_too => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Family, Kind};

    #[test]
    fn as_the_peer_writes_it() {
        let family = Family::new("a_total", "b \\ \"c\"\n", Kind::Counter)
            .with(&[], 3.0)
            .with(&[("x", "q\"\\\n"), ("y", "")], 1.5e10)
            .with(&[("x", "nan")], f64::NAN)
            .with(&[("x", "inf")], f64::NEG_INFINITY)
            .with(&[("x", "zero")], -0.0);
        assert_eq!(
            write(&[&family.into()]),
            "# HELP a_total b \\\\ \"c\"\\n\n# TYPE a_total counter\na_total 3.0\n\
             a_total{x=\"q\\\"\\\\\\n\",y=\"\"} 1.5E10\na_total{x=\"nan\"} NaN\na_total{x=\"inf\"} -Inf\n\
             a_total{x=\"zero\"} -0.0\n"
        );
    }
}
