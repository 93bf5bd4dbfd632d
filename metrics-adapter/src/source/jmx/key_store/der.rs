//! As much of DER as key stores need, and the public key that ring misses in Java's EC keys.

/// Splits a value with this tag off: what follows it, and its content.
pub(super) fn split(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let width = usize::from(first & 0x7F);
        let (digits, rest) = rest.split_at_checked(width).filter(|_| width <= 4)?;
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    let (content, after) = rest.split_at_checked(length)?;
    Some((after, content))
}

pub(super) fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..=0x7F => out.push(length as u8),
        0x80..=0xFF => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// `1.2.840.10045.2.1`, ecPublicKey.
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];

/// Java writes EC keys (RFC 5915 inside PKCS #8) without the optional public key, and ring insists on it.
/// Adds the one of the certificate's `SubjectPublicKeyInfo`; `None` when there is nothing to add.
pub(super) fn with_public_key(pkcs8: &[u8], spki: &[u8]) -> Option<Vec<u8>> {
    let (_, info) = split(pkcs8, 0x30)?;
    let (after_version, version) = split(info, 0x02)?;
    let (after_algorithm, algorithm) = split(after_version, 0x30)?;
    if !algorithm.starts_with(EC_PUBLIC_KEY) {
        return None;
    }
    let (_, key) = split(after_algorithm, 0x04)?;
    let (_, fields) = split(key, 0x30)?;
    let (after_one, _) = split(fields, 0x02)?;
    let (mut optional, _) = split(after_one, 0x04)?;
    if let Some((rest, _)) = split(optional, 0xA0) {
        optional = rest;
    }
    if split(optional, 0xA1).is_some() {
        return None;
    }
    let required =
        &fields[..fields.len() - after_one.len() + (after_one.len() - split(after_one, 0x04)?.0.len())];
    let (_, spki) = split(spki, 0x30)?;
    let (bits, _) = split(spki, 0x30)?;
    let (_, public) = split(bits, 0x03)?;
    let key = wrap(0x30, &[required, &wrap(0xA1, &wrap(0x03, public))].concat());
    Some(wrap(0x30, &[wrap(0x02, version), wrap(0x30, algorithm), wrap(0x04, &key)].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_never_panics(a in any::<Vec<u8>>(), b in any::<Vec<u8>>()) {
            let _ = with_public_key(&a, &b);
            let _ = with_public_key(&wrap(0x30, &a), &wrap(0x30, &b));
        }

        #[test]
        fn what_is_wrapped_is_split(content in prop::collection::vec(any::<u8>(), 0..400)) {
            let wrapped = wrap(0x04, &content);
            prop_assert_eq!(split(&wrapped, 0x04), Some((&[][..], &content[..])));
        }
    }
}
