//! The transports besides RMI: Jolokia's agent, the attach protocol, and hsperfdata.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use crate::harness::{Adapter, Jvm, agent, server, value};

/// Series of the fixture's beans with their values.
fn fixture(page: &str) -> BTreeMap<String, String> {
    let lines = page.lines().filter(|line| line.starts_with("fixture_"));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(name, value)| (name.into(), value.into())).collect()
}

fn shapes(samples: &BTreeMap<String, String>) -> usize {
    samples.keys().filter(|name| name.contains("Shapes")).count()
}

#[test]
#[ignore = "needs a JDK and libjolokia-core-java"]
fn jolokia_gives_the_same_series_as_rmi() {
    let (jvm, port) = agent("me:s3cret");
    let over_rmi = fixture(&Adapter::of(jvm.port, "").scrape());
    let tables = "jolokiaTables: [{bean: 'fixture:type=Shapes,*', path: 'Nested/*', as: map}]";
    let url = format!("jmxUrl: http://127.0.0.1:{port}\n{tables}\n");
    let adapter = Adapter::start(&format!("{url}username: me\npassword: s3cret\njvmMetrics: true\n"));
    let page = adapter.scrape();
    let mut over_jolokia = fixture(&page);
    assert_eq!(value(&page, "jmx_scrape_error"), Some(0.0), "{}", adapter.log());
    // Agents read atomic numbers by counting them up and down, so they are left alone.
    let atomic = r#"fixture_Odd_Atomic{name="\"quoted, \\\"x\\\"=1\""}"#;
    over_jolokia.insert(atomic.to_owned(), "99.0".to_owned());
    assert_eq!(over_jolokia, over_rmi);
    assert!(value(&page, r#"jvm_memory_used_bytes{area="heap"}"#).unwrap() > 1e5, "{page}");
    let collector = page.lines().find(|line| line.starts_with("java_lang_Copy_CollectionCount"));
    assert!(collector.is_some(), "{page}");
    let probing = Adapter::start(&format!(
        "probeTargets: ['http://127.0.0.*:*/jolokia/', '*:1']\n{tables}\nusername: me\npassword: s3cret\n"
    ));
    let (status, _, probed) =
        probing.request(&format!("/probe?target=http%3A%2F%2F127.0.0.1%3A{port}%2Fjolokia%2F"), "");
    assert_eq!((status, value(&probed, "jmx_scrape_error")), (200, Some(0.0)), "{}", probing.log());
    assert_eq!(fixture(&probed).keys().filter(|name| name.contains("Shapes")).count(), shapes(&over_rmi));
    for refused in
        ["http://127.0.0.9/x:1/jolokia/", "http://elsewhere:1", "attach:*", "http://127.0.0.1:1/other/"]
    {
        assert_eq!(probing.request(&format!("/probe?target={refused}"), "").0, 403, "{refused}");
    }
    let wrong = Adapter::start(&format!("{url}username: me\npassword: wrong-one\n"));
    assert_eq!(value(&wrong.scrape(), "jmx_scrape_error"), Some(1.0));
    let log = wrong.logged("the credentials were refused");
    assert!(log.contains(&port.to_string()) && !log.contains("wrong-one"), "{log}");
}

#[test]
fn agents_that_are_none() {
    for (answer, complaint) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "not an answer of a Jolokia agent"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "not an answer of a Jolokia agent"),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "is the path right"),
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "access policy"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[", "reading an answer failed"),
        ("", "sending a request failed"),
    ] {
        let port = server(move |mut stream| {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        });
        let adapter = Adapter::start(&format!("jmxUrl: http://127.0.0.1:{port}/jolokia/\n"));
        assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(1.0));
        let log = adapter.logged(complaint);
        assert!(log.contains(&port.to_string()), "{log}");
    }
}

