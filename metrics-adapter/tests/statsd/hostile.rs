//! Input that nobody sends by mistake.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::harness::{Adapter, command, eventually};

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
    for n in 0..50_000 {
        lines.push_str(&format!("flood.id{n}:1|c\n"));
    }
    stream.write_all(lines.as_bytes()).unwrap();
    adapter.wait_for("statsd_exporter_lines_total", 50_000.0);
    adapter.wait_for("statsd_exporter_series", 1000.0);
    adapter.wait_for("statsd_exporter_series_refused_total{limit=\"max_series\"}", 49_000.0);
    assert!(adapter.resident_bytes() < 64 << 20, "{}", adapter.resident_bytes());
    let status = String::from_utf8(adapter.request("GET", "/", "").1).unwrap();
    assert!(status.contains("flood.*"), "{status}");
    adapter.send("flood.id0:1|c");
    adapter.wait_for("flood_id0", 2.0);
}

/// A million names; with `LONG_TESTS` set ten million, which takes a debug build ten minutes.
#[test]
fn millions_of_names_stay_within_the_memory_limit() {
    let millions = if std::env::var_os("LONG_TESTS").is_some() { 10 } else { 1 };
    let adapter = Adapter::start(&["--memory-limit=48MiB"]);
    let mut stream = adapter.connect();
    for batch in 0..100 * millions {
        let lines: String = (0..10_000).map(|n| format!("n{batch}.x{n}:1|c|#tag:value{n}\n")).collect();
        stream.write_all(lines.as_bytes()).unwrap();
        // The limit is for all of it; a debug build's program alone may be resident with more than the rest of it.
        assert!(adapter.private_bytes() < 44 << 20, "{} after {batch}", adapter.private_bytes());
    }
    let sent = f64::from(millions) * 1e6;
    eventually("every line", || adapter.value("statsd_exporter_lines_total").filter(|n| *n >= sent));
    let refused = adapter.value("statsd_exporter_series_refused_total{limit=\"memory_limit\"}").unwrap();
    assert!(refused > 0.7 * sent, "{refused}");
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
    assert!(start.elapsed() < Duration::from_secs(90), "{:?}", start.elapsed());
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

/// `--check-config` of a mapping: exit status and what was said.
fn checked(mapping: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.yml");
    std::fs::write(&path, mapping).unwrap();
    let output = command(&["--check-config", &format!("--statsd.mapping-config={}", path.display())]);
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn hostile_mapping_files_end_at_once_with_a_line() {
    let start = Instant::now();
    let bomb: String = (b'a'..b'n')
        .map(|c| (c as char, (c + 1) as char))
        .map(|(one, next)| format!("- &{next} [{}]\n", vec![format!("*{one}"); 9].join(",")))
        .collect();
    let rule = "- match: a.b\n  name: x\n";
    for (mapping, line, says) in [
        ("mappings: &m\n- *m\n".to_owned(), ":2: ", "an alias stands for something that contains"),
        (format!("mappings:\n- &a [x]\n{bomb}"), ":2: ", "m.yml"),
        (
            format!("mappings:\n- &r {{match: a.b, name: x}}\n{}", "- *r\n".repeat(200_000)),
            ":",
            "too many values",
        ),
        (format!("mappings: {}", "[".repeat(100_000)), ":1: ", "nested too deeply"),
        (format!("mappings: {}", "{a: ".repeat(100_000)), ":1: ", "m.yml"),
        (format!("mappings:\n{}", rule.repeat(900_000)), ": ", "a mapping file has at most 16777216"),
        (
            "mappings:\n- match: (x{1000}){1000}\n  match_type: regex\n  name: x\n".to_owned(),
            ":2: ",
            "needs more than",
        ),
        (
            format!("mappings:\n- match: a{}\n  name: x\n", ".*".repeat(400_000)),
            ":2: ",
            "more than 300000 components",
        ),
        ("mappings: []\nmappings: []\n".to_owned(), ":2: ", "the key `mappings` is given twice"),
        ("mappings: []\n---\nmappings: []\n".to_owned(), ":3: ", "a second YAML document"),
        ("mappings:\n\t- match: a\n".to_owned(), ":2: ", "tab"),
        ("mappings:\n- match: \"\u{0}\"\n  name: x\n".to_owned(), ":", "m.yml"),
    ] {
        let (status, said) = checked(&mapping);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(&format!("m.yml{line}")) && said.contains(says), "{said}");
        assert!(said.len() < 500, "{said}");
    }
    for mapping in ["", "# nothing\n", "~\n", "---\n", "mappings:\n", "defaults:\n"] {
        assert_eq!(checked(mapping).0, Some(0), "{mapping:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
}

#[test]
fn a_regex_that_others_backtrack_on_takes_linear_time() {
    let mapping = "mappings:\n- match: ^(a+)+$\n  match_type: regex\n  name: never\n\
                   - match: (.*)*x(.*)*y\n  match_type: regex\n  name: never\n";
    let adapter = Adapter::with_mapping(mapping, &["--statsd.cache-size=0"]);
    let start = Instant::now();
    for n in 0..200 {
        adapter.send(&format!("{}.{n}:1|c", "a".repeat(10_000)));
    }
    adapter.send("end:1|g");
    adapter.wait_for("end", 1.0);
    assert!(start.elapsed() < Duration::from_secs(90), "{:?}", start.elapsed());
}

#[test]
fn every_packet_is_either_taken_or_counted_as_lost() {
    let adapter = Adapter::start(&["--statsd.read-buffer=100000"]);
    adapter.signal("-STOP");
    let (packets, sender) = (20_000, std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    let packet = vec!["burst:1|c"; 20].join("\n");
    for _ in 0..packets {
        sender.send_to(packet.as_bytes(), adapter.udp.unwrap()).unwrap();
    }
    adapter.signal("-CONT");
    let value = |name: &str| adapter.value(&format!("statsd_exporter_{name}")).unwrap_or(0.0);
    eventually("an account of every packet", || {
        let (taken, lost) = (value("udp_packets_total"), value("udp_kernel_drops_total"));
        (taken + lost >= f64::from(packets)).then_some(())
    });
    let taken = value("udp_packets_total");
    assert_eq!(taken + value("udp_kernel_drops_total"), f64::from(packets));
    assert!(taken > 0.0 && taken < f64::from(packets));
    // What was received was counted, or dropped from our queue and counted there.
    let lines = (taken - value("udp_packet_drops_total")) * 20.0;
    adapter.wait_for("burst", lines);
    adapter.wait_for("statsd_exporter_lines_total", lines);
}

#[test]
fn a_slow_reader_of_the_page_holds_no_lines_up() {
    let adapter = Adapter::start(&[]);
    let mut stream = adapter.connect();
    let path = "/a/long/path/that/makes/the/page/large".repeat(5);
    let lines: String = (0..40_000).map(|n| format!("held.number{n}:1|c|#path:{path}\n")).collect();
    stream.write_all(lines.as_bytes()).unwrap();
    adapter.wait_for("statsd_exporter_series", 40_000.0);
    // Asks for the page, which is larger than any buffer of the kernel's, and does not read it.
    let mut slow: Vec<_> = (0..4).map(|_| std::net::TcpStream::connect(adapter.web).unwrap()).collect();
    for reader in &mut slow {
        reader.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    }
    let before = adapter.resident_bytes();
    for n in 0..200 {
        adapter.send(&format!("meanwhile:{n}|g"));
    }
    // Told by the data of the status page, which is small.
    eventually("the lines", || {
        let status = String::from_utf8(adapter.request("GET", "/status.json", "").1).unwrap();
        status.contains("40200").then_some(())
    });
    assert!(adapter.resident_bytes() < before + (32 << 20), "{before} {}", adapter.resident_bytes());
    drop(slow);
}
