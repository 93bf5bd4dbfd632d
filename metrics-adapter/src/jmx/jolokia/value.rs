//! Values of attributes out of Jolokia's JSON.
//!
//! The JSON says neither whether an object was a `CompositeData`, a `TabularData` or a map, nor of which type a
//! number was. The declared type of the attribute settles most of it; inside of composite values, tables have
//! to be known by their place ([`TableHint`]).

use super::json::Json;
use crate::jmx::number::Number;
use crate::jmx::object_name::ObjectName;
use crate::jmx::value::{Composite, Tabular, Value};

/// Deepest table that is told by its rows: index columns of one table.
const MAX_INDEX: usize = 4;

/// How the objects at one place of a bean's values are to be read.
#[derive(Clone, Debug)]
pub struct TableHint {
    /// Which beans.
    pub bean: ObjectName,
    /// Attribute and items, `*` for any.
    pub path: Vec<String>,
    /// What is there.
    pub form: TableForm,
}

/// What an object stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableForm {
    /// A map of an MXBean: each name is a key.
    Map,
    /// A table: rows, nested by their index columns.
    Rows,
    /// A composite value, in an attribute whose declared type does not say so.
    Composite,
}

/// What the declared type of an attribute says beyond the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Nothing: as `java.lang.Object`.
    Any,
    Float,
    /// `BigInteger` or `BigDecimal`, which some agents send as text.
    Big,
    Date,
    Composite,
    Table,
    /// A class of which JMX clients without it would not see into.
    Opaque,
}

impl Shape {
    /// From the class name in a bean's description.
    pub(super) fn of(class: &str) -> Self {
        match class {
            "float" | "java.lang.Float" => Self::Float,
            "java.util.Date" | "java.sql.Timestamp" | "java.sql.Date" => Self::Date,
            "javax.management.openmbean.CompositeData"
            | "javax.management.openmbean.CompositeDataSupport" => Self::Composite,
            "javax.management.openmbean.TabularData" | "javax.management.openmbean.TabularDataSupport" => {
                Self::Table
            }
            "java.math.BigInteger" | "java.math.BigDecimal" => Self::Big,
            "java.lang.Object" => Self::Opaque,
            class if class.contains('.') && !class.starts_with("java.lang.") => Self::Opaque,
            _ => Self::Any,
        }
    }
}

/// Reads values of one bean.
pub(super) struct Interpreter<'h> {
    pub(super) bean: &'h str,
    pub(super) name: Option<ObjectName>,
    pub(super) hints: &'h [TableHint],
}

