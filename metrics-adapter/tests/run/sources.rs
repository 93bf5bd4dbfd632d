//! Every kind of source that needs no server of its own, and how they go together.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixListener;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::harness::{Adapter, Fake, free_port, get, respond, serve, value};

#[test]
fn http_json_with_arrays_objects_and_words() {
    let body = r#"{"up":true,"state":"yellow","pools":[{"name":"a","used":3,"waits":1500},{"name":"b","used":"4","waits":null}],
        "caches":{"users":{"hits":7},"items":{"hits":9}}}"#;
    let fake = Fake::new(move |head, stream| {
        let right = head.starts_with("POST /stats?x=1 ") && head.to_lowercase().contains("x-a: b");
        respond(stream, if right { body.as_bytes() } else { b"{}" });
    });
    let adapter = Adapter::start(&format!(
        r#"
labels: {{pod: p}}
sources:
- name: app
  type: http_json
  url: http://{}/stats?x=1
  body: '{{"q": 1}}'
  headers: {{X-A: b}}
  labels: {{zone: 1}}
  metrics:
  - {{name: app_up, path: /up, help: Whether it is up.}}
  - {{name: app_state, path: $.state, map: {{green: 0, yellow: 1, red: 2}}}}
  - name: app_pool
    path: $.pools[*]
    labels: {{pool: "@.name"}}
    values: {{used: "@.used"}}
  - {{name: app_pool_wait_seconds_total, path: "$.pools[?(@.waits > 0)]", value: "@.waits", scale: 0.001, labels: {{pool: "@.name"}}}}
  - {{name: app_cache_hits_total, path: $.caches.*.hits, labels: {{cache: $1}}}}
"#,
        fake.address
    ));
    let page = adapter.page();
    for line in [
        "# HELP app_up Whether it is up.",
        "# TYPE app_up gauge",
        "app_up{pod=\"p\",zone=\"1\"} 1",
        "app_state{pod=\"p\",zone=\"1\"} 1",
        "app_pool_used{pod=\"p\",pool=\"a\",zone=\"1\"} 3",
        "app_pool_used{pod=\"p\",pool=\"b\",zone=\"1\"} 4",
        "# TYPE app_pool_wait_seconds_total counter",
        "app_pool_wait_seconds_total{pod=\"p\",pool=\"a\",zone=\"1\"} 1.5",
        "app_cache_hits_total{cache=\"items\",pod=\"p\",zone=\"1\"} 9",
        "metrics_adapter_source_up{source=\"app\",type=\"http_json\"} 1",
        "metrics_adapter_source_samples{source=\"app\",type=\"http_json\"} 7",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not on\n{page}");
    }
}

