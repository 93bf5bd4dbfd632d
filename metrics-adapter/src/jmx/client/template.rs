//! Replies that are the same as an earlier one but for some numbers are not decoded.
//!
//! Beans of one class answer `getAttributes` with the same bytes, class descriptors and names included, and only
//! the numbers differ. A reply that was decoded once therefore becomes a template with holes, and one that fits
//! it has, byte for byte, the same structure.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::pipeline::NamedValue;
use crate::jmx::number::Number;
use crate::jmx::serialization::{self as java, Graph};
use crate::jmx::value::Value;

/// Bytes of all templates of one client.
const MAX_BYTES: usize = 512 << 10;
/// Templates for one list of attributes: small numbers are shared in a reply, which changes its structure.
const MAX_VARIANTS: usize = 6;
/// Where the reply's unique identifier is, behind message code, stream header, block header and kind.
pub(super) const IDENTIFIER: std::ops::Range<usize> = 8..22;
pub(super) const HEAD: &[u8] = b"\x51\xAC\xED\x00\x05\x77\x0F\x01";

/// What a client has learnt.
#[derive(Debug, Default)]
pub(super) struct Templates {
    /// By the hash of the attributes asked for. A template tells its own names, so a collision does no harm.
    known: HashMap<Key, Vec<Template>, FixedState>,
    bytes: usize,
}

#[derive(Debug)]
struct Template {
    bytes: Vec<u8>,
    /// Ascending; the identifier is the first.
    holes: Vec<Hole>,
    /// Names, and the index of the hole that holds the value.
    attributes: Vec<(Arc<str>, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    at: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Identifier,
    Boolean,
    Byte,
    Short,
    Int,
    Long,
    Float,
    Double,
}

impl Kind {
    fn width(self) -> usize {
        match self {
            Self::Identifier => IDENTIFIER.end - IDENTIFIER.start,
            Self::Boolean | Self::Byte => 1,
            Self::Short => 2,
            Self::Int | Self::Float => 4,
            Self::Long | Self::Double => 8,
        }
    }

    /// The value of a hole; its bytes are as many as its width.
    fn value(self, bytes: &[u8]) -> Option<Value> {
        let long = |value: i64| Value::Number(Number::Long(value));
        Some(match self {
            Self::Identifier => return None,
            Self::Boolean => Value::Boolean(*bytes.first()? != 0),
            Self::Byte => long(i8::from_be_bytes(*bytes.first_chunk()?).into()),
            Self::Short => long(i16::from_be_bytes(*bytes.first_chunk()?).into()),
            Self::Int => long(i32::from_be_bytes(*bytes.first_chunk()?).into()),
            Self::Long => long(i64::from_be_bytes(*bytes.first_chunk()?)),
            Self::Float => Value::Number(Number::Float(f32::from_be_bytes(*bytes.first_chunk()?))),
            Self::Double => Value::Number(Number::Double(f64::from_be_bytes(*bytes.first_chunk()?))),
        })
    }
}

/// Stands for a list of attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u64);

impl Key {
    pub(super) fn of(attributes: &[&str]) -> Self {
        Self(FixedState::default().hash_one(attributes))
    }
}

impl Templates {
    /// The attributes of the reply that `bytes` starts with, and its length; `None` when no template fits.
    pub(super) fn read(&self, attributes: Key, bytes: &[u8]) -> Option<(usize, Vec<NamedValue>)> {
        self.known.get(&attributes)?.iter().find_map(|template| template.read(bytes))
    }

    /// Makes a template of a decoded reply to a question for these attributes, if its values are all numbers
    /// or booleans.
    pub(super) fn learn(&mut self, attributes: Key, graph: &Graph, value: java::Value, bytes: &[u8]) {
        if self.bytes + bytes.len() > MAX_BYTES {
            return;
        }
        let variants = self.known.entry(attributes).or_default();
        if variants.len() < MAX_VARIANTS
            && let Some(template) = Template::of(graph, value, bytes)
        {
            self.bytes += bytes.len();
            variants.push(template);
        }
    }
}

impl Template {
    fn of(graph: &Graph, value: java::Value, bytes: &[u8]) -> Option<Self> {
        let list = graph.object(value).filter(|list| list.is_a("java.util.ArrayList"))?;
        if !bytes.starts_with(HEAD) {
            return None;
        }
        let mut holes = vec![Hole { at: IDENTIFIER.start, kind: Kind::Identifier }];
        let mut places = Vec::new();
        for element in list.annotation("java.util.ArrayList").values() {
            let attribute = graph.object(element)?;
            let name: Arc<str> = graph.string(attribute.field("name"))?.into();
            let boxed = graph.object(attribute.field("value"))?;
            let (value, offset) = boxed.primitive_field("value")?;
            let kind = match (boxed.class_name(), value) {
                ("java.lang.Boolean", java::Value::Boolean(_)) => Kind::Boolean,
                ("java.lang.Byte", java::Value::Byte(_)) => Kind::Byte,
                ("java.lang.Short", java::Value::Short(_)) => Kind::Short,
                ("java.lang.Integer", java::Value::Int(_)) => Kind::Int,
                ("java.lang.Long", java::Value::Long(_)) => Kind::Long,
                ("java.lang.Float", java::Value::Float(_)) => Kind::Float,
                ("java.lang.Double", java::Value::Double(_)) => Kind::Double,
                _ => return None,
            };
            // The stream starts behind the message code.
            let hole = Hole { at: offset + 1, kind };
            holes.push(hole);
            places.push((name, hole));
        }
        holes.sort_by_key(|hole| hole.at);
        holes.dedup();
        let apart = holes.windows(2).all(|pair| pair[0].at + pair[0].kind.width() <= pair[1].at);
        let inside = holes.last().is_some_and(|hole| hole.at + hole.kind.width() <= bytes.len());
        if !apart || !inside {
            return None;
        }
        let index = |hole: Hole| holes.iter().position(|known| *known == hole);
        let attributes =
            places.into_iter().map(|(name, hole)| Some((name, index(hole)?))).collect::<Option<_>>()?;
        Some(Self { bytes: bytes.to_vec(), holes, attributes })
    }

