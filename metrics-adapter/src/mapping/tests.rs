use super::*;
use crate::family::store::{HistogramOptions, SummaryOptions};

fn parse(text: &str) -> Mapping {
    Mapping::parse(text).unwrap_or_else(|problem| panic!("{problem}\n{text}"))
}

fn find(mapping: &Mapping, name: &str, kind: MetricType) -> String {
    match mapping.find(name, kind) {
        Some(mapped) => {
            let labels: Vec<String> = mapped.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            format!("{}{{{}}}", mapped.name, labels.join(","))
        }
        None => "-".to_owned(),
    }
}

const SEVERAL: &str = r#"---
mappings:
- match: test.dispatcher.*.*.*
  name: "dispatch_events"
  labels:
    processor: "$1"
    action: "$2"
    result: "$3"
    job: "test_dispatcher"
- match: "*.*"
  name: "catchall"
  labels:
    first: "$1"
    third: "$3"
    job: "$1-$2-$3"
- match: (.*)\.(.*)-(.*)\.(.*)
  match_type: regex
  name: "proxy_requests_total"
  labels:
    job: "$1"
    endpoint: "$3"
    whole: "$0"
- match: only\.gauges\.(\w+)
  match_type: regex
  match_metric_type: gauge
  name: "g_${1}"
- match: test3\.(\w+)\.(\w+)
  match_type: regex
  name: "${2}_$1"
"#;

#[test]
fn globs_then_patterns() {
    let mapping = parse(SEVERAL);
    for (name, expected) in [
        (
            "test.dispatcher.FooProcessor.send.succeeded",
            "dispatch_events{action=send,job=test_dispatcher,processor=FooProcessor,result=succeeded}",
        ),
        ("foo.bar", "catchall{first=foo,job=foo-bar-,third=}"),
        ("foo.bar.baz", "-"),
        (
            "proxy-1.http-goober.success",
            "proxy_requests_total{endpoint=goober,job=proxy-1,whole=proxy-1.http-goober.success}",
        ),
        ("only.gauges.x", "-"),
        ("test3.total_requests.count", "count_total_requests{}"),
    ] {
        assert_eq!(find(&mapping, name, MetricType::Counter), expected, "{name}");
    }
    assert_eq!(find(&mapping, "only.gauges.x", MetricType::Gauge), "g_x{}");
}

#[test]
fn names_are_escaped_after_expansion() {
    let mapping = parse("mappings:\n- match: a.*\n  name: \"$1\"\n- match: b.*\n  name: \"x_${1}\"\n");
    assert_eq!(find(&mapping, "a.1-2", MetricType::Counter), "_1_2{}");
    assert_eq!(find(&mapping, "b.c:d", MetricType::Counter), "x_c_d{}");
    assert_eq!(find(&mapping, "a.", MetricType::Counter), "{}");
}

#[test]
fn options_and_their_defaults() {
    let mapping = parse(
        "defaults:\n  ttl: 1m20s\n  observer_type: histogram\n  histogram_options:\n    buckets: [1, 2, .inf]\n\
         \x20   native_histogram_bucket_factor: 1.5\n  summary_options:\n    max_age: 5m\n\
         mappings:\n- match: a.*\n  name: a\n  ttl: 3s\n  histogram_options:\n    native_histogram_max_buckets: 7\n\
         - match: b.*\n  name: b\n  observer_type: summary\n  scale: 0.001\n  honor_labels: true\n  help: h\n\
         \x20 summary_options:\n    quantiles:\n    - {quantile: 0.9, error: 0.1}\n    - quantile: 0.5\n      error: 0.2\n    buf_cap: 9\n",
    );
    assert_eq!((mapping.defaults.ttl, mapping.rules[0].ttl, mapping.rules[1].ttl), (80_000, 3_000, 80_000));
    let histogram = HistogramOptions { buckets: vec![1.0, 2.0], native_factor: 1.5, native_max_buckets: 7 };
    assert_eq!(*mapping.rules[0].histogram, histogram);
    assert!(matches!(mapping.behaviour(Some(0), Type::Timer, 0), Behaviour::Histogram(_)));
    assert!(matches!(mapping.behaviour(None, Type::Timer, 0), Behaviour::Histogram(_)));
    let summary = &mapping.rules[1];
    assert!(matches!(mapping.behaviour(Some(1), Type::Timer, 0), Behaviour::Summary(_)));
    assert_eq!(
        *summary.summary,
        SummaryOptions {
            quantiles: vec![(0.5, 0.2), (0.9, 0.1)],
            max_age: std::time::Duration::from_secs(300),
            buffer: 9,
            ..SummaryOptions::default()
        }
    );
    assert_eq!(
        (summary.scale, summary.honor_labels, summary.help.as_deref()),
        (Some(0.001), true, Some("h"))
    );
    assert_eq!(summary.line, 15);
}

