//! The pkt-line framing (`gitprotocol-common`): four hexadecimal digits of length, then data.

use bytes::{Buf, Bytes, BytesMut};

use super::{ProtocolError, excerpt};

/// The longest packet there is, its four length digits included.
const MAX_PACKET: usize = 65_520;

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// `0000`: the end of a message.
    Flush,
    /// `0001`: the end of a section (version 2).
    Delim,
    /// `0002`: the end of an answer (version 2, stateless).
    ResponseEnd,
    /// Anything longer: its payload.
    Data(Bytes),
}

/// Cuts a byte stream into packets. Holds at most what was pushed and not yet taken.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Adds bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the length digits are no length. The stream can't be read on after that.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, ProtocolError> {
        let Some(digits) = self.buffer.get(..4) else { return Ok(None) };
        let length = parse_length(digits)?;
        let packet = match length {
            0 => Packet::Flush,
            1 => Packet::Delim,
            2 => Packet::ResponseEnd,
            3 => return Err(ProtocolError::BadLength(excerpt(digits))),
            _ => {
                if self.buffer.len() < length {
                    return Ok(None);
                }
                self.buffer.advance(4);
                return Ok(Some(Packet::Data(self.buffer.split_to(length - 4).freeze())));
            }
        };
        self.buffer.advance(4);
        Ok(Some(packet))
    }

    /// True when no byte waits for the rest of its packet.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }
}

fn parse_length(digits: &[u8]) -> Result<usize, ProtocolError> {
    let bad = || ProtocolError::BadLength(excerpt(digits));
    let length = digits.iter().try_fold(0usize, |length, &digit| {
        let value = char::from(digit).to_digit(16).ok_or_else(bad)?;
        Ok(length * 16 + value as usize)
    })?;
    if length > MAX_PACKET { Err(bad()) } else { Ok(length) }
}

/// Appends one data packet.
///
/// # Panics
/// When `data` is longer than a packet can be: callers write short lines only.
pub fn encode_data(out: &mut Vec<u8>, data: &[u8]) {
    assert!(data.len() <= MAX_PACKET - 4, "a request line of {} bytes", data.len());
    out.extend_from_slice(format!("{:04x}", data.len() + 4).as_bytes());
    out.extend_from_slice(data);
}

/// Appends a flush packet.
pub fn encode_flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0000");
}

/// Appends a delimiter packet.
pub fn encode_delim(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0001");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_all(chunks: &[&[u8]]) -> Result<Vec<Packet>, ProtocolError> {
        let mut decoder = Decoder::default();
        let mut packets = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(packet) = decoder.next_packet()? {
                packets.push(packet);
            }
        }
        Ok(packets)
    }

    #[test]
    fn special_packets() {
        let packets = decode_all(&[b"00000001000200040005a"]).unwrap();
        assert_eq!(
            packets,
            [
                Packet::Flush,
                Packet::Delim,
                Packet::ResponseEnd,
                Packet::Data(Bytes::new()),
                Packet::Data(Bytes::from_static(b"a"))
            ]
        );
    }

    #[test]
    fn impossible_lengths() {
        for bad in [&b"0003"[..], b"fff1", b"zzzz", b"<htm", b"-001"] {
            assert!(decode_all(&[bad]).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut wire = Vec::new();
            for payload in &payloads {
                encode_data(&mut wire, payload);
                encode_flush(&mut wire);
            }
            let whole = decode_all(&[&wire]).unwrap();
            let at = cut.index(wire.len() + 1);
            prop_assert_eq!(&decode_all(&[&wire[..at], &wire[at..]]).unwrap(), &whole);
            let bytewise: Vec<&[u8]> = wire.chunks(1).collect();
            prop_assert_eq!(decode_all(&bytewise).unwrap(), whole);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_all(&[&bytes]);
        }
    }
}
