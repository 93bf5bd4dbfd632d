//! The arena a stream is read into, and the views that interpret it.
//!
//! Objects may refer to each other in cycles, and a few bytes may describe a graph whose unfolded form is
//! huge: whoever walks it keeps a budget (see [`crate::jmx::value`]).

/// Index of an object, string, array, enum constant or class descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u32);

/// A field, element or annotation value.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are Java's own types")]
pub enum Value {
    Null,
    Boolean(bool),
    Byte(i8),
    Char(u16),
    Short(i16),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Node(NodeId),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) start: u32,
    pub(super) end: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Class {
    pub(super) name: Text,
    pub(super) flags: u8,
    pub(super) first_field: u32,
    pub(super) field_count: u16,
    pub(super) parent: Option<NodeId>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) kind: u8,
    pub(super) name: Text,
}

/// The data one class of the hierarchy contributes to an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    pub(super) class: NodeId,
    pub(super) first_value: u32,
    pub(super) items: List,
}

/// A chain through `Graph::links`; contents arrive interleaved, so they cannot be contiguous.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct List {
    pub(super) first: Option<u32>,
    pub(super) last: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) item: StoredItem,
    pub(super) next: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum StoredItem {
    Block(Text),
    Value(Value),
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(Text),
    Class(Class),
    /// `java.lang.Class` instance.
    ClassObject,
    Object {
        class: NodeId,
        first_section: u32,
        section_count: u16,
    },
    /// Elements of object arrays; primitive arrays keep their raw bytes.
    Array {
        class: NodeId,
        items: List,
        raw: Text,
    },
    Enum {
        class: NodeId,
        constant: Text,
    },
}

/// Everything one stream held.
#[derive(Debug, Default)]
pub struct Graph {
    pub(super) text: String,
    pub(super) raw: Vec<u8>,
    pub(super) nodes: Vec<Node>,
    pub(super) fields: Vec<Field>,
    pub(super) sections: Vec<Section>,
    pub(super) values: Vec<Value>,
    /// Where in the stream each primitive of `values` was.
    pub(super) places: Vec<u32>,
    pub(super) links: Vec<Link>,
}

impl Graph {
    /// Forgets the content; keeps moderate allocations for the next stream and frees large ones.
    pub fn clear(&mut self) {
        const KEEP: usize = 64 * 1024;
        fn trim<T>(vec: &mut Vec<T>) {
            vec.clear();
            vec.shrink_to(KEEP / size_of::<T>());
        }
        self.text.clear();
        self.text.shrink_to(KEEP);
        trim(&mut self.raw);
        trim(&mut self.nodes);
        trim(&mut self.fields);
        trim(&mut self.sections);
        trim(&mut self.values);
        trim(&mut self.places);
        trim(&mut self.links);
    }

    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    pub(super) fn class(&self, id: NodeId) -> Option<&Class> {
        match self.node(id)? {
            Node::Class(class) => Some(class),
            _ => None,
        }
    }

    pub(super) fn str(&self, text: Text) -> &str {
        self.text.get(text.start as usize..text.end as usize).unwrap_or_default()
    }

    pub(super) fn bytes(&self, range: Text) -> &[u8] {
        self.raw.get(range.start as usize..range.end as usize).unwrap_or_default()
    }

    fn referenced(&self, value: Value) -> Option<&Node> {
        match value {
            Value::Node(id) => self.node(id),
            _ => None,
        }
    }

    /// The text of a `java.lang.String`.
    #[must_use]
    pub fn string(&self, value: Value) -> Option<&str> {
        match self.referenced(value)? {
            Node::Text(text) => Some(self.str(*text)),
            _ => None,
        }
    }

    /// The value as an object that is neither string, array nor enum constant.
    #[must_use]
    pub fn object(&self, value: Value) -> Option<Object<'_>> {
        match *self.referenced(value)? {
            Node::Object { class, first_section, section_count } => {
                Some(Object { graph: self, class, first_section, section_count })
            }
            _ => None,
        }
    }

    /// The value as an array.
    #[must_use]
    pub fn array(&self, value: Value) -> Option<Array<'_>> {
        match *self.referenced(value)? {
            Node::Array { class, items, raw } => Some(Array { graph: self, class, items, raw }),
            _ => None,
        }
    }

    /// Class name and constant name of an enum constant.
    #[must_use]
    pub fn enum_constant(&self, value: Value) -> Option<(&str, &str)> {
        match *self.referenced(value)? {
            Node::Enum { class, constant } => Some((self.class_name(class), self.str(constant))),
            _ => None,
        }
    }

    /// Whether the value is a class object or descriptor.
    #[must_use]
    pub fn is_class(&self, value: Value) -> bool {
        matches!(self.referenced(value), Some(Node::Class(_) | Node::ClassObject))
    }

    pub(super) fn class_name(&self, class: NodeId) -> &str {
        self.class(class).map_or("", |class| self.str(class.name))
    }

    fn items(&self, list: List) -> Items<'_> {
        Items { graph: self, next: list.first }
    }
}

