//! The YAML layer: one flat list of keys with their lines.

use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::ConfigError;

/// Largest configuration file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// One key of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileValue {
    pub(super) key: String,
    pub(super) line: u64,
    pub(super) texts: Vec<String>,
}

pub(super) fn read(path: &Path) -> Result<Vec<FileValue>, ConfigError> {
    let fail = |reason: String| ConfigError::File { path: path.display().to_string(), line: None, reason };
    let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
    if size > MAX_BYTES {
        return Err(fail(format!("{size} bytes; a configuration file has at most {MAX_BYTES}")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    parse(&text).map_err(|(line, reason)| ConfigError::File {
        path: path.display().to_string(),
        line,
        reason,
    })
}

pub(super) fn parse(text: &str) -> Result<Vec<FileValue>, (Option<u64>, String)> {
    let options = serde_saphyr::options! { with_snippet: false };
    let map = serde_saphyr::from_str_with_options::<Option<Map>>(text, options).map_err(|error| {
        let line = error.location().map(|at| at.line());
        (line, error.to_string())
    })?;
    let mut values = Vec::new();
    flatten("", map.unwrap_or_default(), &mut values);
    Ok(values)
}

fn flatten(prefix: &str, map: Map, values: &mut Vec<FileValue>) {
    for (key, node) in map.0 {
        let line = key.referenced.line();
        let key = if prefix.is_empty() { key.value } else { format!("{prefix}.{}", key.value) };
        match node {
            Node::Texts(texts) => values.push(FileValue { key, line, texts }),
            Node::Map(map) => flatten(&key, map, values),
        }
    }
}

#[derive(Debug, Default)]
struct Map(Vec<(Spanned<String>, Node)>);

#[derive(Debug)]
enum Node {
    Texts(Vec<String>),
    Map(Map),
}

impl<'de> Deserialize<'de> for Map {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MapVisitor;
        impl<'de> Visitor<'de> for MapVisitor {
            type Value = Map;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of settings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Map, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Map(entries))
            }
        }
        deserializer.deserialize_map(MapVisitor)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;
        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a value, a list of values, or a map")
            }
            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Texts(vec![text.to_owned()]))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Texts(vec![value.to_string()]))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Texts(vec![value.to_string()]))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Texts(vec![value.to_string()]))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Texts(vec![value.to_string()]))
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Texts(vec![String::new()]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
                let mut texts = Vec::new();
                while let Some(node) = access.next_element::<Node>()? {
                    match node {
                        Node::Texts(mut inner) if inner.len() == 1 => texts.append(&mut inner),
                        Node::Texts(_) | Node::Map(_) => {
                            return Err(A::Error::custom("a list holds plain values only"));
                        }
                    }
                }
                Ok(Node::Texts(texts))
            }
            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<Node, A::Error> {
                Map::deserialize(serde::de::value::MapAccessDeserializer::new(access)).map(Node::Map)
            }
        }
        deserializer.deserialize_any(NodeVisitor)
    }
}
