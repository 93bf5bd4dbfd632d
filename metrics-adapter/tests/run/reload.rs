//! Reading the configuration again, and the formats of the page.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;

use crate::harness::{Adapter, Fake, eventually, get};

const SUCCESS: &str = "metrics_adapter_config_reloads_total{outcome=\"success\"}";
const FAILURE: &str = "metrics_adapter_config_reloads_total{outcome=\"failure\"}";

fn yaml(fake: &Fake, name: &str) -> String {
    let url = fake.url();
    format!("sources:\n- {{name: x, type: prometheus, url: '{url}', labels: {{by: {name}}}}}\n")
}

fn post(adapter: &Adapter, path: &str) -> String {
    let mut stream = TcpStream::connect(adapter.web).unwrap();
    write!(stream, "POST {path} HTTP/1.0\r\nhost: x\r\ncontent-length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn by_signal_by_request_and_by_a_change_in_place() {
    let fake = Fake::body("x 1\n");
    let adapter = Adapter::start(&yaml(&fake, "start"));
    let mut reloads = 0.0;
    let mut read_again = |by: &str, ask: &dyn Fn()| {
        adapter.configure(&yaml(&fake, by));
        ask();
        adapter.wait_for(&format!("x{{by=\"{by}\"}}"), 1.0);
        let before = reloads;
        reloads = adapter.value(SUCCESS).unwrap();
        assert!(reloads > before, "{by}");
    };
    read_again("signal", &|| adapter.signal("HUP"));
    read_again("request", &|| assert!(post(&adapter, "/-/reload").starts_with("HTTP/1.0 200")));
    read_again("change", &|| {});
    assert_eq!(adapter.value(FAILURE), Some(0.0));
}

/// As kubelet does it: `..data` points to a directory, and is pointed at another in one step.
#[test]
fn by_a_swap_of_a_config_map() {
    let fake = Fake::body("x 1\n");
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("..first")).unwrap();
    symlink("..first", at("..data")).unwrap();
    symlink("..data/adapter.yaml", at("adapter.yaml")).unwrap();
    let adapter = Adapter::start_in(directory, &yaml(&fake, "first"), &[]);
    adapter.wait_for("x{by=\"first\"}", 1.0);
    for next in ["second", "third"] {
        let new = format!("..{next}");
        fs::create_dir(adapter.path(&new)).unwrap();
        fs::write(adapter.path(&new).join("adapter.yaml"), yaml(&fake, next)).unwrap();
        symlink(&new, adapter.path("..tmp")).unwrap();
        fs::rename(adapter.path("..tmp"), adapter.path("..data")).unwrap();
        adapter.wait_for(&format!("x{{by=\"{next}\"}}"), 1.0);
    }
}

#[test]
fn a_broken_file_is_named_with_line_and_key_and_not_used() {
    let fake = Fake::body("x 1\n");
    let adapter = Adapter::start(&yaml(&fake, "good"));
    adapter.wait_for("x{by=\"good\"}", 1.0);
    let broken = [
        (
            "labels: {a: b}\nsources:\n- type: prometheus\n  url: http://x/\n  timeoutt: 5s\n",
            "adapter.yaml:5: source `prometheus`: unknown key `timeoutt`, did you mean `timeout`?",
        ),
        ("sources:\n- type: redis\n  timeout: soon\n", "adapter.yaml:3: source `redis`: timeout: `soon`"),
        ("sources: [\n", "adapter.yaml:"),
        (
            "sources:\n- {name: x, type: jmx, address: 'h:1', rules: [{pattern: '('}]}\n",
            "adapter.yaml:2: source `x`: ",
        ),
    ];
    for (number, (text, expected)) in broken.into_iter().enumerate() {
        adapter.configure(text);
        adapter.signal("HUP");
        eventually(expected, || {
            let log = fs::read_to_string(adapter.path("log")).unwrap();
            log.lines()
                .any(|line| line.contains(expected) && line.contains("the old configuration stays"))
                .then_some(())
        });
        eventually("a counted failure", || (adapter.value(FAILURE)? > number as f64).then_some(()));
        assert_eq!(adapter.value("x{by=\"good\"}"), Some(1.0));
    }
    let before = adapter.value(SUCCESS).unwrap();
    adapter.configure(&yaml(&fake, "mended"));
    adapter.wait_for("x{by=\"mended\"}", 1.0);
    assert!(adapter.value(SUCCESS).unwrap() > before);
}

#[test]
fn the_page_is_what_the_client_asks_for() {
    let fake = Fake::body(
        "# TYPE a gauge\na 1\n# TYPE a_total counter\na_total 2\n# TYPE c counter\nc_total{x=\"é\\\"\"} 3\n\
         # TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n",
    );
    let adapter =
        Adapter::start(&format!("sources:\n- {{name: x, type: prometheus, url: '{}'}}\n", fake.url()));
    adapter.shows(&["a"]);
    let open = "accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    let (head, body) = get(adapter.web, "/metrics", open);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("# TYPE a gauge\n") && body.contains("# TYPE a_total unknown\n"), "{body}");
    assert!(body.contains("# TYPE c counter\n") && body.contains("c_total{x=\"é\\\"\"} 3\n"), "{body}");
    assert!(body.contains("h_bucket{le=\"1\"} 1\n") && body.ends_with("# EOF\n"), "{body}");
    let protobuf = "accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n";
    let (head, body) = get(adapter.web, "/metrics", protobuf);
    assert!(head.contains("content-type: application/vnd.google.protobuf;"), "{head}");
    assert_eq!(
        names(&body).iter().filter(|name| ["a", "a_total", "c_total", "h"].contains(&name.as_str())).count(),
        4,
        "{:?}",
        names(&body)
    );
    let (head, body) = get(adapter.web, "/metrics", "accept-encoding: gzip\r\n");
    assert!(head.contains("content-encoding: gzip") && body.starts_with(&[0x1f, 0x8b]), "{head}");
}

/// Names of the families of a delimited protobuf page.
fn names(mut page: &[u8]) -> Vec<String> {
    fn number(bytes: &mut &[u8]) -> usize {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= usize::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut names = Vec::new();
    while !page.is_empty() {
        let length = number(&mut page);
        let (mut family, rest) = page.split_at(length);
        page = rest;
        // The name is the first field of a family.
        assert_eq!(number(&mut family), 10);
        let length = number(&mut family);
        names.push(String::from_utf8(family[..length].to_vec()).unwrap());
    }
    names
}
