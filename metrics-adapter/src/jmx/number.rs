//! Numbers as Java prints them (`Double.toString`, `BigInteger.toString`, `BigDecimal.toString`).

use std::fmt::Write as _;

use num_bigint::{BigInt, Sign};

/// Longest magnitude that is read. `Double.MAX_VALUE` has 128 bytes; the decimal form of more is of no use.
const MAX_MAGNITUDE: usize = 512;

/// A `java.lang.Number`.
///
/// ```
/// use metrics_adapter::jmx::Number;
///
/// let mut text = String::new();
/// Number::Double(1e7).write(&mut text);
/// assert_eq!(text, "1.0E7", "as Java prints it");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// `byte`, `short`, `int`, `long` and the atomic integers.
    Long(i64),
    /// `float`
    Float(f32),
    /// `double`
    Double(f64),
    /// `BigInteger` or `BigDecimal` with its decimal text.
    Big(String),
}

impl Number {
    /// What `Number.doubleValue` gives.
    ///
    /// ```
    /// use metrics_adapter::jmx::Number;
    ///
    /// assert_eq!(Number::Big("1e3".into()).to_f64(), 1000.0);
    /// ```
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "doubleValue rounds the same way")]
    pub fn to_f64(&self) -> f64 {
        match self {
            Self::Long(value) => *value as f64,
            Self::Float(value) => f64::from(*value),
            Self::Double(value) => *value,
            Self::Big(text) => text.parse().unwrap_or(f64::NAN),
        }
    }

    /// Appends what `String.valueOf` gives.
    ///
    /// ```
    /// use metrics_adapter::jmx::Number;
    ///
    /// let mut text = String::new();
    /// Number::Long(7).write(&mut text);
    /// assert_eq!(text, "7");
    /// ```
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Long(value) => {
                let _ = write!(out, "{value}");
            }
            Self::Float(value) => write_java(out, f64::from(*value), &format!("{value:e}")),
            Self::Double(value) => write_java(out, *value, &format!("{value:e}")),
            Self::Big(text) => out.push_str(text),
        }
    }

    /// A `BigInteger` from its sign and big-endian magnitude; `None` when it is absurdly long.
    #[doc(hidden)]
    #[must_use]
    pub fn from_big_integer(signum: i32, magnitude: &[u8]) -> Option<Self> {
        Some(Self::Big(big_integer(signum, magnitude)?.to_string()))
    }

    /// A `BigDecimal` from its unscaled value and scale.
    #[doc(hidden)]
    #[must_use]
    pub fn from_big_decimal(signum: i32, magnitude: &[u8], scale: i32) -> Option<Self> {
        Some(Self::Big(big_decimal(&big_integer(signum, magnitude)?.to_string(), scale)))
    }
}

fn big_integer(signum: i32, magnitude: &[u8]) -> Option<BigInt> {
    let sign = match signum {
        0 => Sign::NoSign,
        1.. => Sign::Plus,
        _ => Sign::Minus,
    };
    (magnitude.len() <= MAX_MAGNITUDE).then(|| BigInt::from_bytes_be(sign, magnitude))
}

/// `BigDecimal.toString`: plain while the scale is not negative and the exponent at least -6.
fn big_decimal(unscaled: &str, scale: i32) -> String {
    let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |digits| ("-", digits));
    if scale == 0 {
        return unscaled.to_owned();
    }
    let adjusted = -i64::from(scale) + digits.len() as i64 - 1;
    if scale > 0 && adjusted >= -6 {
        let scale = scale as usize;
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        return format!("{sign}{whole}.{fraction}");
    }
    let (first, rest) = digits.split_at(1);
    let point = if rest.is_empty() { "" } else { "." };
    let exponent = if adjusted == 0 { String::new() } else { format!("E{adjusted:+}") };
    format!("{sign}{first}{point}{rest}{exponent}")
}

