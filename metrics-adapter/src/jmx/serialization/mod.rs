//! Reader of the Java Object Serialization Stream Protocol, version 5.
//!
//! Protocol source: chapter 6 of the *Java Object Serialization Specification*. The reader is incremental:
//! it consumes whole tokens from the caller's buffer, keeps its place in an explicit stack (so nesting costs
//! no machine stack) and builds a [`Graph`], an arena that is interpreted afterwards. Every dimension a
//! remote peer could inflate is bounded by [`Limits`].

mod cursor;
mod graph;
mod modified_utf8;
mod reader;
#[cfg(test)]
pub(crate) mod tests;

pub use graph::{Array, Graph, Item, Items, NodeId, Object, Value};
pub use modified_utf8::{decode as decode_modified_utf8, encode as encode_modified_utf8};
pub use reader::{Content, Reader};

use thiserror::Error;

/// Bounds on one serialization stream, which is one reply of the peer.
///
/// ```
/// use metrics_adapter::jmx::{Limits, client::Options};
///
/// let mut options = Options::new("localhost", 9010);
/// options.limits = Limits { bytes: 1 << 20, ..Limits::default() };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one stream. 16 MiB holds the names of about 250,000 MBeans.
    pub bytes: usize,
    /// Nested contents. Each level of an object, array or class hierarchy counts.
    pub depth: usize,
    /// Objects, strings, arrays, enums and class descriptors.
    pub nodes: usize,
    /// Field values, array elements and annotation items.
    pub values: usize,
    /// Bytes of one string in its encoded form.
    pub string_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 16 << 20, depth: 256, nodes: 1_000_000, values: 2_000_000, string_bytes: 1 << 20 }
    }
}

/// Why a stream cannot be read any further.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a serialization stream.
    #[error("malformed serialization stream at byte {offset}: {what}")]
    Malformed {
        /// Bytes consumed before the offending token.
        offset: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The stream is larger than the configured bounds.
    #[error("serialization stream exceeds the limit of {limit} {what}")]
    LimitExceeded {
        /// The limited quantity.
        what: &'static str,
        /// Its bound.
        limit: usize,
    },
    /// The stream holds something that cannot be read without the class itself.
    #[error("cannot read an instance of {class}: {why}")]
    Unsupported {
        /// Java class name.
        class: String,
        /// The reason.
        why: &'static str,
    },
    /// The writer gave up in the middle (`TC_EXCEPTION`); the peer closes the connection after it.
    #[error("the peer could not serialize its reply: {class}: {message}")]
    Aborted {
        /// Java class name of the exception.
        class: String,
        /// Its detail message; for `NotSerializableException` the offending class.
        message: String,
    },
}
