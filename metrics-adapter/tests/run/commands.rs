//! `--check-config`, `explain`, `lint`, `test` and `probe`.

use crate::harness::{Fake, command, text};

fn check(yaml: &str) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("adapter.yaml");
    std::fs::write(&path, yaml).unwrap();
    let output = command(&["run", "--check-config", path.to_str().unwrap()]);
    (output.status.code().unwrap(), text(&output.stderr) + &text(&output.stdout))
}

#[test]
fn mistakes_name_file_line_source_and_key() {
    let json = "sources:\n- name: app\n  type: http_json\n  url: http://x/\n";
    for (yaml, expected) in [
        (
            "sources:\n- type: nginx\n  urls: http://x/\n",
            "adapter.yaml:3: source `nginx`: unknown key `urls`, did you mean `url`?",
        ),
        (
            "sources:\n- type: ngnix\n",
            "adapter.yaml:2: source `ngnix`: type: `ngnix` is not known; did you mean `nginx`?",
        ),
        (
            "sources:\n- name: a\n  type: nginx\n  path: /x\n",
            "adapter.yaml:4: source `a`: path: a source of type nginx has no such key",
        ),
        (
            "sources:\n- {name: a, type: nginx}\n- name: b\n  type: nginx\n  max_series: many\n",
            "adapter.yaml:5: source `b`: max_series: a whole number is expected",
        ),
        (
            "sources:\n- {name: a, type: http_json, url: 'http://x/', labels: [x], metrics: []}\n",
            "adapter.yaml:2: source `a`: labels: keys with values are expected",
        ),
        (
            "sources:\n- type: nginx\n  url: \"http://x/\n",
            "adapter.yaml:3: source `nginx`: url: unclosed quote",
        ),
        (
            "sources:\n- type: nginx\npush:\n- {protcol: otlp}\n",
            "adapter.yaml:4: unknown key `protcol`, did you mean `protocol`?",
        ),
        ("sources: []\n", "sources: there is none"),
        (
            "sources:\n- {type: redis}\n- {type: redis}\n",
            "adapter.yaml:3: source `redis`: name: another source has this name",
        ),
        (
            "sources:\n- type: nginx\n  timeout: 5\n",
            "adapter.yaml:3: source `nginx`: timeout: `5` is not a duration",
        ),
        ("sources:\n- type: nginx\n  url: http://u:secret@x/\n", "an address holds no password"),
        ("sources:\n- type: exec\n  command: [true]\n  format: json\n", "--allow-exec"),
        (
            "sources:\n- type: redis\n  address: nowhere:x\n",
            "adapter.yaml:3: source `redis`: address: `nowhere:x`",
        ),
        (
            &format!("{json}  metrics:\n  - name: a\n    path: $.a[\n"),
            "adapter.yaml:7: source `app`: metrics: path:",
        ),
        (
            &format!("{json}  metrics:\n  - path: $.a\n"),
            "adapter.yaml:6: source `app`: metrics: name: it is missing",
        ),
        (&format!("{json}  metrics:\n  - {{name: a b, path: a}}\n"), "`a b` is no metric name"),
        (&format!("{json}  metrics:\n  - {{name: a, path: a, labels: {{9: x}}}}\n"), "`9` is no label name"),
        (
            &format!("{json}  metrics:\n  - {{name: a, path: a, type: gouge}}\n"),
            "`gouge` is none of counter, gauge",
        ),
        (&format!("{json}  relabel:\n  - {{action: drp}}\n"), "relabel: action: `drp` is none of"),
        (
            "sources:\n- type: tail\n  path: x\n  metrics:\n  - name: a\n    regex: a(b\n",
            "adapter.yaml:6: source `tail`: metrics: regex: `a(b`: unclosed group",
        ),
        (
            "sources:\n- type: tail\n  path: x\n  metrics:\n  - {name: a, regex: b, labels: {l: $x}}\n",
            "it has no group `x`",
        ),
        (
            "sources:\n- type: statsd\n  settings:\n    statsd.listen-upd: ':1'\n",
            "adapter.yaml:4: source `statsd`: settings: statsd.listen-upd",
        ),
        (
            "sources:\n- {type: jmx, address: 'x:1', rule_set: kafak}\n",
            "rule_set: `kafak` is none of activemq, cassandra, kafka",
        ),
    ] {
        let (code, said) = check(yaml);
        assert_eq!(code, 2, "{yaml}: {said}");
        assert!(said.contains(expected), "{yaml}\nsaid: {said}\nnot: {expected}");
        assert!(!said.contains("secret"));
    }
    let (code, said) = check("sources:\n- type: nginx\n- {type: jmx, address: 'x:1', rule_set: kafka}\n");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("good (2 sources)"));
}

