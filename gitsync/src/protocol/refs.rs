//! Asking for refs (`ls-refs` of version 2) and finding the one that was meant.

use super::advert::refuse_error;
use super::{ObjectId, Packet, ProtocolError, chomp, encode_data, encode_delim, encode_flush, excerpt};

/// Bound on refs kept from one answer. Prefixes limit it to a handful; this is for rude servers.
pub(super) const MAX_REFS: usize = 10_000;

/// One ref as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRef {
    /// Full name, `refs/heads/main` or `HEAD`.
    pub name: String,
    /// What it points to.
    pub id: ObjectId,
    /// For an annotated tag: the object it finally names.
    pub peeled: Option<ObjectId>,
    /// For a symbolic ref such as `HEAD`: the ref it stands for.
    pub symref_target: Option<String>,
}

impl RemoteRef {
    /// The commit (or other object) behind the ref, tags peeled.
    pub fn target(&self) -> ObjectId {
        self.peeled.unwrap_or(self.id)
    }
}

/// The full names a short ref name can mean, the one that wins first (`gitrevisions`).
pub fn ref_prefixes(name: &str) -> Vec<String> {
    ["", "refs/", "refs/tags/", "refs/heads/", "refs/remotes/"]
        .iter()
        .map(|prefix| format!("{prefix}{name}"))
        .chain([format!("refs/remotes/{name}/HEAD")])
        .collect()
}

/// The ref that `name` means among those the server has.
pub fn resolve<'a>(name: &str, refs: &'a [RemoteRef]) -> Option<&'a RemoteRef> {
    ref_prefixes(name).iter().find_map(|full| refs.iter().find(|r| r.name == *full))
}

/// Whether a ref is among those asked for: full names, and beginnings of names that end in `*`, which no name
/// can hold.
pub(super) fn is_wanted(wanted: &[String], name: &str) -> bool {
    wanted.iter().any(|one| match one.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => one == name,
    })
}

/// Writes an `ls-refs` request for the given full names, or beginnings of names with a `*` behind.
pub fn encode_ls_refs(out: &mut Vec<u8>, agent: &str, names: &[String]) {
    encode_data(out, b"command=ls-refs\n");
    encode_data(out, format!("agent={agent}\n").as_bytes());
    encode_data(out, b"object-format=sha1\n");
    encode_delim(out);
    encode_data(out, b"peel\n");
    encode_data(out, b"symrefs\n");
    for name in names {
        encode_data(out, format!("ref-prefix {}\n", name.trim_end_matches('*')).as_bytes());
    }
    encode_flush(out);
}

/// Reads the answer to `ls-refs`, keeping the names asked for (prefixes match longer names too).
#[derive(Debug)]
pub struct RefsReader {
    wanted: Vec<String>,
    refs: Vec<RemoteRef>,
}

impl RefsReader {
    /// `wanted`: what was asked for.
    pub fn new(wanted: Vec<String>) -> Self {
        Self { wanted, refs: Vec::new() }
    }

    /// Takes the next packet; gives the refs when the list is complete.
    ///
    /// # Errors
    /// When the packet is no ref line or the server reports an error.
    pub fn packet(&mut self, packet: Packet) -> Result<Option<Vec<RemoteRef>>, ProtocolError> {
        match packet {
            Packet::Flush => Ok(Some(std::mem::take(&mut self.refs))),
            Packet::Data(line) => self.line(chomp(&line)).map(|()| None),
            other => {
                Err(ProtocolError::UnexpectedPacket { what: "the ref list", packet: format!("{other:?}") })
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), ProtocolError> {
        refuse_error(line)?;
        let bad = || ProtocolError::UnexpectedPacket { what: "the ref list", packet: excerpt(line) };
        let text = String::from_utf8_lossy(line);
        let mut words = text.split(' ');
        let id = words.next().ok_or_else(bad)?;
        let name = words.next().ok_or_else(bad)?;
        // A HEAD whose branch doesn't exist yet; not asked for, harmless.
        if id == "unborn" {
            return Ok(());
        }
        let id = id.parse().map_err(|()| bad())?;
        if !is_wanted(&self.wanted, name) {
            return Ok(());
        }
        if self.refs.len() >= MAX_REFS {
            return Err(ProtocolError::TooMuch { what: "refs", limit: MAX_REFS });
        }
        let mut found = RemoteRef { name: name.to_owned(), id, peeled: None, symref_target: None };
        for word in words {
            if let Some(peeled) = word.strip_prefix("peeled:") {
                found.peeled = Some(peeled.parse().map_err(|()| bad())?);
            } else if let Some(target) = word.strip_prefix("symref-target:") {
                found.symref_target = Some(target.to_owned());
            }
        }
        self.refs.push(found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, digit: char) -> RemoteRef {
        let id = digit.to_string().repeat(40).parse().unwrap();
        RemoteRef { name: name.to_owned(), id, peeled: None, symref_target: None }
    }

    #[test]
    fn tags_win_over_branches_and_full_names_over_all() {
        let refs = [entry("refs/heads/x", '1'), entry("refs/tags/x", '2')];
        assert_eq!(resolve("x", &refs).unwrap().name, "refs/tags/x");
        assert_eq!(resolve("heads/x", &refs).unwrap().name, "refs/heads/x");
        assert_eq!(resolve("refs/heads/x", &refs).unwrap().name, "refs/heads/x");
        assert!(resolve("y", &refs).is_none());
    }

    #[test]
    fn reads_peeled_and_symref() {
        let mut reader = RefsReader::new(ref_prefixes("HEAD"));
        let id = "1".repeat(40);
        let line = format!("{id} HEAD symref-target:refs/heads/main peeled:{}\n", "2".repeat(40));
        assert_eq!(reader.packet(Packet::Data(Bytes::from(line))).unwrap(), None);
        let longer = format!("{id} HEADLESS\n");
        assert_eq!(reader.packet(Packet::Data(Bytes::from(longer))).unwrap(), None);
        let refs = reader.packet(Packet::Flush).unwrap().unwrap();
        assert_eq!(refs.len(), 1);
        assert_eq!(refs[0].symref_target.as_deref(), Some("refs/heads/main"));
        assert_eq!(refs[0].target().to_string(), "2".repeat(40));
    }

    #[test]
    fn beginnings_of_names() {
        let wanted = ["HEAD".to_owned(), "refs/heads/preview/*".to_owned()];
        assert!(is_wanted(&wanted, "HEAD") && is_wanted(&wanted, "refs/heads/preview/a/b"));
        assert!(!is_wanted(&wanted, "HEADS") && !is_wanted(&wanted, "refs/heads/main"));
        let mut request = Vec::new();
        encode_ls_refs(&mut request, "a", &wanted);
        assert!(String::from_utf8(request).unwrap().contains("ref-prefix refs/heads/preview/\n"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = RefsReader::new(vec!["HEAD".to_owned()]).packet(Packet::Data(line.into()));
        }
    }
}