#[test]
fn an_empty_file_is_an_empty_mapping() {
    for text in ["", "---\n", "# nothing\n", "mappings:\n", "{}"] {
        assert!(parse(text).rules.is_empty(), "{text}");
    }
}

#[test]
fn plain_scalars_are_texts() {
    let mapping = parse(
        "mappings:\n- match: a.*\n  name: a\n  labels:\n    code: 200\n    ok: true\n    nothing: ''\n",
    );
    assert_eq!(find(&mapping, "a.b", MetricType::Gauge), "a{code=200,nothing=,ok=true}");
}

#[test]
fn problems_name_line_and_key() {
    for (text, line, reason) in [
        ("mappings:\n- match: a.*\n  nme: foo\n", 3, "unknown key `nme`, did you mean `name`?"),
        ("default:\n  ttl: 1s\n", 1, "did you mean `defaults`?"),
        ("mappings:\n- match: a.*\n  name: 0foo\n", 3, "name: `0foo`"),
        ("mappings:\n- match: a.*\n", 2, "name: the mapping of `a.*` has none"),
        ("mappings:\n- name: a\n", 2, "no `match`"),
        (
            "mappings:\n- match: bad--metric-line.*.*\n  name: a\n",
            2,
            "match: `bad--metric-line.*.*` is no glob",
        ),
        ("mappings:\n- match: \"(\"\n  match_type: regex\n  name: a\n", 2, "match: not a regular expression"),
        ("mappings:\n- match: a.*\n  name: a\n  labels:\n    a: $1\n", 5, "labels: `a`"),
        ("mappings:\n- match: a.*\n  name: a\n  labels:\n    this-is: $1\n", 5, "labels: `this-is`"),
        ("mappings:\n- match: a.*\n  name: a\n  observer_type: wrong\n", 4, "observer_type: `wrong`"),
        ("mappings:\n- match: a.*\n  name: a\n  action: test\n", 4, "action: `test` is none of map, drop"),
        ("mappings:\n- match: a.*\n  name: a\n  match_metric_type: x\n", 4, "match_metric_type"),
        ("mappings:\n- match: a.*\n  name: a\n  ttl: soon\n", 4, "not a duration"),
        ("mappings:\n- match: a.*\n  name: a\n  timer_type: summary\n", 4, "unknown key `timer_type`"),
        ("mappings:\n- match: a.*\n  name: a\n  name: b\n", 4, "the key `name` is given twice"),
        ("mappings:\n- match: *.test.*\n  name: a\n", 2, ""),
        ("defaults:\n  histogram_options:\n    buckets: [2, 1]\n", 3, "buckets must ascend"),
        (
            "mappings:\n- match: a.*\n  name: a\n  observer_type: histogram\n  summary_options:\n    buf_cap: 3\n",
            6,
            "summary_options: the observer type is histogram",
        ),
    ] {
        let problem = Mapping::parse(text).unwrap_err();
        assert_eq!(problem.line, Some(line), "{problem}\n{text}");
        assert!(problem.reason.contains(reason) && !problem.reason.contains('\n'), "{problem}\n{text}");
    }
}

#[test]
fn hostile_files_end_quickly() {
    let bomb: String = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| {
        format!("{text}a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1)
    });
    assert!(Mapping::parse(&bomb).is_err());
    assert!(Mapping::parse(&"[".repeat(100_000)).is_err());
    assert!(Mapping::parse("mappings: &a\n- *a\n").is_err());
    assert!(Mapping::parse("\0").is_err());
    let nested =
        "mappings:\n- match: \"((((a{1000}){1000}){1000}){1000})\"\n  match_type: regex\n  name: a\n";
    assert!(Mapping::parse(nested).unwrap_err().reason.starts_with("match: the regular expression needs"));
}

#[test]
fn findings() {
    let mapping = parse(
        "mappings:\n- match: a.*\n  name: a\n- match: a.b\n  name: b\n- match: c.*\n  name: c\n  labels:\n    xx: $1_y\n\
         - match: c.*\n  name: d\n- match: .*\n  match_type: regex\n  name: e\n- match: f\n  match_type: regex\n  name: f\n",
    );
    let found: Vec<(u64, bool)> = lint(&mapping).iter().map(|finding| (finding.line, finding.dead)).collect();
    assert_eq!(found, [(4, true), (6, false), (10, true), (15, true)]);
}

#[test]
fn the_dump_is_a_graph() {
    let dot = parse("mappings:\n- match: a.*\n  name: n\n").to_dot();
    assert!(dot.starts_with("digraph g {") && dot.contains("label=\"*\"") && dot.ends_with("}\n"), "{dot}");
}
