//! Java's modified UTF-8 (`java.io.DataInput`): NUL takes two bytes, and characters beyond the basic plane
//! are two surrogates of three bytes each.

/// Appends the decoded text to `out`. Lone surrogates become U+FFFD, as no Rust string can hold them.
///
/// # Errors
/// `Err(())` when the bytes follow no form of the encoding; `out` may have grown by then.
#[expect(
    clippy::result_unit_err,
    reason = "the caller knows the position and the field, this function does not"
)]
pub fn decode(bytes: &[u8], out: &mut String) -> Result<(), ()> {
    if bytes.is_ascii() {
        out.push_str(std::str::from_utf8(bytes).map_err(|_| ())?);
        return Ok(());
    }
    let mut units = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((unit, used)) = code_unit(rest) {
        units.push(unit);
        rest = &rest[used..];
    }
    if !rest.is_empty() {
        return Err(());
    }
    out.extend(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)));
    Ok(())
}

/// The first UTF-16 code unit and the bytes it took.
fn code_unit(bytes: &[u8]) -> Option<(u16, usize)> {
    let continuation =
        |index: usize| bytes.get(index).filter(|b| *b & 0xC0 == 0x80).map(|b| u16::from(b & 0x3F));
    let first = *bytes.first()?;
    match first {
        0x00..=0x7F => Some((u16::from(first), 1)),
        0xC0..=0xDF => Some((u16::from(first & 0x1F) << 6 | continuation(1)?, 2)),
        0xE0..=0xEF => Some((u16::from(first & 0x0F) << 12 | continuation(1)? << 6 | continuation(2)?, 3)),
        _ => None,
    }
}

/// Appends the encoded form of `text` to `out`, without a length.
pub fn encode(text: &str, out: &mut Vec<u8>) {
    if text.is_ascii() && !text.as_bytes().contains(&0) {
        return out.extend_from_slice(text.as_bytes());
    }
    for unit in text.encode_utf16() {
        match unit {
            0x01..=0x7F => out.push(unit as u8),
            0x00 | 0x80..=0x7FF => out.extend([0xC0 | (unit >> 6) as u8, 0x80 | (unit & 0x3F) as u8]),
            _ => out.extend([
                0xE0 | (unit >> 12) as u8,
                0x80 | (unit >> 6 & 0x3F) as u8,
                0x80 | (unit & 0x3F) as u8,
            ]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(text in any::<String>()) {
            let mut bytes = Vec::new();
            encode(&text, &mut bytes);
            prop_assert!(!bytes.contains(&0));
            let mut back = String::new();
            decode(&bytes, &mut back).unwrap();
            prop_assert_eq!(back, text);
        }

        #[test]
        fn garbage_never_panics(bytes in any::<Vec<u8>>()) {
            let _ = decode(&bytes, &mut String::new());
        }
    }

    #[test]
    fn surrogates_and_nul() {
        let mut bytes = Vec::new();
        encode("\0😀", &mut bytes);
        assert_eq!(bytes, [0xC0, 0x80, 0xED, 0xA0, 0xBD, 0xED, 0xB8, 0x80]);
        let mut text = String::new();
        decode(&[0xED, 0xA0, 0xBD], &mut text).unwrap();
        assert_eq!(text, "\u{FFFD}");
        assert!(decode(&[0xE0, 0x80], &mut text).is_err());
    }
}
