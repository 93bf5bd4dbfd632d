//! Readers against what applications send, and against what they should not.
#![cfg(test)]

use proptest::prelude::*;

use super::csv::{ColumnMetric, Csv};
use super::json::{Json, MAX_DEPTH, MAX_NODES};
use super::json_path::Path;
use super::key_value::{KeyMetric, KeyValue};
use super::metric::{JsonLabel, JsonMetric, Metric, Reader};
use super::pattern::{PatternMetric, compile};
use super::template::Template;
use crate::family::Kind;
use crate::family::normal::{Normal, numbers};

fn metric(name: &str, kind: Kind) -> Metric {
    Metric { name: Template::new(name), help: String::new(), kind, scale: 1.0, words: Vec::new() }
}

fn read(reader: &Reader, text: &str) -> (Vec<String>, Option<String>) {
    let reading = reader.read(text.as_bytes(), 1000).unwrap();
    let families = Normal::default().apply(reading.families).0;
    let shown = families.iter().flat_map(numbers).map(|(name, value)| format!("{name} {value}"));
    (shown.collect(), reading.first_skip)
}

fn paths(document: &str, path: &str) -> Vec<String> {
    let document = Json::parse(document.as_bytes()).unwrap();
    let found = Path::parse(path).unwrap().select(&document, &document).unwrap();
    let shown = |found: super::json_path::Match<'_>| {
        let text = found.value.text().unwrap_or_else(|| found.value.kind().into());
        format!("{text}:{}", found.captures.join("/"))
    };
    found.into_iter().map(shown).collect()
}

#[test]
fn paths_select() {
    let document =
        r#"{"a":{"b":[1,2,{"c":3}],"x-y":"t"},"s":[{"n":"p","v":5,"up":true},{"n":"q","v":7}],"~/":9}"#;
    for (path, expected) in [
        ("$.a.b[0]", &["1:"][..]),
        ("a.b[-1].c", &["3:"]),
        ("/a/b/1", &["2:"]),
        ("/~0~1", &["9:"]),
        ("{.a.b[1]}", &["2:"]),
        ("$['a'][\"x-y\"]", &["t:"]),
        ("$.a.x-y", &["t:"]),
        ("$.a.b[*]", &["1:0", "2:1", "an object:2"]),
        ("$.a.b[0:2]", &["1:0", "2:1"]),
        ("$.a.b[::-1]", &["an object:2", "2:1", "1:0"]),
        ("$.a.b[0,1]", &["1:0", "2:1"]),
        ("$..c", &["3:c"]),
        ("$.s[*].n", &["p:0", "q:1"]),
        ("$.s[?(@.v > 5)].n", &["q:1"]),
        ("$.s[?@.up].n", &["p:0"]),
        ("$.s[?(!@.up && @.n == 'q' || @.v < 0)].v", &["7:1"]),
        ("$.s[?@.n != $.s[0].n].v", &["7:1"]),
        ("$.missing", &[]),
        ("$.a.b[9]", &[]),
        ("$", &["an object:"]),
    ] {
        assert_eq!(paths(document, path), expected, "{path}");
    }
}

#[test]
fn paths_that_are_refused_say_where() {
    for (path, expected) in [
        ("$.a[", "column 5"),
        ("$.a.length()", "functions are not supported"),
        ("$.a b", "column 4"),
        ("$['a", "closing quote"),
        ("$.a[?]", "column 6"),
        ("$.a[x]", "column 5"),
    ] {
        let error = Path::parse(path).unwrap_err();
        assert!(error.contains(expected), "{path}: {error}");
    }
    assert!(Path::parse(&format!("$[?{}", "(".repeat(100_000))).is_err());
}

#[test]
fn documents_have_bounds() {
    let deep = "[".repeat(1_000_000);
    assert!(Json::parse(deep.as_bytes()).unwrap_err().reason.contains("nested"));
    let level = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
    assert!(Json::parse(level.as_bytes()).is_ok());
    let wide = format!("[{}0]", "0,".repeat(MAX_NODES));
    assert!(Json::parse(wide.as_bytes()).unwrap_err().reason.contains("values"));
    let error = Json::parse(b"{\n\"a\": tru }").unwrap_err();
    assert_eq!(error.line, Some(2));
    // A path that would look at everything below everything.
    let nested = format!("{}{}", "[[".repeat(30), "]]".repeat(30));
    let text = format!("[{}]", [&*nested; 2000].join(","));
    let document = Json::parse(text.as_bytes()).unwrap();
    assert!(Path::parse("$..*..*..*").unwrap().select(&document, &document).is_err());
}

