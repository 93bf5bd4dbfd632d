use super::*;
use crate::server::{self, Limits};
use crate::shutdown::Shutdown;
use crate::status::{Chart, Health, Section};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn request(address: std::net::SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn sample() -> Status {
    Status::new(Health::Good, "all <well>")
        .section(Section::facts("Facts", [("commit", "<script>alert(1)</script>")]))
        .section(Section::table("Table", &["a"], vec![vec!["b".into()]]))
        .section(Section::charts(
            "Charts",
            vec![Chart { title: "t".into(), unit: "s".into(), values: vec![Some(1.0), None, Some(0.5)] }],
        ))
}

#[tokio::test]
async fn the_port_answers_and_drains() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Readiness::new();
    let condition = readiness.condition("first sync");
    let build = Build { name: "demo", version: "1", revision: "abc" };
    let router = routes(build, metrics::registry(&build), readiness, sample);
    let shutdown = Shutdown::new();
    let server = tokio::spawn(server::serve(listener, Arc::new(router), Limits::default(), shutdown.clone()));

    assert!(request(address, "GET /livez").await.starts_with("HTTP/1.1 200"));
    let unready = request(address, "GET /readyz").await;
    assert!(unready.starts_with("HTTP/1.1 503") && unready.contains("first sync: not yet"), "{unready}");
    condition.met();
    assert!(request(address, "GET /readyz").await.starts_with("HTTP/1.1 200"));
    condition.unmet("gone");
    assert!(request(address, "GET /readyz").await.contains("first sync: gone"));
    assert!(request(address, "GET /metrics").await.contains("demo_build_info"));
    assert!(request(address, "POST /metrics").await.starts_with("HTTP/1.1 405"));
    assert!(request(address, "GET /nothing").await.starts_with("HTTP/1.1 404"));
    assert!(request(address, "GET /status.json").await.contains("\"headline\":\"all <well>\""));
    let page = request(address, "GET /").await;
    assert!(page.contains("all &lt;well&gt;") && !page.contains("<script>alert"), "{page}");
    assert!(page.to_ascii_lowercase().contains("content-security-policy"));

    shutdown.trigger();
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

/// Reads until `wanted` was seen.
async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut seen = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let read = tokio::time::timeout(std::time::Duration::from_secs(30), stream.read(&mut piece));
        let count = read.await.unwrap_or_else(|_| panic!("no '{wanted}'")).unwrap();
        seen.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        if text.contains(wanted) {
            return text;
        }
        assert!(count > 0, "no '{wanted}' in '{text}'");
    }
}

#[tokio::test]
async fn a_watcher_gets_what_changes_and_is_let_go_at_shutdown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let headline = Arc::new(Mutex::new("one\ntwo".to_owned()));
    let for_page = Arc::clone(&headline);
    let build = Build { name: "demo", version: "1", revision: "abc" };
    let status = move || Status::new(Health::Good, for_page.lock().unwrap().clone());
    let router = routes(build, metrics::registry(&build), Readiness::new(), status);
    let shutdown = Shutdown::new();
    let limits = Limits { drain: std::time::Duration::from_secs(600), ..Limits::default() };
    let server = tokio::spawn(server::serve(listener, Arc::new(router), limits, shutdown.clone()));

    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n").await.unwrap();
    let first = read_until(&mut stream, "two</p>\n\n").await;
    assert!(first.contains("data: <p class=\"headline good\">one\ndata: two</p>\n\n"), "{first}");
    *headline.lock().unwrap() = "three".to_owned();
    read_until(&mut stream, "three</p>\n\n").await;

    // The drain would be ten minutes if the stream were waited for.
    shutdown.trigger();
    read_until(&mut stream, "0\r\n\r\n").await;
    server.await.unwrap();
}
