//! Peers that send too much, too little, or nothing: one source is down, everything else stays.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixListener;

use crate::harness::{Adapter, Fake};

/// Starts an adapter with the hostile source and a good one; the page must be as good as ever.
fn isolated(hostile: &str, expected: &str) {
    let good = Fake::body("good 1\n");
    let adapter = Adapter::start(&format!(
        "sources:\n- name: hostile\n  timeout: 20s\n{hostile}- {{name: good, type: prometheus, url: '{}'}}\n",
        good.url()
    ));
    let page = adapter.get("/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 60\r\n");
    assert!(page.contains("\ngood 1\n"), "{page}");
    assert!(
        page.contains("metrics_adapter_source_up{source=\"hostile\"") && page.contains("\"} 0\n"),
        "{page}"
    );
    adapter.wait_for_problem("hostile", expected);
    assert!(adapter.resident_bytes() < 80 << 20, "{} bytes", adapter.resident_bytes());
    adapter.wait_for("good", 1.0);
}

fn json(fake: &Fake) -> String {
    format!("  type: http_json\n  url: '{}'\n  metrics: [{{name: a, path: $.a}}]\n", fake.url())
}

#[test]
fn a_body_of_a_gigabyte() {
    let fake = Fake::new(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n");
        flood(stream, b" ");
    });
    isolated(&json(&fake), "longer than 8388608 bytes");
}

#[test]
fn a_body_that_never_ends() {
    let fake = Fake::new(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n\r\n");
        flood(stream, b"[1,");
    });
    isolated(&json(&fake), "longer than 8388608 bytes");
}

fn flood(stream: &mut TcpStream, what: &[u8]) {
    let piece = what.repeat(16 << 10);
    while stream.write_all(&piece).is_ok() {}
}

#[test]
fn nested_a_million_deep() {
    isolated(&json(&Fake::body("[".repeat(1_000_000))), "line 1: nested more than 64 deep");
}

#[test]
fn a_document_of_empty_arrays() {
    let body = format!("[{}[]]", "[],".repeat(2_000_000));
    isolated(&json(&Fake::body(body)), "more than 500000 values");
}

#[test]
fn a_wrong_value_is_named_with_its_line() {
    isolated(&json(&Fake::body("{\n \"a\": 1,\n \"b\": tru }")), "line 3");
}

#[test]
fn an_answer_that_is_no_page() {
    let fake = Fake::body("a 1\nb 2\n<html>\n");
    let source = format!("  type: prometheus\n  url: '{}'\n", fake.url());
    isolated(&source, "line 3: no metric name in `<html>`");
}

#[test]
fn errors_and_redirects_of_a_server() {
    let fake = Fake::new(|_, stream| {
        let _ =
            write!(stream, "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n");
    });
    isolated(&json(&fake), "302 Found and points to http://elsewhere/");
    let fake = Fake::new(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    });
    isolated(&json(&fake), "503");
}

#[test]
fn a_unix_socket_that_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hangs.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let good = Fake::body("good 1\n");
    let adapter = Adapter::start(&format!(
        "sources:\n- {{name: hangs, type: tcp_text, timeout: 300ms, address: 'unix:{}', command: x, format: key_value}}\n\
         - {{name: good, type: prometheus, url: '{}'}}\n",
        path.display(),
        good.url()
    ));
    let page = adapter.page();
    assert!(page.contains("\ngood 1\n"), "{page}");
    assert!(page.contains("metrics_adapter_source_up{source=\"hangs\",type=\"tcp_text\"} 0"), "{page}");
    assert!(adapter.problem("hangs").contains("not done within 300ms (timeout)"));
    drop(listener);
}

#[test]
fn a_table_whose_columns_move() {
    let fake = Fake::body("name,size\nx,1\n# size,name\n2,y\n# other,name\nz,z\n");
    let adapter = Adapter::start(&format!(
        "sources:\n- {{name: t, type: http_text, url: '{}', format: csv, metrics: [{{name: size, column: size, labels: {{n: \"${{name}}\"}}}}]}}\n",
        fake.url()
    ));
    let page = adapter.page();
    assert!(page.contains("size{n=\"x\"} 1") && page.contains("size{n=\"y\"} 2"), "{page}");
    let problem = adapter.problem("t");
    assert!(problem.contains("there is no column `size`"), "{problem}");
}

#[test]
fn more_series_than_allowed() {
    let body: String = (0..1000).map(|n| format!("x{{n=\"{n}\"}} 1\n")).collect();
    let fake = Fake::body(body);
    let adapter = Adapter::start(&format!(
        "sources:\n- {{name: x, type: prometheus, max_series: 10, url: '{}'}}\n",
        fake.url()
    ));
    let page = adapter.page();
    assert_eq!(page.lines().filter(|line| line.starts_with("x{")).count(), 10);
    assert!(adapter.problem("x").contains("990 skipped: there are more samples than `max_series` allows"));
}
