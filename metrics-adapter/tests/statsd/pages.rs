//! The page, in every format and to every client.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Adapter, eventually};

const LINES: &str = "requests_total:1|c|#path:/a\\b\nload:0.5|g\nlatency_seconds:320|h\nsizes:1|h\nusers:x|s";
const MAPPING: &str = "mappings:\n- match: sizes\n  name: sizes\n  observer_type: histogram\n";

#[test]
fn formats_and_compressions_are_negotiated() {
    let adapter = Adapter::with_mapping(MAPPING, &[]);
    adapter.send(LINES);
    adapter.wait_for("load", 0.5);
    let get = |headers: &str| adapter.request("GET", "/metrics", headers);
    let (head, text) = get("");
    assert!(
        head.contains("content-type: text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),
        "{head}"
    );
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("requests_total{path=\"/a\\\\b\"} 1\n"), "{text}");
    assert!(
        text.contains("# TYPE sizes histogram\n") && text.contains("sizes_bucket{le=\"2.5\"} 1\n"),
        "{text}"
    );
    let families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert!(families.is_sorted() && families.iter().any(|f| f.starts_with("process_")), "{families:?}");

    let (head, open) = get("accept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(String::from_utf8(open).unwrap().ends_with("# EOF\n"));

    let proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let (head, bytes) = get(&format!("accept: {proto}\r\n"));
    assert!(head.contains("content-type: application/vnd.google.protobuf"), "{head}");
    assert!(bytes.windows(8).any(|eight| eight == b"requests"));

    for (encoding, magic) in [("gzip", &[0x1f, 0x8b][..]), ("zstd", &[0x28, 0xb5, 0x2f, 0xfd])] {
        let (head, bytes) = get(&format!("accept-encoding: {encoding}\r\n"));
        assert!(
            head.contains(&format!("content-encoding: {encoding}")) && bytes.starts_with(magic),
            "{head}"
        );
        assert!(bytes.len() < text.len() / 3);
    }
}

#[test]
fn promtool_accepts_the_page() {
    let adapter = Adapter::with_mapping(MAPPING, &[]);
    adapter.send(LINES);
    adapter.wait_for("load", 0.5);
    let page = adapter.page();
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        panic!("promtool is missing (Debian: prometheus)")
    };
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let mut said = String::new();
    promtool.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(promtool.wait().unwrap().success(), "{said}\n{page}");
}

#[test]
#[ignore = "needs Debian's prometheus"]
fn a_real_prometheus_scrapes_it() {
    let adapter = Adapter::with_mapping(MAPPING, &[]);
    adapter.send(LINES);
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: a\n  static_configs:\n  - targets: ['{}']\n",
        adapter.web
    );
    std::fs::write(directory.path().join("p.yml"), config).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", directory.path().join("p.yml").display()))
        .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--enable-feature=native-histograms")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let query = |expression: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let request = format!("GET /api/v1/query?query={expression} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.contains("\"value\":[").then_some(answer)
    };
    eventually("the scraped counter", || query("requests_total"));
    assert!(query("up").unwrap().contains(",\"1\"]"));
    let native = query("histogram_quantile(0.5,sizes)").expect("the native histogram");
    assert!(native.contains(",\"0.9") || native.contains(",\"1\"]"), "{native}");
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
}

#[test]
fn the_status_page_shows_names_without_a_mapping() {
    let adapter = Adapter::start(&[]);
    adapter.send("app.user42.logins:1|c");
    adapter.wait_for("app_user42_logins", 1.0);
    let (head, body) = adapter.request("GET", "/", "");
    let body = String::from_utf8(body).unwrap();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.contains("app.user42.logins") && body.contains("app.*.logins"), "{body}");
    let adapter = Adapter::start(&["--web.telemetry-path=/"]);
    let (head, _) = adapter.request("GET", "/", "");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
}
