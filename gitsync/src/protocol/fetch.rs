//! Asking for a pack and reading the answer, in version 2 and in version 0.

use bytes::Bytes;

use super::advert::refuse_error;
use super::{
    Capabilities, ObjectId, Packet, ProtocolError, chomp, encode_data, encode_delim, encode_flush, excerpt,
};

/// The depth that means "all of it" on the wire.
pub const INFINITE_DEPTH: u32 = 0x7fff_ffff;

/// Bound on shallow boundary lines in one answer.
const MAX_SHALLOW: usize = 1_000_000;

/// What to fetch. One round: wants, haves and `done` together.
///
/// A single round may get some objects twice, never too few; it saves a round trip, and the
/// sender of this request has few and recent haves.
#[derive(Debug, Clone, Default)]
pub struct FetchRequest {
    /// Objects asked for.
    pub wants: Vec<ObjectId>,
    /// Commits that are here already, the newest first.
    pub haves: Vec<ObjectId>,
    /// Commits here whose parents are missing.
    pub shallow: Vec<ObjectId>,
    /// Commits of history wanted; `None` for all that follows from the haves.
    pub depth: Option<u32>,
    /// A partial-clone filter; see [`FetchRequest::is_filtered_by`].
    pub filter: Option<String>,
    /// The pack must not build on objects that aren't in it: some of those behind the haves are missing.
    pub whole: bool,
}

impl FetchRequest {
    /// The request in version 2.
    ///
    /// # Errors
    /// When the server can't do what the request needs.
    pub fn encode_v2(&self, capabilities: &Capabilities, agent: &str) -> Result<Vec<u8>, ProtocolError> {
        if self.needs_shallow() && !capabilities.has_feature("fetch", "shallow") {
            return Err(ProtocolError::MissingCapability("shallow fetches (use --depth=0)"));
        }
        let mut out = Vec::new();
        encode_data(&mut out, b"command=fetch");
        encode_data(&mut out, format!("agent={agent}").as_bytes());
        encode_data(&mut out, b"object-format=sha1");
        encode_delim(&mut out);
        for word in ["thin-pack", "no-progress", "ofs-delta"].iter().skip(usize::from(self.whole)) {
            encode_data(&mut out, format!("{word}\n").as_bytes());
        }
        self.encode_shallow(&mut out);
        if let Some(filter) = self.filter.as_deref().filter(|_| self.is_filtered_by(capabilities)) {
            encode_data(&mut out, format!("filter {filter}\n").as_bytes());
        }
        for want in &self.wants {
            encode_data(&mut out, format!("want {want}\n").as_bytes());
        }
        for have in &self.haves {
            encode_data(&mut out, format!("have {have}\n").as_bytes());
        }
        encode_data(&mut out, b"done\n");
        encode_flush(&mut out);
        Ok(out)
    }

    /// The request in version 0.
    ///
    /// # Errors
    /// When the server can't do what the request needs.
    pub fn encode_v0(&self, capabilities: &Capabilities, agent: &str) -> Result<Vec<u8>, ProtocolError> {
        if self.needs_shallow() && !capabilities.has("shallow") {
            return Err(ProtocolError::MissingCapability("shallow fetches (use --depth=0)"));
        }
        if !capabilities.has("side-band-64k") {
            return Err(ProtocolError::MissingCapability("side-band-64k"));
        }
        let mut words = vec!["side-band-64k".to_owned()];
        words.extend(
            ["thin-pack", "ofs-delta", "no-progress"]
                .into_iter()
                .skip(usize::from(self.whole))
                .filter(|word| capabilities.has(word))
                .map(str::to_owned),
        );
        if capabilities.has("agent") {
            words.push(format!("agent={agent}"));
        }
        let mut out = Vec::new();
        for (i, want) in self.wants.iter().enumerate() {
            let tail = if i == 0 { format!(" {}", words.join(" ")) } else { String::new() };
            encode_data(&mut out, format!("want {want}{tail}\n").as_bytes());
        }
        self.encode_shallow(&mut out);
        encode_flush(&mut out);
        for have in &self.haves {
            encode_data(&mut out, format!("have {have}\n").as_bytes());
        }
        encode_data(&mut out, b"done\n");
        Ok(out)
    }

    /// Whether a server of version 2 gets the filter. Those of version 0 don't: as a rule they refuse to send
    /// single objects later.
    pub fn is_filtered_by(&self, capabilities: &Capabilities) -> bool {
        self.filter.is_some() && capabilities.has_feature("fetch", "filter")
    }

    fn encode_shallow(&self, out: &mut Vec<u8>) {
        for id in &self.shallow {
            encode_data(out, format!("shallow {id}\n").as_bytes());
        }
        if let Some(depth) = self.depth {
            encode_data(out, format!("deepen {depth}\n").as_bytes());
        }
    }

