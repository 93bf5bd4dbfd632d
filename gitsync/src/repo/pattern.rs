//! Patterns of `.gitignore`, `.gitattributes` and sparse-checkout files (`gitignore(5)`). Pure.

use super::checkout::split;

/// One pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    glob: Vec<u8>,
    /// `!` in front.
    pub(crate) negated: bool,
    /// `/` at the end: directories only.
    directory: bool,
    /// A slash elsewhere: the whole path has to match, not only the name.
    anchored: bool,
}

impl Pattern {
    /// From a line; `None` for blank lines and comments.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        // Trailing spaces count only when they are escaped.
        while line.ends_with(b" ") && !line.ends_with(b"\\ ") {
            line = &line[..line.len() - 1];
        }
        if line.is_empty() || line.starts_with(b"#") {
            return None;
        }
        let negated = line.starts_with(b"!");
        let line = if negated { &line[1..] } else { line };
        let directory = line.ends_with(b"/");
        let line = if directory { &line[..line.len() - 1] } else { line };
        let anchored = line.contains(&b'/');
        let glob = line.strip_prefix(b"/").unwrap_or(line).to_vec();
        Some(Self { glob, negated, directory, anchored })
    }

    /// Whether it matches a path (relative to where the pattern stands).
    pub(crate) fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        if self.directory && !is_directory {
            return false;
        }
        let text = if self.anchored { path } else { split(path).1 };
        glob(&self.glob, text)
    }
}

/// Steps one comparison may take; a pattern made to be slow gives no match.
const MAX_STEPS: usize = 200_000;

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let mut steps = MAX_STEPS;
    step(pattern, text, true, &mut steps)
}

/// `start`: at the beginning of a path component.
fn step(mut pattern: &[u8], mut text: &[u8], mut start: bool, steps: &mut usize) -> bool {
    loop {
        *steps = steps.saturating_sub(1);
        if *steps == 0 {
            return false;
        }
        match pattern.first() {
            None => return text.is_empty(),
            Some(b'*')
                if pattern.starts_with(b"**") && start && matches!(pattern.get(2), None | Some(b'/')) =>
            {
                let Some(rest) = pattern.get(3..) else { return !text.is_empty() };
                // No component, or any number of them.
                return step(rest, text, true, steps)
                    || memchr::memchr_iter(b'/', text).any(|at| step(rest, &text[at + 1..], true, steps));
            }
            Some(b'*') => {
                let rest = pattern.iter().position(|c| *c != b'*').map_or(&[][..], |at| &pattern[at..]);
                let end = memchr::memchr(b'/', text).unwrap_or(text.len());
                return (0..=end).any(|at| step(rest, &text[at..], start && at == 0, steps));
            }
            Some(b'[') => {
                let Some((used, hit)) = text.first().and_then(|c| class(&pattern[1..], *c)) else {
                    return false;
                };
                if !hit || text[0] == b'/' {
                    return false;
                }
                pattern = &pattern[1 + used..];
            }
            Some(b'?') => {
                if matches!(text.first(), None | Some(b'/')) {
                    return false;
                }
                pattern = &pattern[1..];
            }
            Some(c) => {
                let (wanted, used) = match (c, pattern.get(1)) {
                    (b'\\', Some(escaped)) => (escaped, 2),
                    _ => (c, 1),
                };
                if text.first() != Some(wanted) {
                    return false;
                }
                pattern = &pattern[used..];
            }
        }
        start = text[0] == b'/';
        text = &text[1..];
    }
}

/// What follows a `[`: how long the class is and whether `c` is in it. `None` when it has no end.
fn class(pattern: &[u8], c: u8) -> Option<(usize, bool)> {
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let mut at = usize::from(negated);
    let (mut hit, first) = (false, at);
    loop {
        let mut low = *pattern.get(at)?;
        if low == b']' && at > first {
            return Some((at + 1, hit != negated));
        }
        if let Some(name) = pattern[at..].strip_prefix(b"[:") {
            let end = name.windows(2).position(|pair| pair == b":]")?;
            hit |= named_class(&name[..end], c);
            at += end + 4;
            continue;
        }
        if low == b'\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        if pattern.get(at + 1) == Some(&b'-') && pattern.get(at + 2).is_some_and(|c| *c != b']') {
            let high = pattern[at + 2];
            hit |= (low..=high).contains(&c);
            at += 3;
        } else {
            hit |= low == c;
            at += 1;
        }
    }
}