#[test]
fn json_values_and_labels() {
    let label = |text: &str| JsonLabel::Text(Template::new(text));
    let at = |text: &str| JsonLabel::Path(Path::parse(text).unwrap());
    let words = vec![("green".to_owned(), 0.0), ("*".to_owned(), 2.0)];
    let reader = Reader::Json {
        prefix: String::new(),
        metrics: vec![
            JsonMetric {
                path: Path::parse("$.pools.*").unwrap(),
                text: "$.pools.*".into(),
                values: vec![
                    (metric("pool_used", Kind::Gauge), Path::parse("@.used").unwrap()),
                    (
                        Metric { scale: 0.001, ..metric("pool_wait_seconds_total", Kind::Counter) },
                        Path::parse("wait").unwrap(),
                    ),
                    (Metric { words, ..metric("pool_state", Kind::Gauge) }, Path::parse("state").unwrap()),
                ],
                labels: vec![
                    ("pool".into(), label("$1")),
                    ("host".into(), at("$.host")),
                    ("id".into(), at("@.id")),
                ],
            },
            JsonMetric {
                path: Path::parse("$.gone").unwrap(),
                text: "$.gone".into(),
                values: vec![(metric("gone", Kind::Gauge), Path::here())],
                labels: Vec::new(),
            },
        ],
    };
    let document = r#"{"host":"h","pools":{"a":{"id":7,"used":1,"wait":1500,"state":"green"},
        "b":{"used":"2","wait":{},"state":"odd"}}}"#;
    let (shown, skip) = read(&reader, document);
    assert_eq!(
        shown,
        [
            "pool_state{host=\"h\",id=\"7\",pool=\"a\"} 0",
            "pool_state{host=\"h\",pool=\"b\"} 2",
            "pool_used{host=\"h\",id=\"7\",pool=\"a\"} 1",
            "pool_used{host=\"h\",pool=\"b\"} 2",
            "pool_wait_seconds_total{host=\"h\",id=\"7\",pool=\"a\"} 1.5",
        ]
    );
    assert_eq!(skip.unwrap(), "pool_wait_seconds_total: an object is no number");
}

