//! `gitsync::ssh` against Debian's sshd: started as the current user on a loopback port of its own,
//! with keys of its own.
#![allow(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gitsync::ssh::{self, Channel, HostKeys, Options, SshError, Target};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A server, its keys, and a repository to read.
struct Server {
    directory: TempDir,
    port: u16,
    process: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    /// `host_keys`: kinds of key that the server shows. `extra`: more lines of configuration, before
    /// ours, since of the same keyword sshd takes the first.
    fn start(host_keys: &[&str], extra: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::write(root.join("authorized_keys"), "").unwrap();
        run("git", &["init", "-q", "-b", "main", "repo"], root);
        run("git", &["commit", "-q", "--allow-empty", "-m", "one"], &root.join("repo"));
        let port = free_port();
        let mut config = format!(
            "{}\nPort {port}\nListenAddress 127.0.0.1\nPidFile none\nStrictModes no\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nAcceptEnv GIT_PROTOCOL\n\
             AuthorizedKeysFile {}\n",
            extra.replace("@root@", &root.to_string_lossy()),
            root.join("authorized_keys").display()
        );
        for kind in host_keys {
            let key = keygen(root, &format!("host_{kind}"), &["-t", kind]);
            config.push_str(&format!("HostKey {}\n", key.display()));
        }
        std::fs::write(root.join("sshd_config"), config).unwrap();
        let process = launch(root, port);
        Self { directory, port, process }
    }

    /// Starts again with the same files, since sshd reads certificates and settings only then.
    fn restart(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        self.process = launch(self.directory.path(), self.port);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// Makes a key for the user and lets it in.
    fn key(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let key = keygen(self.directory.path(), name, arguments);
        let admitted = self.read("authorized_keys") + &self.read(&format!("{name}.pub"));
        std::fs::write(self.path("authorized_keys"), admitted).unwrap();
        key
    }

    fn known_hosts(&self, content: &str) -> HostKeys {
        std::fs::write(self.path("known_hosts"), content).unwrap();
        HostKeys::Strict(self.path("known_hosts"))
    }

    /// The line for a host key of the server.
    fn line(&self, kind: &str) -> String {
        format!("[127.0.0.1]:{} {}", self.port, self.read(&format!("host_{kind}.pub")))
    }

    fn target(&self, path: &str) -> Target {
        let user = run("id", &["-un"], Path::new("/"));
        Target {
            user: Some(user.trim().to_owned()),
            host: "127.0.0.1".to_owned(),
            port: self.port,
            path: path.into(),
        }
    }

    fn repo(&self) -> Target {
        self.target(&self.path("repo").to_string_lossy())
    }

    async fn open(&self, key: &Path, host_keys: HostKeys) -> Result<Channel, SshError> {
        ssh::open(&self.repo(), &options(key, host_keys)).await
    }

    async fn advertisement(&self, key: &Path, host_keys: HostKeys) -> Result<String, SshError> {
        Ok(advertisement(&mut self.open(key, host_keys).await?).await)
    }

    async fn refusal(&self, key: &Path, host_keys: HostKeys) -> SshError {
        self.open(key, host_keys).await.expect_err("refused")
    }
}

fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "A Tester")
            .env(format!("GIT_{who}_EMAIL"), "tester@localhost");
    }
    let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn keygen(directory: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let all = [&["-q", "-N", "", "-C", "test", "-f", name], arguments].concat();
    run("ssh-keygen", &all, directory);
    directory.join(name)
}

fn launch(root: &Path, port: u16) -> Child {
    // sshd insists on this directory when run by root.
    let _ = std::fs::create_dir_all("/run/sshd");
    let log = std::fs::File::create(root.join("log")).unwrap();
    let process = Command::new("/usr/sbin/sshd")
        .args(["-D", "-e", "-f"])
        .arg(root.join("sshd_config"))
        .stderr(Stdio::from(log))
        .spawn()
        .expect("Debian's openssh-server is installed");
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = std::fs::read_to_string(root.join("log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "sshd does not start: {log}");
        std::thread::sleep(Duration::from_millis(5));
    }
    process
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn options(key: &Path, host_keys: HostKeys) -> Options {
    Options { keys: vec![key.to_owned()], host_keys, ..Options::default() }
}

/// Reads to the flush packet that ends a version 2 advertisement, then says good-bye.
async fn advertisement(channel: &mut Channel) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"0000") {
        assert_ne!(channel.read_buf(&mut text).await.unwrap(), 0, "{}", String::from_utf8_lossy(&text));
    }
    channel.write_all(b"0000").await.unwrap();
    let mut rest = Vec::new();
    channel.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    String::from_utf8(text).unwrap()
}

