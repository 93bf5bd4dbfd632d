use super::*;
use crate::jmx::number::Number;
use crate::jmx::object_name::ObjectName;
use crate::jmx::value::Value;
use crate::rule::leaf::walk;

fn rules(yaml: &str) -> Vec<RuleConfig> {
    crate::yaml::from_str(yaml, crate::yaml::Options::default()).unwrap()
}

fn apply_to(set: &RuleSet, bean: &str, value: &Value) -> Vec<Result<Outcome, ApplyError>> {
    let bean: ObjectName = bean.parse().unwrap();
    let mut outcomes = Vec::new();
    walk(&bean, "CollectionCount", "Number of collections", value, &mut |leaf| {
        outcomes.push(set.apply(leaf, &[]));
    });
    outcomes
}

const BEAN: &str = "java.lang:type=GarbageCollector,name=G1 Young";

fn sample(yaml: &str) -> Option<Matched> {
    let set = RuleSet::new(&rules(yaml), Naming::default()).unwrap();
    match apply_to(&set, BEAN, &Value::Number(Number::Long(12))).remove(0).unwrap() {
        Outcome::Sample(_, matched) => Some(matched),
        _ => None,
    }
}

#[test]
fn default_names() {
    let matched = sample("- pattern: '.*'").unwrap();
    assert_eq!(matched.name, "java_lang_GarbageCollector_CollectionCount");
    assert_eq!(matched.labels, [("name".to_owned(), "G1 Young".to_owned())]);
    assert_eq!(
        matched.help,
        "Number of collections java.lang:name=G1 Young,type=GarbageCollector,attribute=CollectionCount"
    );
    assert_eq!((matched.kind, matched.value), (Kind::Untyped, 12.0));
}

#[test]
fn templates_labels_and_types() {
    let matched = sample(
        "
- pattern: nothing
- pattern: 'java.lang<type=(\\w+), name=(.+)><>(\\w+): (\\d+)'
  name: jvm_$1_$3
  type: COUNTER
  help: about $2
  valueFactor: 0.5
  labels:
    z: $2
    'a-$3': x$1
    empty: ''
",
    )
    .unwrap();
    assert_eq!(matched.name, "jvm_GarbageCollector_CollectionCount");
    assert_eq!(matched.help, "about G1 Young");
    assert_eq!((matched.kind, matched.value), (Kind::Counter, 6.0));
    let labels: Vec<_> = matched.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(labels, ["a_CollectionCount=xGarbageCollector", "z=G1 Young"]);
}

#[test]
fn the_first_match_decides_even_without_a_sample() {
    assert_eq!(sample("[{pattern: Collector, name: a, value: '$0'}, {pattern: '.*'}]"), None);
    assert_eq!(sample("[{pattern: Collector, name: a, value: }, {pattern: '.*'}]"), None);
    assert_eq!(sample("[{pattern: ': (\\d+)', name: a, value: 1$1, valueFactor: 2}]").unwrap().value, 224.0);
    assert_eq!(sample("[{pattern: 'Col', name: ''}, {pattern: '.*'}]"), None);
    assert_eq!(sample("[{pattern: 'Col', drop: true}, {pattern: '.*'}]"), None);
    assert_eq!(sample("[]"), None);
    assert_eq!(sample("[{pattern: collection_count, attrNameSnakeCase: true, name: x}]").unwrap().name, "x");
    assert!(sample("[{pattern: '<cache>', cache: true, name: x}]").is_some());
}

#[test]
fn a_value_needs_no_name() {
    let matched = sample("[{pattern: ': (\\d)(\\d)', value: $2$1, valueFactor: 2, type: GAUGE}]").unwrap();
    assert_eq!(matched.name, "java_lang_GarbageCollector_CollectionCount");
    assert_eq!((matched.kind, matched.value), (Kind::Gauge, 42.0));
    // An empty one is none; no value at all is the text `null`.
    assert_eq!(sample("[{value: ''}]").unwrap().value, 12.0);
    assert_eq!(sample("[{pattern: Count, value: }]"), None);
}

#[test]
fn text_values() {
    let set = RuleSet::new(
        &rules("[{pattern: 'Count: (\\d+) items', name: n, value: $1}, {pattern: 'x', text: info, name: t}]"),
        Naming::default(),
    )
    .unwrap();
    let outcome = |text: &str| apply_to(&set, BEAN, &Value::String(text.into())).remove(0).unwrap();
    assert!(matches!(outcome("7 items"), Outcome::Sample(0, Matched { value: 7.0, .. })));
    let Outcome::Sample(1, info) = outcome("x y") else { panic!() };
    assert_eq!(info.labels, [("value".to_owned(), "x y".to_owned())]);
    assert_eq!(outcome("q"), Outcome::Unmatched);
    assert_eq!(outcome("7 items\nmore"), Outcome::Unmatched);
}

#[test]
fn naming_switches() {
    let naming = Naming { lowercase_names: true, lowercase_labels: true, infer_counters: true };
    let set = RuleSet::new(&rules("[{pattern: (Garb), name: $1_Total, labels: {Key: $1}}]"), naming).unwrap();
    let Ok(Outcome::Sample(_, matched)) = apply_to(&set, BEAN, &Value::Boolean(true)).remove(0) else {
        panic!()
    };
    assert_eq!((matched.name.as_str(), matched.kind, matched.value), ("garb_total", Kind::Counter, 1.0));
    assert_eq!(matched.labels, [("key".to_owned(), "Garb".to_owned())]);
}

#[test]
fn broken_rules() {
    for (yaml, part) in [
        ("[{pattern: '('}]", "rule 1"),
        ("[{pattern: a}, {name: x}]", "rule 2"),
        ("[{pattern: a, help: b}]", "`name` is needed"),
        ("[{value: 1}]", "`pattern` is needed"),
    ] {
        let error = RuleSet::new(&rules(yaml), Naming::default()).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let set = RuleSet::new(&rules("[{pattern: Count, name: $3}]"), Naming::default()).unwrap();
    let error = apply_to(&set, BEAN, &Value::Boolean(true)).remove(0).unwrap_err();
    assert!(error.to_string().contains("group 3"), "{error}");
}

#[test]
fn java_doubles() {
    for (text, value) in
        [(" 1.5 ", 1.5), ("1e3", 1000.0), ("1d", 1.0), ("-Infinity", f64::NEG_INFINITY), (".5f", 0.5)]
    {
        assert_eq!(java_double(text), Some(value), "{text}");
    }
    for text in ["", "null", "inf", "nan", "infinity", "1 2", "0x", "true"] {
        assert_eq!(java_double(text), None, "{text}");
    }
}
