//! Numbers as Go's `strconv.FormatFloat(v, 'g', -1, 64)` writes them, which is what Prometheus pages show.

use std::io::Write as _;

/// Appends the shortest text that reads back as `value`.
pub fn write_float(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if value.abs() < 9_007_199_254_740_992.0 && value.trunc() == value {
        if value.is_sign_negative() {
            out.push(b'-');
        }
        write_whole(out, value.abs() as u64);
    } else {
        write_shortest(out, value);
    }
}

/// Appends a whole number without exponent.
fn write_integer(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

fn write_whole(out: &mut Vec<u8>, number: u64) {
    // Whole numbers that a float holds exactly have at most 16 digits.
    debug_assert!(number < 1 << 53);
    if number < 1_000_000 {
        return write_integer(out, number);
    }
    let from = out.len();
    write_integer(out, number);
    with_exponent(out, from);
}

/// Rewrites the digits from `from` on as `d.ddde+XX`.
fn with_exponent(out: &mut Vec<u8>, from: usize) {
    let exponent = out.len() - from - 1;
    while out.len() > from + 1 && out.last() == Some(&b'0') {
        out.pop();
    }
    if out.len() > from + 1 {
        out.insert(from + 1, b'.');
    }
    write_exponent(out, exponent as i32);
}

fn write_exponent(out: &mut Vec<u8>, exponent: i32) {
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.abs() < 10 {
        out.push(b'0');
    }
    write_integer(out, u64::from(exponent.unsigned_abs()));
}

fn write_shortest(out: &mut Vec<u8>, value: f64) {
    let from = out.len();
    // Writing to a Vec cannot fail; `{:e}` gives the shortest digits, as `d.ddde-x`.
    let _ = write!(out, "{value:e}");
    let Some(mark) = memchr::memrchr(b'e', &out[from..]).map(|at| from + at) else { return };
    let exponent =
        std::str::from_utf8(&out[mark + 1..]).ok().and_then(|text| text.parse::<i32>().ok()).unwrap_or(0);
    if !(-4..6).contains(&exponent) {
        out.truncate(mark);
        return write_exponent(out, exponent);
    }
    out.truncate(from);
    let _ = write!(out, "{value}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        write_float(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn as_go_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-3.0, "-3"),
            (100_000.0, "100000"),
            (123_456.0, "123456"),
            (1e6, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (1.5, "1.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456.789, "123456.789"),
            (1_234_567.891, "1.234567891e+06"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (2.938_735_877_055_719e-39, "2.938735877055719e-39"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    proptest! {
        #[test]
        fn numbers_read_back(value in any::<f64>()) {
            let back: f64 = text(value).parse().unwrap();
            prop_assert!(back == value || (back.is_nan() && value.is_nan()));
        }
    }
}
