//! Text 0.0.4 as jmx_exporter writes it: numbers in the form of Java's `Double.toString`.

use std::fmt::Write as _;

use crate::jmx::number::write_double;
use crate::rule::page::SharedFamily;

/// Room for a number and what is around it, and for the two lines above a family: most are shorter.
const NUMBER: usize = 12;
const HEAD: usize = 40;

/// Writes families as one page.
pub(super) fn write(families: &[&SharedFamily]) -> String {
    let size = |family: &&SharedFamily| {
        let lines: usize = family.lines().map(|(labels, _)| family.name.len() + labels.len() + NUMBER).sum();
        lines + 2 * family.name.len() + family.help.len() + HEAD
    };
    let mut out = String::with_capacity(families.iter().map(size).sum());
    for family in families {
        if !family.help.is_empty() {
            let _ = write!(out, "# HELP {} ", family.name);
            escape(&mut out, &family.help);
            out.push('\n');
        }
        let _ = writeln!(out, "# TYPE {} {}", family.name, family.kind.as_text());
        for (labels, number) in family.lines() {
            out.push_str(&family.name);
            out.push_str(labels);
            out.push(' ');
            value(&mut out, number);
            out.push('\n');
        }
    }
    out
}

fn value(out: &mut String, number: f64) {
    if number.is_infinite() {
        out.push_str(if number > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        write_double(out, number);
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
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
