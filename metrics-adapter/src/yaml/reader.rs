//! Fills types from the tree.

use std::cell::{Cell, RefCell};

use common::config::{did_you_mean, nearest};
use serde::de::value::U64Deserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
    VariantAccess, Visitor,
};

use super::tree::{Content, MAX_VALUES, Node, Scalar, too_many};
use super::{AT, Error, Note, Options, number};

/// What all readers of a document share.
pub(super) struct Shared {
    options: Options,
    /// Values that may still be looked at.
    left: Cell<usize>,
    /// The keys around the place that is read, the outermost first.
    path: RefCell<Vec<Step>>,
    notes: RefCell<Vec<Note>>,
}

/// A key, and those that its map may have where that is known.
struct Step {
    key: String,
    line: u64,
    fields: &'static [&'static str],
}

impl Shared {
    pub(super) fn new(options: Options) -> Self {
        let (path, notes) = (RefCell::default(), RefCell::default());
        Self { options, left: Cell::new(MAX_VALUES), path, notes }
    }

    pub(super) fn into_notes(self) -> Vec<Note> {
        self.notes.into_inner()
    }

    /// The innermost key is one that nobody knows.
    fn note_unknown(&self) {
        let path = self.path.borrow();
        let Some(Step { key, line, fields }) = path.last() else { return };
        let hint = did_you_mean(nearest(key, fields.iter().copied()));
        let path: Vec<&str> = path.iter().map(|step| &step.key[..]).collect();
        let text = format!("the key `{}` is unknown and not used{hint}", path.join("."));
        self.notes.borrow_mut().push(Note { line: *line, text });
    }

    fn spend(&self, line: u64) -> Result<(), Error> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| too_many(line))?;
        self.left.set(left);
        Ok(())
    }
}

/// A place in the tree.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    node: &'a Node,
    shared: &'a Shared,
}

impl<'a> Reader<'a> {
    pub(super) fn new(node: &'a Node, shared: &'a Shared) -> Self {
        Self { node, shared }
    }

    fn scalar(self) -> Option<&'a Scalar> {
        match &*self.node.content {
            Content::Scalar(scalar) => Some(scalar),
            Content::List(_) | Content::Map(_) => None,
        }
    }

    fn is_nothing(self) -> bool {
        self.scalar().is_some_and(Scalar::is_nothing)
    }

    /// The text of a scalar, without blanks around it.
    fn trimmed(self) -> Option<&'a str> {
        self.scalar().map(|scalar| scalar.text.trim_matches([' ', '\t', '\r', '\n']))
    }

    fn list<V: Visitor<'a>>(self, items: &'a [Node], visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(Items { items: items.iter(), shared: self.shared })
    }

    fn map<V: Visitor<'a>>(
        self,
        entries: &'a [(Node, Node)],
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Entries { entries: entries.iter(), value: None, fields, shared: self.shared })
    }

    fn any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = match &*self.node.content {
            Content::List(items) => return self.list(items, visitor),
            Content::Map(entries) => return self.map(entries, &[], visitor),
            Content::Scalar(scalar) => scalar,
        };
        let text = &scalar.text[..];
        if !scalar.plain || number::is_code(text) {
            return visitor.visit_borrowed_str(text);
        }
        if scalar.is_nothing() {
            return visitor.visit_unit();
        }
        if let Some(value) = number::boolean(text, self.shared.options.strict_booleans) {
            return visitor.visit_bool(value);
        }
        if let Some(value) = number::integer(text) {
            if let Ok(value) = u64::try_from(value) {
                return visitor.visit_u64(value);
            }
            if let Ok(value) = i64::try_from(value) {
                return visitor.visit_i64(value);
            }
        }
        match number::float(text) {
            Some(value) => visitor.visit_f64(value),
            None => visitor.visit_borrowed_str(text),
        }
    }

    /// Calls `read` and says where it failed.
    fn placed<T>(self, read: impl FnOnce(Self) -> Result<T, Error>) -> Result<T, Error> {
        self.shared.spend(self.node.line)?;
        read(self).map_err(|error| error.or_at(self.node.line))
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $kind:ty),* $(,)?) => {$(
        fn $method<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
            self.placed(|reader| match reader.trimmed().map(number::integer) {
                Some(Some(value)) => match <$kind>::try_from(value) {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => Err(<Error as serde::de::Error>::custom(format!(
                        "{value} is not within {} and {}", <$kind>::MIN, <$kind>::MAX
                    ))),
                },
                Some(None) | None => Err(wrong("a whole number is expected")),
            })
        }
    )*};
}

