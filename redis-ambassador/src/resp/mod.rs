//! RESP2 and RESP3 frames, found and never rebuilt.
//!
//! Both directions are decoded the same way: a framer looks at the bytes that have arrived, remembers how far it
//! has got, and reports where the next frame ends. The bytes themselves are forwarded as they came. Nothing is
//! allocated per frame, nothing is scanned twice, and every length a peer may claim has a bound.
//!
//! Protocol source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

mod inline;
mod integer;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use inline::{UnbalancedQuotes, inline_to_multibulk};
pub use reply::{Chunk, MAX_LINE, MAX_STREAMED_DEPTH, ReplyError, ReplyFramer};
pub use request::{Arg, ProtocolError, RequestFramer, RequestLimits, Step};

/// Appends `items` to `out` as one multibulk request.
pub fn write_multibulk<'a>(out: &mut Vec<u8>, items: impl ExactSizeIterator<Item = &'a [u8]>) {
    out.push(b'*');
    integer::write_decimal(out, items.len() as u64);
    out.extend_from_slice(b"\r\n");
    for item in items {
        out.push(b'$');
        integer::write_decimal(out, item.len() as u64);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(item);
        out.extend_from_slice(b"\r\n");
    }
}

/// Parses a decimal argument the way Redis does: no sign but `-`, no leading zero, nothing else around it.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    integer::parse(text)
}
