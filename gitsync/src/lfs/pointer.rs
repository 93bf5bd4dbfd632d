//! Pointer files: what a repository holds instead of a large file (git-lfs `docs/spec.md`). Pure.

use std::fmt::{self, Write as _};
use std::str::FromStr;

/// Pointer files are shorter than this many bytes.
pub(crate) const MAX_POINTER: usize = 1_024;

/// First lines of pointer files, the old ones too.
const VERSIONS: &[&str] =
    &["https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", "http://git-media.io/v/2"];

/// The SHA-256 that names an LFS object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Oid([u8; 32]);

impl Oid {
    /// Whether a digest is this one.
    pub(crate) fn is(&self, digest: &[u8]) -> bool {
        self.0 == digest
    }
}

impl FromStr for Oid {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 32];
        // Only as it is written by everybody: other spellings would be other file names.
        if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(());
        }
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        self.0.iter().try_for_each(|byte| write!(text, "{byte:02x}"))?;
        f.write_str(&text)
    }
}

/// What a pointer file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) oid: Oid,
    /// Bytes of the content.
    pub(crate) size: u64,
    /// The content went through an extension, a program that isn't here.
    pub(crate) extended: bool,
}

impl Pointer {
    /// Reads a pointer file; `None` for anything else.
    pub(crate) fn parse(blob: &[u8]) -> Option<Self> {
        if blob.len() >= MAX_POINTER || !blob.starts_with(b"version ") {
            return None;
        }
        let mut lines = std::str::from_utf8(blob).ok()?.trim_end().lines();
        if !VERSIONS.contains(&lines.next()?.strip_prefix("version ")?) {
            return None;
        }
        let (mut oid, mut size, mut extended) = (None, None, false);
        for line in lines {
            match line.split_once(' ')? {
                ("oid", value) if oid.is_none() => oid = Some(value.strip_prefix("sha256:")?.parse().ok()?),
                ("size", value) if size.is_none() => size = Some(value.parse().ok()?),
                (key, _) if key.starts_with("ext-") => extended = true,
                _ => return None,
            }
        }
        Some(Self { oid: oid?, size: size?, extended })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

    fn parse(text: &str) -> Option<Pointer> {
        Pointer::parse(text.as_bytes())
    }

    #[test]
    fn pointers_and_what_is_none() {
        let text = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize 12345\n");
        let pointer = parse(&text).unwrap();
        assert_eq!(
            (pointer.oid.to_string(), pointer.size, pointer.extended),
            (OID.to_owned(), 12_345, false)
        );
        assert_eq!(parse(text.trim_end()), Some(pointer));
        assert_eq!(parse(&text.replace("https://git-lfs", "https://hawser")), Some(pointer));
        let more = text.replace("oid", &format!("ext-0-case sha256:{OID}\noid"));
        assert!(parse(&more).unwrap().extended);
        for wrong in [
            "",
            "version 1\n",
            &text.replace("spec/v1", "spec/v9"),
            &text.replace("sha256", "md5"),
            &text.replace("4d7a", "4D7A"),
            &text.replace("4d7a", "../a"),
            &text.replace("12345", "-1"),
            &text.replace("size", "length"),
            &format!("{text}{text}"),
            &format!("{text}{}", " ".repeat(1_024)),
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        for cut in 0..text.len() - 6 {
            assert_eq!(Pointer::parse(&text.as_bytes()[..cut]), None, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(tail in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Pointer::parse(&tail);
            let head = b"version https://git-lfs.github.com/spec/v1\n";
            let _ = Pointer::parse(&[&head[..], &tail].concat());
        }
    }
}
