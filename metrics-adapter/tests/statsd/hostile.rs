//! Input that nobody sends by mistake.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::harness::{Adapter, eventually};

#[test]
fn one_bad_series_never_takes_the_page() {
    let mapping = "mappings:\n- match: one.*\n  name: same\n  help: first\n  labels:\n    aa: $1\n\
                   - match: two.*\n  name: same\n  help: second\n  labels:\n    bb: $1\n";
    let adapter = Adapter::with_mapping(mapping, &[]);
    adapter.send("one.x:1|c\ntwo.x:1|c\nt:1|ms|#quantile:x\nh:1|c|#__name__:x\nsame:1|g\nstatsd_exporter_lines_total:1|c\n");
    adapter.send("\u{e9}t\u{e9}:1|c\n9lives:1|c\nnan:nan|g\ninf:inf|g\nlabel:1|g|#k:\"\\\u{1}\u{2}\n");
    adapter.send("end:1|g");
    adapter.wait_for("end", 1.0);
    assert_eq!(adapter.value("same{aa=\"x\"}"), Some(1.0));
    assert_eq!(adapter.value("same{bb=\"x\"}"), Some(1.0));
    let page = adapter.page();
    assert!(page.contains("# HELP same first\n") && !page.contains("# HELP same second"), "{page}");
    assert_eq!(adapter.value("_t_"), Some(1.0));
    assert_eq!(adapter.value("_9lives"), Some(1.0));
    assert_eq!(adapter.value("inf"), Some(f64::INFINITY));
    assert!(page.contains("label{k=\"\\\"\\\\\u{1}\u{2}\"} 1"), "{page}");
    let conflict = "statsd_exporter_events_conflict_total{metric_name=\"same\",type=\"gauge\"}";
    assert_eq!(adapter.value(conflict), Some(1.0));
}

#[test]
fn a_flood_of_names_is_bounded_and_visible() {
    let adapter = Adapter::start(&["--max-series=1000"]);
    let mut stream = adapter.connect();
    let mut lines = String::new();
    for n in 0..200_000 {
        lines.push_str(&format!("flood.id{n}:1|c\n"));
    }
    stream.write_all(lines.as_bytes()).unwrap();
    adapter.wait_for("statsd_exporter_lines_total", 200_000.0);
    adapter.wait_for("statsd_exporter_series", 1000.0);
    adapter.wait_for("statsd_exporter_series_refused_total{limit=\"max_series\"}", 199_000.0);
    assert!(adapter.resident_bytes() < 64 << 20, "{}", adapter.resident_bytes());
    let status = String::from_utf8(adapter.request("GET", "/", "").1).unwrap();
    assert!(status.contains("flood.*"), "{status}");
    adapter.send("flood.id0:1|c");
    adapter.wait_for("flood_id0", 2.0);
}

#[test]
#[ignore = "sends ten million names; takes a minute"]
fn ten_million_names_stay_within_the_memory_limit() {
    let adapter = Adapter::start(&["--memory-limit=128MiB"]);
    let mut stream = adapter.connect();
    for batch in 0..1000 {
        let lines: String = (0..10_000).map(|n| format!("n{batch}.x{n}:1|c|#tag:value{n}\n")).collect();
        stream.write_all(lines.as_bytes()).unwrap();
        assert!(adapter.resident_bytes() < 160 << 20, "{} after {batch}", adapter.resident_bytes());
    }
    eventually("every line", || adapter.value("statsd_exporter_lines_total").filter(|n| *n >= 1e7));
    assert!(adapter.value("statsd_exporter_series_refused_total{limit=\"memory_limit\"}").unwrap() > 9e6);
}

#[test]
fn long_lines_and_tag_floods_cost_little() {
    let adapter = Adapter::start(&[]);
    let start = Instant::now();
    let tags: Vec<String> = (0..6000).map(|n| format!("k{n}:v")).collect();
    let flood = format!("tags:1|c|#{}", tags.join(","));
    for line in [
        flood,
        "a".repeat(60_000),
        format!("x:1|c|#{}", ",".repeat(60_000)),
        format!("x:{}|ms", ":1".repeat(20_000)),
    ] {
        for _ in 0..20 {
            adapter.send(&line);
        }
    }
    adapter.send_bytes(&[0xff; 1000]);
    adapter.send("repeated:1|ms|@0.000000001");
    adapter.send("end:1|g");
    adapter.wait_for("end", 1.0);
    adapter.wait_for("repeated_count", 999_999_999.0);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

#[test]
fn half_lines_and_idle_connections_hold_nothing_up() {
    let adapter = Adapter::start(&[]);
    let idle: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = adapter.connect();
            stream.write_all(b"half.a.line:1").unwrap();
            stream
        })
        .collect();
    adapter.wait_for("statsd_exporter_tcp_connections_open", 200.0);
    adapter.send("end:1|g");
    adapter.wait_for("end", 1.0);
    drop(idle);
    adapter.wait_for("statsd_exporter_tcp_connections_open", 0.0);
}