    fn needs_shallow(&self) -> bool {
        self.depth.is_some() || !self.shallow.is_empty()
    }
}

/// What a fetch answer brings, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchEvent {
    /// The server was asked to leave out what the filter says. Comes first.
    Filtered,
    /// The history ends at this commit.
    Shallow(ObjectId),
    /// The history no longer ends at this commit.
    Unshallow(ObjectId),
    /// Words for a human.
    Progress(Bytes),
    /// The next bytes of the pack.
    Pack(Bytes),
    /// The answer is complete.
    Done,
}

/// Reads a fetch answer packet by packet.
#[derive(Debug)]
pub struct FetchResponse {
    state: State,
    shallow_lines: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Version 2, between sections.
    Section,
    /// Version 2, a section this client has no use for.
    Skip,
    /// Version 2, `shallow-info`.
    ShallowInfo,
    /// Version 0, shallow lines until a flush.
    V0Shallow,
    /// Version 0, `NAK` or `ACK` lines before the pack.
    V0Acks,
    /// Sideband packets.
    Pack,
    Done,
}

impl FetchResponse {
    /// For a version 2 answer.
    pub fn v2() -> Self {
        Self { state: State::Section, shallow_lines: 0 }
    }

    /// For a version 0 answer; `deepen` when the request named a depth.
    pub fn v0(deepen: bool) -> Self {
        Self { state: if deepen { State::V0Shallow } else { State::V0Acks }, shallow_lines: 0 }
    }

    /// Takes the next packet.
    ///
    /// # Errors
    /// When the packet doesn't belong here or the server reports an error.
    pub fn packet(&mut self, packet: Packet) -> Result<Option<FetchEvent>, ProtocolError> {
        match (self.state, packet) {
            (State::Section, Packet::Data(line)) => self.section(chomp(&line)),
            (State::Skip | State::ShallowInfo, Packet::Delim) => {
                self.state = State::Section;
                Ok(None)
            }
            (State::Skip, Packet::Data(line)) => refuse_error(&line).map(|()| None),
            (State::ShallowInfo | State::V0Shallow, Packet::Data(line)) => self.shallow(chomp(&line)),
            (State::V0Shallow, Packet::Flush) => {
                self.state = State::V0Acks;
                Ok(None)
            }
            (State::V0Acks, Packet::Data(line)) if line.starts_with(b"ACK ") || line.starts_with(b"NAK") => {
                Ok(None)
            }
            (State::V0Acks, Packet::Data(line)) if line.first().is_some_and(|&b| b <= 3) => {
                self.state = State::Pack;
                sideband(line)
            }
            (State::Pack, Packet::Data(line)) => sideband(line),
            (State::Pack, Packet::Flush) => {
                self.state = State::Done;
                Ok(Some(FetchEvent::Done))
            }
            (_, Packet::Data(line)) => {
                refuse_error(&line)?;
                Err(ProtocolError::UnexpectedPacket { what: "the fetch answer", packet: excerpt(&line) })
            }
            (_, other) => Err(ProtocolError::UnexpectedPacket {
                what: "the fetch answer",
                packet: format!("{other:?}"),
            }),
        }
    }

    fn section(&mut self, name: &[u8]) -> Result<Option<FetchEvent>, ProtocolError> {
        refuse_error(name)?;
        self.state = match name {
            b"shallow-info" => State::ShallowInfo,
            b"packfile" => State::Pack,
            b"acknowledgments" | b"wanted-refs" => State::Skip,
            _ => {
                return Err(ProtocolError::UnexpectedPacket {
                    what: "the fetch answer's sections",
                    packet: excerpt(name),
                });
            }
        };
        Ok(None)
    }

    fn shallow(&mut self, line: &[u8]) -> Result<Option<FetchEvent>, ProtocolError> {
        refuse_error(line)?;
        self.shallow_lines += 1;
        if self.shallow_lines > MAX_SHALLOW {
            return Err(ProtocolError::TooMuch { what: "shallow commits", limit: MAX_SHALLOW });
        }
        let bad = || ProtocolError::UnexpectedPacket { what: "shallow commits", packet: excerpt(line) };
        if let Some(id) = line.strip_prefix(b"shallow ") {
            return Ok(Some(FetchEvent::Shallow(ObjectId::from_hex(id).ok_or_else(bad)?)));
        }
        let id = line.strip_prefix(b"unshallow ").ok_or_else(bad)?;
        Ok(Some(FetchEvent::Unshallow(ObjectId::from_hex(id).ok_or_else(bad)?)))
    }
}