impl Interpreter<'_> {
    pub(super) fn attribute(&self, name: &str, json: &Json, shape: Shape) -> Value {
        self.value(&mut vec![name.to_owned()], json, shape)
    }

    fn value(&self, path: &mut Vec<String>, json: &Json, shape: Shape) -> Value {
        match json {
            Json::Null => Value::Null,
            Json::Boolean(value) => Value::Boolean(*value),
            Json::Number(text) => Value::Number(number(text, shape)),
            Json::String(text) if shape == Shape::Big && text.parse::<f64>().is_ok() => {
                Value::Number(Number::Big(text.clone()))
            }
            Json::String(text) => Value::String(text.clone()),
            Json::Array(elements) => {
                Value::List(elements.iter().map(|element| self.value(path, element, Shape::Any)).collect())
            }
            Json::Object(members) => self.object(path, json, members, shape),
        }
    }

    fn object(&self, path: &mut Vec<String>, json: &Json, members: &[(String, Json)], shape: Shape) -> Value {
        match members {
            [(key, Json::String(name))] if key == "objectName" => return Value::ObjectName(name.clone()),
            [(key, Json::String(text))] if key == "bigint" => {
                return Value::Number(Number::Big(text.clone()));
            }
            _ => {}
        }
        if let (Json::Array(index), Some(rows)) =
            (json.get("indexNames").unwrap_or(&Json::Null), json.get("values"))
        {
            let index = index.iter().filter_map(Json::text).map(str::to_owned).collect();
            let rows = rows.elements().iter().map(|row| self.composite(path, row.members())).collect();
            return Value::Tabular(Tabular { index, rows });
        }
        match (self.hint(path), shape) {
            (Some(TableForm::Map), _) => self.map(path, members),
            (Some(TableForm::Composite), _) => Value::Composite(self.composite(path, members)),
            (Some(TableForm::Rows), _) | (None, Shape::Table) => {
                self.rows(path, members).unwrap_or_else(|| self.map(path, members))
            }
            (None, Shape::Opaque) => Value::Other("an object".to_owned()),
            (None, _) => Value::Composite(self.composite(path, members)),
        }
    }

    fn hint(&self, path: &[String]) -> Option<TableForm> {
        let own = self.hints.iter().find(|hint| {
            let fits = |(wanted, part): (&String, &String)| wanted == "*" || wanted == part;
            hint.path.len() == path.len()
                && hint.path.iter().zip(path).all(fits)
                && self.name.as_ref().is_some_and(|name| hint.bean.matches(name))
        });
        // Every JVM has these.
        let collections = self.bean.starts_with("java.lang:")
            && matches!(path, [attribute, item] if attribute == "LastGcInfo" && item.starts_with("memoryUsage"));
        own.map(|hint| hint.form).or_else(|| collections.then_some(TableForm::Map))
    }

    fn composite(&self, path: &mut Vec<String>, members: &[(String, Json)]) -> Composite {
        let mut items = Vec::with_capacity(members.len());
        for (name, json) in members {
            path.push(name.clone());
            items.push((name.clone(), self.value(path, json, Shape::Any)));
            path.pop();
        }
        items.sort_by(|a, b| a.0.cmp(&b.0));
        Composite { description: String::new(), items }
    }

    fn map(&self, path: &mut Vec<String>, members: &[(String, Json)]) -> Value {
        let mut rows = Vec::with_capacity(members.len());
        for (key, json) in members {
            path.push(key.clone());
            let value = self.value(path, json, Shape::Any);
            path.pop();
            let items = vec![("key".to_owned(), Value::String(key.clone())), ("value".to_owned(), value)];
            rows.push(Composite { description: String::new(), items });
        }
        Value::Tabular(Tabular { index: vec!["key".to_owned()], rows })
    }

    /// A table whose rows repeat their index columns; `None` when the object is none.
    fn rows(&self, path: &mut Vec<String>, members: &[(String, Json)]) -> Option<Value> {
        let mut level: Vec<(Vec<&str>, &Json)> =
            members.iter().map(|(key, json)| (vec![key.as_str()], json)).collect();
        for depth in 1..=MAX_INDEX {
            if level.is_empty() || level.iter().any(|(_, json)| !matches!(json, Json::Object(_))) {
                return None;
            }
            if let Some(index) = index_columns(&level, depth) {
                let rows = level.iter().map(|(_, row)| self.composite(path, row.members())).collect();
                return Some(Value::Tabular(Tabular { index, rows }));
            }
            let next = level.iter().flat_map(|(keys, json)| {
                json.members().iter().map(move |(key, json)| {
                    let mut keys = keys.clone();
                    keys.push(key);
                    (keys, json)
                })
            });
            level = next.collect();
        }
        None
    }
}

/// For each of the keys that lead to the rows, the column that repeats it in every row.
fn index_columns(rows: &[(Vec<&str>, &Json)], depth: usize) -> Option<Vec<String>> {
    let mut index: Vec<String> = Vec::with_capacity(depth);
    for at in 0..depth {
        let repeats = |column: &str| {
            rows.iter().all(|(keys, row)| match row.get(column) {
                Some(Json::String(text) | Json::Number(text)) => text == keys[at],
                Some(Json::Boolean(value)) => value.to_string() == keys[at],
                _ => false,
            })
        };
        let mut columns: Vec<&String> = rows.first()?.1.members().iter().map(|(name, _)| name).collect();
        columns.sort();
        let found = columns.into_iter().find(|column| !index.contains(column) && repeats(column))?;
        index.push(found.clone());
    }
    Some(index)
}