/// Appends what `Double.toString` gives: at least one digit on either side of the point, `E` notation below
/// 10^-3 and from 10^7 on.
pub fn write_double(out: &mut String, value: f64) {
    let whole = value.abs();
    // A whole number below 2^53 is its own shortest form, and most samples are one; but for the sign of zero.
    if whole < 9_007_199_254_740_992.0 && whole.fract() == 0.0 && value != 0.0 {
        if value < 0.0 {
            out.push('-');
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and below 2^53")]
        return write_whole(out, whole as u64);
    }
    let mut scientific = Digits::default();
    // It has room for the longest double.
    let _ = write!(scientific, "{value:e}");
    write_java(out, value, scientific.as_str());
}

/// Appends a number of more than zero as a double.
fn write_whole(out: &mut String, value: u64) {
    let mut digits = Digits::default();
    let _ = write!(digits, "{value}");
    let digits = digits.as_str();
    if value < 10_000_000 {
        out.push_str(digits);
        return out.push_str(".0");
    }
    let fraction = digits[1..].trim_end_matches('0');
    out.push_str(&digits[..1]);
    out.push('.');
    out.push_str(if fraction.is_empty() { "0" } else { fraction });
    let _ = write!(out, "E{}", digits.len() - 1);
}

/// A short text that needs no allocation; what has no room is an error of the writer.
#[derive(Default)]
struct Digits {
    bytes: [u8; 32],
    length: usize,
}

impl Digits {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl std::fmt::Write for Digits {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// `scientific` holds the shortest digits in Rust's `{:e}` form.
fn write_java(out: &mut String, value: f64, scientific: &str) {
    if !value.is_finite() {
        out.push_str(if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        });
        return;
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (first, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    out.push_str(sign);
    if value == 0.0 {
        out.push_str("0.0");
    } else if (-3..7).contains(&exponent) {
        write_plain(out, first, fraction, exponent);
    } else {
        let fraction = if fraction.is_empty() { "0" } else { fraction };
        let _ = write!(out, "{first}.{fraction}E{exponent}");
    }
}

/// Appends `first.fraction * 10^exponent` without an exponent.
fn write_plain(out: &mut String, first: &str, fraction: &str, exponent: i32) {
    if exponent < 0 {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', (-exponent - 1) as usize));
        out.push_str(first);
        out.push_str(fraction);
        return;
    }
    let moved = exponent as usize;
    out.push_str(first);
    if fraction.len() > moved {
        out.push_str(&fraction[..moved]);
        out.push('.');
        out.push_str(&fraction[moved..]);
    } else {
        out.push_str(fraction);
        out.extend(std::iter::repeat_n('0', moved - fraction.len()));
        out.push_str(".0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn java(value: f64) -> String {
        let mut out = String::new();
        write_double(&mut out, value);
        out
    }

    #[test]
    fn doubles_as_java_prints_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-1.5, "-1.5"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (1e6, "1000000.0"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (123_456_789.0, "1.23456789E8"),
            (f64::MAX, "1.7976931348623157E308"),
            (1.234_567_890_123_456_8e29, "1.2345678901234568E29"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (100.25, "100.25"),
        ];
        for (value, text) in cases {
            assert_eq!(java(value), text);
        }
        let mut float = String::new();
        Number::Float(0.1).write(&mut float);
        assert_eq!(float, "0.1");
    }

    #[test]
    fn big_decimals_as_java_prints_them() {
        let cases = [
            ("12345", 2, "123.45"),
            ("-5", 3, "-0.005"),
            ("1", 7, "1E-7"),
            ("12", 8, "1.2E-7"),
            ("123", -2, "1.23E+4"),
            ("0", 0, "0"),
            ("1", -1, "1E+1"),
            ("0", 2, "0.00"),
        ];
        for (unscaled, scale, text) in cases {
            assert_eq!(big_decimal(unscaled, scale), text);
        }
        let big = Number::from_big_integer(-1, &[1, 0, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(big, Number::Big("-18446744073709551616".to_owned()));
        assert_eq!(big.to_f64(), -18_446_744_073_709_551_616.0);
        assert_eq!(Number::from_big_integer(1, &[1; 4096]), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(value in any::<f64>().prop_filter("finite", |v| v.is_finite())) {
            prop_assert_eq!(java(value).parse::<f64>().unwrap().to_bits(), value.to_bits());
        }

        #[test]
        fn whole_numbers_are_as_any_other(value in -9_007_199_254_740_993_i64..9_007_199_254_740_993, tens in 0_u32..12) {
            let value = (value / 10_i64.pow(tens)) as f64;
            let mut expected = String::new();
            write_java(&mut expected, value, &format!("{value:e}"));
            prop_assert_eq!(java(value), expected);
            let value = value * 10_f64.powi(tens as i32);
            let mut expected = String::new();
            write_java(&mut expected, value, &format!("{value:e}"));
            prop_assert_eq!(java(value), expected);
        }

        #[test]
        fn any_scale_is_printable(unscaled in any::<i64>(), scale in any::<i32>().prop_map(|s| s % 1000)) {
            let text = big_decimal(&unscaled.to_string(), scale);
            prop_assert!(text.parse::<f64>().is_ok(), "{}", text);
        }
    }
}
