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
            "adapter.yaml:3: unknown key `urls`, did you mean `url`?",
        ),
        (
            "sources:\n- type: ngnix\n",
            "adapter.yaml:2: source `ngnix`: type: `ngnix` is not known; did you mean `nginx`?",
        ),
        (
            "sources:\n- name: a\n  type: nginx\n  path: /x\n",
            "adapter.yaml:4: source `a`: path: a source of type nginx has no such key",
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
