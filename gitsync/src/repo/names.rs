//! Which file names a repository may bring. Pure.
//!
//! The rules are those of Git's own `verify_path` with the protections for HFS+ and NTFS on:
//! a published volume may be read by any file system behind any export.

/// Why a single path component must not be written, if so.
pub(crate) fn refuse(name: &[u8]) -> Option<&'static str> {
    if name.is_empty() {
        return Some("an empty name");
    }
    if name == b"." || name == b".." {
        return Some("a relative step");
    }
    if name.contains(&b'/') || name.contains(&0) {
        return Some("a separator inside a name");
    }
    if name.len() > 255 {
        return Some("a name longer than 255 bytes");
    }
    if is_dot_git_ntfs(name) || is_dot_git_hfs(name) {
        return Some("a disguise of .git");
    }
    if name.contains(&b'\\') && name.split(|&b| b == b'\\').any(is_dot_git_ntfs) {
        return Some("a disguise of .git");
    }
    None
}

/// `.git` and `git~1` in any case, also with the trailing dots, spaces and streams NTFS ignores.
fn is_dot_git_ntfs(name: &[u8]) -> bool {
    let before_stream = name.split(|&b| b == b':').next().unwrap_or(name);
    let end = before_stream.iter().rposition(|&b| b != b' ' && b != b'.').map_or(0, |i| i + 1);
    let base = &before_stream[..end];
    base.eq_ignore_ascii_case(b".git") || base.eq_ignore_ascii_case(b"git~1")
}

/// `.git` with code points in it that HFS+ leaves out when comparing.
fn is_dot_git_hfs(name: &[u8]) -> bool {
    if name.is_ascii() {
        return name.eq_ignore_ascii_case(b".git");
    }
    let text = String::from_utf8_lossy(name);
    let seen: String = text.chars().filter(|&c| !ignored_by_hfs(c)).collect();
    seen.eq_ignore_ascii_case(".git")
}

fn ignored_by_hfs(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn disguises_of_dot_git() {
        for name in [
            ".git",
            ".GIT",
            ".Git",
            ".git ",
            ".git.",
            ".git. .",
            "git~1",
            "GIT~1",
            ".git::$INDEX_ALLOCATION",
            ".g\u{200c}it",
            "\u{feff}.git",
            "a\\.git\\b",
            ".git\\config",
        ] {
            assert!(refuse(name.as_bytes()).is_some(), "{name:?}");
        }
    }

    #[test]
    fn relative_steps_and_separators() {
        for name in ["", ".", "..", "a/b", "a\0b"] {
            assert!(refuse(name.as_bytes()).is_some(), "{name:?}");
        }
    }

    #[test]
    fn ordinary_names() {
        for name in [".gitignore", ".gitmodules", "git", "...", "git~2", "a\\b", "x.git", "é", " "] {
            assert!(refuse(name.as_bytes()).is_none(), "{name:?}");
        }
        assert!(refuse(b"\xff\xfe").is_none());
    }

    proptest! {
        #[test]
        fn never_panics(name in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = refuse(&name);
        }
    }
}
