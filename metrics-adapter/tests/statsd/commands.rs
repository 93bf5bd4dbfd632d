//! `explain`, `lint` and `test`.

use crate::harness::command;

const MAPPING: &str =
    "mappings:\n- match: a.*\n  name: a\n  labels:\n    part: $1\n- match: a.b\n  name: hidden\n";

fn files() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("m.yml"), MAPPING).unwrap();
    let flag = format!("--statsd.mapping-config={}", directory.path().join("m.yml").display());
    (directory, flag)
}

#[test]
fn explain_tells_the_way_of_a_line() {
    let (_directory, flag) = files();
    let output = command(&["explain", "a.b:1|c|#k:v", &flag]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(
        told.contains("rule: line 2 (`a.*`) names it `a`") && told.contains("a{k=\"v\",part=\"b\"} 1"),
        "{told}"
    );
    let output = command(&["explain", "a.b:x|c", &flag]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("refused: malformed_value"));
}

#[test]
fn lint_finds_dead_rules() {
    let (_directory, flag) = files();
    let output = command(&["lint", &flag]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("m.yml:6: `a.b` can never match"), "{output:?}");
    assert_eq!(command(&["lint"]).status.code(), Some(2));
}

#[test]
fn test_runs_the_cases_of_a_file() {
    let (directory, flag) = files();
    let path = directory.path().join("cases.yml");
    let path_text = path.display().to_string();
    let good = "tests:\n- name: maps\n  lines: [\"a.b:1|c\", \"a.b:2|c\"]\n  expect: ['a{part=\"b\"} 3']\n";
    std::fs::write(&path, good).unwrap();
    let output = command(&["test", &path_text, &flag]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed, 0 failed"));
    std::fs::write(&path, good.replace("} 3", "} 4")).unwrap();
    let output = command(&["test", &path_text, &flag]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("missing     a{part=\"b\"} 4"), "{output:?}");
    std::fs::write(&path, "tests:\n- line: x\n").unwrap();
    let output = command(&["test", &path_text, &flag]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cases.yml:2"), "{output:?}");
}