#[test]
fn other_exporters_are_merged_and_relabelled() {
    let page = "# HELP x_total X\n# TYPE x_total counter\nx_total{a=\"1\"} 1\ngo_threads 3\n# TYPE h histogram\n\
        h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
    let (one, two) = (Fake::body(page), Fake::body(page));
    let adapter = Adapter::start(&format!(
        r#"
sources:
- {{name: one, type: prometheus, url: "{}", labels: {{port: one}}}}
- name: two
  type: prometheus
  url: "{}"
  labels: {{port: two}}
  relabel:
  - {{source_labels: [__name__], regex: go_.*, action: drop}}
  - {{source_labels: [a], regex: (.*), target_label: b, replacement: "<$1>"}}
  - {{regex: a, action: labeldrop}}
"#,
        one.url(),
        two.url()
    ));
    let page = adapter.page();
    assert_eq!(page.matches("# TYPE x_total counter").count(), 1);
    for line in [
        "x_total{a=\"1\",port=\"one\"} 1",
        "x_total{b=\"<1>\",port=\"two\"} 1",
        "go_threads{port=\"one\"} 3",
        "h_bucket{port=\"one\",le=\"1\"} 1",
        "h_bucket{b=\"<>\",port=\"two\",le=\"+Inf\"} 2",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not on\n{page}");
    }
    assert!(!page.contains("go_threads{port=\"two\""));
    let open = adapter.get("/metrics", "accept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(open.contains("# TYPE x counter\n") && open.ends_with("# EOF\n"), "{open}");
}

#[test]
fn text_over_http_tcp_and_unix_sockets() {
    let text = Fake::body("load: 0.5\nusers 3\n");
    let csv = Fake::body("name,size,n\nx,1,7\ny,2,8\n");
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("app.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut command = [0; 6];
            let _ = stream.read_exact(&mut command);
            assert_eq!(&command, b"stats\n");
            // The connection stays open: only the last line ends the answer.
            let _ = stream.write_all(b"jobs=4\nEND\n");
            std::thread::spawn(move || stream.read(&mut [0]));
        }
    });
    let adapter = Adapter::start(&format!(
        r#"
sources:
- name: text
  type: http_text
  url: "{}"
  format: regex
  metrics: [{{name: load, regex: '^load: (\S+)'}}, {{name: users, regex: '^users (\d+)', type: gauge}}]
- {{name: table, type: http_text, url: "{}", format: csv, metrics: [{{name: size_bytes, column: size, labels: {{name: "${{name}}"}}}}, {{name: rows, column: n, labels: {{n: no}}}}]}}
- {{name: sock, type: tcp_text, address: "unix:{}", command: "stats\n", until: END, format: key_value, prefix: app_}}
"#,
        text.url(),
        csv.url(),
        socket.display()
    ));
    let page = adapter.page();
    for line in ["load 0.5", "users 3", "size_bytes{name=\"y\"} 2", "rows{n=\"no\"} 7", "app_jobs 4"] {
        assert!(page.lines().any(|found| found == line), "{line} is not on\n{page}");
    }
}

#[test]
fn files_and_programs() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.prom"), "a_total 1\n").unwrap();
    std::fs::write(directory.path().join("b.prom"), "b 2\n").unwrap();
    std::fs::write(directory.path().join("x.json"), r#"{"n": 5}"#).unwrap();
    let yaml = r#"
sources:
- {name: proms, type: file, path: "*.prom"}
- {name: json, type: file, path: x.json, prefix: x_}
- {name: program, type: exec, command: [sh, -c, 'echo "p $X"; echo oops >&2'], environment: {X: 6}, format: prometheus}
- {name: fails, type: exec, command: [sh, -c, "echo no luck >&2; exit 3"], format: prometheus}
- {name: hangs, type: exec, timeout: 300ms, command: [sh, -c, "sleep 1000 & wait"], format: prometheus}
"#;
    let adapter = Adapter::start_in(directory, yaml, &["--allow-exec"]);
    let page = adapter.page();
    for line in
        ["a_total 1", "b 2", "x_n 5", "p 6", "metrics_adapter_source_up{source=\"fails\",type=\"exec\"} 0"]
    {
        assert!(page.lines().any(|found| found == line), "{line} is not on\n{page}");
    }
    assert!(adapter.problem("fails").contains("no luck"));
    assert!(adapter.problem("hangs").contains("timeout"));
    std::fs::write(adapter.path("b.prom"), "b {").unwrap();
    adapter.wait_for("metrics_adapter_source_up{source=\"proms\",type=\"file\"}", 0.0);
    let problem = adapter.problem("proms");
    assert!(problem.contains("b.prom: line 1"), "{problem}");
    assert_eq!(adapter.value("x_n"), Some(5.0));
}

#[test]
fn statsd_lines_beside_other_sources_survive_a_reload() {
    let port = free_port();
    let yaml = |rest: &str| {
        format!(
            "sources:\n- type: statsd\n  labels: {{from: app}}\n  settings: {{statsd.listen-udp: '127.0.0.1:{port}', statsd.listen-tcp: ''}}\n{rest}"
        )
    };
    let adapter = Adapter::start(&yaml(""));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"hits:2|c|#a:b", ("127.0.0.1", port)).unwrap();
    adapter.wait_for("hits{a=\"b\",from=\"app\"}", 2.0);
    std::fs::write(adapter.path("x.prom"), "x 1\n").unwrap();
    adapter.configure(&yaml("- {name: file, type: file, path: x.prom}\n"));
    adapter.wait_for("x", 1.0);
    // The listener is the same in both, so its counts go on.
    assert_eq!(adapter.value("hits{a=\"b\",from=\"app\"}"), Some(2.0));
    assert_eq!(adapter.value("metrics_adapter_config_reloads_total{outcome=\"success\"}"), Some(1.0));
    adapter.configure("sources:\n- {type: statsd, setings: {}}\n");
    adapter.wait_for("metrics_adapter_config_reloads_total{outcome=\"failure\"}", 1.0);
    assert_eq!(adapter.value("x"), Some(1.0));
    // Gone from the file, gone from the page, and its port is free.
    adapter.configure("sources:\n- {name: file, type: file, path: x.prom}\n");
    adapter.wait_for("metrics_adapter_config_reloads_total{outcome=\"success\"}", 2.0);
    assert!(!adapter.page().contains("hits"));
    UdpSocket::bind(("127.0.0.1", port)).unwrap();
}