    fn read(&self, bytes: &[u8]) -> Option<(usize, Vec<NamedValue>)> {
        let reply = bytes.get(..self.bytes.len())?;
        let mut from = 0;
        for hole in &self.holes {
            if reply[from..hole.at] != self.bytes[from..hole.at] {
                return None;
            }
            from = hole.at + hole.kind.width();
        }
        if reply[from..] != self.bytes[from..] {
            return None;
        }
        let mut values = Vec::with_capacity(self.attributes.len());
        for (name, hole) in &self.attributes {
            let hole = self.holes[*hole];
            values.push((Arc::clone(name), hole.kind.value(&reply[hole.at..])?));
        }
        Some((reply.len(), values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jmx::jrmp::{Method, Outcome, ReplyDecoder};
    use crate::jmx::mbean::attribute_list;
    use crate::jmx::serialization::Limits;
    use proptest::prelude::*;

    /// An `AttributeList` of a long `A` and a double `B`, as a JVM writes it.
    fn reply(a: i64, b: f64) -> Vec<u8> {
        let mut out = HEAD.to_vec();
        out.extend([7; 14]);
        let class = |out: &mut Vec<u8>, name: &str, flags: u8, fields: &[(u8, &str, &str)]| {
            out.push(0x72);
            out.extend((name.len() as u16).to_be_bytes());
            out.extend(name.as_bytes());
            out.extend([0; 8]);
            out.push(flags);
            out.extend((fields.len() as u16).to_be_bytes());
            for (kind, field, of) in fields {
                out.push(*kind);
                out.extend((field.len() as u16).to_be_bytes());
                out.extend(field.as_bytes());
                if !of.is_empty() {
                    out.push(0x74);
                    out.extend((of.len() as u16).to_be_bytes());
                    out.extend(of.as_bytes());
                }
            }
            out.push(0x78);
        };
        out.push(0x73);
        class(&mut out, "java.util.ArrayList", 3, &[(b'I', "size", "")]);
        out.push(0x70);
        out.extend(2_i32.to_be_bytes());
        out.extend(b"\x77\x04\0\0\0\x02");
        for (name, boxed, kind, bytes) in
            [("A", "java.lang.Long", b'J', a.to_be_bytes()), ("B", "java.lang.Double", b'D', b.to_be_bytes())]
        {
            out.push(0x73);
            let fields = [(b'L', "name", "Ljava/lang/String;"), (b'L', "value", "Ljava/lang/Object;")];
            class(&mut out, "javax.management.Attribute", 2, &fields);
            out.push(0x70);
            out.extend([0x74, 0, 1, name.as_bytes()[0]]);
            out.push(0x73);
            class(&mut out, boxed, 2, &[(kind, "value", "")]);
            out.push(0x70);
            out.extend(bytes);
        }
        out.push(0x78);
        out
    }

    fn learnt() -> Templates {
        let bytes = reply(1, 2.5);
        let mut decoder = ReplyDecoder::new(Limits::default());
        let (used, outcome) = decoder.advance(Method::ATTRIBUTES, &bytes).unwrap();
        assert_eq!(used, bytes.len());
        let Some(Outcome::Returned(value)) = outcome else { panic!() };
        assert_eq!(attribute_list(decoder.graph(), value).unwrap().len(), 2);
        let mut templates = Templates::default();
        templates.learn(Key::of(&["A", "B"]), decoder.graph(), value, &bytes);
        templates
    }

    #[test]
    fn other_numbers_are_read_and_other_structures_are_not() {
        let templates = learnt();
        let mut bytes = reply(-9, f64::NEG_INFINITY);
        let length = bytes.len();
        bytes.extend(b"next");
        let (used, values) = templates.read(Key::of(&["A", "B"]), &bytes).unwrap();
        assert_eq!(used, length);
        let expected = [Number::Long(-9), Number::Double(f64::NEG_INFINITY)].map(Value::Number);
        assert_eq!(values.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>(), expected);
        assert_eq!(&*values[1].0, "B");
        assert!(templates.read(Key::of(&["A", "B"]), &bytes[..length - 1]).is_none());
        assert!(templates.read(Key::of(&["A"]), &bytes).is_none());
        for at in (0..length).filter(|at| !IDENTIFIER.contains(at)) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            if let Some((_, values)) = templates.read(Key::of(&["A", "B"]), &damaged) {
                assert_ne!(
                    values.iter().map(|(_, value)| value.clone()).collect::<Vec<_>>(),
                    expected,
                    "{at}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn a_template_reads_what_decoding_reads(a in any::<i64>(), b in any::<f64>()) {
            let bytes = reply(a, b);
            let mut decoder = ReplyDecoder::new(Limits::default());
            let Ok((_, Some(Outcome::Returned(value)))) = decoder.advance(Method::ATTRIBUTES, &bytes) else {
                panic!()
            };
            let decoded = attribute_list(decoder.graph(), value).unwrap();
            let (_, read) = learnt().read(Key::of(&["A", "B"]), &bytes).unwrap();
            prop_assert_eq!(format!("{read:?}"), format!("{decoded:?}"));
        }
    }
}
