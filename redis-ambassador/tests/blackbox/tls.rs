//! TLS towards servers and towards clients, with the real redis-server and redis-cli at the other end.

use crate::harness::{Ambassador, Client, Process, Server, eventually, server_port};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority, and certificates for `localhost` and 127.0.0.1 signed by it.
pub(crate) struct Authority {
    directory: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        // OpenSSL takes a certificate whose subject is its issuer's for a self-signed one.
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { directory, issuer }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes `NAME.pem` and `NAME.key` into a directory.
    fn issue(&self, into: &Path, name: &str, hosts: &[&str]) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(hosts).unwrap().signed_by(&key, &self.issuer).unwrap();
        std::fs::write(into.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        std::fs::write(into.join(format!("{name}.pem")), certificate.pem()).unwrap();
    }

    pub(crate) fn certificate(&self, name: &str, hosts: &[&str]) {
        self.issue(self.directory.path(), name, hosts);
    }

    /// The flags of a server that speaks nothing but TLS and wants to see certificates.
    pub(crate) fn server(&self) -> Vec<String> {
        let words = ["--port", "0", "--tls-port", "{port}", "--tls-replication", "yes"];
        let mut flags: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        for (flag, file) in [
            ("--tls-cert-file", "server.pem"),
            ("--tls-key-file", "server.key"),
            ("--tls-ca-cert-file", "ca.pem"),
        ] {
            flags.extend([flag.to_owned(), self.text(file)]);
        }
        flags
    }

    /// The flags of an ambassador in front of such servers.
    pub(crate) fn upstream(&self) -> Vec<String> {
        let mut flags = vec!["--upstream-tls".to_owned()];
        for (flag, file) in [
            ("--upstream-tls-ca", "ca.pem"),
            ("--upstream-tls-cert", "client.pem"),
            ("--upstream-tls-key", "client.key"),
        ] {
            flags.extend([flag.to_owned(), self.text(file)]);
        }
        flags
    }

