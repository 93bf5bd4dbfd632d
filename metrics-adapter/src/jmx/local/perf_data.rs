//! The counters that HotSpot keeps in a memory-mapped file, `hsperfdata`, readable without its help.
//!
//! Source: `perfMemory.hpp` of OpenJDK, as file format: a prologue of 32 bytes, then entries with a header of
//! 20 bytes, a name and a value each, in the byte order that the prologue names.

use thiserror::Error;

use super::process::{Jvm, LocalError};

/// Largest file that is read, in bytes; HotSpot's own default is 32 KiB.
const MAX_BYTES: u64 = 4 << 20;
const MAGIC: u32 = 0xCAFE_C0C0;

/// One counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Dotted name, for example `sun.gc.collector.0.invocations`.
    pub name: String,
    /// A number or a text.
    pub value: Content,
}

/// What a counter holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A `long`.
    Number(i64),
    /// A text without its padding.
    Text(String),
}

/// The file is not what it should be.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PerfDataError {
    /// There is none.
    #[error("there is no hsperfdata file of it (-XX:-UsePerfData, or another temporary directory)")]
    Missing,
    /// It cannot be read.
    #[error("its hsperfdata file cannot be read")]
    Unreadable(#[from] std::io::Error),
    /// The bytes make no sense.
    #[error("its hsperfdata file is malformed: {0}")]
    Malformed(&'static str),
}

/// Reads the counters of a JVM.
///
/// # Errors
/// There is no such file, or it is none. Blocks on the file system.
pub fn read(jvm: &Jvm) -> Result<Vec<Counter>, LocalError> {
    file(jvm).and_then(|bytes| parse(&bytes)).map_err(|source| LocalError::PerfData { pid: jvm.pid, source })
}

fn file(jvm: &Jvm) -> Result<Vec<u8>, PerfDataError> {
    let directories = std::fs::read_dir(jvm.temporary("."))?;
    let mut files = directories
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with("hsperfdata_")));
    let own = jvm.own_pid.to_string();
    let path = files.find_map(|entry| Some(entry.path().join(&own)).filter(|path| path.is_file()));
    let file = std::fs::File::open(path.ok_or(PerfDataError::Missing)?)?;
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BYTES), &mut bytes)?;
    Ok(bytes)
}

struct Bytes<'b> {
    bytes: &'b [u8],
    little: bool,
}

impl Bytes<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], PerfDataError> {
        let found = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
        found.copied().ok_or(PerfDataError::Malformed("it ends too early"))
    }

    fn u32(&self, at: usize) -> Result<usize, PerfDataError> {
        let bytes = self.array(at)?;
        Ok(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize)
    }

    fn i64(&self, at: usize) -> Result<i64, PerfDataError> {
        let bytes = self.array(at)?;
        Ok(if self.little { i64::from_le_bytes(bytes) } else { i64::from_be_bytes(bytes) })
    }
}

/// Reads the whole file; entries of unknown types are left out.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Counter>, PerfDataError> {
    let head = Bytes { bytes, little: false };
    if head.array(0)? != MAGIC.to_be_bytes() {
        return Err(PerfDataError::Malformed("it does not start with cafec0c0"));
    }
    let little = head.array::<1>(4)? == [1];
    let bytes = Bytes { bytes, little };
    if bytes.array::<1>(5)? != [2] {
        return Err(PerfDataError::Malformed("its version is not 2"));
    }
    let (mut at, count) = (bytes.u32(24)?, bytes.u32(28)?);
    let mut counters = Vec::new();
    for _ in 0..count {
        let length = bytes.u32(at)?;
        if length < 20 {
            return Err(PerfDataError::Malformed("an entry is shorter than its own header"));
        }
        let (name, data) = (at + bytes.u32(at + 4)?, at + bytes.u32(at + 16)?);
        let vector = bytes.u32(at + 8)?;
        let kind = bytes.array::<1>(at + 12)?[0];
        let name = text(&bytes, name, at + length)?;
        let value = match (kind, vector) {
            (b'J', 0) => Some(Content::Number(bytes.i64(data)?)),
            (b'B', 1..) => Some(Content::Text(text(&bytes, data, data + vector)?)),
            _ => None,
        };
        counters.extend(value.map(|value| Counter { name, value }));
        at += length;
    }
    Ok(counters)
}

/// A text up to its first NUL.
fn text(bytes: &Bytes<'_>, start: usize, end: usize) -> Result<String, PerfDataError> {
    let bytes = bytes.bytes.get(start..end).ok_or(PerfDataError::Malformed("a text ends behind the file"))?;
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let mut bytes = vec![0xCA, 0xFE, 0xC0, 0xC0, 1, 2, 0, 1];
        for word in [112_u32, 0, 0, 0, 32, 2] {
            bytes.extend(word.to_le_bytes());
        }
        for (vector, kind, name, data) in [
            (0_u32, b'J', b"a.b\0\0\0\0\0", 7_i64.to_le_bytes()),
            (8, b'B', b"text\0\0\0\0", *b"xy\0\0\0\0\0\0"),
        ] {
            for word in [40, 20, vector] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.extend([kind, 0, 1, 1]);
            bytes.extend(28_u32.to_le_bytes());
            bytes.extend(name);
            bytes.extend(data);
            bytes.extend([0; 4]);
        }
        bytes
    }

    #[test]
    fn entries() {
        let counters = parse(&sample()).unwrap();
        assert_eq!(counters[0], Counter { name: "a.b".to_owned(), value: Content::Number(7) });
        assert_eq!(counters[1], Counter { name: "text".to_owned(), value: Content::Text("xy".to_owned()) });
        for end in 0..100 {
            assert!(parse(&sample()[..end]).is_err(), "{end}");
        }
    }

    proptest! {
        #[test]
        fn damage_never_panics(at in 0usize..112, byte in any::<u8>(), garbage in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = sample();
            bytes[at] = byte;
            let _ = parse(&bytes);
            let _ = parse(&garbage);
        }
    }
}
