//! Templates of names and label values.

/// A text with references to captures, such as `${1}_total`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    raw: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// Index of a capture, from 0.
    Capture(usize),
}

/// Stands for a capture while references are being replaced; control characters cannot be in a YAML text.
const MARK: char = '\u{1}';

impl Template {
    /// Compiles a template for a glob with that many stars.
    ///
    /// As in the peer, replacing is textual and in order: a reference is the longest run of letters, digits,
    /// `_` and `$`, so `$1_$2` is one (unknown) reference and comes out empty, and `$1` also rewrites the front
    /// of a later `$10`; `${1}_${10}` has neither problem.
    pub(super) fn new(raw: &str, captures: usize) -> Self {
        let mut text = raw.replace(MARK, "");
        let mut indexes = Vec::new();
        for (reference, inner) in references(raw) {
            match inner.parse::<usize>() {
                Ok(index) if (1..=captures).contains(&index) => {
                    text = text.replace(reference, &MARK.to_string());
                    indexes.push(index - 1);
                }
                _ => text = text.replace(reference, ""),
            }
        }
        if !indexes.is_empty() {
            // Where there are captures a doubled percent sign is how the peer writes a single one.
            text = text.replace("%%", "%");
        }
        let mut indexes = indexes.into_iter();
        let mut pieces = Vec::new();
        for (at, literal) in text.split(MARK).enumerate() {
            if at > 0 {
                pieces.extend(indexes.next().map(Piece::Capture));
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(literal.to_owned()));
            }
        }
        Self { raw: raw.to_owned(), pieces }
    }

    /// The text as written, for regular expressions, which have their own expansion.
    pub(super) fn raw(&self) -> &str {
        &self.raw
    }

    pub(super) fn fill(&self, captures: &[&str]) -> String {
        let mut out = String::with_capacity(self.raw.len() + 16);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Capture(index) => out.push_str(captures.get(*index).unwrap_or(&"")),
            }
        }
        out
    }
}

/// Each `$name` or `${name}` in a text, whole and without its marks.
fn references(text: &str) -> Vec<(&str, &str)> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$';
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(dollar) = memchr::memchr(b'$', &bytes[at..]).map(|offset| at + offset) {
        let start = dollar + 1 + usize::from(bytes.get(dollar + 1) == Some(&b'{'));
        let length = bytes[start..].iter().take_while(|byte| is_name(**byte)).count();
        let mut end = start + length;
        if length == 0 {
            at = dollar + 1;
            continue;
        }
        end += usize::from(bytes.get(end) == Some(&b'}'));
        found.push((&text[dollar..end], &text[start..start + length]));
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fill(raw: &str) -> String {
        let captures: Vec<String> = (1..=12).map(|n| format!("c{n}")).collect();
        let captures: Vec<&str> = captures.iter().map(String::as_str).collect();
        Template::new(raw, 12).fill(&captures)
    }

    #[test]
    fn references_as_the_peer_reads_them() {
        for (raw, expected) in [
            ("plain", "plain"),
            ("$1", "c1"),
            ("${1}_foo", "c1_foo"),
            ("$1_foo", ""),
            ("$1-$2.$3", "c1-c2.c3"),
            ("$1_$2", ""),
            ("${1}_${10}", "c1_c10"),
            ("$10", "c10"),
            ("$1-$10", "c1-c100"),
            ("$0", ""),
            ("${13}x", "x"),
            ("${name}x", "x"),
            ("50%-$1", "50%-c1"),
            ("50%%-$1", "50%-c1"),
            ("50%%", "50%%"),
            ("$", "$"),
            ("${}", "${}"),
            ("a$-b", "a$-b"),
        ] {
            assert_eq!(fill(raw), expected, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn any_template_compiles(raw in any::<String>()) {
            let _ = fill(&raw);
        }

        #[test]
        fn dense_templates_compile(raw in "[$\\{\\}0-9a_%]{0,30}") {
            let _ = fill(&raw);
        }
    }
}
