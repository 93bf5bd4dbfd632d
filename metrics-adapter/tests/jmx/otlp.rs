//! The key `openTelemetry`: pushes to a receiver that writes down what it gets.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::harness::{Adapter, Jvm, eventually, server, value};

type Requests = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Answers every request with 200; heads and unpacked bodies.
fn collector() -> (u16, Requests) {
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    let port = server(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            let length = head.to_lowercase();
            let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut packed = vec![0; length.parse().unwrap()];
            reader.read_exact(&mut packed).unwrap();
            let mut body = Vec::new();
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut body).unwrap();
            seen.lock().unwrap().push((head, body));
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    });
    (port, requests)
}

fn holds(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

fn config(jvm: &Jvm, collector: u16, more: &str) -> String {
    format!(
        "hostPort: 127.0.0.1:{}\nopenTelemetry:\n  endpoint: http://127.0.0.1:{collector}\n  \
         protocol: http/protobuf\n  interval: 1\n  headers: {{x-key: a-secret}}\n  serviceName: my-app\n{more}\
         includeObjectNames: ['bench.app:*']\nrules:\n- pattern: 'name=queue-(\\d+)><>Count'\n  \
         name: queue_total\n  type: COUNTER\n  labels: {{queue: '$1'}}\n",
        jvm.port
    )
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn the_page_is_pushed_and_served() {
    let jvm = Jvm::plain(&["beans", "3"]);
    let (port, requests) = collector();
    let adapter = Adapter::start(&config(&jvm, port, ""));
    eventually("two pushes", || requests.lock().unwrap().len() >= 2);
    let (head, body) = requests.lock().unwrap()[0].clone();
    assert!(head.starts_with("POST /v1/metrics ") && head.contains("x-key: a-secret"), "{head}");
    for text in ["my-app", "queue", "jmx_scrape_error"] {
        assert!(holds(&body, text), "{text}");
    }
    // Receivers add the suffix themselves.
    assert!(!holds(&body, "queue_total"));
    let page = adapter.scrape();
    assert_eq!(value(&page, r#"queue_total{queue="1"}"#), Some(1000.0), "{page}");
    assert!(page.contains("metrics_adapter_push_"), "{page}");
    assert!(!adapter.log().contains("a-secret"));
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn without_an_address_it_is_only_pushed() {
    let jvm = Jvm::plain(&["beans", "3"]);
    let (port, requests) = collector();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config(&jvm, port, "  preserveNames: true\n")).unwrap();
    let mut adapter =
        Command::new(env!("CARGO_BIN_EXE_metrics-adapter")).arg("jmx").arg(file.path()).spawn().unwrap();
    eventually("a push", || !requests.lock().unwrap().is_empty());
    assert!(holds(&requests.lock().unwrap()[0].1, "queue_total"));
    adapter.kill().unwrap();
    adapter.wait().unwrap();
}

#[test]
fn grpc_is_refused_with_the_way_out() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hostPort: h:1\nopenTelemetry:\n  endpoint: http://c:4317\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_metrics-adapter"))
        .args(["jmx", "0"])
        .arg(file.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("openTelemetry.protocol") && said.contains("http/protobuf"), "{said}");
}