#[tokio::test]
#[ignore = "needs sshd"]
async fn every_kind_of_key_in_every_form_gets_a_version_2_advertisement() {
    let server = Server::start(&["ed25519"], "");
    let known = server.known_hosts(&server.line("ed25519"));
    for (name, arguments) in [
        ("ed", &["-t", "ed25519"][..]),
        ("ecdsa256", &["-t", "ecdsa", "-b", "256"]),
        ("ecdsa384", &["-t", "ecdsa", "-b", "384"]),
        ("ecdsa521", &["-t", "ecdsa", "-b", "521"]),
        ("rsa", &["-t", "rsa", "-b", "2048"]),
        ("rsa_pkcs1", &["-t", "rsa", "-b", "2048", "-m", "PEM"]),
        ("rsa_pkcs8", &["-t", "rsa", "-b", "2048", "-m", "PKCS8"]),
        ("ecdsa_pem", &["-t", "ecdsa", "-m", "PEM"]),
        ("ecdsa_pkcs8", &["-t", "ecdsa", "-b", "384", "-m", "PKCS8"]),
    ] {
        let key = server.key(name, arguments);
        let text = server.advertisement(&key, known.clone()).await;
        let text = text.unwrap_or_else(|error| panic!("{name}: {error} {}", server.read("log")));
        assert!(text.starts_with("000eversion 2\n"), "{name}: {text}");
        assert!(text.contains("ls-refs") && text.contains("fetch"), "{name}: {text}");
    }
}

#[tokio::test]
#[ignore = "needs sshd"]
async fn a_server_that_takes_no_environment_speaks_version_0() {
    let mut server = Server::start(&["ed25519"], "");
    let key = server.key("ed", &["-t", "ed25519"]);
    std::fs::write(
        server.path("sshd_config"),
        server.read("sshd_config").replace("AcceptEnv", "# AcceptEnv"),
    )
    .unwrap();
    server.restart();
    let mut channel = server.open(&key, HostKeys::AcceptAny).await.unwrap();
    let mut start = vec![0; 44];
    channel.read_exact(&mut start).await.unwrap();
    let head = run("git", &["rev-parse", "HEAD"], &server.path("repo"));
    assert_eq!(&start[4..], head.trim().as_bytes());
}

#[tokio::test]
#[ignore = "needs sshd"]
async fn host_keys_known_by_hash_wildcard_bare_name_or_another_kind() {
    let server = Server::start(&["ed25519", "ecdsa", "rsa"], "");
    let key = server.key("id", &["-t", "ed25519"]);
    server.known_hosts(&server.line("ed25519"));
    run("ssh-keygen", &["-q", "-H", "-f", "known_hosts"], server.directory.path());
    let hashed = server.read("known_hosts");
    assert!(hashed.starts_with("|1|"), "{hashed}");
    let wildcard = server.line("ecdsa").replace("[127.0.0.1]", "[127.*]");
    let bare = server.line("ed25519").replace(&format!("[127.0.0.1]:{}", server.port), "127.0.0.1");
    for content in [hashed, wildcard, bare, server.line("rsa"), server.line("ecdsa")] {
        let known = server.known_hosts(&content);
        server.advertisement(&key, known).await.unwrap_or_else(|error| panic!("{content}: {error}"));
    }
}

#[tokio::test]
#[ignore = "needs sshd"]
async fn unknown_changed_and_revoked_host_keys_are_refused() {
    let server = Server::start(&["ed25519"], "");
    let key = server.key("id", &["-t", "ed25519"]);
    keygen(server.directory.path(), "other", &["-t", "ed25519"]);
    let fingerprint = run("ssh-keygen", &["-lf", "host_ed25519.pub"], server.directory.path());
    let fingerprint = fingerprint.split(' ').nth(1).unwrap();

    let error = server.refusal(&key, server.known_hosts("elsewhere ssh-ed25519 !!\n")).await;
    let message = error.to_string();
    assert!(message.contains(fingerprint) && message.contains("line 1"), "{message}");
    let SshError::UnknownHostKey { line, .. } = &error else { panic!("{error:?}") };
    assert!(!error.is_retryable());
    server.advertisement(&key, server.known_hosts(line)).await.unwrap();

    let changed = format!("[127.0.0.1]:{} {}", server.port, server.read("other.pub"));
    let error = server.refusal(&key, server.known_hosts(&changed)).await;
    assert!(matches!(&error, SshError::ChangedHostKey { known_line: 1, .. }), "{error}");
    assert!(error.to_string().contains(fingerprint));

    let revoked = format!("{}@revoked * {}", server.line("ed25519"), server.read("host_ed25519.pub"));
    let error = server.refusal(&key, server.known_hosts(&revoked)).await;
    assert!(matches!(&error, SshError::RevokedHostKey { line: 2, .. }), "{error}");

    let error = server.refusal(&key, HostKeys::Strict(server.path("missing"))).await;
    assert!(matches!(&error, SshError::KnownHostsFile { .. }) && error.to_string().contains("missing"));

    server.advertisement(&key, HostKeys::AcceptAny).await.unwrap();
}

