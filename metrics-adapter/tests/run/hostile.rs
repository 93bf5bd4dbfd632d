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
        let _ = write!(
            stream,
            "HTTP/1.1 302 Found\r\nconnection: close\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n"
        );
    });
    isolated(&json(&fake), "302 Found and points to http://elsewhere/");
    let fake = Fake::new(|_, stream| {
        let _ = write!(
            stream,
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
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
    adapter.wait_for_problem("hangs", "not done within 300ms (timeout)");
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

/// All of them at once, beside one that is good.
#[test]
fn everything_at_once() {
    let gigabyte = Fake::new(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n");
        flood(stream, b" ");
    });
    let endless = Fake::new(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n\r\n");
        flood(stream, b"[1,");
    });
    let drip = Fake::new(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\n\r\n[");
        while stream.write_all(b"1,").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    let deep = Fake::body("[".repeat(1_000_000));
    let deep_objects = Fake::body("{\"a\":".repeat(1_000_000));
    let table = Fake::body("name,size\nx,1\n# size,name\n2,y\n# other,name\nz,z\n");
    let twice = Fake::body(
        "a{x=\"1\"} 1\na{x=\"1\"} 2\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
    );
    let other = Fake::body("# TYPE a counter\na{x=\"1\"} 7\na{x=\"9\"} 8\n# TYPE h gauge\nh 4\nh_count 5\n");
    let good = Fake::body("good 1\n");
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("hangs.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    // One line of 100 MB, all of it binary.
    let mut log = std::fs::File::create(directory.path().join("app.log")).unwrap();
    log.set_len(100 << 20).unwrap();
    std::io::Seek::seek(&mut log, std::io::SeekFrom::End(0)).unwrap();
    log.write_all(b"\nok\n").unwrap();
    let mut yaml = "timeout: 1s\nsources:\n".to_owned();
    for (name, fake) in [
        ("gigabyte", &gigabyte),
        ("endless", &endless),
        ("drip", &drip),
        ("deep", &deep),
        ("deep_objects", &deep_objects),
    ] {
        yaml += &format!("- name: {name}\n{}", json(fake));
    }
    yaml += &format!(
        "- {{name: table, type: http_text, url: '{}', format: csv, metrics: [{{name: size, column: size, labels: {{n: \"${{name}}\"}}}}]}}\n\
         - {{name: log, type: tail, path: app.log, from_start: true, metrics: [{{name: ok_total, regex: '^ok'}}]}}\n\
         - {{name: hangs, type: tcp_text, address: 'unix:{}', command: x, format: key_value}}\n\
         - {{name: twice, type: prometheus, url: '{}'}}\n- {{name: other, type: prometheus, url: '{}'}}\n\
         - {{name: good, type: prometheus, url: '{}'}}\n",
        table.url(),
        socket.display(),
        twice.url(),
        other.url(),
        good.url()
    );
    let adapter = Adapter::start_in(directory, &yaml, &[]);
    adapter.wait_for("ok_total", 1.0);
    let up = |name: &str, kind: &str| {
        adapter.wait_for(
            &format!("metrics_adapter_source_up{{source=\"{name}\",type=\"{kind}\"}}"),
            f64::from(u8::from(!["http_json", "tcp_text"].contains(&kind))),
        );
    };
    ["gigabyte", "endless", "drip", "deep", "deep_objects"].iter().for_each(|name| up(name, "http_json"));
    ["twice", "other", "good"].iter().for_each(|name| up(name, "prometheus"));
    up("table", "http_text");
    up("hangs", "tcp_text");
    let page = adapter.page();
    for line in ["good 1", "size{n=\"x\"} 1", "size{n=\"y\"} 2", "a{x=\"1\"} 1", "a{x=\"9\"} 8", "h_count 1"]
    {
        assert!(page.lines().any(|found| found == line), "{line} is not on\n{page}");
    }
    for reason in ["series", "type"] {
        let lost =
            format!("metrics_adapter_conflicting_samples_total{{reason=\"{reason}\",source=\"other\"}}");
        assert!(adapter.value(&lost).unwrap() > 0.0);
    }
    assert!(adapter.resident_bytes() < 80 << 20, "{} bytes", adapter.resident_bytes());
    drop(listener);
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