#[test]
#[ignore = "needs a JDK (java, javac)"]
fn a_jvm_without_any_port() {
    let mut jvm = Jvm::without_port(&["beans", "2"]);
    let adapter = Adapter::start(&format!("jmxUrl: attach:{}\n", jvm.pid()));
    let page = adapter.scrape();
    assert_eq!(value(&page, "jmx_scrape_error"), Some(0.0), "{}", adapter.log());
    assert_eq!(value(&page, r#"fixture_Shapes_Int{name="plain"}"#), Some(-7.0), "{page}");
    let counters = Adapter::start(&format!("jmxUrl: hsperfdata:{}\n", jvm.pid()));
    let page = counters.scrape();
    assert!(value(&page, "hsperfdata_java_threads_live").unwrap() > 1.0, "{page}");
    jvm.kill();
    for adapter in [adapter, counters] {
        assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(1.0));
    }
}

#[test]
fn processes_that_are_no_jvm() {
    let own = std::process::id();
    for kind in ["attach", "hsperfdata"] {
        let adapter = Adapter::start(&format!("jmxUrl: {kind}:{own}\n"));
        assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(1.0));
        adapter.logged("no JVM fits");
    }
}

/// Speaks the handshake of RMI, and answers the first call with a value that never ends.
fn endless(kind: &'static [u8]) -> u16 {
    server(move |mut stream| {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(b"\x4E\x00\x01h\x00\x00\x00\x01");
        let _ = stream.read(&mut request);
        let mut head = b"\x51\xAC\xED\x00\x05\x77\x0F\x01".to_vec();
        head.extend([0; 14]);
        let _ = stream.write_all(&head);
        let _ = stream.write_all(kind);
        let piece = [b't', 0, 1, b'x'].repeat(16 * 1024);
        for _ in 0..16 * 1024 {
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
    })
}

#[test]
fn answers_without_end() {
    for (kind, complaint) in [
        // An array of two thousand million strings.
        (
            &b"\x75\x72\x00\x13[Ljava.lang.String;\0\0\0\0\0\0\0\0\x02\0\0\x78\x70\x7F\xFF\xFF\xFF"[..],
            "exceeds the limit",
        ),
        // An object whose annotation does not end.
        (&b"\x73\x72\x00\x01X\0\0\0\0\0\0\0\0\x03\0\0\x78\x70"[..], "exceeds the limit"),
        // A string of a gigabyte.
        (&b"\x7C\0\0\0\0\x40\0\0\0"[..], "exceeds the limit"),
    ] {
        let port = endless(kind);
        let adapter = Adapter::of(port, "");
        let page = adapter.scrape();
        assert_eq!(value(&page, "jmx_scrape_error"), Some(1.0));
        let log = adapter.logged(complaint);
        assert!(log.contains(&port.to_string()), "{log}");
        assert!(adapter.resident() < 200 << 20, "{} bytes", adapter.resident());
    }
}

#[test]
#[ignore = "needs a JDK (java, javac)"]
fn patterns_that_explode() {
    let jvm = Jvm::plain(&[]);
    let rules = r#"
includeObjectNames: ['fixture:type=Shapes,*']
rules:
- pattern: '(?=fixture)(([a-zA-Z<>=, ]+)+)+!'
  name: bomb
- pattern: 'Shapes, name=plain><>Int'
  name: int
"#;
    let adapter = Adapter::of(jvm.port, rules);
    let page = adapter.scrape();
    assert_eq!(value(&page, "jmx_scrape_error"), Some(1.0), "{page}");
    adapter.logged("takes more than 200000 steps");
    let linear = Adapter::of(jvm.port, &rules.replace("(?=fixture)", ""));
    let page = linear.scrape();
    assert_eq!((value(&page, "int"), value(&page, "jmx_scrape_error")), (Some(-7.0), Some(0.0)), "{page}");
}

#[test]
fn rules_are_tried_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let config = file(
        "config.yaml",
        "hostPort: a:1\nrules: [{pattern: 'a<type=(.*)><>B: ', name: b, labels: {n: $1}}]\n",
    );
    let good = "- values: ['a<type=x><>B: 5']\n  expect: ['b{n=\"x\"} 5']\n";
    let run = |cases: &str| {
        let cases = file("cases.yaml", &format!("tests:\n{cases}"));
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_metrics-adapter"));
        let output = command.args(["jmx", "test"]).arg(&config).arg(cases).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(good).0, Some(0));
    let (code, text) = run(&good.replace("} 5", "} 6"));
    assert_eq!(code, Some(1));
    assert!(text.contains("missing     b{n=\"x\"} 6") && text.contains("unexpected  b{n=\"x\"} 5"), "{text}");
}
