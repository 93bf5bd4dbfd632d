//! A process that reacts to pushes, and what it is told with.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use crate::support::{Http, Running, Site, eventually, free_port, get, git};

pub const SECRET: &str = "It's a Secret to Everybody";
pub const TOKEN: &str = "t0ken";

/// A process that polls once an hour, so that only a trigger can be what it reacts to.
pub struct Pushed {
    pub site: Site,
    pub http: Http,
    pub port: u16,
    pub process: Running,
}

impl Pushed {
    pub fn start(site: Site, extra: &[&str]) -> Self {
        let http = Http::serve(&site, "");
        for (name, content) in [("secret", format!("old one\n{SECRET}\n")), ("token", format!("{TOKEN}\n"))] {
            fs::write(site.dir.path().join(name), content).unwrap();
        }
        let port = free_port();
        let mut command = site.sync_from(&http.url(), &["--period=1h", "--http-metrics"]);
        command.arg(format!("--http-bind=127.0.0.1:{port}"));
        command.arg(format!("--push-webhook-secret-file={}/secret", site.dir.path().display()));
        command.arg(format!("--api-token-file={}/token", site.dir.path().display()));
        let process = Running::start(command.args(extra));
        eventually("the first sync", || get(port, "/readyz").filter(|(status, _)| *status == 200));
        Self { site, http, port, process }
    }

    pub fn event(&self) -> String {
        format!(
            r#"{{"ref":"refs/heads/main","after":"{}","repository":{{"full_name":"site","default_branch":"main","clone_url":"{}"}}}}"#,
            git(&self.site.bare(), &["rev-parse", "main"]).trim(),
            self.http.url()
        )
    }

    pub fn deliver(&self, body: &str) -> (u16, String) {
        let header = format!("X-Hub-Signature-256: sha256={}", hmac(SECRET, body));
        post(self.port, "/webhook", &["X-GitHub-Event: push", &header], body).unwrap()
    }

    pub fn sync(&self) -> (u16, serde_json::Value) {
        let (status, body) =
            post(self.port, "/sync?wait=60s", &[&format!("Authorization: Bearer {TOKEN}")], "").unwrap();
        (status, serde_json::from_str(&body).unwrap())
    }

    pub fn metric(&self, line: &str) -> Option<f64> {
        let (_, page) = get(self.port, "/metrics")?;
        page.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }

    pub fn shows(&self, hash: &str) {
        eventually("the pushed commit", || (self.site.published() == hash).then_some(()));
    }
}

pub fn hmac(secret: &str, body: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    ring::hmac::sign(&key, body.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn post(port: u16, path: &str, headers: &[&str], body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(90))).ok()?;
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .ok()?;
    answer(&mut stream)
}

pub fn answer(stream: &mut TcpStream) -> Option<(u16, String)> {
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    Some((answer.split(' ').nth(1)?.parse().ok()?, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

pub fn many(site: &Site, count: usize) -> String {
    many_of(site, count, |at| format!("{at}\n").repeat(50))
}

pub fn many_of(site: &Site, count: usize, text: impl Fn(usize) -> String) -> String {
    for at in 0..count {
        let directory = site.work().join(format!("d{}", at % 20));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("f{at}")), text(at)).unwrap();
    }
    fs::write(site.work().join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(site.work().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("d1/f1", site.work().join("up")).unwrap();
    site.commit()
}
