//! Takes the value of an attribute apart into numbers and texts, each with the path that leads to it.

use crate::jmx::object_name::ObjectName;
use crate::jmx::value::{Composite, Tabular, Value};

/// One number or text of a bean.
#[derive(Clone, Copy, Debug)]
pub struct Leaf<'a> {
    /// Domain of the bean's name.
    pub domain: &'a str,
    /// Its key properties in written order, and behind them the index columns of tables.
    pub properties: &'a [(String, String)],
    /// Names of the attributes and items around the leaf.
    pub path: &'a [&'a str],
    /// Name of the attribute, item or column.
    pub name: &'a str,
    /// Description of the attribute or of the composite type.
    pub description: &'a str,
    /// The value.
    pub value: LeafValue<'a>,
}

/// What a leaf holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LeafValue<'a> {
    /// Any number.
    Number(&'a crate::jmx::number::Number),
    /// A date in seconds since 1970.
    Seconds(f64),
    /// A boolean, which counts as 1 or 0.
    Boolean(bool),
    /// A text or the name of an enum constant.
    Text(&'a str),
}

impl LeafValue<'_> {
    /// The value as a sample, where it is one, times `factor` unless it is a boolean.
    #[must_use]
    pub fn sample(&self, factor: f64) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number.to_f64() * factor),
            Self::Seconds(seconds) => Some(seconds * factor),
            Self::Boolean(value) => Some(f64::from(u8::from(*value))),
            Self::Text(_) => None,
        }
    }

    /// Appends what Java's `String.valueOf` gives.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Number(number) => number.write(out),
            Self::Seconds(seconds) => crate::jmx::number::write_double(out, *seconds),
            Self::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Text(text) => out.push_str(text),
        }
    }
}

/// Calls `each` for every leaf of an attribute's value. Arrays, collections and other objects have none.
pub fn walk(
    bean: &ObjectName,
    attribute: &str,
    description: &str,
    value: &Value,
    each: &mut dyn FnMut(&Leaf<'_>),
) {
    let mut walker = Walker { domain: bean.domain(), properties: bean.properties().to_vec(), each };
    walker.value(&mut Vec::new(), attribute, description, value);
}

struct Walker<'w> {
    domain: &'w str,
    properties: Vec<(String, String)>,
    each: &'w mut dyn FnMut(&Leaf<'_>),
}

impl Walker<'_> {
    fn value<'v>(&mut self, path: &mut Vec<&'v str>, name: &'v str, description: &str, value: &'v Value) {
        let leaf = match value {
            Value::Number(number) => LeafValue::Number(number),
            #[expect(clippy::cast_precision_loss, reason = "milliseconds fit a double for 285,000 years")]
            Value::Date(milliseconds) => LeafValue::Seconds(*milliseconds as f64 / 1000.0),
            Value::Boolean(value) => LeafValue::Boolean(*value),
            Value::String(text) | Value::Enum(text) => LeafValue::Text(text),
            Value::Optional(Some(inner)) => return self.value(path, name, description, inner),
            Value::Composite(composite) => return self.composite(path, name, composite),
            Value::Tabular(table) => return self.tabular(path, name, table),
            _ => return,
        };
        (self.each)(&Leaf {
            domain: self.domain,
            properties: &self.properties,
            path,
            name,
            description,
            value: leaf,
        });
    }

    fn composite<'v>(&mut self, path: &mut Vec<&'v str>, name: &'v str, composite: &'v Composite) {
        path.push(name);
        for (item, value) in &composite.items {
            self.value(path, item, &composite.description, value);
        }
        path.pop();
    }

    fn tabular<'v>(&mut self, path: &mut Vec<&'v str>, name: &'v str, table: &'v Tabular) {
        let depth = self.properties.len();
        for row in &table.rows {
            for column in &table.index {
                self.index_column(column, row);
            }
            for (column, value) in row.items.iter().filter(|(column, _)| !table.index.contains(column)) {
                if column.eq_ignore_ascii_case("value") {
                    self.value(path, name, &row.description, value);
                } else {
                    path.push(name);
                    self.value(path, column, &row.description, value);
                    path.pop();
                }
            }
            self.properties.truncate(depth);
        }
    }

    /// Nested tables repeat their column names, so a name that is taken gets underscores.
    fn index_column(&mut self, column: &str, row: &Composite) {
        let value = row.item(column).unwrap_or(&Value::Null);
        if *value == Value::Null {
            return;
        }
        let mut name = column.to_owned();
        while self.properties.iter().any(|(taken, _)| *taken == name) {
            name.push('_');
        }
        if let Value::Composite(parts) = value {
            for (part, value) in &parts.items {
                self.properties.push((format!("{name}_{part}"), text_of(value)));
            }
        } else {
            self.properties.push((name, text_of(value)));
        }
    }
}

