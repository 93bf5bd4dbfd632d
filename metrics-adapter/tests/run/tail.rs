//! Following a log over growth, rotation, truncation and restarts.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use crate::harness::Adapter;

const YAML: &str = r#"
sources:
- type: tail
  path: app.log
  from_start: true
  position_file: position
  metrics:
  - {name: lines_total, regex: "^"}
  - {name: errors_total, regex: 'level=(?<level>error|fatal)', labels: {level: "${level}"}}
  - {name: sent_bytes_total, regex: 'sent=(?<value>\d+)'}
  - {name: queue, regex: 'queue=(\d+)'}
  - {name: took_seconds, type: histogram, scale: 0.001, buckets: [0.1, 1], regex: 'took=(\d+)ms'}
"#;

fn append(path: &Path, text: &[u8]) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text).unwrap();
}

#[test]
fn counters_gauges_and_histograms() {
    let adapter = Adapter::start(YAML);
    // The file need not be there yet.
    assert_eq!(adapter.value("metrics_adapter_source_up{source=\"tail\",type=\"tail\"}"), Some(0.0));
    let log = adapter.path("app.log");
    append(&log, b"level=error sent=10 queue=5 took=50ms\nlevel=info sent=5 queue=3 took=500ms\nlevel=error took=5000ms\nhalf");
    adapter.wait_for("lines_total", 3.0);
    let page = adapter.page();
    for line in [
        "errors_total{level=\"error\"} 2",
        "sent_bytes_total 15",
        "queue 3",
        "took_seconds_bucket{le=\"0.1\"} 1",
        "took_seconds_bucket{le=\"1\"} 2",
        "took_seconds_bucket{le=\"+Inf\"} 3",
        "took_seconds_sum 5.55",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not on\n{page}");
    }
    append(&log, b" a line sent=1\n");
    adapter.wait_for("lines_total", 4.0);
}

#[test]
fn rotation_and_truncation_lose_nothing() {
    let adapter = Adapter::start(YAML);
    let log = adapter.path("app.log");
    append(&log, b"one\n");
    adapter.wait_for("lines_total", 1.0);
    // Written between the last look and the rotation, and to the old file after it.
    append(&log, b"two\n");
    let mut old = OpenOptions::new().append(true).open(&log).unwrap();
    std::fs::rename(&log, adapter.path("app.log.1")).unwrap();
    old.write_all(b"three\n").unwrap();
    append(&log, b"four\n");
    adapter.wait_for("lines_total", 4.0);
    File::create(&log).unwrap();
    adapter.wait_for("lines_total", 4.0);
    append(&log, b"x\n");
    adapter.wait_for("lines_total", 5.0);
}

#[test]
fn a_restart_goes_on_where_it_was_even_after_a_rotation() {
    let adapter = Adapter::start(YAML);
    let log = adapter.path("app.log");
    append(&log, b"one\ntwo\n");
    adapter.wait_for("lines_total", 2.0);
    let directory = adapter.stop();
    append(&directory.path().join("app.log"), b"three\n");
    std::fs::rename(directory.path().join("app.log"), directory.path().join("app.log.1")).unwrap();
    append(&directory.path().join("app.log"), b"four\n");
    let adapter = Adapter::start_in(directory, YAML, &[]);
    adapter.wait_for("lines_total", 2.0);
    let directory = adapter.stop();
    let adapter = Adapter::start_in(directory, YAML, &[]);
    adapter.wait_for("lines_total", 0.0);
}

#[test]
fn long_lines_and_binary_do_no_harm() {
    let adapter = Adapter::start(YAML);
    let log = adapter.path("app.log");
    let mut file = File::create(&log).unwrap();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        file.write_all(&piece).unwrap();
    }
    file.write_all(b"\n\0\xff\xfe\x80 level=fatal\n").unwrap();
    adapter.wait_for("errors_total{level=\"fatal\"}", 1.0);
    assert_eq!(adapter.value("lines_total"), Some(1.0));
    assert!(
        adapter.value("metrics_adapter_source_skipped_samples_total{source=\"tail\",type=\"tail\"}").unwrap()
            >= 1.0
    );
    assert!(adapter.resident_bytes() < 60 << 20, "{}", adapter.resident_bytes());
}
