use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};

use proptest::prelude::*;

use super::*;

fn settings(variables: &[(&'static str, &str)]) -> Result<Option<TraceSettings>, Refused> {
    let variables: HashMap<_, _> =
        variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    TraceSettings::from_environment("program", "1.2.3", |name| variables.get(name).cloned())
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const OWN: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

#[test]
fn addresses() {
    for (url, address, path) in [
        ("http://collector:4318", "collector:4318", "/v1/traces"),
        ("http://collector", "collector:80", "/v1/traces"),
        ("http://collector:4318/", "collector:4318", "/v1/traces"),
        ("http://[::1]:4318/otlp", "[::1]:4318", "/otlp/v1/traces"),
        ("http://[::1]", "[::1]:80", "/v1/traces"),
    ] {
        let settings = settings(&[(ENDPOINT, url)]).unwrap().unwrap();
        assert_eq!((settings.address(), &*settings.path), (address, path), "{url}");
    }
    // The one for traces alone is taken as it is, and first.
    let settings = settings(&[(ENDPOINT, "http://a"), (OWN, "http://b:1/x?y=z")]).unwrap().unwrap();
    assert_eq!((settings.address(), &*settings.path), ("b:1", "/x?y=z"));
}

#[test]
fn nobody_asked() {
    let on = (ENDPOINT, "http://a");
    assert_eq!(settings(&[]), Ok(None));
    assert_eq!(settings(&[(ENDPOINT, "")]), Ok(None));
    assert_eq!(settings(&[on, ("OTEL_SDK_DISABLED", "TRUE")]), Ok(None));
    assert_eq!(settings(&[on, ("OTEL_TRACES_EXPORTER", "none")]), Ok(None));
}

#[test]
fn refusals_name_the_variable_and_no_secret() {
    for (name, value) in [
        (ENDPOINT, "https://token@collector"),
        (ENDPOINT, "http://token@collector"),
        (ENDPOINT, "collector:4318"),
        (ENDPOINT, "http://a/\r\nX: token"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=token%0d%0ab: c"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_RESOURCE_ATTRIBUTES", "token"),
    ] {
        let refused = settings(&[(ENDPOINT, "http://a"), (name, value)]).unwrap_err();
        assert_eq!(refused.variable, name);
        assert!(!refused.to_string().contains("token"), "{refused}");
    }
    let secret =
        settings(&[(ENDPOINT, "http://a"), ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20token")]);
    let secret = secret.unwrap().unwrap();
    assert_eq!(secret.headers, [("authorization".to_owned(), "Bearer token".to_owned())]);
    assert!(!format!("{secret:?}").contains("token"));
}

#[test]
fn a_process_says_who_it_is() {
    let named = [
        (ENDPOINT, "http://a"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,k8s.pod.name=web%2D0"),
        ("OTEL_SERVICE_NAME", "site"),
    ];
    let mut resource = settings(&named).unwrap().unwrap().resource;
    resource.sort();
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(
        resource,
        [pair("k8s.pod.name", "web-0"), pair("service.name", "site"), pair("service.version", "1.2.3")]
    );
}

/// A collector: says what it is told to, and hands over the bodies of requests.
fn collector(answers: Vec<&'static str>) -> (String, Receiver<(String, serde_json::Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, requests) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let mut stream = listener.accept().unwrap().0;
            let (mut text, mut piece) = (Vec::new(), [0; 4096]);
            let (head, body) = loop {
                let count = stream.read(&mut piece).unwrap();
                text.extend_from_slice(&piece[..count]);
                let whole = String::from_utf8_lossy(&text);
                let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
                if body.len() >= length.parse::<usize>().unwrap() {
                    break (head.to_owned(), body.to_owned());
                }
            };
            let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes());
            sender.send((head, serde_json::from_str(&body).unwrap())).unwrap();
        }
    });
    (url, requests)
}

fn exporter(url: &str) -> export::Exporter {
    let variables = [(ENDPOINT, url), ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=1")];
    export::Exporter::start(settings(&variables).unwrap().unwrap()).unwrap()
}

const LONG: Duration = Duration::from_secs(60);

/// The one test that uses the process's own exporter: it can be set once only.
#[test]
fn spans_reach_a_collector() {
    assert!(!Span::start("before").is_recorded());
    let (url, requests) = collector(vec!["200 OK"]);
    start(settings(&[(ENDPOINT, &url)]).unwrap().unwrap()).unwrap();

    let mut sync = Span::start("sync");
    sync.set("changed", true);
    sync.set("files", 3_u64);
    let mut fetch = sync.child("fetch");
    fetch.fail("no such host");
    drop(fetch);
    drop(sync);
    Span::record("command", Duration::from_secs(2), |span| span.set("name", "KEYS"));
    flush(LONG);

    let (head, body) = requests.recv_timeout(LONG).unwrap();
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
    let resource = &body["resourceSpans"][0];
    assert_eq!(
        resource["resource"]["attributes"][0],
        json!({"key": "service.name", "value": {"stringValue": "program"}})
    );
    let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
    let [fetch, sync, command] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(fetch["name"], "fetch");
    assert_eq!((&fetch["traceId"], &fetch["parentSpanId"]), (&sync["traceId"], &sync["spanId"]));
    assert_eq!(fetch["status"], json!({"code": 2, "message": "no such host"}));
    assert_eq!(sync["attributes"][1], json!({"key": "files", "value": {"intValue": "3"}}));
    assert_eq!(sync["traceId"].as_str().unwrap().len(), 32);
    assert_ne!(command["traceId"], sync["traceId"]);
    let nanos = |field: &str| command[field].as_str().unwrap().parse::<u128>().unwrap();
    assert!(nanos("endTimeUnixNano") - nanos("startTimeUnixNano") >= 2_000_000_000);
    assert_eq!(counts(), Some(Counts { sent: 3, dropped: 0 }));
}

#[test]
fn a_busy_collector_is_asked_once_more_and_another_refusal_is_final() {
    let (url, requests) = collector(vec!["503 busy", "200 OK", "400 no"]);
    let exporter = exporter(&url);
    exporter.take(json!({"name": "a"}));
    for _ in 0..2 {
        let (head, body) = requests.recv_timeout(LONG).unwrap();
        assert!(head.contains("x-token: 1"), "{head}");
        assert_eq!(body["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"], "a");
    }
    exporter.take(json!({"name": "b"}));
    exporter.flush(LONG);
    assert_eq!(exporter.counts(), Counts { sent: 1, dropped: 1 });
}

#[test]
fn without_a_collector_spans_are_dropped_and_nobody_waits() {
    // Bound and gone: nobody listens there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let exporter = exporter(&format!("http://{free}"));
    for _ in 0..10_000 {
        exporter.take(json!({}));
    }
    // The thread never waits on us, so the number is at least what the queue and a few batches can't hold.
    assert!(exporter.counts().dropped > 0);
    assert_eq!(exporter.counts().sent, 0);
}

proptest! {
    #[test]
    fn any_value_is_read_or_refused(name in 0_usize..4, value in ".{0,60}") {
        let names = [OWN, "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_EXPORTER_OTLP_TIMEOUT"];
        if let Ok(Some(settings)) = settings(&[(ENDPOINT, "http://a"), (names[name], &value)]) {
            let unbroken = |text: &str| !text.contains(['\r', '\n']);
            prop_assert!(unbroken(&settings.path) && unbroken(&settings.address));
            prop_assert!(settings.headers.iter().all(|(name, value)| unbroken(name) && unbroken(value)));
        }
    }

    #[test]
    fn texts_are_cut_at_characters(text in "\\PC{0,600}") {
        let cut = cut(text.clone());
        prop_assert!(cut.len() <= MAX_TEXT && text.starts_with(&cut));
    }
}
