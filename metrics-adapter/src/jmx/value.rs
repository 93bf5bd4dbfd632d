//! Values of MBean attributes, interpreted from a serialization graph.
//!
//! Sources: `javax.management.openmbean` and the serialized forms of the Java platform classes. Values of
//! application classes need no class here; those without a number in them come out as [`Value::Other`].

use super::number::Number;
use super::serialization::{self as java, Graph, Object};

/// An attribute's value.
///
/// ```
/// use metrics_adapter::jmx::{Number, Value};
///
/// fn number(value: &Value) -> Option<f64> {
///     match value {
///         Value::Number(number) => Some(number.to_f64()),
///         Value::Boolean(flag) => Some(f64::from(u8::from(*flag))),
///         Value::Composite(composite) => composite.item("used").and_then(number),
///         _ => None,
///     }
/// }
/// assert_eq!(number(&Value::Number(Number::Long(7))), Some(7.0));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// `null`
    Null,
    /// `boolean`
    Boolean(bool),
    /// Any `java.lang.Number`.
    Number(Number),
    /// `char`, as a UTF-16 code unit.
    Char(u16),
    /// `java.lang.String`
    String(String),
    /// `java.util.Date`, in milliseconds since 1970.
    Date(i64),
    /// Name of an enum constant.
    Enum(String),
    /// `CompositeData`
    Composite(Composite),
    /// `TabularData`
    Tabular(Tabular),
    /// `Optional`
    Optional(Option<Box<Value>>),
    /// `ObjectName`
    ObjectName(String),
    /// A list, set or array of references.
    List(Vec<Value>),
    /// A map.
    Map(Vec<(Value, Value)>),
    /// An instance of this class, of which nothing more is known.
    Other(String),
}

/// Named items, sorted by name.
///
/// ```
/// use metrics_adapter::jmx::{Composite, Number, Value};
///
/// let used = ("used".to_owned(), Value::Number(Number::Long(7)));
/// let usage = Composite { description: "MemoryUsage".into(), items: vec![used] };
/// assert!(usage.item("used").is_some() && usage.item("free").is_none());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Composite {
    /// Description of the composite type.
    pub description: String,
    /// Item names and values.
    pub items: Vec<(String, Value)>,
}

impl Composite {
    /// The item of this name.
    ///
    /// ```
    /// assert_eq!(metrics_adapter::jmx::Composite::default().item("used"), None);
    /// ```
    #[must_use]
    pub fn item(&self, name: &str) -> Option<&Value> {
        self.items.iter().find(|(item, _)| item == name).map(|(_, value)| value)
    }
}

/// Rows with index columns.
///
/// ```
/// use metrics_adapter::jmx::{Composite, Tabular};
///
/// let table = Tabular { index: vec!["key".into()], rows: vec![Composite::default()] };
/// assert_eq!(table.rows.len(), 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tabular {
    /// Names of the columns that tell rows apart.
    pub index: Vec<String>,
    /// The rows.
    pub rows: Vec<Composite>,
}

/// How much may be unfolded from one reply: references let a small graph stand for a huge tree.
#[derive(Debug)]
pub struct Budget {
    values: usize,
    depth: usize,
}

impl Budget {
    /// At most this many values, nested at most 64 deep; what lies beyond becomes [`Value::Other`].
    #[must_use]
    pub fn new(values: usize) -> Self {
        Self { values, depth: 64 }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(500_000)
    }
}

/// Interprets one value of the graph.
#[must_use]
pub fn interpret(graph: &Graph, value: java::Value, budget: &mut Budget) -> Value {
    if budget.values == 0 || budget.depth == 0 {
        return Value::Other("a value nested or repeated too often".to_owned());
    }
    budget.values -= 1;
    budget.depth -= 1;
    let result = match value {
        java::Value::Null => Value::Null,
        java::Value::Boolean(value) => Value::Boolean(value),
        java::Value::Char(value) => Value::Char(value),
        java::Value::Byte(value) => Value::Number(Number::Long(value.into())),
        java::Value::Short(value) => Value::Number(Number::Long(value.into())),
        java::Value::Int(value) => Value::Number(Number::Long(value.into())),
        java::Value::Long(value) => Value::Number(Number::Long(value)),
        java::Value::Float(value) => Value::Number(Number::Float(value)),
        java::Value::Double(value) => Value::Number(Number::Double(value)),
        java::Value::Node(_) => node(graph, value, budget),
    };
    budget.depth += 1;
    result
}