    /// What redis-cli says over TLS, with this authority's client certificate or without one.
    fn cli(&self, port: u16, certificate: bool, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "--tls", "--cacert", &self.text("ca.pem")]);
        if certificate {
            command.args(["--cert", &self.text("client.pem"), "--key", &self.text("client.key")]);
        }
        let output = command.args(words).output().expect("redis-cli is installed");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn start(flags: &[String]) -> Server {
    Server::start(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A primary and a replica that speak TLS only.
fn pair(authority: &Authority, more: &[&str]) -> (Server, Server) {
    let mut flags = authority.server();
    flags.extend(strings(more));
    let primary = start(&flags);
    flags.extend(strings(&["--replicaof", "127.0.0.1", &primary.port.to_string()]));
    let replica = start(&flags);
    (primary, replica)
}

#[test]
fn servers_are_reached_over_mutual_tls() {
    let authority = Authority::new();
    authority.certificate("server", &["localhost", "127.0.0.1"]);
    authority.certificate("client", &["ambassador"]);
    let (primary, replica) = pair(&authority, &[]);
    let mut flags = strings(&["--primary", &primary.address(), "--replica", &replica.address()]);
    flags.extend(authority.upstream());
    let ambassador = Ambassador::with_arguments(&flags);
    let mut client = ambassador.client();
    assert_eq!(client.say("SET k v"), "OK");
    assert_eq!(client.say("GET k"), "v");
    // Larger than any buffer on the way, in both directions, by way of the client's own connection.
    let value = vec![b'x'; 5 << 20];
    client.send_words(&[b"SET", b"large", &value]);
    assert_eq!(client.read().text(), "OK");
    client.send("GET large");
    assert_eq!(client.read().text().len(), value.len());
    assert_eq!(client.say("MULTI"), "OK");
    assert_eq!(client.say("STRLEN large"), "QUEUED");
    assert_eq!(client.say("EXEC"), value.len().to_string());
    let sample = format!("redis_ambassador_server_role{{role=\"replica\",server=\"{}\"}}", replica.address());
    eventually("the replica is known, over TLS too", || ambassador.metric(&sample) == 1.0);
    let answered = format!("redis_ambassador_answers_total{{server=\"{}\"}}", replica.address());
    eventually("the replica answers reads", || {
        client.say("GET other");
        ambassador.metric(&answered) > 0.0
    });
}

#[test]
fn a_server_has_to_prove_its_name_unless_told_otherwise() {
    let authority = Authority::new();
    authority.certificate("server", &["redis.example"]);
    authority.certificate("client", &["ambassador"]);
    let primary = start(&authority.server());
    let mut flags = strings(&["--primary", &primary.address()]);
    flags.extend(authority.upstream());
    let check = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redis-ambassador"));
        let output = command.args(&flags).args(more).arg("check").output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = check(&[]);
    assert!(code == Some(1) && text.contains("certificate not valid for name"), "{text}");
    for more in [
        &["--upstream-tls-name", "redis.example"][..],
        &["--upstream-tls-verify", "ca"],
        &["--upstream-tls-verify", "none"],
    ] {
        let (code, text) = check(more);
        assert_eq!(code, Some(0), "{more:?}: {text}");
    }
    let stranger = Authority::new();
    let (code, text) = check(&["--upstream-tls-ca", &stranger.text("ca.pem"), "--upstream-tls-verify", "ca"]);
    assert!(code == Some(1) && text.contains("certificate"), "{text}");
}

#[test]
fn clients_are_met_with_tls_and_certificates_are_reloaded() {
    let authority = Authority::new();
    authority.certificate("own", &["localhost", "127.0.0.1"]);
    authority.certificate("client", &["app"]);
    let primary = Server::start(&[]);
    let files = ["own.pem", "own.key", "ca.pem"].map(|name| authority.text(name));
    let flags = ["--primary", &primary.address(), "--listen", "tls:127.0.0.1:0", "--tls-cert", &files[0]];
    let mutual = ["--tls-key", &files[1], "--tls-client-ca", &files[2]];
    // The first TCP listener is the plain one of the harness, so the ports are told apart by their order.
    let (ambassador, ports) = Ambassador::with_ports(&strings(&[&flags[..], &mutual[..]].concat()));
    let port = ports[1];
    assert_eq!(authority.cli(port, true, &["SET", "k", "v"]), "OK");
    assert_eq!(ambassador.client().say("GET k"), "v");
    let refused = authority.cli(port, false, &["GET", "k"]);
    assert!(!refused.contains('v') || refused.contains("rror"), "without a certificate: {refused}");
    // Many clients at once, with pipelines.
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &port.to_string(), "--tls", "--cacert", &files[2], "-n", "20000", "-c", "20"]);
    command.args(["--cert", &authority.text("client.pem"), "--key", &authority.text("client.key")]);
    let output = command.args(["-P", "16", "-t", "set,get", "-d", "2000", "-q"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    // Another authority's certificate takes the place of the first; the key first, so that they do not fit at times.
    let other = Authority::new();
    other.issue(authority.path("").as_path(), "own", &["localhost", "127.0.0.1"]);
    std::fs::copy(authority.path("client.pem"), other.path("client.pem")).unwrap();
    std::fs::copy(authority.path("client.key"), other.path("client.key")).unwrap();
    eventually("new clients see the new certificate", || other.cli(port, true, &["GET", "k"]) == "v");
}

#[test]
fn a_client_that_speaks_no_tls_disturbs_nobody() {
    let authority = Authority::new();
    authority.certificate("own", &["127.0.0.1"]);
    let primary = Server::start(&[]);
    let (cert, key) = (authority.text("own.pem"), authority.text("own.key"));
    let flags = ["--primary", &primary.address(), "--listen", "tls:127.0.0.1:0", "--tls-cert", &cert];
    let (ambassador, ports) =
        Ambassador::with_ports(&strings(&[&flags[..], &["--tls-key", &key][..]].concat()));
    for _ in 0..20 {
        let mut plain = Client::connect(ports[1]);
        plain.send("PING");
        let mut rest = Vec::new();
        let _ = std::io::Read::read_to_end(&mut plain.stream, &mut rest);
        assert!(!rest.starts_with(b"+PONG"));
    }
    assert_eq!(authority.cli(ports[1], false, &["PING"]), "PONG");
    assert_eq!(ambassador.client().say("PING"), "PONG");
    eventually("their connections are gone", || ambassador.metric("redis_ambassador_clients") <= 1.0);
}

/// A redis-sentinel that speaks nothing but TLS.
struct TlsSentinel {
    port: u16,
    directory: tempfile::TempDir,
    _process: Process,
}

impl TlsSentinel {
    fn start(authority: &Authority, lines: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = server_port();
        let text = format!(
            "port 0\ntls-port {port}\nbind 127.0.0.1\ndir {}\ntls-replication yes\ntls-cert-file {}\n\
             tls-key-file {}\ntls-ca-cert-file {}\n{lines}",
            directory.path().display(),
            authority.text("server.pem"),
            authority.text("server.key"),
            authority.text("ca.pem"),
        );
        let file = directory.path().join("sentinel.conf");
        std::fs::write(&file, text).unwrap();
        let child =
            Command::new("redis-sentinel").arg(&file).stdout(std::process::Stdio::null()).spawn().unwrap();
        Self { port, directory, _process: Process { child } }
    }

    /// The flags of an ambassador that asks this Sentinel for `second`, with this password.
    fn flags(&self, authority: &Authority, password: &str) -> Vec<String> {
        let secret = self.directory.path().join("password");
        std::fs::write(&secret, format!("{password}\n")).unwrap();
        let address = format!("127.0.0.1:{}", self.port);
        let mut flags = strings(&["--sentinel", &address, "--sentinel-name", "second", "--sentinel-tls"]);
        flags.extend(strings(&["--sentinel-password-file", &secret.display().to_string()]));
        flags.extend(authority.upstream());
        flags
    }
}

#[test]
fn sentinels_are_asked_over_tls_with_a_password() {
    let authority = Authority::new();
    authority.certificate("server", &["127.0.0.1"]);
    authority.certificate("client", &["ambassador"]);
    let (primary, _replica) = pair(&authority, &[]);
    let other = Server::start(&[]);
    // Two primaries by name: only the one that was asked for counts.
    let lines = format!(
        "requirepass watchword\nsentinel sentinel-pass watchword\nsentinel monitor first 127.0.0.1 {} 1\n\
         sentinel monitor second 127.0.0.1 {} 1\n",
        other.port, primary.port
    );
    let sentinel = TlsSentinel::start(&authority, &lines);
    let ambassador = Ambassador::with_arguments(&sentinel.flags(&authority, "watchword"));
    assert_eq!(ambassador.client().say("CONFIG GET tls-port"), format!("tls-port {}", primary.port));
}

#[test]
fn sentinels_switch_over_tls_and_a_user_of_theirs_hears_of_it() {
    let authority = Authority::new();
    authority.certificate("server", &["127.0.0.1"]);
    authority.certificate("client", &["ambassador"]);
    let (primary, mut replica) = pair(&authority, &[]);
    // "Connected" is not enough: the primary may send what is written only a second later. A first value may have come
    // with the copy of all, so it has to be the last one.
    eventually("the replica gets what is written", || {
        let written = authority.cli(primary.port, true, &["INCR", "probe"]);
        authority.cli(replica.port, true, &["GET", "probe"]) == written
    });
    // Without its name the user's password is worth nothing.
    let lines = format!(
        "requirepass other\nuser ambassador on >watchword ~* &* +@all\n\
         sentinel monitor second 127.0.0.1 {} 1\nsentinel down-after-milliseconds second 1000\n\
         sentinel failover-timeout second 1000\n",
        primary.port
    );
    let sentinel = TlsSentinel::start(&authority, &lines);
    let asked = |words: &[&str]| {
        let user = ["--no-auth-warning", "--user", "ambassador", "--pass", "watchword", "SENTINEL"];
        authority.cli(sentinel.port, true, &[&user[..], words].concat())
    };
    let knows = |port: u16| asked(&["REPLICAS", "second"]).contains(&format!("127.0.0.1:{port}"));
    eventually("the Sentinel knows the replica", || knows(replica.port));
    let mut flags = sentinel.flags(&authority, "watchword");
    flags.extend(strings(&["--sentinel-user", "ambassador"]));
    let ambassador = Ambassador::with_arguments(&flags);
    let mut client = ambassador.client();

    let (mut number, mut acknowledged) = (0, 0);
    let mut write_until_primary_is = |client: &mut Client, port: u16| {
        eventually("writes go to the new primary", || {
            number += 1;
            match client.say(&format!("SADD set {number}")).as_str() {
                "1" => acknowledged += 1,
                answer => assert!(answer.starts_with("LOSTREPLY"), "{answer}"),
            }
            client.say("CONFIG GET tls-port") == format!("tls-port {port}")
        });
        acknowledged
    };
    write_until_primary_is(&mut client, primary.port);
    assert_eq!(asked(&["FAILOVER", "second"]), "OK");
    let acknowledged = write_until_primary_is(&mut client, replica.port);
    let kept = client.say("SMEMBERS set");
    assert!(
        kept.split(' ').count() >= acknowledged,
        "{acknowledged} acknowledged, kept in a planned switch: {kept}"
    );

    eventually("the old primary follows, and the Sentinel knows", || {
        knows(primary.port) && authority.cli(primary.port, true, &["ROLE"]).contains("connected")
    });
    replica.kill();
    write_until_primary_is(&mut client, primary.port);
}