#[test]
fn json_without_metrics_gives_every_number() {
    let reader = Reader::Json { metrics: Vec::new(), prefix: "app_".into() };
    let (shown, _) = read(&reader, r#"{"a":{"b.c":1,"t":"x"},"up":true,"l":[5,{"n":6}],"r_total":2}"#);
    assert_eq!(
        shown,
        ["app_a_b_c 1", "app_l{index=\"0\"} 5", "app_l_n{index=\"1\"} 6", "app_r_total 2", "app_up 1",]
    );
}

#[test]
fn text_by_patterns() {
    let pattern = |name: &str, text: &str, labels: &[(&str, &str)]| PatternMetric {
        metric: metric(name, Kind::Gauge),
        pattern: compile(text).unwrap(),
        labels: labels.iter().map(|(k, v)| ((*k).to_owned(), Template::new(v))).collect(),
    };
    let reader = Reader::Pattern(vec![
        pattern("active", r"^Active connections: (\d+)", &[]),
        pattern("$what", r"^(?<what>Reading|Writing): (?<value>\d+)$", &[("w", "${what}!")]),
        pattern("absent", "nowhere", &[]),
    ]);
    let (shown, skip) = read(&reader, "x\r\nActive connections: 3 \nReading: 0\r\nWriting: 1\n");
    assert_eq!(shown, ["Reading{w=\"Reading!\"} 0", "Writing{w=\"Writing!\"} 1", "active 3"]);
    assert_eq!(skip.unwrap(), "`nowhere` matches nothing");
    assert!(compile("a(b").unwrap_err().contains("unclosed group"));
}

#[test]
fn keys_and_values() {
    let (shown, _) = read(
        &Reader::KeyValue(KeyValue { prefix: "p_".into(), ..KeyValue::default() }),
        "# Server\r\nused_memory:10\r\nname:x\nload 12%\na.b=1.5\n",
    );
    assert_eq!(shown, ["p_a_b 1.5", "p_load 12", "p_used_memory 10"]);
    let metrics = vec![KeyMetric {
        metric: metric("calls_total", Kind::Counter),
        key: "cmd_*".into(),
        labels: vec![("cmd".into(), Template::new("$1"))],
    }];
    let (shown, _) =
        read(&Reader::KeyValue(KeyValue { metrics, ..KeyValue::default() }), "cmd_get:2\ncmd_set:3\nx:1");
    assert_eq!(shown, ["calls_total{cmd=\"get\"} 2", "calls_total{cmd=\"set\"} 3"]);
}

#[test]
fn tables_by_column_name() {
    let csv = Csv {
        delimiter: ',',
        columns: None,
        metrics: vec![ColumnMetric {
            metric: metric("sessions", Kind::Gauge),
            column: "scur".into(),
            only: vec![("sv".into(), "FRONTEND".into())],
            labels: vec![("proxy".into(), Template::new("${px}"))],
        }],
    };
    // The columns move in the middle of the answer, and a field holds the delimiter and a line break.
    let text = "# px,sv,scur\nweb,FRONTEND,4\nweb,BACKEND,1\n\"a,\n\"\"b\",FRONTEND,5\nshort,FRONTEND\nx,FRONTEND,y\n\
        # scur,px,sv\n6,moved,FRONTEND\n";
    let (shown, skip) = read(&Reader::Csv(csv.clone()), text);
    assert_eq!(
        shown,
        ["sessions{proxy=\"a,\\n\\\"b\"} 5", "sessions{proxy=\"moved\"} 6", "sessions{proxy=\"web\"} 4",]
    );
    assert_eq!(skip.unwrap(), "sessions: line 7: `y` is no number");
    let (_, skip) = read(&Reader::Csv(csv.clone()), "px,sv\na,FRONTEND\n");
    assert_eq!(skip.unwrap(), "there is no column `scur`");
    assert!(Reader::Csv(csv.clone()).read(b"", 10).is_err());
    assert!(Reader::Csv(csv).read(",".repeat(100_000).as_bytes(), 10).is_err());
}

#[test]
fn prometheus_pages() {
    let text = "# HELP h Help \\\\ \\n x\n# TYPE h histogram\nh_bucket{a=\"1\",le=\"0.5\"} 1\nh_bucket{le=\"+Inf\",a=\"1\"} 3 1234\n\
        h_sum{a=\"1\"} 4\nh_count{a=\"1\"} 3\n# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_sum 1\ns_count 2\n\
        # TYPE c counter\n# HELP c C\nc_total{x=\"a\\\"b\\\\c\\nd\",} 5 # {trace=\"x\"} 1\nc_created 7\nu 1e3\n# TYPE g gauge\ng { a = \"b\" } +Inf\n# EOF\nnot read\n";
    let reading = Reader::Prometheus.read(text.as_bytes(), 1000).unwrap();
    let families = Normal::default().apply(reading.families).0;
    let page = crate::exposition::page(
        &mut crate::family::Families::sorted(families),
        crate::exposition::Format::Text,
    );
    let expected = "# HELP c_total C\n# TYPE c_total counter\nc_total{x=\"a\\\"b\\\\c\\nd\"} 5\n# TYPE g gauge\ng{a=\"b\"} +Inf\n\
        # HELP h Help \\\\ \\n x\n# TYPE h histogram\nh_bucket{a=\"1\",le=\"0.5\"} 1\nh_bucket{a=\"1\",le=\"+Inf\"} 3\n\
        h_sum{a=\"1\"} 4\nh_count{a=\"1\"} 3\n# TYPE s summary\ns{quantile=\"0.5\"} NaN\ns_sum 1\ns_count 2\n\
        # TYPE u untyped\nu 1000\n";
    assert_eq!(String::from_utf8(page).unwrap(), expected);
    let error = Reader::Prometheus.read(b"a 1\n<html>", 10).unwrap_err();
    assert_eq!((error.line, error.reason.as_str()), (Some(2), "no metric name in `<html>`"));
    let limited = Reader::Prometheus.read(b"a 1\nb 1\nc 1\n", 2).unwrap();
    assert_eq!((limited.samples(), limited.skipped), (2, 1));
}

proptest! {
    #[test]
    fn nothing_panics(text in "[\\[\\]{}(),.:'\"$@?*!=<>&|0-9a-z# \n\\\\/-]{0,60}") {
        let _ = Path::parse(&text);
        let _ = Json::parse(text.as_bytes());
        let _ = Reader::Prometheus.read(text.as_bytes(), 10);
        let csv = Csv { delimiter: ',', columns: None, metrics: Vec::new() };
        let _ = Reader::Csv(csv).read(text.as_bytes(), 10);
        let _ = Reader::KeyValue(KeyValue::default()).read(text.as_bytes(), 10);
        let _ = Template::new(&text).expand(|_| Some("x"));
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        for reader in [Reader::Prometheus, Reader::Json { metrics: Vec::new(), prefix: String::new() }] {
            let _ = reader.read(&bytes, 10);
        }
    }
}
