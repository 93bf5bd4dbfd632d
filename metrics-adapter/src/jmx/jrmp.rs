//! The Java Remote Method Protocol, client side: handshake, calls, replies.
//!
//! Protocol source: *Java Remote Method Invocation Specification*, chapter 10 (RMI wire protocol), and
//! captured traffic of JDK 8 to 25. All integers are big-endian.

use thiserror::Error;

use super::serialization::{self, Content, Graph, Limits, Reader, Value, encode_modified_utf8};

const MAGIC: &[u8; 6] = b"JRMI\x00\x02";
const STREAM_PROTOCOL: u8 = 0x4B;
const PROTOCOL_ACK: u8 = 0x4E;
const PROTOCOL_NOT_SUPPORTED: u8 = 0x4F;
const CALL: u8 = 0x50;
const RETURN_DATA: u8 = 0x51;
const TLS_ALERT: u8 = 0x15;

/// Kind byte and unique identifier in front of every returned value.
const RETURN_HEADER: usize = 15;

/// A reply or handshake that breaks the protocol.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The handshake got a TLS record: the port wants TLS.
    #[error("the port answers with TLS, but the connection is plain")]
    TlsExpected,
    /// The server does not speak the stream protocol.
    #[error("the server refused the RMI stream protocol")]
    ProtocolRefused,
    /// The first byte of the handshake answer is none that RMI knows.
    #[error("not an RMI port: it answered with byte 0x{0:02x}")]
    NotRmi(u8),
    /// A reply starts with an unknown message type.
    #[error("unknown RMI message type 0x{0:02x}")]
    UnknownMessage(u8),
    /// The body of a reply is not what this call returns.
    #[error("unexpected RMI reply: {0}")]
    UnexpectedReply(&'static str),
    /// The body of a reply cannot be read.
    #[error(transparent)]
    Serialization(#[from] serialization::Error),
}

/// Identifies a remote object inside its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectId {
    /// Object number; well-known ones are small.
    pub number: i64,
    /// Unique identifier of the address space: `unique`, `time` and `count`.
    pub uid: [u8; 14],
}

impl ObjectId {
    /// The RMI registry of a port.
    pub const REGISTRY: Self = Self { number: 0, uid: [0; 14] };
}

/// A remote method: how a call names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    operation: i32,
    hash: u64,
    returns: Returns,
}

/// What a method returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// Nothing.
    Void,
    /// An object or null.
    Object,
}

impl Method {
    const fn hashed(hash: u64, returns: Returns) -> Self {
        Self { operation: -1, hash, returns }
    }

    /// `Registry.lookup(String)`, in the old style: operation index and interface hash.
    pub const LOOKUP: Self = Self { operation: 2, hash: 0x4415_4DC9_D4E6_3BDF, returns: Returns::Object };
    /// `RMIServer.newClient(Object)`
    pub const NEW_CLIENT: Self = Self::hashed(0xF0E0_74EA_AD0C_AEA8, Returns::Object);
    /// `RMIConnection.close()`
    pub const CLOSE: Self = Self::hashed(0xBE2E_5BC7_809D_0DCC, Returns::Void);
    /// `RMIConnection.queryNames(ObjectName, MarshalledObject, Subject)`
    pub const QUERY_NAMES: Self = Self::hashed(0x7F04_73AC_B736_77DA, Returns::Object);
    /// `RMIConnection.queryMBeans(ObjectName, MarshalledObject, Subject)`
    pub const QUERY_MBEANS: Self = Self::hashed(0x2877_4A54_3CA1_4DD8, Returns::Object);
    /// `RMIConnection.getMBeanCount(Subject)`
    pub const MBEAN_COUNT: Self = Self::hashed(0xE3A8_1287_9DC3_2EA5, Returns::Object);
    /// `RMIConnection.getMBeanInfo(ObjectName, Subject)`
    pub const MBEAN_INFO: Self = Self::hashed(0x993C_D0F9_B981_7AF6, Returns::Object);
    /// `RMIConnection.getAttribute(ObjectName, String, Subject)`
    pub const ATTRIBUTE: Self = Self::hashed(0xF0E0_500A_394D_7215, Returns::Object);
    /// `RMIConnection.getAttributes(ObjectName, String[], Subject)`
    pub const ATTRIBUTES: Self = Self::hashed(0x5739_D96A_8B23_5C47, Returns::Object);
}

