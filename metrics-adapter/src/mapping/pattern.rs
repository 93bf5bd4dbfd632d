//! Regular expressions in RE2's syntax, which mapping files are written in.

use regex::{Regex, RegexBuilder};

/// Compiles a pattern of RE2's syntax.
///
/// # Errors
/// A sentence about what is wrong, without the pattern's picture.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern)?;
    RegexBuilder::new(&translated).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("the regular expression needs more than {limit} bytes")
        }
        error => {
            let text = error.to_string();
            let last = text.lines().rev().map(str::trim).find(|line| line.starts_with("error:"));
            format!("not a regular expression: {}", last.map_or(&*text, |line| line[6..].trim()))
        }
    })
}

/// Rewrites what the two syntaxes read differently: `\d`, `\w`, `\s` and `\b` are ASCII in RE2, `\Q…\E` quotes,
/// and inside of brackets neither `[` nor doubled operators mean anything.
fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    // Inside of brackets, and whether anything has been in them yet (a leading `]` is literal).
    let mut class: Option<bool> = None;
    while let Some(c) = chars.next() {
        match (c, class) {
            ('\\', _) => {
                let Some(escaped) = chars.next() else { return Err("ends in a single backslash".to_owned()) };
                match escaped {
                    'Q' => quote(&mut chars, &mut out),
                    'C' => return Err("\\C (a single byte) is not supported".to_owned()),
                    'b' if class.is_none() => out.push_str("(?-u:\\b)"),
                    'd' | 'D' | 'w' | 'W' | 's' | 'S' => ascii_class(escaped, &mut out),
                    _ => out.extend(['\\', escaped]),
                }
                class = class.map(|_| true);
            }
            ('[', None) => {
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
                class = Some(false);
            }
            ('[', Some(_)) if chars.peek() == Some(&':') => {
                out.push('[');
                class = Some(true);
                copy_named_class(&mut chars, &mut out);
            }
            ('[' | '&' | '~', Some(_)) => {
                out.extend(['\\', c]);
                class = Some(true);
            }
            ('-', Some(_)) if chars.peek() == Some(&'-') => {
                out.push_str("\\-");
                class = Some(true);
            }
            (']', Some(true)) => {
                out.push(']');
                class = None;
            }
            (']', Some(false)) => {
                out.push_str("\\]");
                class = Some(true);
            }
            (c, _) => {
                out.push(c);
                class = class.map(|_| true);
            }
        }
    }
    Ok(out)
}

fn ascii_class(letter: char, out: &mut String) {
    out.push_str(match letter {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        's' => "[\\t\\n\\f\\r ]",
        _ => "[^\\t\\n\\f\\r ]",
    });
}

/// Copies `:alpha:]` of `[[:alpha:]]`.
fn copy_named_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    for c in chars.by_ref() {
        out.push(c);
        if c == ']' {
            break;
        }
    }
}

/// Copies the text up to `\E` (or the end) with everything escaped.
fn quote(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut literal = String::new();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.peek() == Some(&'E') {
            chars.next();
            break;
        }
        literal.push(c);
    }
    out.push_str(&regex::escape(&literal));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn re2_syntax() {
        for (pattern, text, expected) in [
            (r"(.*)\.(.*)-(.*)\.(.*)", "proxy-1.http-goober.success", true),
            (r"^\d+$", "\u{0661}", false),
            (r"^[\d\w]+$", "a1_", true),
            (r"\Qa.b\E.", "a.bc", true),
            (r"\Qa.b\E.", "axbc", false),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^[[a]+$", "[a", true),
            (r"^[a&&b]+$", "&", true),
            (r"^[]a]+$", "]a", true),
            (r"^[^]a]+$", "]", false),
            (r"a\bb|a\b", "a.", true),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(text), expected, "{pattern}");
        }
    }

    #[test]
    fn errors_are_one_line() {
        for pattern in ["(", "a{2000000000}", r"\C", "a\\", "(?=a)", "((a{999}){999}){999}"] {
            let error = compile(pattern).unwrap_err();
            assert!(!error.contains('\n'), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_translated(pattern in any::<String>()) {
            let _ = compile(&pattern);
        }
    }
}
