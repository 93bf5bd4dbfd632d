//! Names: made safe for Prometheus the way jmx_exporter and its client library do.

/// Replaces what a name must not contain, and lets runs of underscores collapse. A leading digit gets an
/// underscore in front.
#[must_use]
pub fn safe(text: &str) -> String {
    let mut name = String::with_capacity(text.len() + 1);
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        name.push('_');
    }
    for c in text.chars() {
        let c = if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' };
        if c != '_' || !name.ends_with('_') {
            name.push(c);
        }
    }
    name
}

/// Lower-cases, with an underscore before each upper-case letter that follows neither another one, nor an
/// underscore, nor nothing.
#[must_use]
pub fn snake_case(text: &str) -> String {
    let mut name = String::with_capacity(text.len() + 4);
    let mut joined = true;
    for c in text.chars() {
        if c.is_uppercase() && !joined {
            name.push('_');
        }
        joined = c.is_uppercase() || c == '_';
        name.extend(c.to_lowercase());
    }
    name
}

/// Takes the suffixes off that the client library reserves; a name that is nothing but a suffix only loses
/// its underscore.
pub fn remove_reserved_suffixes(name: &mut String) {
    while let Some(suffix) =
        ["_total", "_created", "_bucket", "_info"].into_iter().find(|s| name.ends_with(s))
    {
        if name.len() == suffix.len() {
            name.remove(0);
            return;
        }
        name.truncate(name.len() - suffix.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn safe_names() {
        assert_eq!(safe("kafka.server_A-_B__c"), "kafka_server_A_B_c");
        assert_eq!(safe("1a:b"), "_1a:b");
        assert_eq!(safe("é"), "_");
        assert_eq!(snake_case("HeapMemoryUsage"), "heap_memory_usage");
        assert_eq!(snake_case("GCTime"), "gctime");
        assert_eq!(snake_case("testTCPTest"), "test_tcptest");
        assert_eq!(snake_case("HTTP2Requests"), "http2_requests");
        assert_eq!(snake_case("_Test_Test a\nB"), "_test_test a\n_b");
    }

    #[test]
    fn reserved_suffixes() {
        for (name, expected) in [
            ("a_total", "a"),
            ("a_info_total", "a"),
            ("_total", "total"),
            ("a_total_x", "a_total_x"),
            ("total", "total"),
        ] {
            let mut name = name.to_owned();
            remove_reserved_suffixes(&mut name);
            assert_eq!(name, expected);
        }
    }

    proptest! {
        #[test]
        fn safe_is_idempotent_and_valid(text in ".{1,20}") {
            let name = safe(&text);
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':'));
            prop_assert!(!name.starts_with(|c: char| c.is_ascii_digit()));
            prop_assert_eq!(safe(&name), name);
        }
    }
}