/// An argument of a call. These few shapes pass the serial filters of every JDK.
#[derive(Clone, Copy, Debug)]
pub enum Argument<'a> {
    /// `null`, also for the unused Subject and query parameters.
    Null,
    /// `java.lang.String`
    String(&'a str),
    /// `javax.management.ObjectName`
    ObjectName(&'a str),
    /// `java.lang.String[]`
    Strings(&'a [&'a str]),
    /// A `java.rmi.MarshalledObject` that holds `Query.isInstanceOf` of a Java class or interface.
    InstanceOf(&'a str),
}

/// What the client says first.
pub fn encode_handshake(out: &mut Vec<u8>) {
    out.extend(MAGIC);
    out.push(STREAM_PROTOCOL);
}

/// What the client says after the acknowledgement: its own endpoint, which nobody uses.
pub fn encode_endpoint(out: &mut Vec<u8>) {
    let host = b"metrics-adapter";
    out.extend((host.len() as u16).to_be_bytes());
    out.extend(host);
    out.extend(0_u32.to_be_bytes());
}

/// Reads the acknowledgement. Returns its length, or `None` while bytes are missing.
///
/// # Errors
/// The answer comes from something other than a plain RMI port.
pub fn decode_acknowledgement(input: &[u8]) -> Result<Option<usize>, Error> {
    match input.first() {
        None => return Ok(None),
        Some(&PROTOCOL_ACK) => {}
        Some(&PROTOCOL_NOT_SUPPORTED) => return Err(Error::ProtocolRefused),
        Some(&TLS_ALERT) => return Err(Error::TlsExpected),
        Some(&other) => return Err(Error::NotRmi(other)),
    }
    let Some(&[high, low]) = input.get(1..3) else { return Ok(None) };
    let length = 3 + usize::from(u16::from_be_bytes([high, low])) + 4;
    Ok((input.len() >= length).then_some(length))
}

/// Appends one call.
pub fn encode_call(out: &mut Vec<u8>, target: &ObjectId, method: Method, arguments: &[Argument<'_>]) {
    out.push(CALL);
    out.extend([0xAC, 0xED, 0x00, 0x05, 0x77, 34]);
    out.extend(target.number.to_be_bytes());
    out.extend(target.uid);
    out.extend(method.operation.to_be_bytes());
    out.extend(method.hash.to_be_bytes());
    for argument in arguments {
        encode_argument(out, argument);
    }
}

fn encode_argument(out: &mut Vec<u8>, argument: &Argument<'_>) {
    match argument {
        Argument::Null => out.push(0x70),
        Argument::String(text) => encode_string(out, text),
        Argument::ObjectName(text) => {
            out.push(0x73);
            // It has its own write method.
            encode_class(out, "javax.management.ObjectName", 0x0F03_A71B_EB6D_15CF, 3, &[]);
            out.extend(NO_CODEBASE_NO_PARENT);
            encode_string(out, text);
            out.push(0x78);
        }
        Argument::Strings(texts) => {
            out.push(0x75);
            encode_class(out, "[Ljava.lang.String;", 0xADD2_56E7_E91D_7B47, 2, &[]);
            out.extend(NO_CODEBASE_NO_PARENT);
            out.extend((texts.len() as u32).to_be_bytes());
            for text in *texts {
                encode_string(out, text);
            }
        }
        Argument::InstanceOf(class) => {
            let query = instance_of(class);
            out.push(0x73);
            let fields = [(b'I', "hash", ""), (b'[', "locBytes", "[B"), (b'[', "objBytes", "[B")];
            encode_class(out, "java.rmi.MarshalledObject", 0x7CBD_1E97_ED63_FC3E, 2, &fields);
            out.extend(NO_CODEBASE_NO_PARENT);
            // Nobody asks for the hash; then no codebases, and the object.
            out.extend([0, 0, 0, 0, 0x70, 0x75]);
            encode_class(out, "[B", 0xACF3_17F8_0608_54E0, 2, &[]);
            out.extend(NO_CODEBASE_NO_PARENT);
            out.extend((query.len() as u32).to_be_bytes());
            out.extend(query);
        }
    }
}

/// What follows the fields of a class: a codebase of null, the end of annotations, no superclass.
const NO_CODEBASE_NO_PARENT: [u8; 3] = [0x70, 0x78, 0x70];

/// A class descriptor up to its annotations; fields are a type code, a name, and the type of objects and arrays.
fn encode_class(out: &mut Vec<u8>, name: &str, version: u64, flags: u8, fields: &[(u8, &str, &str)]) {
    out.push(0x72);
    encode_short(out, name);
    out.extend(version.to_be_bytes());
    out.push(flags);
    out.extend((fields.len() as u16).to_be_bytes());
    for (code, field, of) in fields {
        out.push(*code);
        encode_short(out, field);
        if !of.is_empty() {
            encode_string(out, of);
        }
    }
}

/// The stream of its own that a `Query.isInstanceOf` is marshalled into; it has no codebases.
fn instance_of(class: &str) -> Vec<u8> {
    let mut out = b"\xAC\xED\x00\x05\x73".to_vec();
    let name = [(b'L', "classNameValue", "Ljavax/management/StringValueExp;")];
    encode_class(&mut out, "javax.management.InstanceOfQueryExp", 0xF0FC_58E4_1492_EA31, 2, &name);
    out.push(0x78);
    encode_class(&mut out, "javax.management.QueryEval", 0x2522_B434_5F40_C32C, 2, &[]);
    out.extend([0x78, 0x70, 0x73]);
    let text = [(b'L', "val", "Ljava/lang/String;")];
    encode_class(&mut out, "javax.management.StringValueExp", 0xD2CE_FA15_9D0B_12F4, 2, &text);
    out.extend([0x78, 0x70]);
    encode_string(&mut out, class);
    out
}

fn encode_short(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn encode_string(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    out.extend([0x74, 0, 0]);
    encode_modified_utf8(text, out);
    let length = out.len() - start - 3;
    if let Ok(short) = u16::try_from(length) {
        out[start + 1..start + 3].copy_from_slice(&short.to_be_bytes());
    } else {
        out.splice(start..start + 3, std::iter::once(0x7C).chain((length as u64).to_be_bytes()));
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It returned this; `Null` when it returns nothing.
    Returned(Value),
    /// It threw this object.
    Threw(Value),
}

/// Reads replies, one after another, however their bytes are cut.
#[derive(Debug)]
pub struct ReplyDecoder {
    reader: Reader,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Header,
    Value { threw: bool },
}

impl ReplyDecoder {
    /// A decoder in front of the first reply. The limits hold for each reply on its own.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { reader: Reader::new(limits), state: State::Start }
    }

    /// The objects of the reply that [`ReplyDecoder::advance`] finished last.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        self.reader.graph()
    }

    /// Whether the next byte starts a reply.
    #[must_use]
    pub fn is_between_replies(&self) -> bool {
        self.state == State::Start
    }

    /// Consumes bytes of the reply to a call of `method`; returns how many, and the outcome at its end. The
    /// next call of this function starts the next reply and forgets the graph of this one.
    ///
    /// # Errors
    /// See [`enum@Error`]; the connection is unusable afterwards.
    pub fn advance(&mut self, method: Method, input: &[u8]) -> Result<(usize, Option<Outcome>), Error> {
        let mut used = 0;
        if self.state == State::Start {
            match input.first() {
                None => return Ok((0, None)),
                Some(&RETURN_DATA) => {}
                Some(&other) => return Err(Error::UnknownMessage(other)),
            }
            used = 1;
            self.reader.reset();
            self.state = State::Header;
        }
        loop {
            let (bytes, content) = self.reader.advance(&input[used..])?;
            used += bytes;
            let Some(content) = content else { return Ok((used, None)) };
            if let Some(outcome) = self.content(method, content)? {
                self.state = State::Start;
                return Ok((used, Some(outcome)));
            }
        }
    }

    fn content(&mut self, method: Method, content: Content) -> Result<Option<Outcome>, Error> {
        match (self.state, content) {
            (State::Header, Content::Block) => {
                let header = self.reader.block();
                if header.len() < RETURN_HEADER {
                    return Err(Error::UnexpectedReply("its header is too short"));
                }
                match header[0] {
                    1 if method.returns == Returns::Void => return Ok(Some(Outcome::Returned(Value::Null))),
                    1 => self.state = State::Value { threw: false },
                    2 => self.state = State::Value { threw: true },
                    _ => return Err(Error::UnexpectedReply("it is neither a value nor an exception")),
                }
                Ok(None)
            }
            (State::Value { threw: false }, Content::Value(value)) => Ok(Some(Outcome::Returned(value))),
            (State::Value { threw: true }, Content::Value(value)) => Ok(Some(Outcome::Threw(value))),
            (_, Content::Block) => {
                Err(Error::UnexpectedReply("it holds a primitive where an object belongs"))
            }
            (_, Content::Value(_)) => Err(Error::UnexpectedReply("it has no header")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn acknowledgement_in_every_split() {
        let answer = b"\x4E\x00\x09127.0.0.1\x00\x00\x12\x34rest";
        for end in 0..answer.len() {
            let decoded = decode_acknowledgement(&answer[..end]).unwrap();
            assert_eq!(decoded, (end >= 16).then_some(16));
        }
        assert_eq!(decode_acknowledgement(&[0x15, 3, 3]), Err(Error::TlsExpected));
        assert_eq!(decode_acknowledgement(b"HTTP"), Err(Error::NotRmi(b'H')));
        assert_eq!(decode_acknowledgement(&[0x4F]), Err(Error::ProtocolRefused));
    }

    #[test]
    fn a_lookup_is_encoded_as_java_does() {
        let mut out = Vec::new();
        encode_call(&mut out, &ObjectId::REGISTRY, Method::LOOKUP, &[Argument::String("jmxrmi")]);
        let mut expected = vec![0x50, 0xAC, 0xED, 0x00, 0x05, 0x77, 0x22];
        expected.extend([0; 22]);
        expected.extend([0, 0, 0, 2, 0x44, 0x15, 0x4D, 0xC9, 0xD4, 0xE6, 0x3B, 0xDF]);
        expected.extend(b"\x74\x00\x06jmxrmi");
        assert_eq!(out, expected);
    }

    #[test]
    fn a_marshalled_query_is_an_object_in_an_object() {
        let mut out = vec![0xAC, 0xED, 0, 5];
        encode_argument(&mut out, &Argument::InstanceOf("x.Y"));
        let mut outer = Reader::new(Limits::default());
        let (used, Some(Content::Value(value))) = outer.advance(&out).unwrap() else { panic!() };
        assert_eq!(used, out.len());
        let marshalled = outer.graph().object(value).unwrap();
        assert_eq!(marshalled.class_name(), "java.rmi.MarshalledObject");
        assert_eq!(marshalled.field("locBytes"), Value::Null);
        let stream = outer.graph().array(marshalled.field("objBytes")).unwrap().raw();
        let mut inner = Reader::new(Limits::default());
        let (used, Some(Content::Value(value))) = inner.advance(stream).unwrap() else { panic!() };
        assert_eq!(used, stream.len());
        let query = inner.graph().object(value).unwrap();
        assert!(
            query.class_name().ends_with("InstanceOfQueryExp") && query.is_a("javax.management.QueryEval")
        );
        let class = inner.graph().object(query.field("classNameValue")).unwrap();
        assert_eq!(inner.graph().string(class.field("val")), Some("x.Y"));
    }

    /// Two replies in one stream: a void one and one with a string.
    fn replies() -> Vec<u8> {
        let mut bytes = vec![0x51, 0xAC, 0xED, 0, 5, 0x77, 15, 1];
        bytes.extend([7; 14]);
        bytes.extend([0x51, 0xAC, 0xED, 0, 5, 0x77, 15, 2]);
        bytes.extend([8; 14]);
        bytes.extend(b"\x74\x00\x03abc");
        bytes
    }

    #[test]
    fn replies_in_every_split() {
        let bytes = replies();
        for split in 0..=bytes.len() {
            let mut decoder = ReplyDecoder::new(Limits::default());
            let mut buffer = Vec::new();
            let mut outcomes = Vec::new();
            for piece in [&bytes[..split], &bytes[split..]] {
                buffer.extend(piece);
                loop {
                    let method = if outcomes.is_empty() { Method::CLOSE } else { Method::ATTRIBUTE };
                    let (used, outcome) = decoder.advance(method, &buffer).unwrap();
                    buffer.drain(..used);
                    match outcome {
                        Some(Outcome::Threw(value)) => {
                            assert_eq!(decoder.graph().string(value), Some("abc"));
                            outcomes.push(2);
                        }
                        Some(_) => outcomes.push(1),
                        None => break,
                    }
                }
            }
            assert_eq!(outcomes, [1, 2], "split at {split}");
            assert!(buffer.is_empty());
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in any::<Vec<u8>>()) {
            let _ = decode_acknowledgement(&bytes);
            let mut stream = replies();
            stream.truncate(37);
            stream.extend(bytes);
            let mut decoder = ReplyDecoder::new(Limits::default());
            let mut at = 0;
            while let Ok((used, Some(_))) = decoder.advance(Method::ATTRIBUTE, &stream[at..]) {
                at += used;
            }
        }
    }
}
