//! The state machine: one token of the grammar a step, an explicit stack of unfinished contents.

use super::cursor::{Cursor, Incomplete};
use super::graph::{Class, Field, Graph, Link, List, Node, NodeId, Section, StoredItem, Text, Value};
use super::{Error, Limits, modified_utf8};

const MAGIC: u32 = 0xACED_0005;
const BASE_HANDLE: u32 = 0x007E_0000;
/// A descriptor chain longer than this is an attack; real hierarchies have fewer than ten levels.
const MAX_HIERARCHY: usize = 64;

const WRITE_METHOD: u8 = 0x01;
const SERIALIZABLE: u8 = 0x02;
const EXTERNALIZABLE: u8 = 0x04;
const BLOCK_DATA: u8 = 0x08;

/// A finished content at the top level of the stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Content {
    /// A block-data record; read it with [`Reader::block`].
    Block,
    /// An object, string, array, enum constant or null.
    Value(Value),
}

/// Reads one stream, however its bytes are cut.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    graph: Graph,
    handles: Vec<NodeId>,
    stack: Vec<Frame>,
    started: bool,
    consumed: usize,
    value_count: usize,
    block: Text,
}

/// An unfinished content, waiting for bytes or for the content above it on the stack.
#[derive(Clone, Copy, Debug)]
enum Frame {
    Fields { class: NodeId, left: u16 },
    FieldType,
    Interfaces { class: NodeId, left: u32 },
    ClassAnnotation { class: NodeId },
    ParentClass { class: NodeId },
    ObjectClass,
    ArrayClass,
    ClassObject,
    EnumClass,
    EnumConstant { node: NodeId },
    ObjectData { node: NodeId, section: u16, field: u16, cell: ObjectCell },
    ArrayLength { node: NodeId },
    Elements { node: NodeId, left: u32 },
    Aborted,
}

/// Where the data of the current section are, copied from the graph because it is needed for each field.
#[derive(Clone, Copy, Debug)]
struct ObjectCell {
    section_index: u32,
    section_count: u16,
}

enum Delivery {
    Value(Value),
    Block(Text),
    End,
}

/// Stops a step: wait for bytes, or give up.
enum Stop {
    Incomplete,
    Error(Error),
}

impl From<Incomplete> for Stop {
    fn from(_: Incomplete) -> Self {
        Self::Incomplete
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Reader {
    /// A reader at the start of a stream.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            graph: Graph::default(),
            handles: Vec::new(),
            stack: Vec::new(),
            started: false,
            consumed: 0,
            value_count: 0,
            block: Text::default(),
        }
    }

    /// Gets ready for another stream, keeping moderate allocations.
    pub fn reset(&mut self) {
        self.graph.clear();
        self.handles.clear();
        self.stack.clear();
        self.started = false;
        self.consumed = 0;
        self.value_count = 0;
        self.block = Text::default();
    }

    /// What has been read so far.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The block-data record that [`Content::Block`] announced last.
    #[must_use]
    pub fn block(&self) -> &[u8] {
        self.graph.bytes(self.block)
    }

    /// Consumes tokens from `input` until a top-level content is finished or bytes are missing. Returns how
    /// many bytes were consumed; the caller presents the rest again, with more behind it.
    ///
    /// # Errors
    /// See [`enum@Error`]. The stream is unusable afterwards, and so is its connection.
    pub fn advance(&mut self, input: &[u8]) -> Result<(usize, Option<Content>), Error> {
        let mut used = 0;
        loop {
            match self.step(&input[used..]) {
                Ok((bytes, delivery)) => {
                    used += bytes;
                    self.consumed += bytes;
                    if self.consumed > self.limits.bytes {
                        return Err(Error::LimitExceeded { what: "bytes", limit: self.limits.bytes });
                    }
                    if let Some(content) = self.settle(delivery)? {
                        return Ok((used, Some(content)));
                    }
                }
                Err(Stop::Incomplete) => return Ok((used, None)),
                Err(Stop::Error(error)) => return Err(error),
            }
        }
    }

