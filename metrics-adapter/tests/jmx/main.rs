//! `metrics-adapter jmx` against real JVMs, and against peers that misbehave.

#![allow(clippy::unwrap_used, reason = "a failed test is a panic")]

mod harness;
mod otlp;
mod runtimes;
mod transports;

use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use harness::{Adapter, Jvm, cutting_relay, eventually, free_port, server, value};

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn default_names_and_values() {
    let jvm = Jvm::plain(&[]);
    let adapter = Adapter::of(jvm.port, "");
    let page = adapter.scrape();
    let odd = r#"{name="\"quoted, \\\"x\\\"=1\""}"#;
    for (series, expected) in [
        (format!("fixture_Odd_Atomic{odd}"), 99.0),
        (format!("fixture_Odd_Big{odd}"), 1.234_567_890_123_456_8e29),
        (format!("fixture_Odd_Short{odd}"), -3.0),
        (format!("fixture_Odd_When{odd}"), 1.5),
        (r#"fixture_Shapes_Counts{key="b",name="plain"}"#.to_owned(), 2.0),
        (r#"fixture_Shapes_Nested{key="outer",key_="inner",name="plain"}"#.to_owned(), 42.0),
        (r#"fixture_Shapes_Point_y{name="plain"}"#.to_owned(), 0.25),
        (r#"fixture_Shapes_Flag{name="plain"}"#.to_owned(), 1.0),
        (r#"fixture_Shapes_Long{name="plain"}"#.to_owned(), 9.223_372_036_854_776e18),
        (r#"fixture_Shapes_Precise{name="plain"}"#.to_owned(), 123.45),
        (r#"fixture_Shapes_Started{name="plain"}"#.to_owned(), 1_234_567_890.123),
        (r#"fixture_Table_Peers{host="h2",port="2"}"#.to_owned(), 20.0),
        (r#"fixture_Table_Peers_errors{host="h2",port="2"}"#.to_owned(), 3.0),
        ("jmx_scrape_error".to_owned(), 0.0),
    ] {
        assert_eq!(value(&page, &series), Some(expected), "{series}\n{page}");
    }
    assert!(value(&page, "java_lang_Memory_HeapMemoryUsage_used").unwrap() > 1e5);
    for absent in ["Broken", "Optional", "Array", "Letter", "Points", "Nothing", "SystemProperties"] {
        assert!(!page.contains(&format!("_{absent}")), "{absent}");
    }
    // What could not be read is read around from now on. An `Optional` is not even asked for.
    let again = adapter.scrape();
    assert_eq!(value(&again, "jmx_scrape_error"), Some(0.0));
    assert_eq!(again.lines().count(), page.lines().count());
    assert_eq!(adapter.log().matches("cannot serialize").count(), 1, "{}", adapter.log());
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn rules_filters_and_labels() {
    let jvm = Jvm::plain(&["beans", "3"]);
    let adapter = Adapter::of(
        jvm.port,
        r#"
lowercaseOutputName: true
includeObjectNames: ["bench.app:*", "fixture:type=Odd,*"]
excludeObjectNames: ["bench.app:name=queue-2,*"]
labels: {site: here}
unknownKey: ignored
rules:
- pattern: 'bench.app<type=Queue, name=queue-(\d+)><>(Count|Bytes)'
  name: Queue_$2_total
  type: COUNTER
  help: "$2 of a queue"
  labels: {queue: "$1"}
- pattern: 'fixture<type=Odd.*><>Unicode(?!x): (.+)'
  name: text
  value: 7
"#,
    );
    let page = adapter.scrape();
    assert_eq!(value(&page, r#"queue_count_total{queue="1",site="here"}"#), Some(1000.0), "{page}");
    assert_eq!(value(&page, r#"queue_bytes_total{queue="0",site="here"}"#), Some(0.0));
    assert!(page.contains("# HELP queue_count_total Count of a queue\n# TYPE queue_count_total counter\n"));
    assert_eq!(value(&page, r#"text{site="here"}"#), Some(7.0));
    assert!(!page.contains("queue=\"2\"") && !page.contains("java_lang"));
}

/// So many that two sessions share the first page.
#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn many_beans_are_whole_on_the_first_page() {
    let jvm = Jvm::plain(&["beans", "700"]);
    let adapter = Adapter::of(jvm.port, "");
    for page in [adapter.scrape(), adapter.scrape()] {
        let counts = page.lines().filter(|line| line.starts_with("bench_app_Queue_Count{")).count();
        assert_eq!(counts, 700);
        let last = r#"bench_app_Queue_Bytes{name="queue-699"}"#;
        assert_eq!(value(&page, last), Some(699.0 * 1_000_003.0), "{page}");
        assert_eq!(value(&page, "jmx_scrape_error"), Some(0.0));
    }
}

/// A file that its owner alone may read, as Java wants it.
fn secret_file(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Lets `monitor` in with `s3cret`.
fn password(directory: &Path) -> [String; 4] {
    let password = secret_file(directory, "password", "monitor s3cret\n");
    let access = secret_file(directory, "access", "monitor readonly\n");
    [
        "authenticate=true".to_owned(),
        "ssl=false".to_owned(),
        format!("password.file={password}"),
        format!("access.file={access}"),
    ]
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn passwords() {
    let directory = tempfile::tempdir().unwrap();
    let management = password(directory.path());
    let management: Vec<&str> = management.iter().map(String::as_str).collect();
    let jvm = Jvm::start(free_port(), &management, &[], &[]);
    for (credentials, complaint) in [
        ("", "credentials are needed"),
        ("username: monitor\npassword: wrong-one\n", "the credentials were refused"),
    ] {
        let adapter = Adapter::of(jvm.port, credentials);
        assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(1.0));
        let log = adapter.logged(complaint);
        assert!(log.contains(&jvm.port.to_string()), "{log}");
        assert!(!log.contains("wrong-one"));
    }
    let secret = secret_file(directory.path(), "secret", "s3cret\n");
    let adapter = Adapter::of(jvm.port, &format!("username: monitor\npasswordFile: {secret}\n"));
    let page = adapter.scrape();
    assert_eq!(value(&page, "jmx_scrape_error"), Some(0.0), "{}", adapter.log());
    assert_eq!(value(&page, r#"fixture_Shapes_Int{name="plain"}"#), Some(-7.0));
}

fn keytool(arguments: &str) {
    let output = Command::new("keytool").args(arguments.split(' ')).output().expect("keytool");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A key in one store, and its certificate in another.
fn identity(directory: &str, name: &str, kind: &str) {
    let key = format!("-keystore {directory}/{name}.{kind} -storetype {kind} -storepass secret1");
    let trust = format!("-keystore {directory}/{name}-trust.{kind} -storetype {kind} -storepass secret1");
    let san = "-ext san=dns:localhost,ip:127.0.0.1";
    let generate = "-genkeypair -keyalg EC -validity 30 -keypass secret1 -dname";
    keytool(&format!("{generate} CN={name} -alias {name} {san} {key}"));
    keytool(&format!("-exportcert -alias {name} -file {directory}/{name}.cer {key}"));
    keytool(&format!("-importcert -noprompt -alias {name} -file {directory}/{name}.cer {trust}"));
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn mutual_tls_on_one_port() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display().to_string();
    for kind in ["PKCS12", "JKS"] {
        identity(&at, "server", kind);
        identity(&at, "client", kind);
        let options = [
            format!("-Djavax.net.ssl.keyStore={at}/server.{kind}"),
            "-Djavax.net.ssl.keyStorePassword=secret1".to_owned(),
            format!("-Djavax.net.ssl.trustStore={at}/client-trust.{kind}"),
            "-Djavax.net.ssl.trustStorePassword=secret1".to_owned(),
        ];
        let management = ["authenticate=false", "ssl=true", "registry.ssl=true", "ssl.need.client.auth=true"];
        let jvm = Jvm::start(free_port(), &management, &options, &[]);
        let trust = format!("trustStore: {{filename: {at}/server-trust.{kind}, password: secret1}}");
        let key = format!("keyStore: {{filename: {at}/client.{kind}, password: secret1}}");
        let adapter = Adapter::of(jvm.port, &format!("ssl: {{{trust}, {key}}}\n"));
        let page = adapter.scrape();
        assert_eq!(value(&page, "jmx_scrape_error"), Some(0.0), "{kind} {}", adapter.log());
        assert!(page.contains("fixture_Shapes_Int"));
        for (ssl, complaint) in [
            (format!("ssl: {{{trust}}}\n"), "ertificate"),
            (format!("ssl: {{{key}}}\n"), "ertificate"),
            (String::new(), "TLS"),
        ] {
            let adapter = Adapter::of(jvm.port, &ssl);
            assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(1.0), "{ssl}");
            adapter.logged(complaint);
        }
    }
}

/// What a rotated Secret does: new stores under the old names, on both sides.
#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn a_swapped_certificate_is_used_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display().to_string();
    for name in ["old", "new"] {
        identity(&at, name, "PKCS12");
    }
    let link = |target: &str| {
        let (next, name) = (directory.path().join("next"), directory.path().join("trust.p12"));
        std::os::unix::fs::symlink(format!("{target}-trust.PKCS12"), &next).unwrap();
        std::fs::rename(next, name).unwrap();
    };
    let jvm = |port: u16, name: &str| {
        let store = format!("-Djavax.net.ssl.keyStore={at}/{name}.PKCS12");
        let password = "-Djavax.net.ssl.keyStorePassword=secret1".to_owned();
        Jvm::start(port, &["authenticate=false", "ssl=true", "registry.ssl=true"], &[store, password], &[])
    };
    link("old");
    let port = free_port();
    let mut first = jvm(port, "old");
    let adapter =
        Adapter::of(port, &format!("ssl: {{trustStore: {{filename: {at}/trust.p12, password: secret1}}}}\n"));
    assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(0.0), "{}", adapter.log());
    first.kill();
    let _second = jvm(port, "new");
    assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(1.0));
    adapter.logged("ertificate");
    link("new");
    eventually("the new certificate is trusted", || {
        value(&adapter.scrape(), "jmx_scrape_error") == Some(0.0)
    });
    assert_eq!(value(&adapter.scrape(), "jmx_config_reload_success_total"), Some(1.0));
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn tls_on_a_plain_port() {
    let jvm = Jvm::plain(&[]);
    let adapter = Adapter::of(jvm.port, "ssl: true\n");
    assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(1.0));
    let log = adapter.logged("TLS");
    assert!(log.contains(&jvm.port.to_string()), "{log}");
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn a_registry_without_jmx() {
    let port = free_port();
    let _jvm =
        Jvm::start(free_port(), &["authenticate=false", "ssl=false"], &[], &["registry", &port.to_string()]);
    let adapter = Adapter::of(port, "");
    assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(1.0));
    let log = adapter.logged("no entry `jmxrmi`");
    assert!(log.contains(&port.to_string()), "{log}");
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn a_getter_that_hangs_costs_only_its_own_bean() {
    let jvm = Jvm::plain(&["hang"]);
    let adapter = Adapter::of(jvm.port, "");
    let start = Instant::now();
    let (status, _, page) = adapter.request("/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 5\r\n");
    assert_eq!(status, 200);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(value(&page, "jmx_scrape_error"), Some(1.0));
    assert!(page.contains("fixture_Shapes_Int") && page.contains("java_lang_Memory"), "{page}");
    adapter.logged("fixture:type=Hang timed out");
    let start = Instant::now();
    let page = adapter.scrape();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!(value(&page, "jmx_scrape_error"), Some(1.0));
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn a_jvm_that_dies_and_comes_back() {
    let mut jvm = Jvm::plain(&["beans", "200"]);
    let limit = Arc::new(Mutex::new(usize::MAX));
    let relay = cutting_relay(jvm.port, Arc::clone(&limit));
    let adapter = Adapter::of(relay, &format!("stubPort: {relay}\nreplyTimeoutSeconds: 2\n"));
    assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(0.0));
    // Every new connection is cut in the middle of a reply.
    *limit.lock().unwrap() = 9000;
    let port = jvm.port;
    jvm.kill();
    let mut jvm = Jvm::start(port, &["authenticate=false", "ssl=false"], &[], &["beans", "200"]);
    assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(1.0));
    adapter.logged("the peer closed the connection");
    *limit.lock().unwrap() = usize::MAX;
    assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(0.0), "{}", adapter.log());
    // A restart is noticed and survived within one scrape.
    jvm.kill();
    assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(1.0));
    let _jvm = Jvm::start(port, &["authenticate=false", "ssl=false"], &[], &[]);
    assert_eq!(value(&adapter.scrape(), "jmx_scrape_error"), Some(0.0), "{}", adapter.log());
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn families_of_the_agent() {
    let jvm = Jvm::plain(&[]);
    let adapter = Adapter::of(jvm.port, "jvmMetrics: true\nrules: []\nlabels: {app: x}\n");
    let page = adapter.scrape();
    assert!(value(&page, r#"jvm_memory_used_bytes{app="x",area="heap"}"#).unwrap() > 1e5, "{page}");
    assert!(value(&page, r#"jvm_threads_current{app="x"}"#).unwrap() > 3.0);
    assert!(value(&page, r#"jvm_gc_collection_seconds_count{app="x",gc="Copy"}"#).is_some());
    assert!(value(&page, r#"jvm_classes_loaded_total{app="x"}"#).unwrap() > 100.0);
    assert!(value(&page, r#"jvm_memory_pool_used_bytes{app="x",pool="Metaspace"}"#).unwrap() > 1e5);
    assert!(
        page.contains("jvm_runtime_info{app=\"x\",runtime=\"OpenJDK Runtime Environment\",vendor=\""),
        "{page}"
    );
    assert!(!page.contains("java_lang"));
}

/// Many standard beans of one class are taken to be alike at first.
#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn beans_of_one_class_that_are_unlike() {
    let expect = |page: &str, kind: &str, has: [bool; 3]| {
        for (attribute, has) in ["First", "Second", "Third"].into_iter().zip(has) {
            for number in 0..20 {
                let series = format!("unlike_{kind}_{attribute}{{number=\"{number}\"}}");
                if value(page, &series).is_some() != has {
                    return false;
                }
            }
        }
        true
    };
    // Plain beans of the same class, with an attribute less. A Java set of all of them starts with one of these.
    let jvm = Jvm::plain(&["little", "unlike"]);
    let adapter = Adapter::of(jvm.port, "");
    for _ in 0..2 {
        let page = adapter.scrape();
        assert!(expect(&page, "one", [true, true, false]), "{page}");
        assert!(expect(&page, "two", [true, false, true]), "{page}");
        assert!(expect(&page, "little", [true, false, false]), "{page}");
    }
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn beans_that_come_and_go() {
    let jvm = Jvm::plain(&["churn"]);
    let adapter = Adapter::of(jvm.port, "includeObjectNames: ['churn:*', 'java.lang:type=Memory']\n");
    for _ in 0..100 {
        let page = adapter.scrape();
        assert_eq!(value(&page, "jmx_scrape_error"), Some(0.0), "{}", adapter.log());
        assert!(page.contains("java_lang_Memory"));
    }
}

#[test]
fn peers_that_are_no_jvm() {
    // An RMI handshake, and then whatever `then` writes.
    let rmi = |then: fn(&mut std::net::TcpStream)| {
        server(move |mut stream| {
            let mut hello = [0; 7];
            let _ = stream.read_exact(&mut hello);
            let _ = stream.write_all(b"\x4E\x00\x09127.0.0.1\x00\x00\x00\x01");
            let mut call = [0; 64];
            let _ = stream.read(&mut call);
            then(&mut stream);
        })
    };
    let cases: [(u16, &str); 6] = [
        (free_port(), "refused"),
        (server(|mut stream| drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"))), "not an RMI port"),
        (server(|mut stream| drop(stream.read(&mut [0; 7]))), "closed the connection"),
        (rmi(|stream| drop(stream.write_all(&[0xFF; 100]))), "unknown RMI message type"),
        (
            // A reply without end.
            rmi(|stream| {
                let _ = stream.write_all(b"\x51\xAC\xED\x00\x05\x77\x0F\x01");
                let _ = stream.write_all(&[0; 14]);
                let _ =
                    stream.write_all(b"\x75\x72\x00\x02[L\0\0\0\0\0\0\0\0\x02\0\0\x78\x70\x00\x80\x00\x00");
                let strings =
                    b"\x74\x00\x64".iter().copied().chain([b'x'; 100]).collect::<Vec<_>>().repeat(1000);
                while stream.write_all(&strings).is_ok() {}
            }),
            "limit",
        ),
        (
            // Nothing but silence after the start.
            rmi(|stream| {
                let _ = stream.write_all(
                    b"\x51\xAC\xED\x00\x05\x75\x72\x00\x02[L\0\0\0\0\0\0\0\0\x02\0\0\x78\x70\0\0\xFF\0",
                );
                std::thread::sleep(Duration::from_secs(5));
            }),
            "took longer than",
        ),
    ];
    for (port, complaint) in cases {
        let adapter = Adapter::of(port, "replyTimeoutSeconds: 1\n");
        let start = Instant::now();
        let page = adapter.scrape();
        assert_eq!(value(&page, "jmx_scrape_error"), Some(1.0), "{complaint}");
        assert!(start.elapsed() < Duration::from_secs(20));
        let log = adapter.logged(complaint);
        assert!(log.contains(&port.to_string()), "{complaint}: {log}");
        assert!(adapter.resident() < 200 << 20, "{complaint}: {} bytes", adapter.resident());
    }
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn the_http_side() {
    let jvm = Jvm::plain(&[]);
    let adapter = Adapter::of(
        jvm.port,
        "
httpServer:
  metrics: {path: /custom}
  authentication: {basic: {username: prom, password: pass}}
",
    );
    let (status, head, _) = adapter.request("/metrics", "");
    assert_eq!(status, 401);
    assert!(head.to_lowercase().contains("www-authenticate: basic realm=\"/\""));
    // prom:pass
    let with = "Authorization: Basic cHJvbTpwYXNz\r\n";
    for path in ["/metrics", "/custom"] {
        let (status, head, body) = adapter.request(path, with);
        assert_eq!(status, 200);
        assert!(head.contains("text/plain; version=0.0.4; charset=utf-8"), "{head}");
        assert!(head.to_lowercase().contains("x-frame-options: deny"));
        assert!(body.contains("java_lang_Memory"));
    }
    let (_, head, body) = adapter.request("/metrics?name[]=jmx_scrape_error&debug=openmetrics", with);
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert_eq!(body.lines().filter(|line| !line.starts_with('#')).count(), 1, "{body}");
    assert!(body.ends_with("# EOF\n"));
    assert_eq!(adapter.request("/-/healthy", with).2, "Exporter is healthy.");
    assert!(adapter.request("/", with).2.contains("127.0.0.1"));
    let (_, _, status) = adapter.request("/status.json", with);
    assert!(status.contains("1 of 1 JVMs answer") && status.contains(": values"), "{status}");
    assert_eq!(adapter.request("/nowhere", with).0, 404);
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn several_targets_probes_and_reload() {
    let (one, two) = (Jvm::plain(&[]), Jvm::plain(&[]));
    let base = format!(
        "
targets:
- hostPort: 127.0.0.1:{}
- {{hostPort: '127.0.0.1:{}', labels: {{app: two}}}}
probeTargets: ['127.0.0.1:*']
",
        one.port, two.port
    );
    let adapter = Adapter::start(&format!("{base}includeObjectNames: ['fixture:type=Shapes,*']\n"));
    let page = adapter.scrape();
    let first = r#"fixture_Shapes_Int{name="plain"}"#;
    assert_eq!(value(&page, first), Some(-7.0), "{page}");
    assert_eq!(value(&page, r#"fixture_Shapes_Int{app="two",name="plain"}"#), Some(-7.0));
    assert_eq!(value(&page, r#"jmx_scrape_error{app="two"}"#), Some(0.0));
    let (status, _, probed) = adapter.request(&format!("/probe?target=127.0.0.1:{}", two.port), "");
    assert_eq!(status, 200);
    assert_eq!(value(&probed, first), Some(-7.0));
    assert_eq!(adapter.request("/probe?target=example.com:1", "").0, 403);
    assert_eq!(adapter.request("/probe", "").0, 400);
    // A newer file is read on the next scrape; one that is broken is not.
    let rewrite = |text: &str| {
        let before = std::fs::metadata(adapter.config.path()).unwrap().modified().unwrap();
        eventually("a newer modification time", || {
            std::fs::write(adapter.config.path(), text).unwrap();
            std::fs::metadata(adapter.config.path()).unwrap().modified().unwrap() > before
        });
    };
    rewrite(&format!("{base}rules: [{{pattern: '('}}]\n"));
    let page = adapter.scrape();
    assert_eq!(value(&page, "jmx_config_reload_failure_total"), Some(1.0));
    assert_eq!(value(&page, first), Some(-7.0));
    rewrite(&format!("{base}includeObjectNames: ['java.lang:type=Memory']\n"));
    let page = adapter.scrape();
    assert_eq!(value(&page, "jmx_config_reload_success_total"), Some(1.0));
    assert!(!page.contains("fixture_") && page.contains("java_lang_Memory"));
}

#[test]
#[ignore = "needs a JDK (java, javac, keytool)"]
fn explaining_and_linting() {
    let jvm = Jvm::plain(&[]);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let rules = "rules: [{pattern: Shapes.*Int, name: int}, {pattern: nowhere, name: x}]";
    let only = "includeObjectNames: ['fixture:type=Shapes,*']";
    writeln!(file, "hostPort: 127.0.0.1:{}\n{only}\n{rules}", jvm.port).unwrap();
    let run = |mode: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_metrics-adapter"));
        let output = command.args(["jmx", mode]).arg(file.path()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = run("explain");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("fixture<type=Shapes, name=plain><>Int: -7\n  rule 1 -> int{} -7\n"), "{text}");
    assert!(text.contains("- pattern: '^fixture<type=Shapes, name=plain><Point>x:'"), "{text}");
    let (code, text) = run("lint");
    assert_eq!(code, Some(1));
    assert!(text.contains("rule 2 never matches"), "{text}");
}

/// A page on a certificate and key in PEM files, asked for over TLS.
fn over_tls(adapter: &Adapter, certificate: &rcgen::Certificate) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let connection = rustls::ClientConnection::new(config.into(), name).unwrap();
    let stream = std::net::TcpStream::connect(&adapter.address).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, stream);
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn certificate_and_key_as_text_files() {
    let directory = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (directory.path().join("tls.crt"), directory.path().join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let adapter = Adapter::start(&format!(
        "hostPort: 127.0.0.1:1
httpServer:
  ssl: {{pem: {{certificate: {{filename: {}}}, privateKey: {{filename: {}}}}}}}
",
        certificate.display(),
        key.display()
    ));
    let answer = over_tls(&adapter, &made.cert);
    assert!(answer.contains("jmx_scrape_error 1"), "{answer}");
}

#[test]
fn what_is_not_used_is_said() {
    let mut included = tempfile::NamedTempFile::new().unwrap();
    included.write_all(b"rules: []\nincludes: []\nlowercaseOutputName: true\n").unwrap();
    let adapter = Adapter::start(
        &"hostPort: 127.0.0.1:1
blackListObjectNames: ['a:*']
httpServer: {sampleNameFilter: {}, metrics: {path: /m}}
ssl: {enabled: false, trustStor: {filename: x}}
rules:
- pattern: a
  lables: {a: b}
  type: gauge
lowercaseOutputName: true
lowercaseOutputName: false
includes: [FILE]
"
        .replace("FILE", included.path().to_str().unwrap()),
    );
    let log = adapter.logged("only `rules` and `includes`");
    assert!(log.contains("\"key\":\"lowercaseOutputName\""), "{log}");
    assert!(adapter.logged("the `type` of a rule").contains("\"kind\":\"gauge\""));
    for (line, text) in [
        (2, "`blackListObjectNames` is unknown and not used, did you mean `blacklistObjectNames`?"),
        (3, "`httpServer.sampleNameFilter`"),
        (4, "`ssl.trustStor` is unknown and not used"),
        (7, "`rules.lables`"),
        (9, "`lowercaseOutputName` is given again in line 10"),
    ] {
        let log = adapter.logged(text);
        let said = log.lines().find(|logged| logged.contains(text)).unwrap();
        assert!(said.contains("WARN") && said.contains(&format!("\"line\":{line}")), "{said}");
    }
    assert_eq!(adapter.log().matches("WARN").count(), 7, "{}", adapter.log());
}

#[test]
fn configurations_that_are_refused() {
    for (config, complaint) in [
        ("rules: []\n", "`hostPort`"),
        ("hostPort: a:1\njmxUrl: service:jmx:rmi:///jndi/rmi://a:1/jmxrmi\n", "exclude each other"),
        ("hostPort: a:1\nrules:\n- pattern: '('\n", "rule 1"),
        ("hostPort: a:1\nrules: 5\n", ":2: "),
        ("hostPort: a:1\nhttpServer: {authentication: {plugin: {class: x.Y}}}\n", "plugin"),
        ("hostPort: a:1\nhttpServer: {authentication: }\n", "authentication"),
        ("hostPort: a:1\nhttpServer: {authentication: {basic: }}\n", "needs `basic`"),
        ("hostPort: a:1\nhttpServer: {ssl: }\n", "ssl"),
        ("hostPort: a:1\nhttpServer: {ssl: {pem: {certificate: {filename: /nonexistent}}}}\n", "privateKey"),
        ("hostPort: a:1\nopenTelemetry: {endpoint: x, protocol: http/protobuf, interval: 0}\n", "interval"),
        ("hostPort: a:1\npassword: ${NO_SUCH_VARIABLE_HERE}\nusername: x\n", "NO_SUCH_VARIABLE_HERE"),
        ("jmxUrl: service:jmx:jmxmp://h:1\n", "jmxmp"),
        ("hostPort: a:1\nssl: {trustStore: {filename: /nonexistent}}\n", "/nonexistent"),
    ] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(config.as_bytes()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_metrics-adapter"))
            .args(["jmx", "--check-config"])
            .arg(file.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{config}: {stderr}");
        assert!(stderr.contains(complaint), "{config}: {stderr}");
        assert!(stderr.contains(file.path().to_str().unwrap()), "{config}: {stderr}");
    }
}
