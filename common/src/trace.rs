//! Optional traces: what was done, when, and how long it took, for a collector that speaks OTLP over HTTP in JSON
//! (opentelemetry.io, "OTLP Specification" 1.x, "OTLP/HTTP").
//!
//! Nothing is measured or sent until [`start`] (the binaries: `OTEL_EXPORTER_OTLP_ENDPOINT`) says where to. A [`Span`] costs
//! one atomic load then. Otherwise it is sent when it is dropped, through a queue that is bounded: what doesn't fit,
//! and what no collector takes, is dropped and counted, and nobody ever waits for it.

mod export;
mod settings;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

pub use export::Counts;
use export::Exporter;
pub use settings::{Refused, TraceSettings};

/// More attributes of one span than this are left out.
const MAX_ATTRIBUTES: usize = 32;
/// Longer texts are cut, in bytes.
const MAX_TEXT: usize = 1024;

static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// Begins to send the spans of this process. A second call changes nothing.
///
/// # Errors
/// When no thread can be started.
pub fn start(settings: TraceSettings) -> std::io::Result<()> {
    if EXPORTER.get().is_none() {
        let _ = EXPORTER.set(Exporter::start(settings)?);
    }
    Ok(())
}

/// Sends what has ended so far; waits at most `limit` for it. For the end of a process.
pub fn flush(limit: Duration) {
    if let Some(exporter) = EXPORTER.get() {
        exporter.flush(limit);
    }
}

/// What was sent and what was dropped; `None` when nothing is traced.
#[must_use]
pub fn counts() -> Option<Counts> {
    EXPORTER.get().map(Exporter::counts)
}

/// Something that is being done. It ends when it is dropped.
#[derive(Debug, Default)]
pub struct Span(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    name: &'static str,
    trace: [u64; 2],
    id: u64,
    /// 0: nothing.
    parent: u64,
    from_outside: bool,
    start: SystemTime,
    began: Instant,
    attributes: Vec<(&'static str, Value)>,
    error: Option<String>,
}

impl Span {
    /// Begins a span that is part of no other: a trace of its own.
    #[must_use]
    pub fn start(name: &'static str) -> Self {
        Self::begin(name, false, || ([random(), random()], 0))
    }

    /// The same for work that somebody else asked for.
    #[must_use]
    pub fn serve(name: &'static str) -> Self {
        Self::begin(name, true, || ([random(), random()], 0))
    }

    /// Begins a part of this one.
    #[must_use]
    pub fn child(&self, name: &'static str) -> Self {
        match &self.0 {
            Some(open) => Self::begin(name, false, || (open.trace, open.id)),
            None => Self(None),
        }
    }

    /// Something that took `duration` and ends now.
    pub fn record(name: &'static str, duration: Duration, fill: impl FnOnce(&mut Self)) {
        let mut span = Self::start(name);
        if let Some(open) = &mut span.0 {
            open.start = open.start.checked_sub(duration).unwrap_or(open.start);
            open.began = open.began.checked_sub(duration).unwrap_or(open.began);
            fill(&mut span);
        }
    }

    fn begin(name: &'static str, from_outside: bool, place: impl FnOnce() -> ([u64; 2], u64)) -> Self {
        if EXPORTER.get().is_none() {
            return Self(None);
        }
        let (trace, parent) = place();
        let (start, began) = (SystemTime::now(), Instant::now());
        let (attributes, error) = (Vec::new(), None);
        Self(Some(Box::new(Open {
            name,
            trace,
            id: random(),
            parent,
            from_outside,
            start,
            began,
            attributes,
            error,
        })))
    }

    /// Whether anybody will see it: when not, what costs work to find out need not be found out.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Adds a fact. Secrets are the caller's to leave out.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(open) = self.0.as_mut().filter(|open| open.attributes.len() < MAX_ATTRIBUTES) {
            open.attributes.push((key, value.into()));
        }
    }

    /// Marks it as failed, with the reason.
    pub fn fail(&mut self, reason: impl std::fmt::Display) {
        if let Some(open) = &mut self.0 {
            open.error = Some(cut(reason.to_string()));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let (Some(open), Some(exporter)) = (self.0.take(), EXPORTER.get()) {
            exporter.take(open.finish());
        }
    }
}

impl Open {
    /// As the protocol wants it (`opentelemetry/proto/trace/v1/trace.proto` in its JSON mapping).
    fn finish(self) -> Value {
        let start = self.start.duration_since(UNIX_EPOCH).unwrap_or_default();
        let attributes: Vec<Value> =
            self.attributes.into_iter().map(|(key, value)| attribute(key, value)).collect();
        let mut span = json!({
            "traceId": format!("{:016x}{:016x}", self.trace[0], self.trace[1]),
            "spanId": format!("{:016x}", self.id),
            "name": self.name,
            "kind": if self.from_outside { 2 } else { 1 },
            "startTimeUnixNano": start.as_nanos().to_string(),
            "endTimeUnixNano": (start + self.began.elapsed()).as_nanos().to_string(),
            "attributes": attributes,
        });
        if self.parent != 0 {
            span["parentSpanId"] = format!("{:016x}", self.parent).into();
        }
        if let Some(reason) = self.error {
            span["status"] = json!({"code": 2, "message": reason});
        }
        span
    }
}

/// A key with its value, in the protocol's words.
fn attribute(key: &str, value: Value) -> Value {
    let value = match value {
        Value::Bool(is) => json!({"boolValue": is}),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            json!({"intValue": number.to_string()})
        }
        Value::Number(number) => json!({"doubleValue": number}),
        Value::String(text) => json!({"stringValue": cut(text)}),
        other => json!({"stringValue": cut(other.to_string())}),
    };
    json!({"key": key, "value": value})
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// Unpredictable enough for names that only have to differ. Never 0, which means "none".
fn random() -> u64 {
    RandomState::new().hash_one(0_u8).max(1)
}

#[cfg(test)]
mod tests;
