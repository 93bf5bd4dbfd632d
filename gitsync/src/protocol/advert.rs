//! The first thing a server says: version 2 capabilities, or the ref list of versions 0 and 1.

use bytes::Bytes;

use super::refs::{MAX_REFS, RemoteRef, is_wanted};
use super::{ObjectId, Packet, ProtocolError, chomp, excerpt};

/// Bound on capability lines of version 2.
const MAX_CAPABILITIES: usize = 256;

/// Capabilities by name, with their value where they have one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities(Vec<(String, String)>);

impl Capabilities {
    fn add(&mut self, word: &[u8]) {
        let word = String::from_utf8_lossy(word);
        let (name, value) = word.split_once('=').unwrap_or((&word, ""));
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// Whether the capability is there, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The value of the first capability of that name.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Whether a space-separated capability value has the feature (`fetch=shallow filter`).
    pub fn has_feature(&self, name: &str, feature: &str) -> bool {
        self.value(name).is_some_and(|value| value.split(' ').any(|word| word == feature))
    }

    /// Targets of symbolic refs in a version 0 capability list (`symref=HEAD:refs/heads/main`).
    fn symref_target(&self, name: &str) -> Option<String> {
        self.0.iter().filter(|(n, _)| n == "symref").find_map(|(_, value)| {
            let (from, to) = value.split_once(':')?;
            (from == name).then(|| to.to_owned())
        })
    }

    fn check_object_format(&self) -> Result<(), ProtocolError> {
        match self.value("object-format") {
            None | Some("sha1") => Ok(()),
            Some(other) => Err(ProtocolError::ObjectFormat(other.to_owned())),
        }
    }
}

/// What the server offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advertisement {
    /// Version 2: refs are asked for separately.
    V2(Capabilities),
    /// Versions 0 and 1: the refs came along.
    V0 {
        /// The capability list of the first line.
        capabilities: Capabilities,
        /// The refs kept by the reader's filter, with peeled values folded in.
        refs: Vec<RemoteRef>,
    },
}

/// Reads an advertisement packet by packet.
///
/// Only refs that the filter wants are kept, so a server with a million refs costs no memory.
#[derive(Debug)]
pub struct AdvertReader {
    state: State,
    service_header: bool,
    wanted: Vec<String>,
    capabilities: Capabilities,
    refs: Vec<RemoteRef>,
}

#[derive(Debug, PartialEq)]
enum State {
    Start,
    AfterServiceHeader,
    V2,
    V0,
    Done,
}

impl AdvertReader {
    /// `service_header`: smart HTTP puts `# service=…` and a flush in front.
    /// `wanted`: full ref names, or beginnings with a `*` behind, worth keeping from a version 0 list.
    pub fn new(service_header: bool, wanted: Vec<String>) -> Self {
        Self {
            state: State::Start,
            service_header,
            wanted,
            capabilities: Capabilities::default(),
            refs: Vec::new(),
        }
    }

    /// Takes the next packet; gives the advertisement when it is complete.
    ///
    /// # Errors
    /// When the packet doesn't belong in an advertisement or the server reports an error.
    pub fn packet(&mut self, packet: Packet) -> Result<Option<Advertisement>, ProtocolError> {
        match (&self.state, packet) {
            (State::Start, Packet::Data(line)) if self.service_header => self.service_line(&line),
            (State::AfterServiceHeader, Packet::Flush) => {
                self.state = State::Start;
                self.service_header = false;
                Ok(None)
            }
            (State::Start, Packet::Data(line)) => self.first_line(&line),
            // A repository without any ref may answer with a flush alone.
            (State::Start | State::V0, Packet::Flush) => self.finish_v0(),
            (State::V0, Packet::Data(line)) => self.ref_line(&line),
            (State::V2, Packet::Data(line)) => self.capability_line(&line),
            (State::V2, Packet::Flush) => {
                self.state = State::Done;
                self.capabilities.check_object_format()?;
                Ok(Some(Advertisement::V2(std::mem::take(&mut self.capabilities))))
            }
            (_, packet) => Err(unexpected(&packet)),
        }
    }

    fn service_line(&mut self, line: &Bytes) -> Result<Option<Advertisement>, ProtocolError> {
        let text = chomp(line);
        if text.starts_with(b"# service=") {
            self.state = State::AfterServiceHeader;
            return Ok(None);
        }
        // Version 2 over HTTP may leave the header out.
        self.first_line(line)
    }

    fn first_line(&mut self, line: &Bytes) -> Result<Option<Advertisement>, ProtocolError> {
        let text = chomp(line);
        refuse_error(text)?;
        match text {
            b"version 2" => self.state = State::V2,
            // Version 1 is version 0 with this line in front.
            b"version 1" => self.state = State::Start,
            _ => {
                self.state = State::V0;
                let (entry, words) = text.split_at(text.iter().position(|&b| b == 0).unwrap_or(text.len()));
                let words = words.strip_prefix(b"\0").unwrap_or(words);
                words.split(|&b| b == b' ').filter(|w| !w.is_empty()).for_each(|w| self.capabilities.add(w));
                self.capabilities.check_object_format()?;
                return self.ref_line(entry);
            }
        }
        Ok(None)
    }

