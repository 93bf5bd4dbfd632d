//! `.gitattributes` as far as it changes what a checkout writes: line endings and `$Id$`
//! (`gitattributes(5)`). Pure but for reading the files from the store.
//!
//! Filters need programs, and there are none: files with a `filter` are written as stored, as a
//! Git without that filter configured does. The one that is known is `lfs`, where it is asked for.

use super::RepoError;
use super::checkout::{Convert, split};
use super::objects::{Kind, Objects};
use super::pattern::Pattern;
use crate::lfs::Pointer;
use crate::protocol::ObjectId;

/// A file that large is not read for its attributes; Git has the same bound.
const MAX_FILE: usize = 100 << 20;
/// Binary files are told by a NUL in this many first bytes, as Git does.
const SNIFF: usize = 8_000;

/// All attribute files of a commit, the outermost first, and what counts without them.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    files: Vec<AttributeFile>,
    endings: Endings,
}

/// `core.autocrlf` and `core.eol` of the repository's configuration.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Endings {
    /// Files that nobody calls binary get CRLF.
    pub(crate) auto_crlf: bool,
    /// Files that are called text get CRLF.
    pub(crate) crlf: bool,
    /// Symlinks become files that hold where they lead (`core.symlinks` is false).
    pub(crate) links_as_files: bool,
    /// LFS pointers become what they stand for.
    pub(crate) lfs: bool,
}

