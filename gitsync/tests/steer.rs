//! Going back: by itself when a real nginx doesn't like the commit, and when somebody says so. And being watched at it.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/pushed.rs"]
mod pushed;
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use pushed::{Pushed, TOKEN, post};
use serde_json::Value;
use support::{Running, Site, eventually, finish, free_port, get, nginx, succeed, text};

fn call(port: u16, path: &str) -> (u16, Value) {
    let (status, body) = post(port, path, &[&format!("Authorization: Bearer {TOKEN}")], "").unwrap();
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn a_commit_that_the_neighbour_does_not_like_is_taken_back() {
    let site = Site::new();
    let good = site.push(&[("ok.html", "1")]);
    let web = free_port();
    let _nginx = nginx(&site, web);
    let probe = format!("--probe-url=http://127.0.0.1:{web}/ok.html");
    let probe = ["--probe-timeout=700ms", "--error-file=error.json", &probe];
    let pushed = Pushed::start(site, &probe);
    fs::remove_file(pushed.site.work().join("ok.html")).unwrap();
    let bad = pushed.site.push(&[("other.html", "1")]);
    let (status, answer) = pushed.sync();
    assert_eq!(status, 502);
    let error = answer["error"].as_str().unwrap();
    assert!(error.contains(&bad) && error.contains("answered 404"), "{error}");
    assert_eq!(pushed.site.published(), good);
    assert_eq!(get(web, "/ok.html").unwrap(), (200, "1".to_owned()));
    // No second try, and nobody has to look for the reason.
    let (status, answer) = pushed.sync();
    assert_eq!(status, 502);
    assert!(answer["not_followed"].as_str().unwrap().contains(&bad));
    assert_eq!(pushed.metric("git_sync_rollbacks_total{cause=\"probe\"}"), Some(1.0));
    assert_eq!(pushed.metric("git_sync_not_followed"), Some(1.0));
    assert!(fs::read_to_string(pushed.site.root().join("error.json")).unwrap().contains("answered 404"));
    assert!(get(pushed.port, "/status.json").unwrap().1.contains("answered 404"));
    // A restart knows it, too.
    let Pushed { site, http, port, process } = pushed;
    drop((http, process));
    let pushed = Pushed::start(site, &probe);
    let _ = port;
    assert_eq!(pushed.sync().0, 502);
    assert_eq!(pushed.site.published(), good);
    assert_eq!(pushed.metric("git_sync_rollbacks_total{cause=\"probe\"}"), None);
    // Until the ref moves.
    let fixed = pushed.site.push(&[("ok.html", "3")]);
    assert_eq!(pushed.sync().0, 200);
    assert_eq!(pushed.site.published(), fixed);
    assert_eq!(get(web, "/ok.html").unwrap().1, "3");
    assert_eq!(pushed.metric("git_sync_not_followed"), Some(0.0));
    assert!(!pushed.site.root().join("error.json").exists());
}

#[test]
fn a_process_killed_while_it_probes_does_not_forget_to() {
    let site = Site::new();
    let good = site.push(&[("ok.html", "1")]);
    let web = free_port();
    let probe = format!("--probe-url=http://127.0.0.1:{web}/ok.html");
    for publish in ["symlink", "exchange"] {
        let publish = format!("--publish={publish}");
        support::succeed(&mut site.sync(&["--one-time", &publish]));
        fs::remove_file(site.work().join("ok.html")).unwrap();
        site.push(&[("other.html", "1")]);
        let mut running =
            Running::start(&mut site.sync(&[&probe, "--probe-timeout=60s", "--max-failures=-1", &publish]));
        eventually("the new tree", || site.link().join("other.html").exists().then_some(()));
        running.0.kill().unwrap();
        running.0.wait().unwrap();
        let web = nginx(&site, web);
        let restarted =
            site.sync(&[&probe, "--probe-timeout=500ms", "--one-time", &publish]).output().unwrap();
        assert_eq!(restarted.status.code(), Some(1), "{}", support::text(&restarted));
        assert_eq!(fs::read_to_string(site.link().join("ok.html")).unwrap(), "1");
        drop(web);
        support::run(Command::new("git").arg("-C").arg(site.work()).args(["reset", "-q", "--hard", &good]));
        site.push(&[("ok.html", "1"), ("more", &publish)]);
    }
}

#[test]
fn somebody_with_the_token_rolls_back_and_pins() {
    let site = Site::new();
    let hashes: Vec<_> = (1..=2).map(|n| site.push(&[("a", &n.to_string())])).collect();
    let pushed = Pushed::start(site, &["--keep=2"]);
    let port = pushed.port;
    let mut hashes = hashes[1..].to_vec();
    for n in 3..=5 {
        hashes.push(pushed.site.push(&[("a", &n.to_string())]));
        assert_eq!(pushed.sync().0, 200);
    }
    let [two, three, four, five] = &hashes[..] else { panic!() };
    let is_there = |hash: &str| pushed.site.root().join(".worktrees").join(hash).is_dir();
    // Tidying comes after the answer.
    eventually("--keep=2", || (is_there(three) && is_there(four) && !is_there(two)).then_some(()));
    for path in ["/rollback", "/pin", "/unpin"] {
        assert_eq!(post(port, path, &["Authorization: Bearer wrong"], "").unwrap().0, 401);
        assert_eq!(post(port, path, &[], "").unwrap().0, 401);
        assert_eq!(get(port, path).unwrap().0, 405);
    }
    let page = get(port, "/").unwrap().1;
    for part in ["data-call=\"/rollback\"", "data-call=\"/pin\"", "Next attempt", "check out:", "fetch:"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains(TOKEN));
    // The remote isn't needed for what is kept.
    let (bare, away) = (pushed.site.bare(), pushed.site.dir.path().join("away.git"));
    fs::rename(&bare, &away).unwrap();
    let (status, answer) = call(port, "/rollback");
    assert_eq!(
        (status, answer["new"].as_str(), pushed.site.read("a")),
        (200, Some(&four[..]), "4".to_owned())
    );
    assert_eq!(call(port, "/rollback").1["new"].as_str(), Some(&three[..]));
    fs::rename(&away, &bare).unwrap();
    // The ref hasn't moved: nothing changes by itself.
    assert_eq!(pushed.sync().1["status"], "unchanged");
    assert_eq!(pushed.site.published(), *three);
    assert!(get(port, "/status.json").unwrap().1.contains("rolled back to"));
    // One that isn't there any more comes from the remote; then there is none before it.
    assert_eq!(call(port, "/rollback").1["new"].as_str(), Some(&two[..]));
    assert_eq!(call(port, "/rollback").0, 409);
    let six = pushed.site.push(&[("a", "6")]);
    assert_eq!(pushed.sync().1["new"].as_str(), Some(&six[..]));
    // Pinned: pushes come and change nothing.
    assert_eq!(call(port, "/pin").0, 200);
    let seven = pushed.site.push(&[("a", "7")]);
    assert_eq!(pushed.sync().1["status"], "unchanged");
    assert_eq!(pushed.site.published(), six);
    assert_eq!(call(port, "/rollback").0, 409);
    let (status, answer) = call(port, &format!("/pin?commit={five}"));
    assert_eq!((status, answer["new"].as_str()), (200, Some(&five[..])));
    assert!(answer["not_followed"].as_str().unwrap().contains("pinned to"));
    // What can't be had is no place to stay at.
    let nowhere = "1".repeat(40);
    assert_eq!(call(port, &format!("/pin?commit={nowhere}")).0, 502);
    assert_eq!(call(port, "/pin?commit=zz").0, 409);
    assert_eq!(pushed.sync().0, 200);
    assert_eq!(pushed.site.published(), *five);
    let (status, answer) = call(port, "/unpin");
    assert_eq!((status, answer["new"].as_str()), (200, Some(&seven[..])));
    assert_eq!(pushed.site.read("a"), "7");
    assert!(Path::new(&pushed.site.root().join(".git/gitsync-orders.json")).is_file());
}

/// What a collector of traces is sent, which answers once that it has it.
fn collected(listener: &TcpListener) -> String {
    let mut stream = listener.accept().unwrap().0;
    let mut request = Vec::new();
    while !request.ends_with(b"]}]}]}") {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&request));
        request.extend_from_slice(&piece[..count]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    String::from_utf8(request).unwrap()
}

#[test]
fn a_collector_of_traces_learns_of_a_sync() {
    let site = Site::new();
    let hash = site.push(&[("a", "1")]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = std::thread::spawn(move || collected(&listener));
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_SERVICE_NAME", "site")];
    succeed(site.sync(&["--one-time", "--ref=main"]).envs(variables));
    let request = collector.join().unwrap();
    assert!(request.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{request}");
    for expected in ["\"name\":\"sync\"", "{\"stringValue\":\"site\"}", hash.as_str()] {
        assert!(request.contains(expected), "no {expected} in {request}");
    }

    // One that nobody can use is told, and stops nothing.
    let mut command = site.sync(&["--one-time", "--ref=main"]);
    let output = finish(command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://token@collector:4317"));
    let said = text(&output);
    assert!(
        output.status.success() && said.contains("no traces are sent") && !said.contains("token"),
        "{said}"
    );
}
