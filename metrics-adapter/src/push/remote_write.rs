//! Prometheus remote write: `prometheus.WriteRequest` (1.0) and `io.prometheus.write.v2.Request` (2.0), compressed
//! with Snappy's block format.
//!
//! <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>

use std::collections::HashMap;
use std::time::SystemTime;

use super::batch::{Batch, Encoder, milliseconds};
use super::flatten::{Flatten, SeriesSink};
use super::stale::{self, Memory, STALE};
use crate::exposition::wire::{double, message, signed, spans, text, unsigned, varint, zigzag};
use crate::family::{Histogram, Kind, NativeHistogram, NativeSide, Visitor};

/// What differs between the two versions.
pub(super) trait Version: Default + Send {
    /// The series that follow belong to this family.
    fn family(&mut self, name: &str, help: &str, kind: Kind);
    /// Adds a series: its labels and the encoded sample, which is of one of the fields.
    fn series(&mut self, labels: &[(&str, &str)], sample: &[u8], native: bool);
    /// The request so far, leaving an empty one.
    fn take(&mut self) -> Vec<u8>;
}

/// Encodes rounds of families as requests.
pub(super) struct RemoteWrite<V>(Flatten<Requests<V>>);

impl<V: Version> RemoteWrite<V> {
    /// Requests hold about `batch` samples each.
    pub(super) fn new(external: Vec<(String, String)>, natives: bool, batch: usize) -> Self {
        let requests = Requests {
            version: V::default(),
            memory: Memory::default(),
            time: 0,
            samples: 0,
            batch,
            done: Vec::new(),
            sample: Vec::new(),
        };
        Self(Flatten::new(requests, external, natives))
    }
}

impl<V: Version> Encoder for RemoteWrite<V> {
    fn start(&mut self, now: SystemTime) {
        self.0.sink.time = milliseconds(now);
        self.0.sink.memory.start();
    }

    fn visitor(&mut self) -> &mut dyn Visitor {
        &mut self.0
    }

    fn finish(&mut self) {
        let requests = &mut self.0.sink;
        for key in requests.memory.gone() {
            let labels = stale::labels(&key);
            requests.version.family("", "", Kind::Untyped);
            requests.add_number(&labels, STALE);
        }
        requests.cut();
    }

    fn take(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.0.sink.done)
    }
}

struct Requests<V> {
    version: V,
    memory: Memory,
    /// Milliseconds since 1970.
    time: u64,
    samples: u64,
    batch: usize,
    done: Vec<Batch>,
    sample: Vec<u8>,
}

impl<V: Version> Requests<V> {
    fn add_number(&mut self, labels: &[(&str, &str)], value: f64) {
        self.sample.clear();
        double(&mut self.sample, 1, value);
        unsigned(&mut self.sample, 2, self.time);
        self.version.series(labels, &self.sample, false);
        self.count();
    }

    fn count(&mut self) {
        self.samples += 1;
        if self.samples >= self.batch as u64 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.samples == 0 {
            return;
        }
        let request = self.version.take();
        match snap::raw::Encoder::new().compress_vec(&request) {
            Ok(body) => self.done.push(Batch { body: body.into(), samples: self.samples }),
            // Only for more than 4 GiB.
            Err(error) => tracing::error!(%error, "a request could not be compressed"),
        }
        self.samples = 0;
    }
}

impl<V: Version> SeriesSink for Requests<V> {
    fn family(&mut self, name: &str, help: &str, kind: Kind) {
        self.version.family(name, help, kind);
    }

    fn number(&mut self, labels: &[(&str, &str)], value: f64) {
        self.memory.see(labels.iter().copied());
        self.add_number(labels, value);
    }

    fn native(&mut self, labels: &[(&str, &str)], histogram: &Histogram, native: &NativeHistogram) {
        self.memory.see(labels.iter().copied());
        self.sample.clear();
        write_native(&mut self.sample, histogram, native, self.time);
        self.version.series(labels, &self.sample, true);
        self.count();
    }
}

/// The `Histogram` message, the same in both versions.
fn write_native(out: &mut Vec<u8>, histogram: &Histogram, native: &NativeHistogram, time: u64) {
    unsigned(out, 1, histogram.count);
    double(out, 3, histogram.sum);
    signed(out, 4, i64::from(native.schema));
    double(out, 5, native.zero_threshold);
    unsigned(out, 6, native.zero_count);
    write_side(out, 8, &native.negative);
    write_side(out, 11, &native.positive);
    unsigned(out, 15, time);
}

