//! Writing families as pages: text 0.0.4, OpenMetrics 1.0 and delimited protobuf, chosen by the client.
//!
//! A writer takes families as a [`Visitor`] and gives out bytes in pieces, so a page need not be whole in
//! memory. Series names and label values are the same in every format, so that a client that changes its mind
//! about the format keeps its series.

mod accept;
mod number;
mod open_metrics;
mod protobuf;
mod text;
pub(crate) mod wire;

pub use accept::{Compression, Format};
pub use number::write_float;
pub use open_metrics::OpenMetrics;
pub use protobuf::Protobuf;
pub use text::Text;
pub(crate) use text::escaped;

use crate::family::{Visitor, Walk};

/// Writes one page.
pub trait Writer: Visitor + Send {
    /// What has been written since the last call.
    fn take(&mut self) -> Vec<u8>;
    /// Bytes that [`Writer::take`] would return.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Ends the page; nothing is written after it.
    fn finish(&mut self);
}

impl Format {
    /// A writer for this format.
    #[must_use]
    pub fn writer(self) -> Box<dyn Writer> {
        match self {
            Self::Text => Box::new(Text::default()),
            Self::OpenMetrics => Box::new(OpenMetrics::default()),
            Self::Protobuf => Box::new(Protobuf::default()),
        }
    }
}

/// Gives a boxed writer to code that wants a [`Visitor`].
struct AsVisitor<'a>(&'a mut dyn Writer);

impl Visitor for AsVisitor<'_> {
    fn family(&mut self, name: &str, help: &str, kind: crate::family::Kind) {
        self.0.family(name, help, kind);
    }
    fn sample(&mut self, labels: crate::family::Labels<'_>, value: &crate::family::Value) {
        self.0.sample(labels, value);
    }
}

/// Advances a page until at least `bytes` are ready or it is complete; false when it is complete.
pub fn advance(walk: &mut dyn Walk, writer: &mut dyn Writer, bytes: usize) -> bool {
    while writer.len() < bytes {
        if walk.peek().is_none() {
            writer.finish();
            return false;
        }
        walk.step(&mut AsVisitor(writer));
    }
    true
}

/// A whole page in memory, for small ones and for tests.
#[must_use]
pub fn page(walk: &mut dyn Walk, format: Format) -> Vec<u8> {
    let mut writer = format.writer();
    advance(walk, &mut *writer, usize::MAX);
    writer.take()
}
