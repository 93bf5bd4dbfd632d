//! TLS and passwords through the exporter-toolkit's web configuration.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{Adapter, command, eventually};

// bcrypt of "secret" at the lowest cost.
const HASH: &str = "$2b$04$FAYKBZxb9Adl/unSEam/xeBjBIkxcJEOaoOMlEh/aFnZ39QFPUOq2";

struct Certificate {
    chain: String,
    key: String,
    der: rustls::pki_types::CertificateDer<'static>,
}

fn certificate() -> Certificate {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    Certificate {
        chain: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
        der: made.cert.der().clone(),
    }
}

fn get(web: SocketAddr, trusted: &Certificate, headers: &str) -> Option<String> {
    get_as(web, trusted, None, headers)
}

/// The answer to a client that shows a certificate; `None` when the connection is refused.
fn get_as(web: SocketAddr, trusted: &Certificate, client: Option<&Issued>, headers: &str) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match client {
        Some(client) => {
            config.with_client_auth_cert(vec![client.der.clone()], client.key.clone_key()).unwrap()
        }
        None => config.with_no_client_auth(),
    };
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, TcpStream::connect(web).unwrap());
    let request = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    // A refused client of TLS 1.3 learns of it only when it reads.
    (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
}

/// A client certificate.
struct Issued {
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

/// A client CA, and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, names: Vec<SanType>) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        let der = params.signed_by(&key, &self.0).unwrap().der().clone();
        Issued { der, key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }
}

#[test]
fn clients_are_asked_for_what_the_toolkit_asks() {
    let directory = tempfile::tempdir().unwrap();
    let server = certificate();
    let (ours, other) = (Authority::new(), Authority::new());
    for (name, text) in [("tls.crt", &server.chain), ("tls.key", &server.key), ("ca.crt", &ours.0.pem())] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let named = ours.sign(vec![dns("a.example"), dns("scraper.example")]);
    let by_address = ours.sign(vec![SanType::IpAddress("10.1.2.3".parse().unwrap())]);
    let by_uri = ours.sign(vec![SanType::URI("spiffe://pod/scraper".try_into().unwrap())]);
    let unnamed = ours.sign(vec![dns("stranger.example")]);
    let foreign = other.sign(vec![dns("scraper.example")]);
    let all = [None, Some(&named), Some(&by_address), Some(&by_uri), Some(&unnamed), Some(&foreign)];

    let allowed = "\n  client_allowed_sans: [scraper.example, 10.1.2.3, 'spiffe://pod/scraper']";
    let cases = [
        // Who is let in: nobody shown, named, by address, by URI, a stranger, another CA.
        ("RequestClientCert".to_owned(), [true; 6]),
        ("RequireAnyClientCert".to_owned(), [false, true, true, true, true, true]),
        (
            "VerifyClientCertIfGiven\n  client_ca_file: ca.crt".to_owned(),
            [true, true, true, true, true, false],
        ),
        (
            "RequireAndVerifyClientCert\n  client_ca_file: ca.crt".to_owned(),
            [false, true, true, true, true, false],
        ),
        (
            format!("RequireAndVerifyClientCert\n  client_ca_file: ca.crt{allowed}"),
            [false, true, true, true, false, false],
        ),
        (format!("RequireAnyClientCert{allowed}"), [false, true, true, true, false, true]),
        (format!("RequestClientCert{allowed}"), [true, true, true, true, false, true]),
    ];
    for version in ["TLS12", "TLS13"] {
        for (policy, expected) in &cases {
            let path = directory.path().join("web.yml");
            let config = format!(
                "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n  max_version: {version}\n  \
                 client_auth_type: {policy}\n"
            );
            std::fs::write(&path, config).unwrap();
            let adapter = Adapter::start(&[&format!("--web.config.file={}", path.display())]);
            let let_in = all.map(|client| {
                get_as(adapter.web, &server, client, "").is_some_and(|page| page.starts_with("HTTP/1.1 200"))
            });
            assert_eq!(let_in, *expected, "{version} {policy}");
        }
    }
}

#[test]
fn tls_passwords_headers_and_a_new_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (certificate(), certificate());
    let write = |certificate: &Certificate| {
        std::fs::write(directory.path().join("tls.key"), &certificate.key).unwrap();
        std::fs::write(directory.path().join("tls.crt"), &certificate.chain).unwrap();
    };
    write(&first);
    let path = directory.path().join("web.yml");
    let config = format!(
        "tls_server_config:\n  cert_file: tls.crt\n  key_file: tls.key\n  min_version: TLS13\n\
         http_server_config:\n  headers:\n    X-Frame-Options: deny\nbasic_auth_users:\n  alice: {HASH}\n"
    );
    std::fs::write(&path, config).unwrap();
    let adapter = Adapter::start(&[&format!("--web.config.file={}", path.display())]);

    let refused = get(adapter.web, &first, "").unwrap();
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains("x-frame-options: deny"), "{refused}");
    // alice:wrong, bob:secret
    for wrong in ["YWxpY2U6d3Jvbmc=", "Ym9iOnNlY3JldA=="] {
        let refused = get(adapter.web, &first, &format!("authorization: Basic {wrong}\r\n")).unwrap();
        assert!(refused.starts_with("HTTP/1.1 401"), "{refused}");
    }
    // alice:secret
    let page = get(adapter.web, &first, "authorization: Basic YWxpY2U6c2VjcmV0\r\n").unwrap();
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("statsd_exporter_lines_total"), "{page}");
    assert!(get(adapter.web, &second, "").is_none());

    write(&second);
    eventually("the new certificate", || get(adapter.web, &second, ""));
    assert!(!adapter.log().contains("secret"));
}

#[test]
fn a_wrong_web_configuration_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("web.yml");
    let good = certificate();
    std::fs::write(directory.path().join("good.crt"), &good.chain).unwrap();
    std::fs::write(directory.path().join("good.key"), &good.key).unwrap();
    const TLS: &str = "tls_server_config:\n  cert_file: good.crt\n  key_file: good.key\n";
    for (text, says) in [
        ("tls_server_confg: {}\n", "web.yml:1"),
        ("basic_auth_users:\n  alice: secret\n", "the password of `alice` is no bcrypt hash"),
        ("tls_server_config:\n  key_file: x\n", "cert or cert_file must be set"),
        ("tls_server_config:\n  cert_file: missing.crt\n  key_file: x\n", "missing.crt"),
        (&format!("{TLS}  client_auth_type: Sometimes\n"), "client_auth_type: `Sometimes` is not known"),
        (&format!("{TLS}  client_auth_type: VerifyClientCertIfGiven\n"), "client_ca_file must be set"),
        (&format!("{TLS}  client_ca_file: good.crt\n"), "a client CA needs a type"),
        (&format!("{TLS}  client_allowed_sans: [me]\n"), "client_allowed_sans: nothing would be checked"),
        (&format!("{TLS}  min_version: TLS10\n"), "min_version: TLS10 cannot be offered"),
        (&format!("{TLS}  max_version: TLS11\n"), "max_version: TLS11 cannot be offered"),
        ("http_server_config:\n  headers:\n    Server: me\n", "`Server` cannot be set"),
    ] {
        std::fs::write(&path, text).unwrap();
        let output = command(&["--check-config", &format!("--web.config.file={}", path.display())]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(says) && !error.contains("secret"), "{error}");
    }
}