#[tokio::test]
#[ignore = "needs sshd"]
async fn host_certificates() {
    for ca_kind in ["ed25519", "rsa", "ecdsa"] {
        let mut server = Server::start(&["ed25519"], "HostCertificate @root@/host_ed25519-cert.pub");
        let key = server.key("id", &["-t", "ed25519"]);
        keygen(server.directory.path(), "ca", &["-t", ca_kind]);
        let authority = format!("@cert-authority [127.0.0.1]:{} {}", server.port, server.read("ca.pub"));
        for (arguments, reason) in [
            (&["-n", "127.0.0.1"][..], None),
            (&["-n", "127.*,other"], None),
            (&["-n", "other"], Some("other hosts")),
            (&["-n", "127.0.0.1", "-V", "20200101:20210101"], Some("expired")),
            (&["-n", "127.0.0.1", "-V", "21000101:21010101"], Some("not valid yet")),
        ] {
            let all = [&["-q", "-s", "ca", "-I", "host", "-h"], arguments, &["host_ed25519.pub"]].concat();
            run("ssh-keygen", &all, server.directory.path());
            server.restart();
            let result = server.advertisement(&key, server.known_hosts(&authority)).await;
            match (result, reason) {
                (Ok(_), None) => {}
                (Err(SshError::HostCertificate { reason: found, .. }), Some(reason))
                    if found.contains(reason) => {}
                (result, _) => panic!("{ca_kind} {arguments:?}: {result:?} {}", server.read("log")),
            }
            // Without an authority the bare key counts, and a revoked authority spoils it.
            server.advertisement(&key, server.known_hosts(&server.line("ed25519"))).await.unwrap();
            let revoked = format!("{authority}@revoked * {}", server.read("ca.pub"));
            let error = server.refusal(&key, server.known_hosts(&revoked)).await;
            assert!(matches!(error, SshError::RevokedHostKey { .. }), "{error}");
        }
    }
}

#[tokio::test]
#[ignore = "needs sshd"]
async fn keys_are_tried_in_order_and_a_refusal_names_each() {
    let server = Server::start(&["ed25519"], "");
    let root = server.directory.path();
    let good = server.key("good", &["-t", "ed25519"]);
    let wrong = keygen(root, "wrong", &["-t", "ecdsa"]);
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "secret phrase", "-f", "locked"], root);
    run("ssh-keygen", &["-q", "-t", "rsa", "-m", "PEM", "-N", "secret phrase", "-f", "locked_pem"], root);
    let keys =
        vec![server.path("missing"), server.path("locked"), server.path("locked_pem"), wrong, good.clone()];
    let mut options = Options { keys, host_keys: HostKeys::AcceptAny, ..Options::default() };
    ssh::open(&server.repo(), &options).await.unwrap();

    options.keys.pop();
    let error = ssh::open(&server.repo(), &options).await.unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, SshError::NoKeyAccepted { .. }) && !error.is_retryable());
    for part in
        ["missing", "locked is protected by a passphrase", "locked_pem is protected", "wrong is not accepted"]
    {
        assert!(message.contains(part), "{part}: {message}");
    }

    // A key is read anew at each use.
    std::fs::rename(&good, server.path("missing")).unwrap();
    ssh::open(&server.repo(), &options).await.unwrap();

    let stranger = Target { user: Some("nobody-at-all".to_owned()), ..server.repo() };
    let error = ssh::open(&stranger, &options).await.unwrap_err();
    assert!(matches!(error, SshError::NoKeyAccepted { .. }), "{error}");
}

