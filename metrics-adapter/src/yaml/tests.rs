use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    from_str(text, Options::default())
}

fn value(text: &str) -> Value {
    read(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

#[test]
fn scalars_are_what_they_look_like() {
    for (text, expected) in [
        ("", json!(null)),
        ("# only this\n", json!(null)),
        ("~", json!(null)),
        ("'~'", json!("~")),
        ("yes", json!(true)),
        ("\"yes\"", json!("yes")),
        ("12", json!(12)),
        ("-12", json!(-12)),
        ("1_000", json!(1000)),
        ("0x1F", json!(31)),
        ("0o17", json!(15)),
        ("017", json!("017")),
        ("1.50", json!(1.5)),
        ("1e3", json!(1000.0)),
        ("1_", json!("1_")),
        ("infinity", json!("infinity")),
        ("!!str 12", json!("12")),
        ("! 12", json!("12")),
        ("!mine 12", json!(12)),
        ("|\n  one\n  two\n", json!("one\ntwo\n")),
    ] {
        assert_eq!(value(text), expected, "{text:?}");
    }
    let strict = Options { strict_booleans: true, ..Options::default() };
    assert_eq!(from_str::<Value>("[yes, n, true]", strict).unwrap(), json!(["yes", "n", true]));
    assert!(read::<f64>("-.inf").unwrap().is_infinite() && read::<f64>(".nan").unwrap().is_nan());
}

#[test]
fn texts_keep_how_they_are_written() {
    let texts: Vec<String> = read("[1.50, 017, no, 0x1F, 'a b']").unwrap();
    assert_eq!(texts, ["1.50", "017", "no", "0x1F", "a b"]);
}

#[test]
fn anchors_stand_for_their_values_and_merge() {
    let text = "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\none:\n  <<: *base\n  b: 5\nall:\n  <<: [*base, *more]\nlist: [*base]\n";
    let all = value(text);
    assert_eq!(all["one"], json!({"a": 1, "b": 5}));
    assert_eq!(all["all"], json!({"a": 1, "b": 2, "c": 4}));
    assert_eq!(all["list"], json!([{"a": 1, "b": 2}]));
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct Some {
    name: Option<At<String>>,
    size: u8,
    on: bool,
    scale: Option<f64>,
    words: Vec<String>,
    inner: BTreeMap<At<String>, At<u64>>,
    kind: Option<Kind>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Small,
    Large,
}

#[test]
fn values_remember_their_lines() {
    let text = "name:\n  x\nanchored: &n y\n".replace("anchored: &n y\n", "");
    assert_eq!(read::<Some>(&text).unwrap().name.unwrap().line, 2);
    let some: Some = read("kind: large\n\ninner:\n  a: 1\n\n  b: 2\n").unwrap();
    let lines: Vec<_> = some.inner.iter().map(|(key, value)| (key.line, value.line, value.value)).collect();
    assert_eq!((lines, some.kind), (vec![(4, 4, 1), (6, 6, 2)], Some(Kind::Large)));
    // An alias is where it is used.
    let aliased: Vec<At<u64>> = read("- &one 1\n-\n  2\n- *one\n").unwrap();
    assert_eq!(aliased.iter().map(|at| (at.line, at.value)).collect::<Vec<_>>(), [(1, 1), (3, 2), (4, 1)]);
}

#[test]
fn what_is_wrong_has_its_line() {
    for (text, line, reason) in [
        ("name: x\nnam: y\n", 2, "unknown key `nam`, did you mean `name`?"),
        ("name: x\nsize: big\n", 2, "size: a whole number is expected"),
        ("size: 256\n", 1, "size: 256 is not within 0 and 255"),
        ("name: [a]\n", 1, "name: a text is expected"),
        ("on: maybe\n", 1, "on: true or false is expected"),
        ("words:\n- a\n- {b: c}\n", 3, "words: a text is expected"),
        ("kind: huge\n", 1, "kind: unknown variant `huge`, expected `small` or `large`"),
        ("name: x\nname: y\n", 2, "the key `name` is given twice"),
        ("? [a]\n: b\n", 1, "a key is one plain word"),
        ("name: x\n---\nname: y\n", 3, "a second YAML document"),
        ("words: &w\n- *w\n", 2, "an alias stands for something that contains the alias"),
        ("words: *w\n", 1, "unknown anchor"),
        ("<<: 1\n", 1, "`<<` takes a map"),
        ("name: !!binary aGk=\n", 1, "has no meaning here"),
        ("name: x\n  y: z\n", 2, ""),
        ("name: \"x\n", 1, "unclosed quote"),
        ("[a]", 1, "keys with values are expected"),
    ] {
        let error = read::<Some>(text).unwrap_err();
        assert_eq!(error.line, std::option::Option::Some(line), "{text:?}: {error}");
        assert!(error.reason.contains(reason), "{text:?}: {error}");
    }
    let last: Some =
        from_str("size: 1\nsize: 2\n", Options { last_wins: true, ..Options::default() }).unwrap();
    assert_eq!(last.size, 2);
}

#[test]
fn depth_and_repetition_are_bounded() {
    let deep = |text: &str, reason: &str| {
        let error = read::<Value>(text).unwrap_err();
        assert!(error.reason.contains(reason), "{error}");
    };
    deep(&"[".repeat(100_000), "nested too deeply");
    deep(&"a: {".repeat(100_000), "nested too deeply");
    // Each anchor holds the one before it.
    let mut chain = "- &a0 [x]\n".to_owned();
    (1..100_000).for_each(|at| chain += &format!("- &a{at} [*a{}]\n", at - 1));
    deep(&chain, "nested too deeply");
    // Ten times ten times ten …
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for at in 1..10 {
        let of = vec![format!("*a{}", at - 1); 10].join(", ");
        laughs += &format!("a{at}: &a{at} [{of}]\n");
    }
    deep(&laughs, "aliases that repeat too many");
    let mut merges = "a0: &a0 {x: 1, y: 2}\n".to_owned();
    (1..300_000).for_each(|at| merges += &format!("a{at}: {{<<: *a0}}\n"));
    deep(&merges, "too many values");
}

#[test]
fn what_counts_for_nothing_is_noted() {
    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Inner {
        pattern: String,
    }
    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default)]
    struct Outer {
        names: Vec<Inner>,
        labels: BTreeMap<String, String>,
    }
    let text = "\
labels: {any: x}
names:
- pattern: a
- patern: b
namse:
  deep: [{er: 1}]
labels: {key: y}
";
    let options = Options { last_wins: true, ..Options::default() };
    let (outer, notes) = from_str_with_notes::<Outer>(text, options).unwrap();
    assert_eq!(outer.names.len(), 2);
    assert_eq!(outer.labels["key"], "y");
    let notes: Vec<String> = notes.iter().map(|note| format!("{} {}", note.line, note.text)).collect();
    assert_eq!(
        notes,
        [
            "1 the key `labels` is given again in line 7, which counts",
            "4 the key `names.patern` is unknown and not used, did you mean `pattern`?",
            "5 the key `namse` is unknown and not used, did you mean `names`?",
        ]
    );
}

/// Documents of nested lists and maps with all kinds of scalars.
fn document() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        "[a-z]{1,5}",
        // Without needless zeros: the other reader makes 17.0 of 017.
        "-?[1-9][0-9]{0,5}",
        Just("0".to_owned()),
        "0[xob][0-9a-f_]{1,4}",
        "[0-9]{1,3}\\.[0-9]{0,3}(e[0-9])?",
        Just("yes".to_owned()),
        Just("False".to_owned()),
        Just("~".to_owned()),
        Just("''".to_owned()),
        Just("\"quo\\u0041ted\"".to_owned()),
        Just(".5".to_owned()),
        Just("1_0".to_owned()),
        Just("!!str 5".to_owned()),
    ];
    scalar.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..5).prop_map(|entries| {
                let entries: Vec<_> =
                    entries.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", entries.join(", "))
            }),
        ]
    })
}

proptest! {
    /// The library that used to read these files is the measure.
    #[test]
    fn documents_mean_what_another_reader_says(text in document(), strict: bool) {
        let theirs = serde_saphyr::options! { with_snippet: false, strict_booleans: strict };
        let theirs = serde_saphyr::from_str_with_options::<Value>(&text, theirs).map_err(|error| error.to_string());
        let ours = from_str::<Value>(&text, Options { strict_booleans: strict, ..Options::default() });
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
            (Err(_), Err(_)) => {}
            (ours, theirs) => prop_assert!(false, "{:?} but {:?}", ours, theirs),
        }
        let theirs = serde_saphyr::from_str::<BTreeMap<String, Vec<String>>>(&text).ok();
        prop_assert_eq!(read::<BTreeMap<String, Vec<String>>>(&text).ok(), theirs);
    }

    #[test]
    fn no_text_panics(text in "[ \\n:\\-\\[\\]{}&*!|>'\"#%a-c0-9~<,]{0,60}") {
        let _ = read::<Value>(&text);
        let _ = read::<Some>(&text);
    }
}
