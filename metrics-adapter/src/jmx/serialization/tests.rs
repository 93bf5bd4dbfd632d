//! The reader against a stream that `java.io.ObjectOutputStream` wrote (`tests/java/Streams.java`), in every
//! split, cut short and corrupted.

use proptest::prelude::*;

use super::*;
use crate::jmx::mbean::attribute_list;
use crate::jmx::number::Number;
use crate::jmx::value;

const ATTRIBUTES: &[u8] = include_bytes!("../../../tests/fixtures/attributes.ser");

/// Feeds the pieces and returns the first top-level content.
fn read(pieces: &[&[u8]], limits: Limits) -> Result<Option<(Reader, Content)>, Error> {
    let mut reader = Reader::new(limits);
    let mut buffer = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let (used, content) = reader.advance(&buffer)?;
        buffer.drain(..used);
        if let Some(content) = content {
            return Ok(Some((reader, content)));
        }
    }
    Ok(None)
}

fn attributes(pieces: &[&[u8]]) -> Vec<crate::jmx::client::NamedValue> {
    let (reader, content) = read(pieces, Limits::default()).unwrap().unwrap();
    let Content::Value(value) = content else { panic!("{content:?}") };
    attribute_list(reader.graph(), value).unwrap()
}

#[test]
fn every_shape_is_understood() {
    let attributes = attributes(&[ATTRIBUTES]);
    let find = |name: &str| &attributes.iter().find(|(found, _)| **found == *name).unwrap().1;
    let value::Value::Tabular(table) = find("Table") else { panic!() };
    assert_eq!(table.index, ["host", "port"]);
    assert_eq!(table.rows.len(), 2);
    assert_eq!(table.rows[0].description, "one peer");
    assert_eq!(find("Big"), &value::Value::Number(Number::Big("-123456789012345678901234567890".into())));
    assert_eq!(find("Decimal"), &value::Value::Number(Number::Big("1.5E-9".into())));
    assert_eq!(find("Date"), &value::Value::Date(1500));
    assert_eq!(find("Enum"), &value::Value::Enum("FAST".into()));
    assert_eq!(find("Name"), &value::Value::ObjectName("d:b=1,a=\"x,y\"".into()));
    let value::Value::List(strings) = find("Strings") else { panic!() };
    assert_eq!(strings[2], value::Value::String("a".into()));
    let value::Value::Map(map) = find("Map") else { panic!() };
    assert_eq!(map[0].1, value::Value::Number(Number::Long(1)));
    assert_eq!(find("Custom"), &value::Value::Other("Fixture$Custom".into()));
}

#[test]
fn every_split_gives_the_same() {
    let whole = attributes(&[ATTRIBUTES]);
    for split in 0..ATTRIBUTES.len() {
        let (left, right) = ATTRIBUTES.split_at(split);
        assert_eq!(attributes(&[left, right]), whole, "split at {split}");
    }
    let bytes: Vec<&[u8]> = ATTRIBUTES.chunks(1).collect();
    assert_eq!(attributes(&bytes), whole);
}

#[test]
fn strings_beyond_64_kib() {
    let mut stream = b"\xAC\xED\x00\x05\x7C\0\0\0\0\0\x01\x00\x01".to_vec();
    stream.extend(std::iter::repeat_n(b'x', 65_537));
    let (reader, content) = read(&[&stream[..40], &stream[40..]], Limits::default()).unwrap().unwrap();
    let Content::Value(value) = content else { panic!("{content:?}") };
    assert_eq!(reader.graph().string(value).unwrap().len(), 65_537);
}

#[test]
fn every_truncation_waits_for_more() {
    for end in 0..ATTRIBUTES.len() {
        assert!(read(&[&ATTRIBUTES[..end]], Limits::default()).unwrap().is_none(), "{end}");
    }
}

#[test]
fn limits_hold() {
    let limited = |limits: Limits| read(&[ATTRIBUTES], limits).unwrap_err();
    let standard = Limits::default();
    for limits in [
        Limits { bytes: 100, ..standard },
        Limits { depth: 2, ..standard },
        Limits { nodes: 10, ..standard },
        Limits { values: 10, ..standard },
        Limits { string_bytes: 10, ..standard },
    ] {
        assert!(matches!(limited(limits), Error::LimitExceeded { .. }));
    }
    // An array that claims 2 GB is refused before its elements arrive.
    let array = b"\xAC\xED\x00\x05\x75\x72\x00\x02[J\0\0\0\0\0\0\0\0\x02\0\0\x78\x70\x7F\xFF\xFF\xFF";
    assert!(matches!(read(&[array], standard), Err(Error::LimitExceeded { .. })));
    // Endless nesting of arrays.
    let mut nested = b"\xAC\xED\x00\x05\x75\x72\x00\x02[L\0\0\0\0\0\0\0\0\x02\0\0\x78\x70\0\0\0\x01".to_vec();
    nested.extend(b"\x75\x71\x00\x7E\x00\x00\0\0\0\x01".repeat(100_000));
    assert!(matches!(
        read(&[&nested], standard),
        Err(Error::LimitExceeded { what: "levels of nesting", .. })
    ));
}

#[test]
fn an_abort_is_reported() {
    let mut stream =
        b"\xAC\xED\x00\x05\x75\x72\x00\x02[L\0\0\0\0\0\0\0\0\x02\0\0\x78\x70\0\0\0\x01\x7B".to_vec();
    stream.extend(
        b"\x73\x72\x00\x01E\0\0\0\0\0\0\0\0\x02\0\x01L\0\x0DdetailMessage\x74\0\x01S\x78\x70\x74\0\x03why",
    );
    let error = read(&[&stream], Limits::default()).unwrap_err();
    assert_eq!(error, Error::Aborted { class: "E".into(), message: "why".into() });
}

#[test]
fn a_class_that_is_its_own_parent_is_refused() {
    let stream = b"\xAC\xED\x00\x05\x73\x72\x00\x01E\0\0\0\0\0\0\0\0\x02\0\0\x78\x71\x00\x7E\x00\x00";
    assert!(matches!(read(&[stream], Limits::default()), Err(Error::LimitExceeded { .. })));
}

proptest! {
    #[test]
    fn corruption_never_panics(at in 4..ATTRIBUTES.len(), byte in any::<u8>(), more in any::<Vec<u8>>()) {
        let mut stream = ATTRIBUTES.to_vec();
        stream[at] = byte;
        stream.splice(at + 1..at + 1, more);
        if let Ok(Some((reader, Content::Value(value)))) = read(&[&stream], Limits::default()) {
            let _ = attribute_list(reader.graph(), value);
        }
    }

    #[test]
    fn garbage_never_panics(bytes in any::<Vec<u8>>()) {
        let mut stream = vec![0xAC, 0xED, 0x00, 0x05];
        stream.extend(&bytes);
        let whole = read(&[&stream], Limits::default()).map(|found| found.map(|(_, content)| format!("{content:?}")));
        let split = stream.len() / 2;
        let halves = read(&[&stream[..split], &stream[split..]], Limits::default());
        let halves = halves.map(|found| found.map(|(_, content)| format!("{content:?}")));
        prop_assert_eq!(whole, halves);
    }
}
