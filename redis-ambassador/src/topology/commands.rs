//! The server's own command table, from its answer to `COMMAND`.

use super::observe::{number, text};
use crate::command::{Begin, Command, Find, Flags, KeySpec, Table};
use redis::Value;

/// Reads the answer; `None` when it is not one.
pub(super) fn read_table(value: &Value) -> Option<Table> {
    let commands: Vec<_> = items(value)?.iter().filter_map(|item| command(item, 0)).collect();
    (!commands.is_empty()).then(|| Table::new(commands))
}

fn command(value: &Value, depth: usize) -> Option<Command> {
    let fields = items(value)?;
    let name = text(fields.first()?)?;
    let flags: Vec<_> = items(fields.get(2)?)?.iter().filter_map(text).collect();
    let has = |flag: &str| flags.iter().any(|known| known == flag);
    let flags = Flags {
        write: has("write"),
        readonly: has("readonly"),
        blocking: has("blocking"),
        may_replicate: has("may_replicate"),
    };
    let specs = match fields.get(8).and_then(items) {
        Some(specs) => specs.iter().map(spec).collect(),
        None => legacy_spec(fields, has("movablekeys"), flags.write),
    };
    let subcommands = match fields.get(9).and_then(items) {
        Some(subcommands) if depth == 0 => subcommands.iter().filter_map(|item| command(item, 1)).collect(),
        _ => Vec::new(),
    };
    Some(Command::new(&name, flags, specs, subcommands))
}

/// Servers before 7.0 tell only the first and last key and the step.
fn legacy_spec(fields: &[Value], movable: bool, writes: bool) -> Vec<KeySpec> {
    let position = |index: usize| match fields.get(index) {
        Some(Value::Int(position)) => i32::try_from(*position).unwrap_or(0),
        _ => 0,
    };
    let (first, last, step) = (position(3), position(4), position(5));
    let unknown = KeySpec { writes, incomplete: true, begin: Begin::Unknown, find: Find::Unknown };
    if first <= 0 {
        return if movable { vec![unknown] } else { Vec::new() };
    }
    // Relative to the first key, unless counted from the end.
    let last = if last < 0 { last } else { last - first };
    let find = Find::Range { last, step: step.max(1) as usize, limit: 0 };
    vec![KeySpec { writes, incomplete: movable, begin: Begin::Index(first as usize), find }]
}

fn spec(value: &Value) -> KeySpec {
    let flags = field(value, "flags").and_then(items).unwrap_or_default();
    let has = |flag: &str| flags.iter().filter_map(text).any(|known| known == flag);
    KeySpec {
        writes: has("RW") || has("OW") || has("RM"),
        incomplete: has("incomplete"),
        begin: field(value, "begin_search").and_then(begin).unwrap_or(Begin::Unknown),
        find: field(value, "find_keys").and_then(find).unwrap_or(Find::Unknown),
    }
}

fn begin(value: &Value) -> Option<Begin> {
    let spec = field(value, "spec")?;
    match field(value, "type").and_then(text)?.as_str() {
        "index" => Some(Begin::Index(field(spec, "index").and_then(number)? as usize)),
        "keyword" => {
            let from = match field(spec, "startfrom")? {
                Value::Int(from) => i32::try_from(*from).ok()?,
                _ => return None,
            };
            Some(Begin::Keyword { word: field(spec, "keyword").and_then(text)?.to_ascii_uppercase(), from })
        }
        _ => None,
    }
}

fn find(value: &Value) -> Option<Find> {
    let spec = field(value, "spec")?;
    let position = |name: &str| field(spec, name).and_then(number).map(|position| position as usize);
    match field(value, "type").and_then(text)?.as_str() {
        "range" => {
            let last = match field(spec, "lastkey")? {
                Value::Int(last) => i32::try_from(*last).ok()?,
                _ => return None,
            };
            Some(Find::Range { last, step: position("keystep")?.max(1), limit: position("limit")? })
        }
        "keynum" => Some(Find::Counted {
            count: position("keynumidx")?,
            first: position("firstkey")?,
            step: position("keystep")?.max(1),
        }),
        _ => None,
    }
}

fn items(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) | Value::Set(items) => Some(items),
        _ => None,
    }
}

/// A field of a map, or of the flat list that RESP2 makes of it.
fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Map(pairs) => {
            pairs.iter().find(|(key, _)| text(key).as_deref() == Some(name)).map(|(_, value)| value)
        }
        Value::Array(items) => {
            items.chunks_exact(2).find(|pair| text(&pair[0]).as_deref() == Some(name)).map(|pair| &pair[1])
        }
        _ => None,
    }
}
