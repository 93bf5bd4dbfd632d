//! TLS and passwords through the exporter-toolkit's web configuration.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
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
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(client, TcpStream::connect(web).unwrap());
    let request = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    Some(String::from_utf8_lossy(&answer).into_owned())
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
    for (text, says) in [
        ("tls_server_confg: {}\n", "web.yml:1"),
        ("basic_auth_users:\n  alice: secret\n", "the password of `alice` is no bcrypt hash"),
        ("tls_server_config:\n  key_file: x\n", "cert or cert_file must be set"),
        ("tls_server_config:\n  cert_file: missing.crt\n  key_file: x\n", "missing.crt"),
        ("http_server_config:\n  headers:\n    Server: me\n", "`Server` cannot be set"),
    ] {
        std::fs::write(&path, text).unwrap();
        let output = command(&["--check-config", &format!("--web.config.file={}", path.display())]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(says) && !error.contains("secret"), "{error}");
    }
}