fn number(text: &str, shape: Shape) -> Number {
    if shape == Shape::Float
        && let Ok(value) = text.parse()
    {
        return Number::Float(value);
    }
    if let Ok(value) = text.parse() {
        return Number::Long(value);
    }
    // Whole numbers beyond a `long` are of a `BigInteger`.
    match text.parse() {
        Ok(value) if text.contains(['.', 'e', 'E']) => Number::Double(value),
        _ => Number::Big(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str, shape: Shape, hints: &[TableHint]) -> Value {
        let bean = "d:type=T";
        let interpreter = Interpreter { bean, name: bean.parse().ok(), hints };
        interpreter.attribute("A", &Json::parse(json).unwrap(), shape)
    }

    fn index(value: &Value) -> Vec<&str> {
        let Value::Tabular(table) = value else { panic!("{value:?}") };
        table.index.iter().map(String::as_str).collect()
    }

    #[test]
    fn tables_are_told_by_their_rows() {
        let simple = r#"{"/a":{"fs":"/a","size":1},"/b":{"fs":"/b","size":2}}"#;
        assert_eq!(index(&read(simple, Shape::Table, &[])), ["fs"]);
        let two =
            r#"{"h1":{"1":{"host":"h1","port":1,"value":10}},"h2":{"2":{"host":"h2","port":2,"value":20}}}"#;
        assert_eq!(index(&read(two, Shape::Table, &[])), ["host", "port"]);
        let map = r#"{"a":1,"b":2}"#;
        assert_eq!(index(&read(map, Shape::Table, &[])), ["key"]);
        let beans = r#"{"a":{"used":1},"b":{"used":2}}"#;
        assert_eq!(index(&read(beans, Shape::Table, &[])), ["key"]);
        let complex = r#"{"indexNames":["id"],"values":[{"id":{"x":1},"n":2}]}"#;
        assert_eq!(index(&read(complex, Shape::Table, &[])), ["id"]);
        assert!(matches!(read(map, Shape::Any, &[]), Value::Composite(_)));
        let hint = TableHint {
            bean: "d:*".parse().unwrap(),
            path: vec!["A".to_owned(), "*".to_owned()],
            form: TableForm::Map,
        };
        let Value::Tabular(outer) = read(r#"{"o":{"i":42}}"#, Shape::Table, &[hint]) else { panic!() };
        assert_eq!(index(outer.rows[0].item("value").unwrap()), ["key"]);
    }

    #[test]
    fn numbers_keep_their_digits() {
        let number = |text: &str, shape| {
            let Value::Number(number) = read(text, shape, &[]) else { panic!() };
            let mut out = String::new();
            number.write(&mut out);
            out
        };
        assert_eq!(number("9223372036854775807", Shape::Any), "9223372036854775807");
        assert_eq!(number("123456789012345678901234567890", Shape::Any), "123456789012345678901234567890");
        assert_eq!(number("1.5E10", Shape::Any), "1.5E10");
        assert_eq!(
            read("\"123.4500\"", Shape::of("java.math.BigDecimal"), &[]),
            Value::Number(Number::Big("123.4500".to_owned()))
        );
        assert_eq!(read("{\"bigint\":\"-7\"}", Shape::Any, &[]), Value::Number(Number::Big("-7".to_owned())));
        assert_eq!(read("0.1", Shape::Float, &[]), Value::Number(Number::Float(0.1)));
    }

    proptest! {
        #[test]
        fn any_object_is_read(json in r#"\{("[a-c]":(\{("[a-c]":("[a-c]"|1))?\}|[1-3]),?){0,4}\}"#) {
            let Ok(json) = Json::parse(&json) else { return Ok(()) };
            let interpreter = Interpreter { bean: "d:a=b", name: None, hints: &[] };
            for shape in [Shape::Any, Shape::Table, Shape::Composite, Shape::Opaque] {
                let _ = interpreter.attribute("A", &json, shape);
            }
        }
    }
}