#[derive(Debug)]
struct AttributeFile {
    directory: Vec<u8>,
    rules: Vec<(Pattern, Vec<Assignment>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Assignment {
    Text(Text),
    Eol(Option<Eol>),
    Ident(bool),
    Lfs(bool),
}

/// What is said about one path.
struct Attribute {
    text: Text,
    eol: Option<Eol>,
    ident: bool,
    lfs: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Text {
    Unspecified,
    Yes,
    No,
    Auto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Eol {
    Lf,
    Crlf,
}

impl Attributes {
    /// Reads the attribute files among the entries of a commit.
    pub(crate) fn load<'a>(
        objects: &Objects,
        entries: impl Iterator<Item = (&'a [u8], ObjectId)>,
        endings: Endings,
    ) -> Result<Self, RepoError> {
        let mut files = Vec::new();
        for (path, id) in entries.filter(|(path, _)| split(path).1 == b".gitattributes") {
            let data = objects.read_kind(id, Kind::Blob)?;
            if data.len() <= MAX_FILE {
                files.push(AttributeFile { directory: split(path).0.to_vec(), rules: parse(&data) });
            }
        }
        files.sort_by_key(|file| file.directory.len());
        Ok(Self { files, endings })
    }

    /// Whether the content of a file may be kept with LFS.
    pub(crate) fn is_large(&self, path: &[u8]) -> bool {
        self.endings.lfs && self.of(path).lfs
    }

    fn of(&self, path: &[u8]) -> Attribute {
        let (mut text, mut eol, mut ident, mut lfs) = (Text::Unspecified, None, false, false);
        for file in &self.files {
            let inside = match file.directory.len() {
                0 => Some(path),
                length => {
                    path.strip_prefix(&file.directory[..length]).and_then(|rest| rest.strip_prefix(b"/"))
                }
            };
            let Some(inside) = inside else { continue };
            for (_, assignments) in file.rules.iter().filter(|(pattern, _)| pattern.matches(inside, false)) {
                for assignment in assignments {
                    match *assignment {
                        Assignment::Text(value) => text = value,
                        Assignment::Eol(value) => eol = value,
                        Assignment::Ident(value) => ident = value,
                        Assignment::Lfs(value) => lfs = value,
                    }
                }
            }
        }
        // An eol says that it is text, unless somebody says otherwise.
        if eol.is_some() && text == Text::Unspecified {
            text = Text::Yes;
        }
        if self.endings.auto_crlf && text == Text::Unspecified {
            text = Text::Auto;
        }
        if (self.endings.auto_crlf || self.endings.crlf) && eol.is_none() {
            eol = Some(Eol::Crlf);
        }
        Attribute { text, eol, ident, lfs }
    }
}

impl Convert for Attributes {
    fn links_as_files(&self) -> bool {
        self.endings.links_as_files
    }

    fn pointer(&self, path: &[u8], blob: &[u8]) -> Option<Pointer> {
        // Most files are told by their first bytes; attributes take longer.
        if !self.endings.lfs {
            return None;
        }
        Pointer::parse(blob).filter(|_| self.is_large(path))
    }

    fn convert(&self, path: &[u8], id: ObjectId, blob: &[u8]) -> Option<Vec<u8>> {
        if self.files.is_empty() && !self.endings.auto_crlf {
            return None;
        }
        let Attribute { text, eol, ident, .. } = self.of(path);
        let expanded = if ident { expand_ident(blob, id) } else { None };
        let current = expanded.as_deref().unwrap_or(blob);
        let wanted = eol == Some(Eol::Crlf) && matches!(text, Text::Yes | Text::Auto);
        let untouched = text == Text::Auto && (current.contains(&b'\r') || is_binary(current));
        if wanted && !untouched {
            return to_crlf(current).or(expanded);
        }
        expanded
    }
}

fn is_binary(data: &[u8]) -> bool {
    memchr::memchr(0, &data[..data.len().min(SNIFF)]).is_some()
}

/// Line feeds that have no carriage return before them get one.
fn to_crlf(data: &[u8]) -> Option<Vec<u8>> {
    let lone = |at: &usize| *at == 0 || data[*at - 1] != b'\r';
    let count = memchr::memchr_iter(b'\n', data).filter(lone).count();
    if count == 0 {
        return None;
    }
    let mut out = Vec::with_capacity(data.len() + count);
    let mut from = 0;
    for at in memchr::memchr_iter(b'\n', data).filter(lone) {
        out.extend_from_slice(&data[from..at]);
        out.extend_from_slice(b"\r\n");
        from = at + 1;
    }
    out.extend_from_slice(&data[from..]);
    Some(out)
}

/// `$Id$` and `$Id: …$` become `$Id: <blob> $`.
fn expand_ident(data: &[u8], id: ObjectId) -> Option<Vec<u8>> {
    let finder = memchr::memmem::Finder::new(b"$Id");
    let mut out = Vec::new();
    let mut from = 0;
    while let Some(found) = finder.find(&data[from..]).map(|at| from + at) {
        let after = found + 3;
        let end = match data.get(after) {
            Some(b'$') => Some(after + 1),
            Some(b':') => memchr::memchr2(b'$', b'\n', &data[after..])
                .map(|at| after + at)
                .filter(|at| data[*at] == b'$')
                .map(|at| at + 1),
            _ => None,
        };
        out.extend_from_slice(&data[from..found]);
        match end {
            Some(end) => {
                out.extend_from_slice(format!("$Id: {id} $").as_bytes());
                from = end;
            }
            None => {
                out.extend_from_slice(b"$Id");
                from = after;
            }
        }
    }
    if from == 0 {
        return None;
    }
    out.extend_from_slice(&data[from..]);
    Some(out)
}

fn parse(data: &[u8]) -> Vec<(Pattern, Vec<Assignment>)> {
    data.split(|b| *b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<(Pattern, Vec<Assignment>)> {
    let line = line.trim_ascii();
    // `[attr]` defines a macro; the built-in `binary` is the one that matters here.
    if line.starts_with(b"[attr]") {
        return None;
    }
    let (pattern, rest) = match line.strip_prefix(b"\"").and_then(|inner| {
        let end = memchr::memchr(b'"', inner)?;
        Some((&inner[..end], &inner[end + 1..]))
    }) {
        Some(quoted) => quoted,
        None => line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len())),
    };
    // A pattern in here can't be negated.
    let pattern = Pattern::parse(pattern).filter(|pattern| !pattern.negated)?;
    let words = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    Some((pattern, words.flat_map(assignments).collect()))
}

fn assignments(word: &[u8]) -> Vec<Assignment> {
    use Assignment as A;
    match word {
        b"text" | b"crlf" => vec![A::Text(Text::Yes)],
        b"-text" | b"-crlf" | b"binary" => vec![A::Text(Text::No)],
        b"text=auto" => vec![A::Text(Text::Auto)],
        b"!text" | b"!crlf" | b"!binary" => vec![A::Text(Text::Unspecified)],
        b"crlf=input" => vec![A::Text(Text::Yes), A::Eol(Some(Eol::Lf))],
        b"eol=crlf" => vec![A::Eol(Some(Eol::Crlf))],
        b"eol=lf" => vec![A::Eol(Some(Eol::Lf))],
        b"!eol" | b"-eol" => vec![A::Eol(None)],
        b"ident" => vec![A::Ident(true)],
        b"-ident" | b"!ident" => vec![A::Ident(false)],
        b"filter=lfs" => vec![A::Lfs(true)],
        b"filter" | b"-filter" | b"!filter" => vec![A::Lfs(false)],
        _ if word.starts_with(b"filter=") => vec![A::Lfs(false)],
        _ => Vec::new(),
    }
}

/// Rules of one file, and a path under them.
#[cfg(fuzzing)]
pub(super) fn fuzz(rules: &[u8], path: &[u8]) {
    let files = vec![AttributeFile { directory: Vec::new(), rules: parse(rules) }];
    let _ = Attributes { files, endings: Endings::default() }.of(path);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn convert(rules: &str, path: &str, blob: &[u8]) -> Option<Vec<u8>> {
        let file = AttributeFile { directory: Vec::new(), rules: parse(rules.as_bytes()) };
        Attributes { files: vec![file], endings: Endings::default() }.convert(
            path.as_bytes(),
            ObjectId::ZERO,
            blob,
        )
    }

    #[test]
    fn line_endings() {
        let crlf = Some(b"a\r\nb\r\n".to_vec());
        assert_eq!(convert("*.bat eol=crlf", "x/y.bat", b"a\nb\r\n"), crlf);
        assert_eq!(convert("* text=auto eol=crlf", "y", b"a\nb\n"), crlf);
        assert_eq!(convert("* text=auto eol=crlf", "y", b"a\nb\r\n"), None);
        assert_eq!(convert("* text=auto eol=crlf", "y", b"a\nb\0"), None);
        assert_eq!(convert("* text", "y", b"a\n"), None);
        assert_eq!(convert("* eol=crlf\n*.bin binary", "y.bin", b"a\n"), None);
        assert_eq!(convert("*.txt eol=crlf", "y.bat", b"a\n"), None);
    }

    #[test]
    fn endings_of_the_configuration() {
        let files = || {
            vec![AttributeFile {
                directory: Vec::new(),
                rules: parse(b"*.txt text\n*.lf eol=lf\n*.bin -text"),
            }]
        };
        let with = |auto_crlf, crlf| Attributes {
            files: files(),
            endings: Endings { auto_crlf, crlf, ..Endings::default() },
        };
        let changes = |attributes: &Attributes, path: &str| {
            attributes.convert(path.as_bytes(), ObjectId::ZERO, b"a\n").is_some()
        };
        for (path, auto, eol) in
            [("x", true, false), ("x.txt", true, true), ("x.lf", false, false), ("x.bin", false, false)]
        {
            assert_eq!(changes(&with(true, false), path), auto, "{path}");
            assert_eq!(changes(&with(false, true), path), eol, "{path}");
        }
    }

    #[test]
    fn large_files_are_named_by_the_filter() {
        let rules =
            "*.bin filter=lfs diff=lfs merge=lfs -text\nsmall/** !filter\nown/* filter=own\nnone/* -filter";
        let is_large = |path: &str, lfs| {
            let file = AttributeFile { directory: Vec::new(), rules: parse(rules.as_bytes()) };
            let endings = Endings { lfs, ..Endings::default() };
            Attributes { files: vec![file], endings }.is_large(path.as_bytes())
        };
        assert!(is_large("a.bin", true) && is_large("d/a.bin", true) && !is_large("a.bin", false));
        for path in ["a.txt", "small/a.bin", "own/a.bin", "none/a.bin"] {
            assert!(!is_large(path, true), "{path}");
        }
    }

    #[test]
    fn idents() {
        let id = ObjectId::ZERO;
        let expected = format!("a $Id: {id} $ $Id: {id} $ $Idx $Id: b\n").into_bytes();
        assert_eq!(convert("* ident", "x", b"a $Id$ $Id: old $ $Idx $Id: b\n"), Some(expected));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(rules in ".{0,80}", path in "[a-z/.]{1,10}", blob in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = convert(&rules, &path, &blob);
        }
    }
}