    fn malformed<T>(&self, what: &'static str) -> Result<T, Error> {
        Err(Error::Malformed { offset: self.consumed, what })
    }

    /// Reads one token. Nothing is changed unless the token is complete.
    fn step(&mut self, input: &[u8]) -> Result<(usize, Option<Delivery>), Stop> {
        let mut cursor = Cursor::new(input);
        let delivery = if self.started { self.token(&mut cursor)? } else { self.start(&mut cursor)? };
        Ok((cursor.position(), delivery))
    }

    fn start(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Delivery>, Stop> {
        if cursor.u32()? != MAGIC {
            return Ok(self.malformed("no stream magic")?);
        }
        self.started = true;
        Ok(None)
    }

    fn token(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Delivery>, Stop> {
        match self.stack.last().copied() {
            Some(Frame::Fields { class, left }) => self.field(cursor, class, left),
            Some(Frame::Interfaces { class, left }) => self.interface(cursor, class, left),
            Some(Frame::ObjectData { node, section, field, cell }) => {
                self.object_data(cursor, node, section, field, cell)
            }
            Some(Frame::ArrayLength { node }) => self.array_length(cursor, node),
            _ => self.content(cursor),
        }
    }

    fn content(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Delivery>, Stop> {
        match cursor.u8()? {
            0x70 => Ok(Some(Delivery::Value(Value::Null))),
            0x71 => self.reference(cursor),
            0x72 => self.class_descriptor(cursor),
            0x73 => self.push(Frame::ObjectClass),
            0x74 => {
                let bytes = cursor.short_string()?;
                self.string(bytes)
            }
            0x75 => self.push(Frame::ArrayClass),
            0x76 => self.push(Frame::ClassObject),
            0x77 => {
                let length = cursor.u8()?;
                let bytes = cursor.bytes(usize::from(length))?;
                self.block_data(bytes)
            }
            0x78 => Ok(Some(Delivery::End)),
            0x79 => self.reset_handles(),
            0x7A => {
                let length = cursor.u32()? as usize;
                self.check("bytes", length, self.limits.bytes)?;
                let bytes = cursor.bytes(length)?;
                self.block_data(bytes)
            }
            0x7B => self.abort(),
            0x7C => {
                let length = usize::try_from(cursor.u64()?).unwrap_or(usize::MAX);
                self.check("bytes of a string", length, self.limits.string_bytes)?;
                let bytes = cursor.bytes(length)?;
                self.string(bytes)
            }
            0x7D => self.proxy_descriptor(cursor),
            0x7E => self.push(Frame::EnumClass),
            _ => Ok(self.malformed("unknown type code")?),
        }
    }

    fn check(&self, what: &'static str, value: usize, limit: usize) -> Result<(), Error> {
        if value > limit { Err(Error::LimitExceeded { what, limit }) } else { Ok(()) }
    }

    fn push(&mut self, frame: Frame) -> Result<Option<Delivery>, Stop> {
        self.check("levels of nesting", self.stack.len() + 1, self.limits.depth)?;
        self.stack.push(frame);
        Ok(None)
    }

    fn add_node(&mut self, node: Node) -> Result<NodeId, Error> {
        self.check("objects", self.graph.nodes.len() + 1, self.limits.nodes)?;
        let id = NodeId(self.graph.nodes.len() as u32);
        self.graph.nodes.push(node);
        Ok(id)
    }

    /// Adds a node that later contents may refer to.
    fn add_handle(&mut self, node: Node) -> Result<NodeId, Error> {
        let id = self.add_node(node)?;
        self.handles.push(id);
        Ok(id)
    }

    fn add_text(&mut self, bytes: &[u8]) -> Result<Text, Error> {
        self.check("bytes of a string", bytes.len(), self.limits.string_bytes)?;
        let start = self.graph.text.len() as u32;
        if modified_utf8::decode(bytes, &mut self.graph.text).is_err() {
            return self.malformed("a string that is not modified UTF-8");
        }
        Ok(Text { start, end: self.graph.text.len() as u32 })
    }

    fn add_raw(&mut self, bytes: &[u8]) -> Text {
        let start = self.graph.raw.len() as u32;
        self.graph.raw.extend_from_slice(bytes);
        Text { start, end: self.graph.raw.len() as u32 }
    }

    fn count_values(&mut self, count: usize) -> Result<(), Error> {
        self.value_count += count;
        self.check("values", self.value_count, self.limits.values)
    }

    fn append(&mut self, list: List, item: StoredItem) -> Result<List, Error> {
        self.count_values(1)?;
        let index = self.graph.links.len() as u32;
        self.graph.links.push(Link { item, next: None });
        if let Some(last) = list.last {
            self.graph.links[last as usize].next = Some(index);
        }
        Ok(List { first: list.first.or(Some(index)), last: Some(index) })
    }

    fn string(&mut self, bytes: &[u8]) -> Result<Option<Delivery>, Stop> {
        let text = self.add_text(bytes)?;
        let id = self.add_handle(Node::Text(text))?;
        Ok(Some(Delivery::Value(Value::Node(id))))
    }

    fn block_data(&mut self, bytes: &[u8]) -> Result<Option<Delivery>, Stop> {
        Ok(Some(Delivery::Block(self.add_raw(bytes))))
    }

    fn reference(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Delivery>, Stop> {
        let index = cursor.u32()?.wrapping_sub(BASE_HANDLE);
        match self.handles.get(index as usize) {
            Some(&id) => Ok(Some(Delivery::Value(Value::Node(id)))),
            None => Ok(self.malformed("a reference to an unknown handle")?),
        }
    }

    fn reset_handles(&mut self) -> Result<Option<Delivery>, Stop> {
        if !self.stack.is_empty() {
            return Ok(self.malformed("a reset inside an object")?);
        }
        self.handles.clear();
        Ok(None)
    }

    fn abort(&mut self) -> Result<Option<Delivery>, Stop> {
        self.handles.clear();
        self.stack.clear();
        self.push(Frame::Aborted)
    }

    fn class_descriptor(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Delivery>, Stop> {
        let name = cursor.short_string()?;
        let _serial_version = cursor.u64()?;
        let flags = cursor.u8()?;
        let field_count = cursor.u16()?;
        let name = self.add_text(name)?;
        self.check("values", usize::from(field_count), self.limits.values)?;
        let first_field = self.graph.fields.len() as u32;
        let class = Class { name, flags, first_field, field_count: 0, parent: None };
        let class = self.add_handle(Node::Class(class))?;
        self.push(Frame::Fields { class, left: field_count })
    }

    fn proxy_descriptor(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<Delivery>, Stop> {
        let left = cursor.u32()?;
        let name = self.add_text(b"proxy")?;
        let first_field = self.graph.fields.len() as u32;
        let class = Class { name, flags: SERIALIZABLE, first_field, field_count: 0, parent: None };
        let class = self.add_handle(Node::Class(class))?;
        self.push(Frame::Interfaces { class, left })
    }

    fn interface(
        &mut self,
        cursor: &mut Cursor<'_>,
        class: NodeId,
        left: u32,
    ) -> Result<Option<Delivery>, Stop> {
        let next = match left.checked_sub(1) {
            None => Frame::ClassAnnotation { class },
            Some(left) => {
                cursor.short_string()?;
                Frame::Interfaces { class, left }
            }
        };
        self.replace(next);
        Ok(None)
    }

    fn replace(&mut self, frame: Frame) {
        if let Some(top) = self.stack.last_mut() {
            *top = frame;
        }
    }

    fn field(&mut self, cursor: &mut Cursor<'_>, class: NodeId, left: u16) -> Result<Option<Delivery>, Stop> {
        let Some(left) = left.checked_sub(1) else {
            self.replace(Frame::ClassAnnotation { class });
            return Ok(None);
        };
        let kind = cursor.u8()?;
        let name = cursor.short_string()?;
        let name = self.add_text(name)?;
        self.count_values(1)?;
        self.graph.fields.push(Field { kind, name });
        if let Some(Node::Class(descriptor)) = self.graph.nodes.get_mut(class.0 as usize) {
            descriptor.field_count += 1;
        }
        self.replace(Frame::Fields { class, left });
        match kind {
            b'B' | b'C' | b'D' | b'F' | b'I' | b'J' | b'S' | b'Z' => Ok(None),
            b'L' | b'[' => self.push(Frame::FieldType),
            _ => Ok(self.malformed("unknown field type")?),
        }
    }

    /// The next field of the current section, or the step to its annotation or to the next section.
    fn object_data(
        &mut self,
        cursor: &mut Cursor<'_>,
        node: NodeId,
        section: u16,
        field: u16,
        cell: ObjectCell,
    ) -> Result<Option<Delivery>, Stop> {
        if section >= cell.section_count {
            self.stack.pop();
            return Ok(Some(Delivery::Value(Value::Node(node))));
        }
        let index = cell.section_index as usize + usize::from(section);
        let Section { class, first_value, .. } = self.graph.sections[index];
        let Some(&Class { flags, first_field, field_count, .. }) = self.graph.class(class) else {
            return Ok(self.malformed("an object without a class")?);
        };
        if field < field_count && flags & EXTERNALIZABLE == 0 {
            let kind = self.graph.fields[first_field as usize + usize::from(field)].kind;
            let Some(value) = primitive(cursor, kind)? else {
                return self.content(cursor);
            };
            self.graph.values[first_value as usize + usize::from(field)] = value;
            self.graph.places[first_value as usize + usize::from(field)] = self.consumed as u32;
            self.replace(Frame::ObjectData { node, section, field: field + 1, cell });
            return Ok(None);
        }
        let annotated = match flags & (EXTERNALIZABLE | SERIALIZABLE) {
            EXTERNALIZABLE if flags & BLOCK_DATA == 0 => {
                let class = self.graph.class_name(class).to_owned();
                return Err(
                    Error::Unsupported { class, why: "it is externalizable without block data" }.into()
                );
            }
            EXTERNALIZABLE => true,
            _ => flags & WRITE_METHOD != 0,
        };
        if annotated {
            return self.content(cursor);
        }
        self.replace(Frame::ObjectData { node, section: section + 1, field: 0, cell });
        Ok(None)
    }

    fn array_length(&mut self, cursor: &mut Cursor<'_>, node: NodeId) -> Result<Option<Delivery>, Stop> {
        let length = cursor.u32()?;
        self.check("elements of an array", length as usize, self.limits.bytes)?;
        let Some(&Node::Array { class, .. }) = self.graph.node(node) else {
            return Ok(self.malformed("an array without a class")?);
        };
        let kind = self.graph.class_name(class).as_bytes().get(1).copied().unwrap_or_default();
        if matches!(kind, b'L' | b'[') {
            self.replace(Frame::Elements { node, left: length });
            if length > 0 {
                return Ok(None);
            }
        } else {
            let Some(width) = width(kind) else {
                return Ok(self.malformed("an array of an unknown element type")?);
            };
            let size = (length as usize).saturating_mul(width);
            self.check("bytes", size, self.limits.bytes)?;
            let bytes = cursor.bytes(size)?;
            let range = self.add_raw(bytes);
            if let Some(Node::Array { raw, .. }) = self.graph.nodes.get_mut(node.0 as usize) {
                *raw = range;
            }
        }
        self.stack.pop();
        Ok(Some(Delivery::Value(Value::Node(node))))
    }

    /// Hands a finished content to the one that waits for it, and so on outwards.
    fn settle(&mut self, delivery: Option<Delivery>) -> Result<Option<Content>, Error> {
        let mut next = delivery;
        while let Some(delivery) = next {
            let Some(frame) = self.stack.last().copied() else {
                return self.top_level(&delivery).map(Some);
            };
            next = self.accept(frame, &delivery)?;
        }
        Ok(None)
    }

    fn top_level(&mut self, delivery: &Delivery) -> Result<Content, Error> {
        match *delivery {
            Delivery::Value(value) => Ok(Content::Value(value)),
            Delivery::Block(range) => {
                self.block = range;
                Ok(Content::Block)
            }
            Delivery::End => self.malformed("an end mark outside of an object"),
        }
    }

    fn accept(&mut self, frame: Frame, delivery: &Delivery) -> Result<Option<Delivery>, Error> {
        match (frame, delivery) {
            (Frame::ClassAnnotation { class }, Delivery::End) => {
                self.replace(Frame::ParentClass { class });
                Ok(None)
            }
            (Frame::ClassAnnotation { .. }, _) => Ok(None),
            (Frame::ObjectData { node, section, field, cell }, _) => {
                self.accept_object_data(node, section, field, cell, delivery)
            }
            (_, &Delivery::Value(value)) => self.accept_value(frame, value),
            (_, Delivery::Block(_)) => self.malformed("block data where an object belongs"),
            (_, Delivery::End) => self.malformed("an end mark where an object belongs"),
        }
    }

    fn accept_value(&mut self, frame: Frame, value: Value) -> Result<Option<Delivery>, Error> {
        match frame {
            Frame::FieldType => {
                if self.graph.string(value).is_none() {
                    return self.malformed("a field type that is not a string");
                }
                self.stack.pop();
                Ok(None)
            }
            Frame::ParentClass { class } => self.finish_class(class, value),
            Frame::ObjectClass => self.start_object(value),
            Frame::ArrayClass => {
                let class = self.expect_class(value)?;
                let raw = Text::default();
                let node = self.add_handle(Node::Array { class, items: List::default(), raw })?;
                self.replace(Frame::ArrayLength { node });
                Ok(None)
            }
            Frame::ClassObject => {
                self.expect_class(value)?;
                let node = self.add_handle(Node::ClassObject)?;
                self.stack.pop();
                Ok(Some(Delivery::Value(Value::Node(node))))
            }
            Frame::EnumClass => {
                let class = self.expect_class(value)?;
                let node = self.add_handle(Node::Enum { class, constant: Text::default() })?;
                self.replace(Frame::EnumConstant { node });
                Ok(None)
            }
            Frame::EnumConstant { node } => self.finish_enum(node, value),
            Frame::Elements { node, left } => self.accept_element(node, left, value),
            Frame::Aborted => Err(self.aborted(value)),
            _ => self.malformed("a value where none belongs"),
        }
    }

    fn expect_class(&self, value: Value) -> Result<NodeId, Error> {
        match value {
            Value::Node(id) if self.graph.class(id).is_some() => Ok(id),
            _ => self.malformed("no class descriptor where one belongs"),
        }
    }

    fn finish_class(&mut self, class: NodeId, parent: Value) -> Result<Option<Delivery>, Error> {
        let parent = if parent == Value::Null { None } else { Some(self.expect_class(parent)?) };
        if let Some(Node::Class(descriptor)) = self.graph.nodes.get_mut(class.0 as usize) {
            descriptor.parent = parent;
        }
        self.stack.pop();
        Ok(Some(Delivery::Value(Value::Node(class))))
    }

    /// The descriptor of an object is known: make room for the data of its whole hierarchy, root first.
    fn start_object(&mut self, class: Value) -> Result<Option<Delivery>, Error> {
        let class = self.expect_class(class)?;
        let section_index = self.graph.sections.len() as u32;
        let mut next = Some(class);
        let mut count = 0;
        while let Some(id) = next {
            count += 1;
            self.check("levels of a class hierarchy", count, MAX_HIERARCHY)?;
            let Some(&Class { parent, field_count, .. }) = self.graph.class(id) else {
                return self.malformed("a class hierarchy with something else in it");
            };
            self.count_values(usize::from(field_count) + 1)?;
            let first_value = self.graph.values.len() as u32;
            self.graph.values.resize(self.graph.values.len() + usize::from(field_count), Value::Null);
            self.graph.places.resize(self.graph.values.len(), 0);
            self.graph.sections.push(Section { class: id, first_value, items: List::default() });
            next = parent;
        }
        self.graph.sections[section_index as usize..].reverse();
        let section_count = count as u16;
        let node = self.add_handle(Node::Object { class, first_section: section_index, section_count })?;
        let cell = ObjectCell { section_index, section_count };
        self.replace(Frame::ObjectData { node, section: 0, field: 0, cell });
        Ok(None)
    }

    fn accept_object_data(
        &mut self,
        node: NodeId,
        section: u16,
        field: u16,
        cell: ObjectCell,
        delivery: &Delivery,
    ) -> Result<Option<Delivery>, Error> {
        let index = cell.section_index as usize + usize::from(section);
        let Section { class, first_value, items } = self.graph.sections[index];
        let (fields, flags) =
            self.graph.class(class).map_or((0, 0), |class| (class.field_count, class.flags));
        let in_fields = field < fields && flags & EXTERNALIZABLE == 0;
        match (in_fields, delivery) {
            (true, &Delivery::Value(value)) => {
                self.graph.values[first_value as usize + usize::from(field)] = value;
                self.replace(Frame::ObjectData { node, section, field: field + 1, cell });
            }
            (true, _) => return self.malformed("no value where a field belongs"),
            (false, Delivery::End) => {
                self.replace(Frame::ObjectData { node, section: section + 1, field: 0, cell });
            }
            (false, &Delivery::Value(value)) => {
                self.graph.sections[index].items = self.append(items, StoredItem::Value(value))?;
            }
            (false, &Delivery::Block(range)) => {
                self.graph.sections[index].items = self.append(items, StoredItem::Block(range))?;
            }
        }
        Ok(None)
    }

    fn accept_element(&mut self, node: NodeId, left: u32, value: Value) -> Result<Option<Delivery>, Error> {
        let Some(&Node::Array { items, .. }) = self.graph.node(node) else {
            return self.malformed("an element without an array");
        };
        let appended = self.append(items, StoredItem::Value(value))?;
        if let Some(Node::Array { items, .. }) = self.graph.nodes.get_mut(node.0 as usize) {
            *items = appended;
        }
        if left > 1 {
            self.replace(Frame::Elements { node, left: left - 1 });
            return Ok(None);
        }
        self.stack.pop();
        Ok(Some(Delivery::Value(Value::Node(node))))
    }

    fn finish_enum(&mut self, node: NodeId, value: Value) -> Result<Option<Delivery>, Error> {
        let name = match value {
            Value::Node(id) => self.graph.node(id),
            _ => None,
        };
        let Some(&Node::Text(name)) = name else {
            return self.malformed("an enum constant that is not a string");
        };
        if let Some(Node::Enum { constant, .. }) = self.graph.nodes.get_mut(node.0 as usize) {
            *constant = name;
        }
        self.stack.pop();
        Ok(Some(Delivery::Value(Value::Node(node))))
    }

    fn aborted(&self, value: Value) -> Error {
        let exception = self.graph.object(value);
        let message = exception.and_then(|object| self.graph.string(object.field("detailMessage")));
        Error::Aborted {
            class: exception.map_or("an unknown exception", |object| object.class_name()).to_owned(),
            message: message.unwrap_or_default().to_owned(),
        }
    }
}

fn width(kind: u8) -> Option<usize> {
    match kind {
        b'B' | b'Z' => Some(1),
        b'C' | b'S' => Some(2),
        b'F' | b'I' => Some(4),
        b'D' | b'J' => Some(8),
        _ => None,
    }
}

/// A primitive field value; `None` for reference types.
fn primitive(cursor: &mut Cursor<'_>, kind: u8) -> Result<Option<Value>, Incomplete> {
    Ok(Some(match kind {
        b'B' => Value::Byte(cursor.u8()?.cast_signed()),
        b'Z' => Value::Boolean(cursor.u8()? != 0),
        b'C' => Value::Char(cursor.u16()?),
        b'S' => Value::Short(cursor.u16()?.cast_signed()),
        b'I' => Value::Int(cursor.u32()?.cast_signed()),
        b'J' => Value::Long(cursor.u64()?.cast_signed()),
        b'F' => Value::Float(f32::from_bits(cursor.u32()?)),
        b'D' => Value::Double(f64::from_bits(cursor.u64()?)),
        _ => return Ok(None),
    }))
}
