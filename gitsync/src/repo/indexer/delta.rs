//! Differences between objects (`gitformat-pack`, "deltified representation"). Pure.

use super::{MAX_DELTA_OBJECT, RepoError, bad};

/// Builds an object from its base and a difference; `out` is emptied first.
///
/// # Errors
/// When the difference doesn't fit the base, or makes more or less than it says.
pub(super) fn apply(base: &[u8], delta: &[u8], out: &mut Vec<u8>) -> Result<(), RepoError> {
    let mut input = delta;
    let base_size = size(&mut input)?;
    let result_size = size(&mut input)?;
    if base_size != base.len() as u64 {
        return Err(bad("a difference to another object than its base"));
    }
    if result_size > MAX_DELTA_OBJECT {
        return Err(RepoError::TooMuch { what: "bytes in one object", limit: 1 << 30 });
    }
    let wanted = usize::try_from(result_size).map_err(|_| bad("an object too large for this machine"))?;
    out.clear();
    out.reserve_exact(wanted);
    while let Some((&first, rest)) = input.split_first() {
        input = rest;
        let piece = if first & 0x80 != 0 {
            let offset = field(&mut input, first, 4)?;
            let length = match field(&mut input, first >> 4, 3)? {
                0 => 0x1_0000,
                length => length,
            };
            base.get(offset..)
                .and_then(|from| from.get(..length))
                .ok_or_else(|| bad("a copy from outside its base"))?
        } else {
            // Zero is reserved.
            let length = usize::from(first);
            let piece =
                input.get(..length).filter(|_| length > 0).ok_or_else(|| bad("a broken difference"))?;
            input = &input[length..];
            piece
        };
        if out.len() + piece.len() > wanted {
            return Err(bad("a difference that makes more than it says"));
        }
        out.extend_from_slice(piece);
    }
    if out.len() == wanted { Ok(()) } else { Err(bad("a difference that makes less than it says")) }
}

/// Seven bits a byte, the low ones first.
fn size(input: &mut &[u8]) -> Result<u64, RepoError> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first().ok_or_else(|| bad("a difference without sizes"))?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(bad("a difference with an endless size"))
}

/// A number of which only the bytes named in `which` are written.
fn field(input: &mut &[u8], which: u8, bytes: u32) -> Result<usize, RepoError> {
    let mut value = 0;
    for nth in 0..bytes {
        if which & (1 << nth) != 0 {
            let (&byte, rest) = input.split_first().ok_or_else(|| bad("a broken difference"))?;
            *input = rest;
            value |= usize::from(byte) << (8 * nth);
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(base: &[u8], delta: &[u8]) -> Result<Vec<u8>, RepoError> {
        let mut out = Vec::new();
        apply(base, delta, &mut out).map(|()| out)
    }

    #[test]
    fn copies_and_inserts() {
        let delta = [10, 8, 0x91, 2, 5, 3, b'x', b'y', b'z'];
        assert_eq!(made(b"0123456789", &delta).unwrap(), b"23456xyz");
        // A length of zero means 64 KiB.
        let base = vec![7; 0x1_0000];
        assert_eq!(made(&base, &[0x80, 0x80, 4, 0x80, 0x80, 4, 0x80]).unwrap(), base);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for delta in [
            &[][..],
            &[9, 1, 0x90, 1],
            &[10, 1, 0x91, 10, 1],
            &[10, 2, 0x90, 1],
            &[10, 1, 0x90, 2],
            &[10, 1, 0],
            &[10, 1, 0x91],
            &[10, 5, 5, b'a'],
            &[10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x90, 1],
            &[0xff; 12],
        ] {
            assert!(made(b"0123456789", delta).is_err(), "{delta:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(base in prop::collection::vec(any::<u8>(), 0..40), delta in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = made(&base, &delta);
            let sized: Vec<u8> = [base.len() as u8, 20].into_iter().chain(delta).collect();
            let _ = made(&base, &sized);
        }
    }
}