#[test]
fn disagreements_are_resolved_and_counted() {
    let one = Fake::body(
        "# TYPE a gauge\na{x=\"1\"} 1\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n",
    );
    let two = Fake::body(
        "# TYPE a counter\na{x=\"1\"} 2\na{x=\"2\"} 3\nh 4\nh_count 5\nprocess_open_fds 1\nb 1\nb 2\n",
    );
    let adapter = Adapter::start(&format!(
        "sources:\n- {{name: one, type: prometheus, url: '{}'}}\n- {{name: two, type: prometheus, url: '{}'}}\n",
        one.url(),
        two.url()
    ));
    let page = adapter.page();
    for (line, count) in
        [("a{x=\"1\"} 1", 1), ("a{x=\"2\"} 3", 1), ("# TYPE a gauge", 1), ("h_count 1", 1), ("b 1", 1)]
    {
        assert_eq!(page.lines().filter(|found| *found == line).count(), count, "{line}\n{page}");
    }
    assert_eq!(adapter.page().matches("\nprocess_open_fds ").count(), 1);
    let count = |reason: &str| {
        format!("metrics_adapter_conflicting_samples_total{{reason=\"{reason}\",source=\"two\"}}")
    };
    assert!(adapter.value(&count("series")).unwrap() >= 1.0);
    assert!(adapter.value(&count("type")).unwrap() >= 2.0);
    assert!(adapter.get("/status.json", "").contains("disagree"));
}

#[test]
fn scrapes_are_coalesced_and_have_a_deadline() {
    // Answers whenever it is told to.
    let gate = std::sync::Arc::new(std::sync::Barrier::new(2));
    let other = std::sync::Arc::clone(&gate);
    let held = Fake::new(move |_, stream| {
        other.wait();
        respond(stream, b"held 1\n");
    });
    let fast = Fake::body("fast 1\n");
    let adapter = Adapter::start(&format!(
        "sources:\n- {{name: held, type: prometheus, url: '{}', timeout: 60s}}\n- {{name: fast, type: prometheus, url: '{}'}}\n",
        held.url(),
        fast.url()
    ));
    let up = |page: &str| value(page, "metrics_adapter_source_up{source=\"held\",type=\"prometheus\"}");
    std::thread::scope(|scope| {
        let scrapes: Vec<_> = (0..5).map(|_| scope.spawn(|| adapter.page())).collect();
        for page in scrapes.into_iter().map(|scrape| scrape.join().unwrap()) {
            assert!(page.contains("\nfast 1\n") && !page.contains("\nheld 1\n"), "{page}");
            assert_eq!(up(&page), Some(0.0), "{page}");
        }
    });
    assert!(held.requests.load(Ordering::SeqCst) < 2, "not coalesced");
    gate.wait();
    // The answer is there, and stays while the next one is waited for.
    adapter.wait_for("held", 1.0);
    let page = adapter.get("/metrics", "X-Prometheus-Scrape-Timeout-Seconds: 0.3\r\n");
    assert!(page.contains("\nfast 1\n") && page.contains("\nheld 1\n"), "{page}");
    assert_eq!(up(&page), Some(1.0), "{page}");
}