#[tokio::test]
#[ignore = "needs sshd"]
async fn a_failed_command_gives_its_status_and_standard_error() {
    let server = Server::start(&["ed25519"], "");
    let key = server.key("id", &["-t", "ed25519"]);
    let target = server.target("/no such/it's!repo");
    let mut channel = ssh::open(&target, &options(&key, HostKeys::AcceptAny)).await.unwrap();
    let error = channel.read_to_end(&mut Vec::new()).await.unwrap_err();
    let error = SshError::from_io(&error).expect("an SSH error inside");
    let SshError::Command { status, stderr, .. } = error else { panic!("{error}") };
    assert_eq!(status, "status 128");
    assert!(stderr.contains("/no such/it's!repo"), "{stderr}");
    assert!(!error.is_retryable());
}

#[tokio::test]
#[ignore = "needs sshd"]
async fn a_large_answer_passes() {
    let server = Server::start(&["ed25519"], "");
    let key = server.key("id", &["-t", "ed25519"]);
    // Several windows of bytes that do not compress.
    let mut random = vec![0u8; 12 << 20];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut random).unwrap();
    std::fs::write(server.path("repo/blob"), random).unwrap();
    run("git", &["add", "blob"], &server.path("repo"));
    run("git", &["commit", "-q", "-m", "two"], &server.path("repo"));
    let head = run("git", &["rev-parse", "HEAD"], &server.path("repo"));
    let mut channel = server.open(&key, HostKeys::AcceptAny).await.unwrap();
    let packet = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let request = [
        packet("command=fetch\n"),
        "0001".to_owned(),
        packet("no-progress\n"),
        packet(&format!("want {}\n", head.trim())),
        packet("done\n"),
        "0000".to_owned(),
    ];
    channel.write_all(request.concat().as_bytes()).await.unwrap();
    let mut buffer = vec![0; 64 << 10];
    let (mut total, mut tail) = (0, Vec::new());
    while !(total > (12 << 20) && tail.ends_with(b"0000")) {
        let length = channel.read(&mut buffer).await.unwrap();
        assert_ne!(length, 0);
        total += length;
        tail.extend_from_slice(&buffer[..length]);
        tail.drain(..tail.len().saturating_sub(4));
    }
    channel.write_all(b"0000").await.unwrap();
    channel.shutdown().await.unwrap();
    assert_eq!(channel.read(&mut buffer).await.unwrap(), 0);
}

#[tokio::test]
#[ignore = "needs sshd"]
async fn a_killed_server_is_a_lost_connection() {
    let server = Server::start(&["ed25519"], "");
    let key = server.key("id", &["-t", "ed25519"]);
    let mut channel = server.open(&key, HostKeys::AcceptAny).await.unwrap();
    let mut start = [0; 14];
    channel.read_exact(&mut start).await.unwrap();
    // The children of our own sshd serve the connections.
    run("sh", &["-c", &format!("kill -9 $(ps -o pid= --ppid {})", server.process.id())], Path::new("/"));
    let error = channel.read_to_end(&mut Vec::new()).await.unwrap_err();
    let error = SshError::from_io(&error).unwrap();
    assert!(matches!(error, SshError::Lost { .. }) && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn nobody_there_and_silence_are_errors_worth_a_retry() {
    let target = |port| Target::parse(&format!("ssh://git@127.0.0.1:{port}/x")).unwrap();
    let options = Options {
        host_keys: HostKeys::AcceptAny,
        handshake_timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let error = ssh::open(&target(free_port()), &options).await.unwrap_err();
    assert!(matches!(error, SshError::Connect { .. }) && error.is_retryable(), "{error}");

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let error = ssh::open(&target(silent.local_addr().unwrap().port()), &options).await.unwrap_err();
    assert!(matches!(error, SshError::Timeout { .. }) && error.is_retryable(), "{error}");

    let nowhere = Target::parse("git@name.invalid:x").unwrap();
    let error = ssh::open(&nowhere, &options).await.unwrap_err();
    assert!(matches!(error, SshError::Resolve { .. }) && error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_stuck_or_babbling_server_is_left() {
    for greeting in [&b"SSH-2.0-stuck\r\n"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n", &[0xff; 4096]] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::parse(&format!("ssh://git@{}/x", listener.local_addr().unwrap())).unwrap();
        let options = Options {
            host_keys: HostKeys::AcceptAny,
            handshake_timeout: Duration::from_millis(200),
            ..Options::default()
        };
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.write_all(greeting).await.unwrap();
            // Ends when the client has closed its side: nothing of it stays behind.
            let _ = socket.read_to_end(&mut Vec::new()).await;
        };
        let both = async { tokio::join!(ssh::open(&target, &options), server) };
        let (result, ()) =
            tokio::time::timeout(Duration::from_secs(10), both).await.expect("the socket is closed");
        result.unwrap_err();
    }
}