fn named_class(name: &[u8], c: u8) -> bool {
    match name {
        b"alpha" => c.is_ascii_alphabetic(),
        b"digit" => c.is_ascii_digit(),
        b"alnum" => c.is_ascii_alphanumeric(),
        b"upper" => c.is_ascii_uppercase(),
        b"lower" => c.is_ascii_lowercase(),
        b"space" => c.is_ascii_whitespace(),
        b"punct" => c.is_ascii_punctuation(),
        b"xdigit" => c.is_ascii_hexdigit(),
        _ => false,
    }
}

/// Which files a sparse checkout has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sparse(Vec<Pattern>);

impl Sparse {
    pub(crate) fn parse(text: &[u8]) -> Self {
        Self(text.split(|b| *b == b'\n').filter_map(Pattern::parse).collect())
    }

    /// The last pattern that matches decides; else it is as with the parent.
    pub(crate) fn has(&self, path: &[u8]) -> bool {
        let mut path = path;
        let mut is_directory = false;
        while !path.is_empty() {
            if let Some(pattern) = self.0.iter().rev().find(|pattern| pattern.matches(path, is_directory)) {
                return !pattern.negated;
            }
            path = split(path).0;
            is_directory = true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern.as_bytes()).unwrap().matches(path.as_bytes(), false)
    }

    #[test]
    fn as_documented() {
        for (pattern, path) in [
            ("*.txt", "a/b/c.txt"),
            ("/a.txt", "a.txt"),
            ("a/*.txt", "a/x.txt"),
            ("**/foo", "foo"),
            ("**/foo", "a/b/foo"),
            ("a/**", "a/b/c"),
            ("a/**/b", "a/b"),
            ("a/**/b", "a/x/y/b"),
            ("f[o0]o", "f0o"),
            ("f[!a]o", "foo"),
            ("f[[:digit:]]", "f7"),
            ("\\#x", "#x"),
            ("a\\*", "a*"),
            ("[]]", "]"),
            ("?.c", "x.c"),
            ("*", ".x"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("/a.txt", "b/a.txt"),
            ("a/*.txt", "a/b/x.txt"),
            ("dir/", "dir"),
            ("a/**", "a"),
            ("f[a-c]", "fd"),
            ("?.c", "/.c"),
            ("[", "["),
            ("foo", "foobar"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
        assert!(Pattern::parse(b"# x").is_none() && Pattern::parse(b"  ").is_none());
    }

    #[test]
    fn sparse_rules() {
        let sparse = Sparse::parse(b"/*\n!/*/\n/docs/\n!/docs/secret\n*.md\n");
        for path in ["a", "docs/x", "docs/y/z", "deep/README.md"] {
            assert!(sparse.has(path.as_bytes()), "{path}");
        }
        for path in ["src/a", "docs/secret/x", "docs/secret"] {
            assert!(!sparse.has(path.as_bytes()), "{path}");
        }
    }

    proptest! {
        #[test]
        fn garbage_neither_panics_nor_hangs(pattern in prop::collection::vec(any::<u8>(), 0..40), path in prop::collection::vec(any::<u8>(), 0..60)) {
            if let Some(pattern) = Pattern::parse(&pattern) {
                let _ = pattern.matches(&path, true);
            }
        }

        #[test]
        fn stars_are_bounded(stars in 1usize..30) {
            let pattern = Pattern::parse("*a".repeat(stars).as_bytes()).unwrap();
            let _ = pattern.matches("a".repeat(200).as_bytes(), false);
        }
    }
}
