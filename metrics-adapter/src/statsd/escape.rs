//! Turning any text into a valid Prometheus metric or label name.

use std::borrow::Cow;

/// Replaces what a Prometheus name may not hold.
///
/// A leading digit gets `_` in front; each character outside `[a-zA-Z0-9_]` becomes `_`, and a run of dashes
/// becomes a single one. The colon, though legal in Prometheus, is replaced too.
#[must_use]
pub fn escape_name(name: &str) -> Cow<'_, str> {
    let leading_digit = name.as_bytes().first().is_some_and(u8::is_ascii_digit);
    if !leading_digit && name.bytes().all(is_plain) {
        return Cow::Borrowed(name);
    }
    let mut escaped = String::with_capacity(name.len() + 1);
    if leading_digit {
        escaped.push('_');
    }
    let mut before = '_';
    for c in name.chars() {
        if c.is_ascii() && is_plain(c as u8) {
            escaped.push(c);
        } else if c != '-' || before != '-' {
            escaped.push('_');
        }
        before = c;
    }
    Cow::Owned(escaped)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_become_valid() {
        for (raw, escaped) in [
            ("clean", "clean"),
            ("0starts_with_digit", "_0starts_with_digit"),
            ("with_underscore", "with_underscore"),
            ("with.dot", "with_dot"),
            ("a.*.b", "a___b"),
            ("a--b", "a_b"),
            ("a-.-b", "a___b"),
            ("a:b", "a_b"),
            ("with😱emoji", "with_emoji"),
            ("with.*.multiple", "with___multiple"),
            ("", ""),
            ("test.web-server.foo.bar", "test_web_server_foo_bar"),
        ] {
            assert_eq!(escape_name(raw), escaped, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_a_legal_name(raw in any::<String>()) {
            let name = escape_name(&raw);
            prop_assert!(name.bytes().all(is_plain));
            prop_assert!(!name.as_bytes().first().is_some_and(u8::is_ascii_digit));
            prop_assert_eq!(name.is_empty(), raw.is_empty());
        }
    }
}
