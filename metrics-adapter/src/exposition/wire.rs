//! The wire format of Protocol Buffers, as far as it is written here.

use crate::family::NativeSide;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;

/// Seven bits at a time, the lowest first.
pub(crate) fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn key(out: &mut Vec<u8>, field: u32, wire: u32) {
    varint(out, u64::from(field << 3 | wire));
}

/// `uint32`, `uint64`, `int64` that is not negative, enumerations, booleans.
pub(crate) fn unsigned(out: &mut Vec<u8>, field: u32, number: u64) {
    key(out, field, VARINT);
    varint(out, number);
}

/// `sint32` and `sint64`: zigzag.
pub(crate) fn signed(out: &mut Vec<u8>, field: u32, number: i64) {
    key(out, field, VARINT);
    varint(out, zigzag(number));
}

/// `double`.
pub(crate) fn double(out: &mut Vec<u8>, field: u32, number: f64) {
    key(out, field, FIXED64);
    out.extend_from_slice(&number.to_le_bytes());
}

/// A message, `string`, `bytes` or packed numbers.
pub(crate) fn message(out: &mut Vec<u8>, field: u32, content: &[u8]) {
    key(out, field, BYTES);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// `string`.
pub(crate) fn text(out: &mut Vec<u8>, field: u32, content: &str) {
    message(out, field, content.as_bytes());
}

/// `fixed64`.
pub(crate) fn fixed(out: &mut Vec<u8>, field: u32, number: u64) {
    key(out, field, FIXED64);
    out.extend_from_slice(&number.to_le_bytes());
}

/// The zigzag form of a signed number, for packed `sint64`.
pub(crate) fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

/// Gaps up to this wide are filled with empty buckets rather than starting a new span.
const FILLED_GAP: i32 = 2;

/// Buckets as spans (offset from the end of the one before, length) and a count for every bucket in them.
pub(crate) fn spans(side: &NativeSide) -> (Vec<(i32, u64)>, Vec<u64>) {
    let mut spans: Vec<(i32, u64)> = Vec::new();
    let mut counts: Vec<u64> = Vec::with_capacity(side.len());
    let mut next = 0;
    for &(index, count) in side {
        let gap = index - next;
        match spans.last_mut() {
            Some(span) if gap <= FILLED_GAP => {
                counts.extend((0..gap).map(|_| 0));
                span.1 += gap as u64 + 1;
            }
            _ => spans.push((gap, 1)),
        }
        counts.push(count);
        next = index + 1;
    }
    (spans, counts)
}
