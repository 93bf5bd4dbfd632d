//! SSH against a real sshd.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use support::{Running, Site, eventually, finish, free_port, run, succeed, text};

struct Sshd {
    _process: Running,
    dir: tempfile::TempDir,
    port: u16,
}

impl Sshd {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let keygen = |kind: &str, name: &str, more: &[&str]| {
            run(Command::new("ssh-keygen")
                .args(["-q", "-N", "", "-t", kind, "-f"])
                .arg(path(name))
                .args(more));
        };
        for kind in ["ed25519", "ecdsa", "rsa"] {
            keygen(kind, &format!("host_{kind}"), &[]);
            keygen(kind, kind, &[]);
        }
        keygen("rsa", "pem", &["-m", "PEM"]);
        keygen("ed25519", "ca", &[]);
        run(Command::new("ssh-keygen")
            .args(["-q", "-h", "-I", "host", "-n", "127.0.0.1", "-V", "+1d", "-s"])
            .arg(path("ca"))
            .arg(path("host_ed25519.pub")));
        let keys: String = ["ed25519", "ecdsa", "rsa", "pem"]
            .map(|n| fs::read_to_string(path(&format!("{n}.pub"))).unwrap())
            .concat();
        fs::write(path("authorized"), keys).unwrap();
        let port = free_port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {d}/host_ed25519\nHostKey {d}/host_ecdsa\nHostKey {d}/host_rsa\n\
             HostCertificate {d}/host_ed25519-cert.pub\nAuthorizedKeysFile {d}/authorized\nPidFile {d}/pid\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nAcceptEnv GIT_PROTOCOL\nPermitRootLogin yes\n",
            d = dir.path().display()
        );
        fs::write(path("config"), config).unwrap();
        let _ = fs::create_dir_all("/run/sshd");
        let process = Running::start(Command::new("/usr/sbin/sshd").arg("-D").arg("-f").arg(path("config")));
        eventually("sshd", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { _process: process, dir, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A known_hosts file with one line about this server, and the flag that names it.
    fn known(&self, name: &str, line: &str) -> String {
        fs::write(self.path(name), line).unwrap();
        format!("--ssh-known-hosts-file={}", self.path(name).display())
    }

    fn key(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap()
    }
}

#[test]
fn keys_and_known_hosts_of_every_kind() {
    let site = Site::new();
    let hash = site.push(&[("a", "1")]);
    let sshd = Sshd::start();
    let user = run(Command::new("id").arg("-un"));
    let url = format!("ssh://{}@127.0.0.1:{}{}", user.trim(), sshd.port, site.bare().display());
    let host = format!("[127.0.0.1]:{}", sshd.port);
    let key = |name: &str| format!("--ssh-key-file={}", sshd.path(name).display());
    let plain = sshd.known("plain", &format!("{host} {}", sshd.key("host_ed25519")));
    let good = [
        (key("ed25519"), plain.clone()),
        (key("ecdsa"), sshd.known("ecdsa_only", &format!("{host} {}", sshd.key("host_ecdsa")))),
        (key("rsa"), sshd.known("rsa_only", &format!("{host} {}", sshd.key("host_rsa")))),
        (key("pem"), sshd.known("wild", &format!("[127.0.0.*]:* {}", sshd.key("host_ed25519")))),
        (key("ed25519"), sshd.known("ca_known", &format!("@cert-authority {host} {}", sshd.key("ca")))),
        (key("ed25519"), "--ssh-known-hosts=false".to_owned()),
    ];
    run(Command::new("ssh-keygen").arg("-q").arg("-H").arg("-f").arg(sshd.path("plain")));
    for (key, known) in &good {
        let _ = fs::remove_dir_all(site.root());
        let output = finish(&mut site.sync_from(&url, &["--one-time", key, known]));
        assert_eq!(output.status.code(), Some(0), "{key} {known}: {}", text(&output));
        assert_eq!(site.published(), hash);
    }
    let bad = [
        (key("ed25519"), sshd.known("other", &format!("{host} {}", sshd.key("ca"))), "by another key"),
        (key("ed25519"), sshd.known("none", "elsewhere ssh-ed25519 x"), "is not in"),
        (
            key("ed25519"),
            sshd.known("revoked", &format!("{host} {0}@revoked * {0}", sshd.key("host_ed25519"))),
            "revokes",
        ),
        (key("ca"), plain.clone(), "accepts no key"),
        (key("missing"), plain, "accepts no key"),
    ];
    for (key, known, reason) in &bad {
        let output = finish(&mut site.sync_from(&url, &["--one-time", key, known]));
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains(reason), "{known}: {}", text(&output));
    }
    // Deeper, and the scp form, whose port is always 22, is at least understood.
    succeed(&mut site.sync_from(&url, &["--one-time", "--depth=0", &good[0].0, &good[5].1]));
}

#[test]
fn keys_and_known_hosts_rotate_without_a_restart() {
    let site = Site::new();
    let old = site.push(&[("a", "1")]);
    let sshd = Sshd::start();
    let user = run(Command::new("id").arg("-un"));
    let url = format!("ssh://{}@127.0.0.1:{}{}", user.trim(), sshd.port, site.bare().display());
    let host = format!("[127.0.0.1]:{}", sshd.port);
    let known = sshd.known("known", &format!("{host} {}", sshd.key("host_ed25519")));
    let key = sshd.path("mine");
    fs::copy(sshd.path("ed25519"), &key).unwrap();
    let error = site.root().join("error.json");
    let arguments =
        [&format!("--ssh-key-file={}", key.display())[..], &known, "--period=50ms", "--max-failures=-1"];
    let _running = Running::start(site.sync_from(&url, &arguments).arg("--error-file=error.json"));
    eventually("the first tree", || site.link().exists().then(|| site.published()));
    assert_eq!(site.published(), old);
    // A key that the server doesn't know, then one that it does.
    fs::copy(sshd.path("ca"), &key).unwrap();
    eventually("a refusal", || {
        fs::read_to_string(&error).ok().filter(|text| text.contains("accepts no key"))
    });
    let new = site.push(&[("a", "2")]);
    fs::copy(sshd.path("ecdsa"), &key).unwrap();
    eventually("the new tree", || (site.published() == new).then_some(()));
    // The same for the server's key.
    sshd.known("known", &format!("{host} {}", sshd.key("ca")));
    eventually("a refusal", || {
        fs::read_to_string(&error).ok().filter(|text| text.contains("by another key"))
    });
    let newest = site.push(&[("a", "3")]);
    sshd.known("known", &format!("{host} {}", sshd.key("host_ecdsa")));
    eventually("the newest tree", || (site.published() == newest).then_some(()));
}
