//! What a plain scalar means: YAML 1.2's core schema, with the underscores and the words for switches of 1.1.

/// A switch; `strict` leaves YAML 1.1's words out.
pub(super) fn boolean(text: &str, strict: bool) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ if strict => None,
        _ if is(&["true", "yes", "on", "y"]) => Some(true),
        _ if is(&["false", "no", "off", "n"]) => Some(false),
        _ => None,
    }
}

/// A whole number: decimal, `0x`, `0o` or `0b`, with single underscores between digits. One with a leading zero is
/// none, as nobody can know whether it is octal.
pub(super) fn integer(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefixed = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)]
        .into_iter()
        .find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, radix)));
    let (digits, radix) = prefixed.unwrap_or((digits, 10));
    if radix == 10 && digits.starts_with('0') && digits != "0" {
        return None;
    }
    let mut value = 0i128;
    let mut after_digit = false;
    for character in digits.chars() {
        match character.to_digit(radix) {
            Some(digit) => {
                value = value.checked_mul(i128::from(radix))?.checked_add(i128::from(digit))?;
                after_digit = true;
            }
            None if character == '_' && after_digit => after_digit = false,
            None => return None,
        }
    }
    after_digit.then_some(if negative { -value } else { value })
}

/// A number with a fraction or an exponent, or one of YAML's words for what is not finite.
pub(super) fn float(text: &str) -> Option<f64> {
    let (sign, word) = match text.strip_prefix('-') {
        Some(word) => (-1.0, word),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    match word {
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        ".inf" | ".Inf" | ".INF" => return Some(sign * f64::INFINITY),
        _ => {}
    }
    // Rust's own words, such as `infinity`, are texts in YAML.
    let numeral = word.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    text.parse().ok().filter(|value: &f64| numeral && value.is_finite())
}

/// A decimal number that begins with a needless zero: a text, such as a file mode or a code.
pub(super) fn is_code(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|digit| digit.is_ascii_digit())
}