/// What `String.valueOf` gives for the simple values that index columns and labels hold.
#[must_use]
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) | Value::Enum(text) | Value::ObjectName(text) => text.clone(),
        Value::Boolean(value) => value.to_string(),
        Value::Number(number) => {
            let mut text = String::new();
            number.write(&mut text);
            text
        }
        Value::Char(unit) => String::from_utf16_lossy(&[*unit]),
        Value::Date(milliseconds) => milliseconds.to_string(),
        Value::Optional(Some(inner)) => text_of(inner),
        Value::Null => "null".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jmx::number::Number;

    fn number(value: i64) -> Value {
        Value::Number(Number::Long(value))
    }

    fn leaves(value: &Value) -> Vec<String> {
        let bean: ObjectName = "d:type=T,key=k".parse().unwrap();
        let mut found = Vec::new();
        walk(&bean, "Attr", "what", value, &mut |leaf| {
            let mut text = String::new();
            leaf.value.write(&mut text);
            let properties: Vec<String> = leaf.properties.iter().map(|(k, v)| format!("{k}={v}")).collect();
            found.push(format!("{} {} {} {text}", properties.join(","), leaf.path.join("/"), leaf.name));
        });
        found
    }

    fn composite(items: &[(&str, Value)]) -> Composite {
        let items = items.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Composite { description: "c".to_owned(), items }
    }

    #[test]
    fn maps_become_labels_and_nested_ones_get_underscores() {
        let row =
            |key: &str, value: Value| composite(&[("key", Value::String(key.into())), ("value", value)]);
        let table = |rows| Value::Tabular(Tabular { index: vec!["key".to_owned()], rows });
        let nested =
            table(vec![row("a", table(vec![row("b", number(1)), row("c", number(2))])), row("d", number(3))]);
        assert_eq!(
            leaves(&nested),
            [
                "type=T,key=k,key_=a,key__=b  Attr 1",
                "type=T,key=k,key_=a,key__=c  Attr 2",
                "type=T,key=k,key_=d  Attr 3"
            ]
        );
    }

    #[test]
    fn composites_extend_the_path() {
        let inner = composite(&[("used", number(5)), ("when", Value::Date(1500))]);
        let outer =
            Value::Composite(composite(&[("a", Value::Composite(inner)), ("b", Value::Boolean(true))]));
        assert_eq!(
            leaves(&outer),
            ["type=T,key=k Attr/a used 5", "type=T,key=k Attr/a when 1.5", "type=T,key=k Attr b true"]
        );
        assert!(leaves(&Value::List(vec![number(1)])).is_empty());
    }

    #[test]
    fn composite_index_columns() {
        let row = composite(&[("id", Value::Composite(composite(&[("x", number(1))]))), ("n", number(2))]);
        let table = Value::Tabular(Tabular { index: vec!["id".to_owned()], rows: vec![row] });
        assert_eq!(leaves(&table), ["type=T,key=k,id_x=1 Attr n 2"]);
    }
}
