use proptest::prelude::*;

use super::*;

fn group(pattern: &str, text: &str) -> Option<String> {
    let regex = JavaRegex::new(pattern).unwrap();
    regex.captures(text).unwrap().map(|captures| captures.group(1).to_owned())
}

fn matches(pattern: &str, text: &str) -> bool {
    JavaRegex::new(pattern).unwrap().captures(text).unwrap().is_some()
}

#[test]
fn the_greedy_wrapper_binds_to_the_last_position() {
    assert_eq!(group(r"(\w+)<", "java.lang<x>").as_deref(), Some("g"));
    assert_eq!(group(r"^(\w+)\.", "java.lang<x>").as_deref(), Some("java"));
    assert_eq!(group(r"<name=(.+?)>", "d<name=a><name=b>").as_deref(), Some("b"));
    assert!(!matches("a", "a\nb"));
}

#[test]
fn syntax_that_differs() {
    for (pattern, text) in [
        (r"kafka\<type=(.+)\>", "kafka<type=x>"),
        (r"[\w-.]+:", "a-b.c:"),
        (r"\Qa.b*\E+", "a.b**"),
        (r"a{2}{", "aa{"),
        (r"\p{Alpha}\p{javaUpperCase}\P{Digit}", "aBc"),
        (r"[a-z&&[^b]]x", "ax"),
        (r"\x41\u0042\0103", "ABC"),
        (r"(?i)ABC", "abc"),
        (r"(?s)a.b", "a\nb"),
        (r#""x\"\ \-\:\/\="#, "\"x\" -:/="),
        (r"a}b]", "a}b]"),
        (r"[#~^&]x", "&x"),
    ] {
        assert!(matches(pattern, text), "{pattern}");
    }
    assert!(!matches(r"\d", "\u{0663}"));
    assert!(!matches(r"a.b", "a\u{85}b"));
    assert!(!matches(r"[a-z&&[^b]]x", "bx"));
}

#[test]
fn what_needs_the_second_engine() {
    for (pattern, text, expected) in [
        (r"(?<!x)ab", "xab ab", true),
        (r"(a+)\1b", "aab", true),
        (r"foo(?!bar)", "foobar", false),
        (r"a++a", "aaa", false),
        (r"a*+b", "aab", true),
        (r"(?>a|ab)c", "abc", false),
        (r"(?<n>.)\k<n>", "xx", true),
        (r"a{1,2}+a", "aa", false),
    ] {
        let regex = JavaRegex::new(pattern).unwrap();
        assert!(regex.linear().is_none(), "{pattern}");
        assert_eq!(regex.captures(text).unwrap().is_some(), expected, "{pattern}");
    }
}

#[test]
fn bad_patterns_say_why() {
    for pattern in ["(", "[a", "*a", r"\y", "a\\", "(?<x", r"\p{NoSuch}", "(?q)a", "a)"] {
        let error = JavaRegex::new(pattern).unwrap_err();
        assert!(error.to_string().contains(pattern), "{error}");
    }
}

#[test]
fn a_bomb_is_given_up() {
    let regex = JavaRegex::new(r"(a+)+\1$").unwrap();
    let text = format!("{}b", "a".repeat(60));
    assert!(regex.captures(&text).is_err());
    assert!(JavaRegex::new("(((a{100}){100}){100})").is_err());
}

proptest! {
    #[test]
    fn garbage_never_panics(pattern in ".{0,20}", special in r"[\\\[\](){}?*+.a^$|<>&:!=,1Qdw-]{0,14}") {
        for pattern in [pattern, special] {
            if let Ok(regex) = JavaRegex::new(&pattern) {
                let _ = regex.captures("java.lang<type=Memory><HeapMemoryUsage>used: 12");
            }
        }
    }

    #[test]
    fn a_quoted_text_matches_itself(text in "[ -~]{1,20}") {
        prop_assume!(!text.contains(r"\E"));
        let pattern = format!("^\\Q{text}\\E$");
        prop_assert!(matches(&pattern, &text));
    }
}