fn sideband(line: Bytes) -> Result<Option<FetchEvent>, ProtocolError> {
    match line.first() {
        Some(1) => Ok(Some(FetchEvent::Pack(line.slice(1..)))),
        Some(2) => Ok(Some(FetchEvent::Progress(line.slice(1..)))),
        Some(3) => Err(ProtocolError::Remote(excerpt(chomp(&line[1..])))),
        // An empty packet keeps the connection alive.
        None => Ok(None),
        Some(_) => {
            refuse_error(&line)?;
            Err(ProtocolError::UnexpectedPacket { what: "the pack", packet: excerpt(&line) })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Decoder;
    use super::*;

    fn id(digit: char) -> ObjectId {
        digit.to_string().repeat(40).parse().unwrap()
    }

    fn read(mut response: FetchResponse, chunks: &[&[u8]]) -> Result<Vec<FetchEvent>, ProtocolError> {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some(packet) = decoder.next_packet()? {
                events.extend(response.packet(packet)?);
            }
        }
        Ok(events)
    }

    fn v2_wire() -> Vec<u8> {
        let mut wire = Vec::new();
        encode_data(&mut wire, b"shallow-info\n");
        encode_data(&mut wire, format!("shallow {}\n", id('1')).as_bytes());
        encode_data(&mut wire, format!("unshallow {}\n", id('2')).as_bytes());
        encode_delim(&mut wire);
        encode_data(&mut wire, b"packfile\n");
        encode_data(&mut wire, b"\x02Counting\n");
        encode_data(&mut wire, b"\x01PACK");
        encode_data(&mut wire, b"");
        encode_data(&mut wire, b"\x01more");
        encode_flush(&mut wire);
        wire
    }

    #[test]
    fn version_2_answer() {
        assert_eq!(
            read(FetchResponse::v2(), &[&v2_wire()]).unwrap(),
            [
                FetchEvent::Shallow(id('1')),
                FetchEvent::Unshallow(id('2')),
                FetchEvent::Progress(Bytes::from_static(b"Counting\n")),
                FetchEvent::Pack(Bytes::from_static(b"PACK")),
                FetchEvent::Pack(Bytes::from_static(b"more")),
                FetchEvent::Done,
            ]
        );
    }

    #[test]
    fn version_0_answer() {
        let mut wire = Vec::new();
        encode_data(&mut wire, format!("shallow {}", id('1')).as_bytes());
        encode_flush(&mut wire);
        encode_data(&mut wire, b"NAK\n");
        encode_data(&mut wire, b"\x01PACK");
        encode_flush(&mut wire);
        assert_eq!(
            read(FetchResponse::v0(true), &[&wire]).unwrap(),
            [FetchEvent::Shallow(id('1')), FetchEvent::Pack(Bytes::from_static(b"PACK")), FetchEvent::Done]
        );
    }

    #[test]
    fn remote_errors_are_errors() {
        let mut wire = Vec::new();
        encode_data(&mut wire, b"packfile\n");
        encode_data(&mut wire, b"\x03out of memory\n");
        assert_eq!(
            read(FetchResponse::v2(), &[&wire]),
            Err(ProtocolError::Remote("out of memory".to_owned()))
        );
        let mut wire = Vec::new();
        encode_data(&mut wire, b"ERR upload-pack: not our ref 1\n");
        assert!(matches!(read(FetchResponse::v2(), &[&wire]), Err(ProtocolError::Remote(_))));
        assert!(matches!(read(FetchResponse::v0(false), &[&wire]), Err(ProtocolError::Remote(_))));
    }

    #[test]
    fn requests_ask_only_for_what_the_server_offers() {
        let request = FetchRequest { wants: vec![id('1')], depth: Some(1), ..FetchRequest::default() };
        let none = Capabilities::default();
        assert!(matches!(request.encode_v2(&none, "a"), Err(ProtocolError::MissingCapability(_))));
        assert!(matches!(request.encode_v0(&none, "a"), Err(ProtocolError::MissingCapability(_))));
    }

    proptest! {
        #[test]
        fn every_split_gives_the_same(cut in 0usize..400) {
            let wire = v2_wire();
            let at = cut.min(wire.len());
            prop_assert_eq!(
                read(FetchResponse::v2(), &[&wire[..at], &wire[at..]]),
                read(FetchResponse::v2(), &[&wire])
            );
        }

        #[test]
        fn garbage_never_panics(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..6)) {
            let mut wire = Vec::new();
            for line in &lines {
                encode_data(&mut wire, line);
                encode_delim(&mut wire);
            }
            for response in [FetchResponse::v2(), FetchResponse::v0(true), FetchResponse::v0(false)] {
                let _ = read(response, &[&wire]);
            }
        }
    }
}