/// One object of the graph.
#[derive(Clone, Copy, Debug)]
pub struct Object<'g> {
    graph: &'g Graph,
    class: NodeId,
    first_section: u32,
    section_count: u16,
}

impl<'g> Object<'g> {
    /// The arena the object lives in.
    #[must_use]
    pub fn graph(self) -> &'g Graph {
        self.graph
    }

    /// Distinguishes the object from others of its graph.
    #[must_use]
    pub fn id(self) -> u32 {
        self.first_section
    }

    /// Java class name such as `java.lang.Integer`; `$ProxyN` descriptors have the name `proxy`.
    #[must_use]
    pub fn class_name(self) -> &'g str {
        self.graph.class_name(self.class)
    }

    fn sections(self) -> &'g [Section] {
        let start = self.first_section as usize;
        self.graph.sections.get(start..start + usize::from(self.section_count)).unwrap_or_default()
    }

    /// Whether the serialized hierarchy contains `class`.
    #[must_use]
    pub fn is_a(self, class: &str) -> bool {
        self.sections().iter().any(|section| self.graph.class_name(section.class) == class)
    }

    /// The field called `name`, searched from the most derived class up; `Null` when there is none.
    #[must_use]
    pub fn field(self, name: &str) -> Value {
        self.sections()
            .iter()
            .rev()
            .find_map(|section| self.section_field(section, name))
            .unwrap_or(Value::Null)
    }

    /// The same for a primitive, with the offset of its bytes in the stream.
    #[must_use]
    pub fn primitive_field(self, name: &str) -> Option<(Value, usize)> {
        let index = self.sections().iter().rev().find_map(|section| self.section_index(section, name))?;
        match self.graph.values.get(index)? {
            Value::Null | Value::Node(_) => None,
            value => Some((*value, *self.graph.places.get(index)? as usize)),
        }
    }

    fn section_field(self, section: &Section, name: &str) -> Option<Value> {
        self.graph.values.get(self.section_index(section, name)?).copied()
    }

    fn section_index(self, section: &Section, name: &str) -> Option<usize> {
        let class = self.graph.class(section.class)?;
        let first = class.first_field as usize;
        let fields = self.graph.fields.get(first..first + usize::from(class.field_count))?;
        let index = fields.iter().position(|field| self.graph.str(field.name) == name)?;
        Some(section.first_value as usize + index)
    }

    /// What `writeObject` of `class` wrote after the fields.
    #[must_use]
    pub fn annotation(self, class: &str) -> Items<'g> {
        self.sections()
            .iter()
            .find(|section| self.graph.class_name(section.class) == class)
            .map_or(Items { graph: self.graph, next: None }, |section| self.graph.items(section.items))
    }
}

/// One array of the graph.
#[derive(Clone, Copy, Debug)]
pub struct Array<'g> {
    graph: &'g Graph,
    class: NodeId,
    items: List,
    raw: Text,
}

impl<'g> Array<'g> {
    /// Name in descriptor form, such as `[I` or `[Ljava.lang.String;`.
    #[must_use]
    pub fn class_name(self) -> &'g str {
        self.graph.class_name(self.class)
    }

    /// Elements of an array of references; empty for primitive ones.
    pub fn elements(self) -> impl Iterator<Item = Value> {
        self.graph.items(self.items).filter_map(|item| match item {
            Item::Value(value) => Some(value),
            Item::Block(_) => None,
        })
    }

    /// Big-endian elements of a primitive array; empty for arrays of references.
    #[must_use]
    pub fn raw(self) -> &'g [u8] {
        self.graph.bytes(self.raw)
    }
}

/// One piece of an annotation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Item<'g> {
    /// Bytes written with `DataOutput` methods.
    Block(&'g [u8]),
    /// An object, string, array or null.
    Value(Value),
}

/// Iterator over an annotation.
#[derive(Clone, Debug)]
pub struct Items<'g> {
    graph: &'g Graph,
    next: Option<u32>,
}

impl<'g> Iterator for Items<'g> {
    type Item = Item<'g>;

    fn next(&mut self) -> Option<Item<'g>> {
        let link = self.graph.links.get(self.next? as usize)?;
        self.next = link.next;
        Some(match link.item {
            StoredItem::Block(range) => Item::Block(self.graph.bytes(range)),
            StoredItem::Value(value) => Item::Value(value),
        })
    }
}

impl<'g> Items<'g> {
    /// The objects only, leaving the blocks out.
    pub fn values(self) -> impl Iterator<Item = Value> + 'g {
        self.filter_map(|item| match item {
            Item::Value(value) => Some(value),
            Item::Block(_) => None,
        })
    }

    /// The first block of bytes.
    #[must_use]
    pub fn block(mut self) -> Option<&'g [u8]> {
        self.find_map(|item| match item {
            Item::Block(bytes) => Some(bytes),
            Item::Value(_) => None,
        })
    }
}
