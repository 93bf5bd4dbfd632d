//! Numbers as StatsD clients write them and as Go's `strconv.ParseFloat` reads them.
//!
//! Decimal and hexadecimal floats (`0x1.8p1`), `inf`, `infinity` and `nan` in any case, and underscores between
//! digits.

/// A text that is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not the syntax of a number.
    #[error("not a number")]
    Syntax,
    /// A number beyond the range of 64-bit floats.
    #[error("number out of range")]
    Range,
}

/// Reads a whole text as a 64-bit float, correctly rounded.
///
/// # Errors
/// On any other text, and on finite numbers too large for the type.
pub fn parse_float(text: &[u8]) -> Result<f64, NumberError> {
    match plain_decimal(text) {
        Some(value) => Ok(value),
        None => any_float(text),
    }
}

/// 10^0 to 10^22, the powers of ten that a 64-bit float holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// The usual form: sign, digits, perhaps a fraction, few enough digits that one division rounds correctly.
fn plain_decimal(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut mantissa = 0_u64;
    let mut point = None;
    for (at, &byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = mantissa * 10 + u64::from(byte - b'0'),
            b'.' if point.is_none() => point = Some(at),
            _ => return None,
        }
    }
    if mantissa >= 1 << 53 || (digits.len() == 1 && point.is_some()) {
        return None;
    }
    let fraction_digits = point.map_or(0, |at| digits.len() - at - 1);
    // Both operands are exact, so the quotient is the correctly rounded value (Clinger's fast path).
    let value = mantissa as f64 / EXACT_POWERS[fraction_digits];
    Some(if negative { -value } else { value })
}

fn any_float(text: &[u8]) -> Result<f64, NumberError> {
    let text = std::str::from_utf8(text).map_err(|_| NumberError::Syntax)?;
    let (negative, body) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let signed = |value: f64| if negative { -value } else { value };
    if body.eq_ignore_ascii_case("inf") || body.eq_ignore_ascii_case("infinity") {
        return Ok(signed(f64::INFINITY));
    }
    if text.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    if !body.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(NumberError::Syntax);
    }
    let without_separators;
    let body = if body.contains('_') {
        if !separators_fit(body.as_bytes()) {
            return Err(NumberError::Syntax);
        }
        without_separators = body.replace('_', "");
        &without_separators
    } else {
        body
    };
    let value = match body.as_bytes() {
        [b'0', b'x' | b'X', hex @ ..] => hexadecimal(hex)?,
        _ => body.parse::<f64>().map_err(|_| NumberError::Syntax)?,
    };
    if value.is_infinite() { Err(NumberError::Range) } else { Ok(signed(value)) }
}

/// Whether each underscore stands between two digits, or between the base prefix and a digit.
fn separators_fit(body: &[u8]) -> bool {
    let (hex, digits) = match body {
        [b'0', b'x' | b'X', rest @ ..] => (true, rest),
        _ => (false, body),
    };
    let is_digit = |byte: Option<&u8>| {
        byte.is_some_and(|b| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() })
    };
    digits.iter().enumerate().filter(|&(_, &byte)| byte == b'_').all(|(at, _)| {
        let before = if at == 0 { hex } else { is_digit(digits.get(at - 1)) };
        before && is_digit(digits.get(at + 1))
    })
}

/// What follows `0x`: hexadecimal digits, perhaps a fraction, and a binary exponent, which is mandatory.
fn hexadecimal(text: &[u8]) -> Result<f64, NumberError> {
    let exponent_at = text.iter().position(|b| matches!(b, b'p' | b'P')).ok_or(NumberError::Syntax)?;
    let exponent = std::str::from_utf8(&text[exponent_at + 1..]).map_err(|_| NumberError::Syntax)?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NumberError::Syntax);
    }
    // An exponent that does not fit is as good as one at the edge: the result is 0 or out of range.
    let mut scale =
        exponent.parse::<i64>().unwrap_or(if exponent.starts_with('-') { -100_000 } else { 100_000 });
    scale = scale.clamp(-100_000, 100_000);
    let mut mantissa = 0_u64;
    let mut point_seen = false;
    let mut any_digit = false;
    for &byte in &text[..exponent_at] {
        if byte == b'.' && !point_seen {
            point_seen = true;
            continue;
        }
        let digit = (byte as char).to_digit(16).ok_or(NumberError::Syntax)?;
        any_digit = true;
        if mantissa >> 59 == 0 {
            mantissa = (mantissa << 4) | u64::from(digit);
            scale -= if point_seen { 4 } else { 0 };
        } else {
            // Beyond 60 bits only whether anything was there matters for rounding.
            mantissa |= u64::from(digit != 0);
            scale += if point_seen { 0 } else { 4 };
        }
    }
    if !any_digit {
        return Err(NumberError::Syntax);
    }
    Ok(times_power_of_two(mantissa as f64, scale))
}

/// Scales in steps that stay normal as long as the result does.
fn times_power_of_two(mut value: f64, mut exponent: i64) -> f64 {
    while exponent > 0 && value.is_finite() && value != 0.0 {
        let step = exponent.min(1000);
        value *= 2_f64.powi(step as i32);
        exponent -= step;
    }
    while exponent < 0 && value != 0.0 {
        let step = exponent.max(-1000);
        value *= 2_f64.powi(step as i32);
        exponent -= step;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, value) in [
            ("1", 1.0),
            ("-3.25", -3.25),
            ("+.5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("1_0", 10.0),
            ("1_000.5_5", 1000.55),
            ("0x10p0", 16.0),
            ("0x1.8p1", 3.0),
            ("0X_1P-2", 0.25),
            ("-0x1p-2", -0.25),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("0.1", 0.1),
            ("9007199254740993", 9_007_199_254_740_992.0),
            ("5e-324", 5e-324),
            ("1e-400", 0.0),
        ] {
            assert_eq!(parse_float(text.as_bytes()), Ok(value), "{text}");
        }
        assert!(parse_float(b"NaN").unwrap().is_nan());
    }

    #[test]
    fn refuses_what_go_refuses() {
        for text in [
            "", ".", "+", "-", "1 ", " 1", "0x10", "0xp1", "1__0", "_1", "1_", "1_.0", "+nan", "-nan",
            "infi", "1e", "++1", "1.2.3", "0x1p", "\u{661}",
        ] {
            assert_eq!(parse_float(text.as_bytes()), Err(NumberError::Syntax), "{text}");
        }
        assert_eq!(parse_float(b"1e999"), Err(NumberError::Range));
        assert_eq!(parse_float(b"0x1p99999999999999999999"), Err(NumberError::Range));
    }

    proptest! {
        #[test]
        fn decimals_agree_with_the_standard_library(text in "[+-]?[0-9]{0,18}(\\.[0-9]{0,18})?") {
            let ours = parse_float(text.as_bytes()).ok();
            prop_assert_eq!(ours, text.parse::<f64>().ok());
        }

        #[test]
        fn garbage_never_panics(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_float(&text);
        }
    }
}