#[test]
fn explain_lint_and_test() {
    let fake = Fake::body(r#"{"a": 1, "b": "x"}"#);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let yaml = format!(
        "sources:\n- name: app\n  type: http_json\n  url: '{}'\n  metrics:\n  - {{name: app_a_ms, path: a}}\n  - {{name: app_b, type: counter, path: b}}\n\
         - {{name: r1, type: redis}}\n- {{name: r2, type: redis, address: 'other:6379'}}\n",
        fake.url()
    );
    std::fs::write(path("adapter.yaml"), yaml).unwrap();
    let output = command(&["run", "explain", &path("adapter.yaml"), "app"]);
    let said = text(&output.stdout);
    assert!(said.contains("app_a_ms 1") && said.contains("`x`) is no number"), "{said}");
    assert!(!output.status.success());

    let output = command(&["run", "lint", &path("adapter.yaml")]);
    let said = text(&output.stdout);
    assert!(said.contains("scale: 0.001") && said.contains("ends in _total"), "{said}");
    assert!(said.contains("`r2`: it gives the same series as `r1`"), "{said}");
    assert_eq!(output.status.code(), Some(1));

    let case = "tests:\n- {source: app, document: '{\"a\": 3}', expect: [app_a_ms VALUE]}\n";
    std::fs::write(path("good.yaml"), case.replace("VALUE", "3")).unwrap();
    std::fs::write(path("bad.yaml"), case.replace("VALUE", "4")).unwrap();
    assert!(command(&["run", "test", &path("adapter.yaml"), &path("good.yaml")]).status.success());
    let output = command(&["run", "test", &path("adapter.yaml"), &path("bad.yaml")]);
    assert!(text(&output.stdout).contains("not there: app_a_ms 4"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn probe_gives_a_configuration_that_works() {
    let directory = tempfile::tempdir().unwrap();
    for (body, format, sample) in [
        ("# TYPE x counter\nx{a=\"1\"} 2\n", "Prometheus", "x{a=\"1\"} 2"),
        (r#"{"n": 1, "pools": [{"name": "a", "used": 2}]}"#, "JSON", "app_pools_used{name=\"a\"} 2"),
        ("name,size\nx,1\n", "CSV", "app_size{name=\"x\"} 1"),
        ("uptime: 5\nusers: 6\nname: x\n", "key and value", "app_users 6"),
        ("uptime: 5\nusers: 6\n", "key and value", "app_users 6"),
        (
            "Active connections: 1 \nserver accepts handled requests\n 2 2 3 \nReading: 0 Writing: 1 Waiting: 0 \n",
            "stub_status",
            "nginx_http_requests_total 3",
        ),
    ] {
        let fake = Fake::body(body);
        let output = command(&["probe", &fake.url()]);
        let said = text(&output.stdout);
        assert!(output.status.success(), "{body}: {said}{}", text(&output.stderr));
        assert!(said.contains(format), "{said}");
        assert!(said.lines().any(|line| line == sample), "{said}");
        let (_, configuration) = said.split_once("# Configuration:\n").unwrap();
        let path = directory.path().join("adapter.yaml");
        std::fs::write(&path, configuration).unwrap();
        let output = command(&["run", "explain", path.to_str().unwrap()]);
        let explained = text(&output.stdout);
        assert!(explained.lines().any(|line| line == sample), "{configuration}\n{explained}");
    }
    let file = directory.path().join("x.json");
    std::fs::write(&file, r#"{"n": 1}"#).unwrap();
    let said = text(&command(&["probe", file.to_str().unwrap()]).stdout);
    assert!(said.contains("app_n 1") && said.contains("type: file"), "{said}");
    let output = command(&["probe", "/nonexistent"]);
    assert!(!output.status.success() && text(&output.stderr).contains("/nonexistent"));
}

/// A document of every kind of source, without the source.
#[test]
fn every_kind_of_source_has_tests_explain_and_lint() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let mapping = "mappings:\n- {match: app.*.hits, name: app_hits, labels: {page: $1}}\n- {match: app.x.hits, name: never}\n";
    std::fs::write(path("mapping.yml"), mapping).unwrap();
    let yaml = "labels: {pod: p}\nsources:\n\
        - {name: statsd, type: statsd, settings: {statsd.mapping-config: mapping.yml}}\n\
        - {name: jmx, type: jmx, address: 'h:1', rule_set: kafka}\n\
        - {name: jolokia, type: jolokia, url: 'http://h/jolokia', rules: [{pattern: 'a<t=(\\w+)><>(\\w+)', name: 'a_$2', labels: {t: $1}}]}\n\
        - {name: http_json, type: http_json, url: 'http://h/', metrics: [{name: a, path: $.a}]}\n\
        - {name: http_text, type: http_text, url: 'http://h/', format: regex, metrics: [{name: a, regex: 'a (\\d+)'}]}\n\
        - {name: tcp_text, type: tcp_text, address: 'h:1', format: key_value, prefix: t_}\n\
        - {name: file, type: file, path: x.csv, metrics: [{name: size, column: size, labels: {n: '${name}'}}]}\n\
        - {name: tail, type: tail, path: x.log, metrics: [{name: errors_total, regex: ERROR}, {name: took_seconds, type: histogram, regex: 'took (\\S+)', buckets: [1]}]}\n\
        - {name: exec, type: exec, command: [x], format: prometheus}\n\
        - {name: prometheus, type: prometheus, url: 'http://h/', relabel: [{regex: b, action: labeldrop}]}\n\
        - {type: nginx}\n- {type: apache}\n- {type: haproxy}\n- {type: php_fpm}\n- {type: memcached}\n- {type: redis}\n- {type: zookeeper}\n- {type: rabbitmq}\n";
    std::fs::write(path("adapter.yaml"), yaml).unwrap();
    let nginx =
        "Active connections: 1\nserver accepts handled requests\n 2 2 3\nReading: 0 Writing: 1 Waiting: 0\n";
    let rabbitmq = r#"{"overview": {"cluster_name": "c", "node": "n", "object_totals": {"queues": 2}}, "queues": [{"vhost": "/", "name": "q", "messages": 3, "node": "n"}]}"#;
    for (source, document, sample) in [
        ("statsd", "app.login.hits:2|c\napp.login.hits:1|c\n", "app_hits{page=\"login\",pod=\"p\"} 3"),
        (
            "jmx",
            "kafka.server<type=BrokerTopicMetrics, name=MessagesInPerSec><>Count: 7\n",
            "kafka_server_brokertopicmetrics_messagesin_total{pod=\"p\"} 7",
        ),
        ("jolokia", "a<t=x><>Size: 5\n", "a_Size{pod=\"p\",t=\"x\"} 5"),
        ("http_json", "{\"a\": 1}", "a{pod=\"p\"} 1"),
        ("http_text", "a 2\n", "a{pod=\"p\"} 2"),
        ("tcp_text", "x=3\n", "t_x{pod=\"p\"} 3"),
        ("file", "name,size\nx,4\n", "size{n=\"x\",pod=\"p\"} 4"),
        ("tail", "ERROR one\nERROR two\nfine\n", "errors_total{pod=\"p\"} 2"),
        ("tail", "took 0.5\ntook 3\n", "took_seconds_bucket{pod=\"p\",le=\"1\"} 1"),
        ("exec", "x 1\n", "x{pod=\"p\"} 1"),
        ("prometheus", "x{a=\"1\",b=\"2\"} 1\n", "x{a=\"1\",pod=\"p\"} 1"),
        ("nginx", nginx, "nginx_http_requests_total{pod=\"p\"} 3"),
        ("apache", "Total Accesses: 5\nBusyWorkers: 1\n", "apache_accesses_total{pod=\"p\"} 5"),
        (
            "haproxy",
            "# pxname,svname,type,scur,\nweb,FRONTEND,0,4,\n",
            "haproxy_frontend_current_sessions{frontend=\"web\",pod=\"p\"} 4",
        ),
        (
            "php_fpm",
            r#"{"pool": "www", "accepted conn": 9}"#,
            "phpfpm_accepted_connections{pod=\"p\",pool=\"www\",scrape_uri=\"tcp://127.0.0.1:9000/status\"} 9",
        ),
        ("memcached", "STAT curr_items 6\r\nEND\r\n", "memcached_current_items{pod=\"p\"} 6"),
        ("redis", "redis_version:7\r\nconnected_clients:8\r\n", "redis_connected_clients{pod=\"p\"} 8"),
        ("zookeeper", "zk_znode_count\t5\n", "zk_znode_count{pod=\"p\",zk_host=\"127.0.0.1:2181\"} 5"),
        ("rabbitmq", rabbitmq, "rabbitmq_queues{cluster=\"c\",pod=\"p\"} 2"),
    ] {
        std::fs::write(path("document"), document).unwrap();
        let output =
            command(&["run", "--allow-exec", "explain", &path("adapter.yaml"), source, &path("document")]);
        let said = text(&output.stdout);
        assert!(said.lines().any(|line| line == sample), "{source}: {said}{}", text(&output.stderr));
        let page = said.lines().filter(|line| !line.starts_with('#'));
        let expect: Vec<String> = page.map(|line| format!("  - '{line}'\n")).collect();
        let document =
            document.replace('\r', "\\r").replace('\n', "\\n").replace('\t', "\\t").replace('"', "\\\"");
        let case =
            format!("tests:\n- source: {source}\n  document: \"{document}\"\n  expect:\n{}", expect.concat());
        std::fs::write(path("good.yaml"), &case).unwrap();
        let output = command(&["run", "--allow-exec", "test", &path("adapter.yaml"), &path("good.yaml")]);
        assert!(output.status.success(), "{case}\n{}{}", text(&output.stdout), text(&output.stderr));
        std::fs::write(path("bad.yaml"), case.replace(sample, "other 1")).unwrap();
        let output = command(&["run", "--allow-exec", "test", &path("adapter.yaml"), &path("bad.yaml")]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stdout).contains("not there: other 1"));
    }
    let output = command(&["run", "--allow-exec", "lint", &path("adapter.yaml")]);
    let said = text(&output.stdout);
    assert!(said.contains("source `statsd`: ") && said.contains("mapping.yml:3: "), "{said}");
    assert_eq!(output.status.code(), Some(1));
}
