//! Readers of what applications say about themselves: JSON, lines of text, key and value, CSV, Prometheus pages.
//!
//! All of it is pure: bytes in, families out. Every reader is bounded in depth, in the number of values it looks
//! at and in the number of samples it makes, whatever the peer sent. What cannot be read at all is an error that
//! names the line; a single value that is no number is skipped and counted, and the rest is kept.

pub mod builder;
pub mod csv;
pub mod json;
pub mod json_path;
pub mod key_value;
pub mod metric;
pub mod pattern;
pub mod prometheus;
pub mod template;
mod tests;

pub use builder::{Builder, Reading};
pub use metric::{Metric, Reader};

/// A document that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{reason}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct ReadError {
    /// The line of the document, from 1, when known.
    pub line: Option<u64>,
    /// What is wrong.
    pub reason: String,
}

impl ReadError {
    /// An error without a line.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { line: None, reason: reason.into() }
    }

    /// An error at a line, from 1.
    pub fn at(line: u64, reason: impl Into<String>) -> Self {
        Self { line: Some(line), reason: reason.into() }
    }
}

/// A number as applications write it: decimal, exponent, `inf`, `nan`, surrounding blanks, a `%` at the end.
#[must_use]
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let text = text.strip_suffix('%').map_or(text, str::trim_end);
    text.parse().ok()
}

/// At most `limit` characters of a text of the peer, for an error message.
#[must_use]
pub fn shortened(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", text[..end].escape_debug()),
        None => text.escape_debug().to_string(),
    }
}
