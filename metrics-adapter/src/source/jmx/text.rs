//! Text 0.0.4 as jmx_exporter writes it: numbers in the form of Java's `Double.toString`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::sync::mpsc::Sender;

use super::http::Families;
use crate::exposition::escaped;
use crate::jmx::number::write_double;
use crate::rule::page::SharedFamily;

/// Room for a number and what is around it, and for the two lines above a family: most are shorter.
const NUMBER: usize = 12;
const HEAD: usize = 40;

/// Writes families as one page.
pub(super) fn write<'f>(families: impl Iterator<Item = &'f SharedFamily> + Clone) -> String {
    let size = |family: &SharedFamily| {
        let lines: usize = family.lines().map(|(labels, _)| family.name.len() + labels.len() + NUMBER).sum();
        lines + 2 * family.name.len() + family.help.len() + HEAD
    };
    let mut out = String::with_capacity(families.clone().map(size).sum());
    for family in families {
        head(&mut out, family);
        for (labels, number) in family.lines() {
            line(&mut out, family, labels, number);
        }
    }
    out
}

/// Bytes of a page that are written before they are handed on.
const PIECE: usize = 32 << 10;
/// Room for a piece and the line that makes it full.
const ROOM: usize = PIECE + 1024;
/// Time that a piece may wait for a client that does not read.
const PATIENCE: Duration = Duration::from_secs(30);

/// Writes a page piece by piece; ends early when the client is gone or does not read.
pub(super) async fn send(families: Families, packed: bool, pieces: Sender<Bytes>) {
    let mut sink = Sink { pieces, packer: packed.then(|| GzEncoder::new(Vec::new(), Compression::fast())) };
    let mut out = String::with_capacity(ROOM);
    for family in families.iter() {
        head(&mut out, family);
        for (labels, number) in family.lines() {
            line(&mut out, family, labels, number);
            if out.len() >= PIECE && !sink.send(&mut out, false).await {
                return;
            }
        }
    }
    sink.send(&mut out, true).await;
}

struct Sink {
    pieces: Sender<Bytes>,
    packer: Option<GzEncoder<Vec<u8>>>,
}

impl Sink {
    /// Takes the text. Returns whether to go on.
    async fn send(&mut self, text: &mut String, last: bool) -> bool {
        let piece: Bytes = match &mut self.packer {
            None => std::mem::replace(text, String::with_capacity(if last { 0 } else { ROOM })).into(),
            Some(packer) => {
                // Writing to memory does not fail.
                let written = packer.write_all(text.as_bytes());
                let written = written.and_then(|()| if last { packer.try_finish() } else { Ok(()) });
                text.clear();
                if let Err(error) = written {
                    tracing::warn!(%error, "compressing a page failed");
                    return false;
                }
                std::mem::take(packer.get_mut()).into()
            }
        };
        if piece.is_empty() {
            return true;
        }
        match tokio::time::timeout(PATIENCE, self.pieces.send(piece)).await {
            Ok(sent) => sent.is_ok(),
            Err(_) => {
                tracing::info!("a client did not read the page it asked for");
                false
            }
        }
    }
}

fn head(out: &mut String, family: &SharedFamily) {
    if !family.help.is_empty() {
        let _ = write!(out, "# HELP {} ", family.name);
        escaped(&family.help, false, |part| out.push_str(part));
        out.push('\n');
    }
    let _ = writeln!(out, "# TYPE {} {}", family.name, family.kind.as_text());
}

fn line(out: &mut String, family: &SharedFamily, labels: &str, number: f64) {
    out.push_str(&family.name);
    out.push_str(labels);
    out.push(' ');
    value(out, number);
    out.push('\n');
}

fn value(out: &mut String, number: f64) {
    if number.is_infinite() {
        out.push_str(if number > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        write_double(out, number);
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
            write([&family.into()].into_iter()),
            "# HELP a_total b \\\\ \"c\"\\n\n# TYPE a_total counter\na_total 3.0\n\
             a_total{x=\"q\\\"\\\\\\n\",y=\"\"} 1.5E10\na_total{x=\"nan\"} NaN\na_total{x=\"inf\"} -Inf\n\
             a_total{x=\"zero\"} -0.0\n"
        );
    }
}