#[test]
fn a_source_that_hangs_or_is_slow_does_not_hold_pages_up() {
    let hangs = Fake::new(|_, stream| {
        let _ = stream.read(&mut [0]);
    });
    // Slow every time, and counting.
    let number = std::sync::atomic::AtomicUsize::new(0);
    let slow = Fake::new(move |_, stream| {
        std::thread::sleep(Duration::from_millis(2500));
        respond(stream, format!("slow {}\n", number.fetch_add(1, Ordering::SeqCst)).as_bytes());
    });
    let fast = Fake::body("fast 1\n");
    let source = |name: &str, url: String| {
        format!("- {{name: {name}, type: prometheus, url: '{url}', timeout: 60s}}\n")
    };
    let yaml = [source("hangs", hangs.url()), source("slow", slow.url()), source("fast", fast.url())];
    let adapter = Adapter::start(&format!("sources:\n{}", yaml.concat()));
    let mut pages = Vec::new();
    let start = Instant::now();
    while pages.iter().all(|page: &String| !page.contains("\nslow 1\n")) {
        assert!(start.elapsed() < Duration::from_secs(60));
        pages.push(adapter.page());
    }
    assert!(pages.iter().all(|page| page.contains("\nfast 1\n")));
    // Pages wait for the source that never answers once at most.
    assert!(pages.len() > 20, "{} pages in {:?}", pages.len(), start.elapsed());
    let last = pages.last().unwrap();
    assert!(last.contains("metrics_adapter_source_up{source=\"hangs\",type=\"prometheus\"} 0"), "{last}");
    assert!(last.contains("metrics_adapter_source_up{source=\"slow\",type=\"prometheus\"} 1"), "{last}");
}

#[test]
fn names_units_and_endings_are_the_same_whatever_the_source() {
    let json = Fake::body(r#"{"wait_ms": 1500, "jobs": 3, "disk_percent": 50}"#);
    let other = Fake::body(
        "# TYPE wait_ms gauge\nwait_ms 1500\n# TYPE jobs counter\njobs 3\ndisk_percent 50\ntarget_info{service_name=\"x\"} 1\n",
    );
    let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
    std::fs::write(directory.path().join("app.txt"), "wait_ms=1500\njobs=3\ndisk_percent=50\n").unwrap();
    let metrics = |key: &str| {
        let metrics = [("wait_ms", "gauge"), ("jobs", "counter"), ("disk_percent", "gauge")];
        metrics.map(|(name, kind)| format!("{{name: {name}, type: {kind}, {key}: {name}}}")).join(", ")
    };
    let yaml = format!(
        "uniform_names: true\nsources:\n\
         - {{name: json, type: http_json, url: '{}', labels: {{by: json}}, metrics: [{}]}}\n\
         - {{name: other, type: prometheus, url: '{}', labels: {{by: other}}}}\n\
         - {{name: file, type: file, path: app.txt, format: key_value, labels: {{by: file}}, metrics: [{}]}}\n\
         - {{name: lines, type: statsd, labels: {{by: lines}}, settings: {{statsd.listen-udp: '127.0.0.1:{port}', statsd.listen-tcp: ''}}}}\n\
         - {{name: raw, type: http_json, url: '{}', uniform_names: false, prefix: raw_}}\n",
        json.url(),
        metrics("path"),
        other.url(),
        metrics("key"),
        json.url(),
    );
    let adapter = Adapter::start_in(directory, &yaml, &[]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"wait_ms:1500|g\njobs:3|c\ndisk_percent:50|g", ("127.0.0.1", port)).unwrap();
    let names = ["wait_seconds", "jobs_total", "disk_ratio"];
    let series: Vec<String> = ["json", "other", "file", "lines"]
        .into_iter()
        .flat_map(|by| names.map(|name| format!("{name}{{by=\"{by}\"}}")))
        .chain(
            ["raw_wait_ms", "raw_disk_percent", "target_info{by=\"other\",service_name=\"x\"}"]
                .map(str::to_owned),
        )
        .collect();
    let page = adapter.shows(&series.iter().map(String::as_str).collect::<Vec<_>>());
    for series in &series[..12] {
        let wanted = match &series[..4] {
            "wait" => 1.5,
            "jobs" => 3.0,
            _ => 0.5,
        };
        assert_eq!(adapter.value(series), Some(wanted), "{series}");
    }
    assert!(
        page.contains("# TYPE jobs_total counter") && page.contains("# TYPE wait_seconds gauge"),
        "{page}"
    );
    let open = adapter.get("/metrics", "accept: application/openmetrics-text;version=1.0.0\r\n");
    assert!(open.contains("# TYPE target info\n") && open.contains("# TYPE jobs counter\n"), "{open}");
}

#[test]
fn the_example_of_a_source_of_ones_own_runs_beside_a_file() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    std::fs::write(directory.path().join("x.prom"), "x 1\n").unwrap();
    let path = directory.path().join("adapter.yaml");
    std::fs::write(&path, "sources:\n- {name: file, type: file, path: x.prom}\n").unwrap();
    let address = format!("127.0.0.1:{port}");
    // Whoever builds all tests has built it.
    let tests = std::env::current_exe().unwrap();
    let example = tests.ancestors().nth(2).unwrap().join("examples/own_source");
    if !example.exists() {
        let what =
            ["build", "--quiet", "--locked", "--package", "metrics-adapter", "--example", "own_source"];
        let built = std::process::Command::new(env!("CARGO")).args(what).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }
    let arguments = [address.as_str(), path.to_str().unwrap()];
    let _example = serve(example.to_str().unwrap(), &arguments, port, directory.path());
    let page = || String::from_utf8(get(([127, 0, 0, 1], port).into(), "/metrics", "").1).unwrap();
    let first = value(&page(), "shop_orders_total{shop=\"corner\"}").unwrap();
    let page = page();
    assert!(value(&page, "shop_orders_total{shop=\"corner\"}").unwrap() > first, "{page}");
    assert_eq!(value(&page, "x"), Some(1.0));
    assert_eq!(value(&page, "metrics_adapter_source_up{source=\"orders\",type=\"example\"}"), Some(1.0));
}