fn node(graph: &Graph, value: java::Value, budget: &mut Budget) -> Value {
    if let Some(text) = graph.string(value) {
        return Value::String(text.to_owned());
    }
    if let Some((_, constant)) = graph.enum_constant(value) {
        return Value::Enum(constant.to_owned());
    }
    if let Some(array) = graph.array(value) {
        if array.class_name().starts_with("[L") || array.class_name().starts_with("[[") {
            return Value::List(array.elements().map(|element| interpret(graph, element, budget)).collect());
        }
        return Value::Other(array.class_name().to_owned());
    }
    match graph.object(value) {
        Some(object) => self::object(graph, object, budget),
        None => Value::Other("java.lang.Class".to_owned()),
    }
}

fn object(graph: &Graph, object: Object<'_>, budget: &mut Budget) -> Value {
    let other = || Value::Other(object.class_name().to_owned());
    match object.class_name() {
        "java.lang.Integer"
        | "java.lang.Long"
        | "java.lang.Double"
        | "java.lang.Float"
        | "java.lang.Boolean"
        | "java.lang.Short"
        | "java.lang.Byte"
        | "java.lang.Character"
        | "java.util.concurrent.atomic.AtomicInteger"
        | "java.util.concurrent.atomic.AtomicLong" => interpret(graph, object.field("value"), budget),
        "java.math.BigInteger" => big_integer(graph, object)
            .and_then(|(signum, magnitude)| Number::from_big_integer(signum, magnitude))
            .map_or_else(other, Value::Number),
        "java.math.BigDecimal" => big_decimal(graph, object).map_or_else(other, Value::Number),
        "java.util.concurrent.atomic.LongAdder$SerializationProxy"
        | "java.util.concurrent.atomic.DoubleAdder$SerializationProxy"
        | "java.util.concurrent.atomic.LongAccumulator$SerializationProxy"
        | "java.util.concurrent.atomic.DoubleAccumulator$SerializationProxy" => {
            interpret(graph, object.field("value"), budget)
        }
        "java.util.concurrent.atomic.AtomicBoolean" => match object.field("value") {
            java::Value::Int(value) => Value::Boolean(value != 0),
            _ => other(),
        },
        "java.util.Date" | "java.sql.Timestamp" | "java.sql.Date" => {
            date(object).map_or_else(other, Value::Date)
        }
        "javax.management.ObjectName" => {
            let text =
                object.annotation("javax.management.ObjectName").values().find_map(|v| graph.string(v));
            Value::ObjectName(text.unwrap_or_default().to_owned())
        }
        "java.util.Optional" => Value::Optional(match object.field("value") {
            java::Value::Null => None,
            value => Some(Box::new(interpret(graph, value, budget))),
        }),
        _ if object.is_a("javax.management.openmbean.CompositeDataSupport") => {
            Value::Composite(composite(graph, object, budget))
        }
        _ if object.is_a("javax.management.openmbean.TabularDataSupport") => {
            Value::Tabular(tabular(graph, object, budget))
        }
        _ => collection(graph, object, budget).unwrap_or_else(other),
    }
}

fn big_integer<'g>(graph: &'g Graph, object: Object<'g>) -> Option<(i32, &'g [u8])> {
    let java::Value::Int(signum) = object.field("signum") else { return None };
    Some((signum, graph.array(object.field("magnitude"))?.raw()))
}

fn big_decimal(graph: &Graph, object: Object<'_>) -> Option<Number> {
    let java::Value::Int(scale) = object.field("scale") else { return None };
    let (signum, magnitude) = big_integer(graph, graph.object(object.field("intVal"))?)?;
    // Plain notation is as long as the scale; the exponent rule keeps it within the digits that are there.
    Number::from_big_decimal(signum, magnitude, scale)
}

fn date(object: Object<'_>) -> Option<i64> {
    let block = object.annotation("java.util.Date").block()?;
    Some(i64::from_be_bytes(*block.first_chunk()?))
}

