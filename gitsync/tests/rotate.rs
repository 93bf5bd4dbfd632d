//! Secrets that change under a running process, the way a kubelet changes them: by one rename of a symlink.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/pushed.rs"]
mod pushed;
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use pushed::{SECRET, hmac, post};
use support::{Http, Running, Site, eventually, free_port, get, run};

/// A mounted Secret: `<dir>/x` leads to `..data/x`, and `..data` to a directory that is never changed.
struct Mounted {
    dir: tempfile::TempDir,
    names: Vec<&'static str>,
    version: u32,
}

impl Mounted {
    fn new(files: &[(&'static str, &[u8])]) -> Self {
        let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        let mut mounted = Self { dir: tempfile::tempdir().unwrap(), names, version: 0 };
        mounted.swap(files);
        for name in &mounted.names {
            symlink(Path::new("..data").join(name), mounted.path(name)).unwrap();
        }
        mounted
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// All files at once.
    fn swap(&mut self, files: &[(&str, &[u8])]) {
        let old = self.path(&format!("..{}", self.version));
        self.version += 1;
        let name = format!("..{}", self.version);
        fs::create_dir(self.path(&name)).unwrap();
        for (file, content) in files {
            fs::write(self.path(&name).join(file), content).unwrap();
        }
        symlink(&name, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        let _ = fs::remove_dir_all(old);
    }
}

fn openssl(directory: &Path, arguments: &str) {
    run(Command::new("openssl").args(arguments.split(' ')).current_dir(directory));
}

/// A process that polls, and what it says when it can't.
struct Polling {
    site: Site,
    _process: Running,
}

impl Polling {
    fn start(site: Site, url: &str, arguments: &[&str]) -> Self {
        let common = ["--period=20ms", "--max-failures=-1", "--error-file=error.json"];
        let process = Running::start(site.sync_from(url, &common).args(arguments));
        Self { site, _process: process }
    }

    fn shows(&self, hash: &str) {
        eventually("the tree", || (self.site.link().exists() && self.site.published() == hash).then_some(()));
    }

    fn fails(&self, reason: &str) {
        eventually(reason, || {
            fs::read_to_string(self.site.root().join("error.json")).ok().filter(|text| text.contains(reason))
        });
    }
}

#[test]
#[ignore = "needs nginx, fcgiwrap and openssl"]
fn a_client_certificate() {
    let site = Site::new();
    let old = site.push(&[("a", "1")]);
    let dir = site.dir.path().to_owned();
    openssl(&dir, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority");
    fs::write(dir.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    for name in ["tls", "first", "second"] {
        openssl(
            &dir,
            &format!("req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"),
        );
        let sign = "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext";
        openssl(&dir, &format!("{sign} -in {name}.csr -out {name}.pem"));
    }
    // The first is good for the first commit only.
    let allow = dir.join("allow");
    let d = dir.display();
    let listen = format!(
        "ssl_certificate {d}/tls.pem; ssl_certificate_key {d}/tls.key;
         ssl_client_certificate {d}/ca.pem; ssl_verify_client on; set $gate {};",
        allow.display()
    );
    let gate = "if (!-f $gate-$ssl_client_s_dn) { return 403; }";
    fs::write(format!("{}-CN=first", allow.display()), "").unwrap();
    let http = Http::serve_tls(&site, gate, &listen);
    let read = |name: &str, kind: &str| fs::read(dir.join(format!("{name}.{kind}"))).unwrap();
    let files = |name: &str| [("chain", read(name, "pem")), ("key", read(name, "key"))];
    let [chain, key] = files("first");
    let mut mounted = Mounted::new(&[(chain.0, &chain.1), (key.0, &key.1)]);
    let setting = format!(
        "--git-config=http.sslCAInfo:{d}/ca.pem,http.sslCert:{},http.sslKey:{}",
        mounted.path("chain").display(),
        mounted.path("key").display()
    );
    let polling = Polling::start(site, &http.url().replace("http:", "https:"), &[&setting]);
    polling.shows(&old);
    fs::rename(format!("{}-CN=first", allow.display()), format!("{}-CN=second", allow.display())).unwrap();
    polling.fails("403");
    let new = polling.site.push(&[("a", "2")]);
    let [chain, key] = files("second");
    mounted.swap(&[(chain.0, &chain.1), (key.0, &key.1)]);
    polling.shows(&new);
}

#[test]
#[ignore = "needs nginx and fcgiwrap"]
fn a_cookie_file() {
    let site = Site::new();
    let old = site.push(&[("a", "1")]);
    let gate = site.dir.path().join("gate");
    fs::create_dir(&gate).unwrap();
    fs::write(gate.join("one"), "").unwrap();
    let http = Http::serve(&site, &format!("if (!-f {}/$cookie_session) {{ return 403; }}", gate.display()));
    let jar = |value: &str| format!("127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\t{value}\n");
    let mut mounted = Mounted::new(&[("jar", jar("one").as_bytes())]);
    let setting = format!("--git-config=http.cookieFile:{}", mounted.path("jar").display());
    let polling = Polling::start(site, &http.url(), &[&setting]);
    polling.shows(&old);
    fs::rename(gate.join("one"), gate.join("two")).unwrap();
    polling.fails("403");
    let new = polling.site.push(&[("a", "2")]);
    mounted.swap(&[("jar", jar("two").as_bytes())]);
    polling.shows(&new);
}

/// Answers every request with a token that is over at once, and keeps what signed the last one.
fn github() -> (u16, Arc<Mutex<String>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let last = Arc::new(Mutex::new(String::new()));
    let shared = Arc::clone(&last);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let text = String::from_utf8_lossy(&head).into_owned();
            let token = text.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
            *shared.lock().unwrap() = token.unwrap_or_default().trim().to_owned();
            let body = r#"{"token":"secret word","expires_at":"2020-01-01T00:00:00Z"}"#;
            let head = "HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length";
            let _ = write!(stream, "{head}: {}\r\n\r\n{body}", body.len());
        }
    });
    (port, last)
}

/// Whether a key signed a token (RS256).
fn signed_by(key: &Path, token: &str) -> bool {
    let Some((signed, signature)) = token.rsplit_once('.') else { return false };
    let dir = tempfile::tempdir().unwrap();
    let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature).unwrap();
    fs::write(dir.path().join("signature"), signature).unwrap();
    fs::write(dir.path().join("signed"), signed).unwrap();
    let public = dir.path().join("public");
    run(Command::new("openssl").args(["rsa", "-pubout", "-in"]).arg(key).arg("-out").arg(&public));
    let verify = ["dgst", "-sha256", "-signature", "signature", "-verify", "public", "signed"];
    let output = Command::new("openssl").args(verify).current_dir(&dir).output().unwrap();
    output.status.success()
}

#[test]
#[ignore = "needs openssl"]
fn the_key_of_a_github_app() {
    let site = Site::new();
    let old = site.push(&[("a", "1")]);
    let dir = site.dir.path().to_owned();
    for name in ["first", "second"] {
        openssl(&dir, &format!("genrsa -out {name} 2048"));
    }
    let read = |name: &str| fs::read(dir.join(name)).unwrap();
    let mut mounted = Mounted::new(&[("key", &read("first"))]);
    let (port, last) = github();
    let url = site.url();
    let polling = Polling::start(
        site,
        &url,
        &[
            &format!("--github-base-url=http://127.0.0.1:{port}/"),
            "--github-app-application-id=7",
            "--github-app-installation-id=8",
            &format!("--github-app-private-key-file={}", mounted.path("key").display()),
        ],
    );
    polling.shows(&old);
    let signs = |name: &str| signed_by(&dir.join(name), &last.lock().unwrap().clone());
    assert!(signs("first") && !signs("second"));
    mounted.swap(&[("key", &read("second"))]);
    eventually("a token by the second key", || signs("second").then_some(()));
    let new = polling.site.push(&[("a", "2")]);
    polling.shows(&new);
}

#[test]
fn the_secret_of_a_webhook() {
    let site = Site::new();
    let old = site.push(&[("a", "1")]);
    let mut mounted = Mounted::new(&[("secret", SECRET.as_bytes())]);
    let port = free_port();
    let url = site.url();
    let polling = Polling::start(
        site,
        &url,
        &[
            &format!("--http-bind=127.0.0.1:{port}"),
            "--push-webhook-repository=site",
            &format!("--push-webhook-secret-file={}", mounted.path("secret").display()),
        ],
    );
    polling.shows(&old);
    eventually("the endpoint", || get(port, "/readyz").filter(|(status, _)| *status == 200));
    let deliver = |secret: &str, nth: u32| {
        let body = format!(
            r#"{{"ref":"refs/heads/main","nth":{nth},"repository":{{"full_name":"site","default_branch":"main"}}}}"#
        );
        let header = format!("X-Hub-Signature-256: sha256={}", hmac(secret, &body));
        post(port, "/webhook", &["X-GitHub-Event: push", &header], &body).unwrap().0
    };
    assert_eq!((deliver(SECRET, 1), deliver("another", 2)), (202, 401));
    mounted.swap(&[("secret", b"another")]);
    // Read for each request: nothing has to be noticed first.
    assert_eq!((deliver(SECRET, 3), deliver("another", 4)), (401, 202));
}