#[test]
fn a_source_with_an_interval_is_not_asked_on_a_scrape() {
    let fake = Fake::body("x 1\n");
    let yaml = format!("sources:\n- {{name: x, type: prometheus, url: '{}', interval: 1h}}\n", fake.url());
    let adapter = Adapter::start(&yaml);
    for _ in 0..5 {
        assert_eq!(adapter.value("x"), Some(1.0));
    }
    assert_eq!(fake.requests.load(Ordering::SeqCst), 1);
}

#[test]
fn the_status_page_shows_sources_samples_and_escapes() {
    let fake = Fake::body("x{a=\"<script>\"} 1\n");
    let adapter =
        Adapter::start(&format!("sources:\n- {{name: x, type: prometheus, url: '{}'}}\n", fake.url()));
    adapter.page();
    adapter.page();
    let html = adapter.get("/", "");
    assert!(html.contains("x: duration") && html.contains("x: series"), "{html}");
    assert!(html.contains("x{a=&quot;&lt;script&gt;&quot;}"), "{html}");
    for (path, wanted) in [("/-/healthy", "run mode is healthy"), ("/-/ready", "run mode is ready")] {
        assert!(adapter.get(path, "").contains(wanted));
    }
    assert!(get(adapter.web, "/metrics", "").0.contains("text/plain"));
}

#[test]
fn the_page_is_pushed_too() {
    let fake = Fake::body("x 1\n");
    let (received, requests) = std::sync::mpsc::channel();
    let receiver = Fake::new(move |head, stream| {
        let _ = received.send(head.to_lowercase());
        let _ = write!(stream, "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n");
    });
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "geheim\n").unwrap();
    let yaml = format!(
        "sources:\n- {{name: x, type: prometheus, url: '{}'}}\npush:\n\
         - {{protocol: remote_write, url: '{}api/v1/write', interval: 200ms, bearer_token_file: token}}\n",
        fake.url(),
        receiver.url()
    );
    let adapter = Adapter::start_in(directory, &yaml, &[]);
    let head = requests.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(head.starts_with("post /api/v1/write ") && head.contains("bearer geheim"), "{head}");
    let page = adapter.page();
    assert!(page.contains("target=") && !page.contains("geheim"), "{page}");
}