    fn ref_line(&mut self, line: &[u8]) -> Result<Option<Advertisement>, ProtocolError> {
        let text = chomp(line);
        refuse_error(text)?;
        if text.starts_with(b"shallow ") {
            return Ok(None);
        }
        let bad = || ProtocolError::UnexpectedPacket { what: "the ref list", packet: excerpt(text) };
        let (id, name) = text.split_at_checked(40).ok_or_else(bad)?;
        let id = ObjectId::from_hex(id).ok_or_else(bad)?;
        let name = name.strip_prefix(b" ").ok_or_else(bad)?;
        let name = String::from_utf8_lossy(name);
        match name.strip_suffix("^{}") {
            // "capabilities^{}" stands for an empty ref list.
            Some("capabilities") => {}
            Some(tag) => {
                if let Some(entry) = self.refs.iter_mut().rev().find(|r| r.name == tag) {
                    entry.peeled = Some(id);
                }
            }
            None if is_wanted(&self.wanted, &name) => {
                if self.refs.len() >= MAX_REFS {
                    return Err(ProtocolError::TooMuch { what: "refs", limit: MAX_REFS });
                }
                let symref_target = self.capabilities.symref_target(&name);
                self.refs.push(RemoteRef { name: name.into_owned(), id, peeled: None, symref_target });
            }
            None => {}
        }
        Ok(None)
    }

    fn capability_line(&mut self, line: &Bytes) -> Result<Option<Advertisement>, ProtocolError> {
        let text = chomp(line);
        refuse_error(text)?;
        if self.capabilities.0.len() >= MAX_CAPABILITIES {
            return Err(ProtocolError::TooMuch { what: "capabilities", limit: MAX_CAPABILITIES });
        }
        self.capabilities.add(text);
        Ok(None)
    }

    fn finish_v0(&mut self) -> Result<Option<Advertisement>, ProtocolError> {
        self.state = State::Done;
        Ok(Some(Advertisement::V0 {
            capabilities: std::mem::take(&mut self.capabilities),
            refs: std::mem::take(&mut self.refs),
        }))
    }
}

fn unexpected(packet: &Packet) -> ProtocolError {
    let packet = match packet {
        Packet::Data(data) => excerpt(data),
        other => format!("{other:?}"),
    };
    ProtocolError::UnexpectedPacket { what: "the server's greeting", packet }
}

/// `ERR` packets may stand in for any answer.
pub(super) fn refuse_error(text: &[u8]) -> Result<(), ProtocolError> {
    match text.strip_prefix(b"ERR ") {
        Some(message) => Err(ProtocolError::Remote(excerpt(message))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Decoder, encode_data, encode_flush};
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";
    const PEELED: &str = "89abcdef0123456789abcdef0123456701234567";

    fn read(wire: &[&[u8]], service: bool) -> Result<Option<Advertisement>, ProtocolError> {
        let wanted = vec!["HEAD".to_owned(), "refs/tags/v1".to_owned()];
        let (mut decoder, mut reader) = (Decoder::default(), AdvertReader::new(service, wanted));
        for chunk in wire {
            decoder.push(chunk);
            while let Some(packet) = decoder.next_packet()? {
                if let Some(advertisement) = reader.packet(packet)? {
                    return Ok(Some(advertisement));
                }
            }
        }
        Ok(None)
    }

    fn v0_wire() -> Vec<u8> {
        let mut wire = Vec::new();
        encode_data(&mut wire, b"# service=git-upload-pack\n");
        encode_flush(&mut wire);
        encode_data(
            &mut wire,
            format!("{ID} HEAD\0side-band-64k shallow symref=HEAD:refs/heads/main agent=git/1\n").as_bytes(),
        );
        encode_data(&mut wire, format!("{ID} refs/heads/main\n").as_bytes());
        encode_data(&mut wire, format!("{ID} refs/tags/v1\n").as_bytes());
        encode_data(&mut wire, format!("{PEELED} refs/tags/v1^{{}}\n").as_bytes());
        encode_flush(&mut wire);
        wire
    }

    #[test]
    fn version_0_keeps_only_wanted_refs_and_peels() {
        let Some(Advertisement::V0 { capabilities, refs }) = read(&[&v0_wire()], true).unwrap() else {
            panic!("no advertisement")
        };
        assert!(capabilities.has("shallow"));
        assert_eq!(refs.len(), 2);
        assert_eq!(refs[0].symref_target.as_deref(), Some("refs/heads/main"));
        assert_eq!(refs[1].peeled.unwrap().to_string(), PEELED);
    }

    #[test]
    fn version_2_capabilities() {
        let mut wire = Vec::new();
        for line in
            ["version 2\n", "ls-refs=unborn\n", "fetch=shallow wait-for-done\n", "object-format=sha1\n"]
        {
            encode_data(&mut wire, line.as_bytes());
        }
        encode_flush(&mut wire);
        let Some(Advertisement::V2(capabilities)) = read(&[&wire], false).unwrap() else { panic!() };
        assert!(capabilities.has_feature("fetch", "shallow"));
        assert!(!capabilities.has_feature("fetch", "filter"));
    }

    #[test]
    fn errors_are_named() {
        let mut wire = Vec::new();
        encode_data(&mut wire, b"ERR access denied or repository not exported: /x");
        assert!(
            matches!(read(&[&wire], false), Err(ProtocolError::Remote(text)) if text.starts_with("access"))
        );
        let mut wire = Vec::new();
        encode_data(&mut wire, b"version 2\n");
        encode_data(&mut wire, b"object-format=sha256\n");
        encode_flush(&mut wire);
        assert!(matches!(read(&[&wire], false), Err(ProtocolError::ObjectFormat(_))));
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same(cut in 0usize..300) {
            let wire = v0_wire();
            let at = cut.min(wire.len());
            prop_assert_eq!(read(&[&wire[..at], &wire[at..]], true), read(&[&wire], true));
        }

        #[test]
        fn garbage_never_panics(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..6)) {
            let mut wire = Vec::new();
            lines.iter().for_each(|line| encode_data(&mut wire, line));
            encode_flush(&mut wire);
            let _ = read(&[&wire], false);
            let _ = read(&[&wire], true);
        }
    }
}