fn composite(graph: &Graph, object: Object<'_>, budget: &mut Budget) -> Composite {
    let description = graph
        .object(object.field("compositeType"))
        .and_then(|kind| graph.string(kind.field("description")))
        .unwrap_or_default()
        .to_owned();
    let contents =
        graph.object(object.field("contents")).and_then(|map| pairs(graph, map)).unwrap_or_default();
    let mut items: Vec<(String, Value)> = contents
        .into_iter()
        .filter_map(|(key, value)| Some((graph.string(key)?.to_owned(), interpret(graph, value, budget))))
        .collect();
    items.sort_by(|a, b| a.0.cmp(&b.0));
    Composite { description, items }
}

fn tabular(graph: &Graph, object: Object<'_>, budget: &mut Budget) -> Tabular {
    let index = graph
        .object(object.field("tabularType"))
        .and_then(|kind| elements(graph, kind.field("indexNames"), 4))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|name| graph.string(name).map(str::to_owned))
        .collect();
    let rows = graph.object(object.field("dataMap")).and_then(|map| pairs(graph, map)).unwrap_or_default();
    let rows = rows
        .into_iter()
        .filter_map(|(_, row)| match interpret(graph, row, budget) {
            Value::Composite(row) => Some(row),
            _ => None,
        })
        .collect();
    Tabular { index, rows }
}

fn collection(graph: &Graph, object: Object<'_>, budget: &mut Budget) -> Option<Value> {
    if let Some(pairs) = pairs(graph, object) {
        let pairs = pairs.into_iter();
        return Some(Value::Map(
            pairs
                .map(|(key, value)| (interpret(graph, key, budget), interpret(graph, value, budget)))
                .collect(),
        ));
    }
    let elements = collection_elements(graph, object, 4)?;
    Some(Value::List(elements.into_iter().map(|element| interpret(graph, element, budget)).collect()))
}

/// Keys and values of the map classes that platform types use.
fn pairs(graph: &Graph, object: Object<'_>) -> Option<Vec<(java::Value, java::Value)>> {
    if object.is_a("java.util.Collections$UnmodifiableMap")
        || object.is_a("java.util.Collections$SynchronizedMap")
    {
        return graph.object(object.field("m")).filter(|inner| inner.id() != object.id()).and_then(|map| {
            if map.class_name().starts_with("java.util.Collections$") { None } else { pairs(graph, map) }
        });
    }
    let class = [
        "java.util.HashMap",
        "java.util.TreeMap",
        "java.util.concurrent.ConcurrentHashMap",
        "java.util.Hashtable",
    ]
    .into_iter()
    .find(|class| object.is_a(class))?;
    let values: Vec<java::Value> = object.annotation(class).values().collect();
    Some(
        values
            .chunks_exact(2)
            .map(|pair| (pair[0], pair[1]))
            // ConcurrentHashMap ends with a pair of nulls.
            .filter(|(key, value)| (*key, *value) != (java::Value::Null, java::Value::Null))
            .collect(),
    )
}

/// Elements of a list or set, through up to `wrappers` layers of unmodifiable views.
#[must_use]
pub fn elements(graph: &Graph, value: java::Value, wrappers: usize) -> Option<Vec<java::Value>> {
    if let Some(array) = graph.array(value) {
        return Some(array.elements().collect());
    }
    collection_elements(graph, graph.object(value)?, wrappers)
}

fn collection_elements(graph: &Graph, object: Object<'_>, wrappers: usize) -> Option<Vec<java::Value>> {
    let written = [
        "java.util.ArrayList",
        "java.util.HashSet",
        "java.util.TreeSet",
        "java.util.LinkedList",
        "java.util.CollSer",
    ];
    if let Some(class) = written.into_iter().find(|class| object.is_a(class)) {
        return Some(object.annotation(class).values().collect());
    }
    match object.class_name() {
        "java.util.Arrays$ArrayList" => Some(graph.array(object.field("a"))?.elements().collect()),
        "java.util.Collections$EmptyList" | "java.util.Collections$EmptySet" => Some(Vec::new()),
        "java.util.Collections$SingletonList" | "java.util.Collections$SingletonSet" => {
            Some(vec![object.field("element")])
        }
        class if class.starts_with("java.util.Collections$") && wrappers > 0 => {
            let inner = ["list", "c"].into_iter().find_map(|field| graph.object(object.field(field)))?;
            collection_elements(graph, inner, wrappers - 1)
        }
        _ => None,
    }
}