impl<'a> Deserializer<'a> for Reader<'a> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.placed(|reader| reader.any(visitor))
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.placed(|reader| {
            let strict = reader.shared.options.strict_booleans;
            match reader.trimmed().and_then(|text| number::boolean(text, strict)) {
                Some(value) => visitor.visit_bool(value),
                None => Err(wrong("true or false is expected")),
            }
        })
    }

    integers! {
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
    }

    fn deserialize_f32<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.placed(|reader| match reader.trimmed().map(number::float) {
            Some(Some(value)) => visitor.visit_f64(value),
            Some(None) | None => Err(wrong("a number is expected")),
        })
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.placed(|reader| match reader.scalar() {
            Some(scalar) if !scalar.is_nothing() => visitor.visit_borrowed_str(&scalar.text),
            Some(_) | None => Err(wrong("a text is expected")),
        })
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.placed(|reader| match reader.scalar() {
            Some(scalar) => visitor.visit_borrowed_str(&scalar.text),
            None => Err(wrong("a key is expected")),
        })
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_nothing() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.placed(|reader| match reader.is_nothing() {
            true => visitor.visit_unit(),
            false => Err(wrong("nothing is expected")),
        })
    }

    fn deserialize_unit_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.placed(|reader| match &*reader.node.content {
            Content::List(items) => reader.list(items, visitor),
            Content::Scalar(_) | Content::Map(_) => Err(wrong("a list is expected")),
        })
    }

    fn deserialize_tuple<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == AT {
            visitor.visit_seq(Pair { reader: self, given: 0 })
        } else {
            self.deserialize_seq(visitor)
        }
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_struct("", &[], visitor)
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.placed(|reader| match &*reader.node.content {
            Content::Map(entries) => reader.map(entries, fields, visitor),
            Content::Scalar(_) | Content::List(_) => Err(wrong("keys with values are expected")),
        })
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.placed(|reader| visitor.visit_enum(reader))
    }

    fn deserialize_bytes<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Error> {
        self.shared.note_unknown();
        visitor.visit_unit()
    }
}

fn wrong(reason: &str) -> Error {
    serde::de::Error::custom(reason)
}

/// Line and value, for [`super::At`].
struct Pair<'a> {
    reader: Reader<'a>,
    given: u8,
}

impl<'a> SeqAccess<'a> for Pair<'a> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        self.given += 1;
        match self.given {
            1 => {
                let line: U64Deserializer<Error> = self.reader.node.line.into_deserializer();
                seed.deserialize(line).map(Some)
            }
            2 => seed.deserialize(self.reader).map(Some),
            _ => Ok(None),
        }
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Node>,
    shared: &'a Shared,
}

impl<'a> SeqAccess<'a> for Items<'a> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some(node) = self.items.next() else {
            return Ok(None);
        };
        seed.deserialize(Reader { node, shared: self.shared }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len())
    }
}

struct Entries<'a> {
    entries: std::slice::Iter<'a, (Node, Node)>,
    value: Option<(&'a Node, &'a Node)>,
    fields: &'static [&'static str],
    shared: &'a Shared,
}

impl<'a> MapAccess<'a> for Entries<'a> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Error> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some((key, value));
        seed.deserialize(Reader { node: key, shared: self.shared }).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let lacking = || <Error as serde::de::Error>::custom("a value before its key");
        let (key, node) = self.value.take().ok_or_else(lacking)?;
        let Content::Scalar(name) = &*key.content else { return Err(wrong("a key is expected")) };
        let step = Step { key: name.text.clone(), line: key.line, fields: self.fields };
        self.shared.path.borrow_mut().push(step);
        let value = seed.deserialize(Reader { node, shared: self.shared });
        self.shared.path.borrow_mut().pop();
        value.map_err(|error| error.or_of(&name.text))
    }
}

/// A word that stands for a variant.
impl<'a> EnumAccess<'a> for Reader<'a> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'a>>(self, seed: S) -> Result<(S::Value, Self), Error> {
        match self.scalar() {
            Some(_) => Ok((seed.deserialize(self)?, self)),
            None => Err(wrong("one word is expected")),
        }
    }
}

impl<'a> VariantAccess<'a> for Reader<'a> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'a>>(self, _: S) -> Result<S::Value, Error> {
        Err(wrong("a map is expected"))
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::invalid_type(Unexpected::UnitVariant, &visitor))
    }

    fn struct_variant<V: Visitor<'a>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        Err(serde::de::Error::invalid_type(Unexpected::UnitVariant, &visitor))
    }
}