/// Spans in one field, and in the next the difference of each bucket to the one before.
fn write_side(out: &mut Vec<u8>, field: u32, side: &NativeSide) {
    let (spans, counts) = spans(side);
    let mut part = Vec::with_capacity(12);
    for (offset, length) in spans {
        part.clear();
        signed(&mut part, 1, i64::from(offset));
        unsigned(&mut part, 2, length);
        message(out, field, &part);
    }
    part.clear();
    let mut before = 0_u64;
    for count in counts {
        varint(&mut part, zigzag(count.wrapping_sub(before) as i64));
        before = count;
    }
    if !part.is_empty() {
        message(out, field + 1, &part);
    }
}

/// The number both versions have for a type.
fn type_number(kind: Kind) -> u64 {
    match kind {
        Kind::Untyped => 0,
        Kind::Counter => 1,
        Kind::Gauge => 2,
        Kind::Histogram => 3,
        Kind::Summary => 5,
        Kind::Info => 6,
    }
}

/// Version 1.0: every label written out, metadata beside the series.
#[derive(Debug, Default)]
pub(super) struct One {
    request: Vec<u8>,
    series: Vec<u8>,
    part: Vec<u8>,
}

impl Version for One {
    fn family(&mut self, name: &str, help: &str, kind: Kind) {
        if name.is_empty() {
            return;
        }
        self.part.clear();
        unsigned(&mut self.part, 1, type_number(kind));
        text(&mut self.part, 2, name);
        text(&mut self.part, 4, help);
        message(&mut self.request, 3, &self.part);
    }

    fn series(&mut self, labels: &[(&str, &str)], sample: &[u8], native: bool) {
        self.series.clear();
        for (name, value) in labels {
            self.part.clear();
            text(&mut self.part, 1, name);
            text(&mut self.part, 2, value);
            message(&mut self.series, 1, &self.part);
        }
        message(&mut self.series, if native { 4 } else { 2 }, sample);
        message(&mut self.request, 1, &self.series);
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.request)
    }
}

/// Version 2.0: every text once in a table, metadata with each series.
#[derive(Debug, Default)]
pub(super) struct Two {
    symbols: HashMap<String, u32>,
    /// The table in the order of its numbers, encoded.
    table: Vec<u8>,
    all_series: Vec<u8>,
    series: Vec<u8>,
    part: Vec<u8>,
    kind: u64,
    help: String,
}

impl Two {
    fn symbol(&mut self, symbol: &str) -> u64 {
        if self.symbols.is_empty() && !symbol.is_empty() {
            // The table has to start with the empty text.
            self.symbol("");
        }
        if let Some(number) = self.symbols.get(symbol) {
            return u64::from(*number);
        }
        let number = self.symbols.len() as u32;
        self.symbols.insert(symbol.to_owned(), number);
        text(&mut self.table, 4, symbol);
        u64::from(number)
    }
}

impl Version for Two {
    fn family(&mut self, _: &str, help: &str, kind: Kind) {
        self.kind = type_number(kind);
        help.clone_into(&mut self.help);
    }

    fn series(&mut self, labels: &[(&str, &str)], sample: &[u8], native: bool) {
        let mut references = std::mem::take(&mut self.part);
        references.clear();
        for (name, value) in labels {
            for symbol in [name, value] {
                let number = self.symbol(symbol);
                varint(&mut references, number);
            }
        }
        self.series.clear();
        message(&mut self.series, 1, &references);
        message(&mut self.series, if native { 3 } else { 2 }, sample);
        let help = std::mem::take(&mut self.help);
        let help_number = self.symbol(&help);
        self.help = help;
        references.clear();
        unsigned(&mut references, 1, self.kind);
        unsigned(&mut references, 3, help_number);
        message(&mut self.series, 5, &references);
        self.part = references;
        message(&mut self.all_series, 5, &self.series);
    }

    fn take(&mut self) -> Vec<u8> {
        self.symbols.clear();
        let mut request = std::mem::take(&mut self.table);
        request.append(&mut self.all_series);
        request
    }
}
