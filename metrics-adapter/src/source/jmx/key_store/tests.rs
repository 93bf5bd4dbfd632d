//! Stores made by the JDK's own keytool, so these tests need a JDK.

use std::process::Command;

use super::*;

fn keytool(arguments: &[&str]) {
    let output = Command::new("keytool").args(arguments).output().expect("keytool of a JDK");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn make(directory: &Path, kind: &str) -> PathBuf {
    let path = directory.join(format!("store.{kind}"));
    let store = path.to_str().unwrap();
    let common = ["-keystore", store, "-storetype", kind, "-storepass", "secret1", "-keypass", "secret1"];
    let generate =
        ["-genkeypair", "-alias", "Server", "-keyalg", "EC", "-dname", "CN=localhost", "-validity", "30"];
    keytool(&[&generate[..], &common[..]].concat());
    let certificate = directory.join(format!("{kind}.cer"));
    let certificate = certificate.to_str().unwrap();
    keytool(&[&["-exportcert", "-alias", "server", "-file", certificate][..], &common[..6]].concat());
    keytool(
        &[&["-importcert", "-noprompt", "-alias", "other", "-file", certificate][..], &common[..6]].concat(),
    );
    path
}

#[test]
#[ignore = "needs keytool of a JDK"]
fn stores_that_keytool_made() {
    let directory = tempfile::tempdir().unwrap();
    for kind in ["JKS", "PKCS12"] {
        let path = make(directory.path(), kind);
        let store = KeyStore::read(&path, "secret1").unwrap();
        assert_eq!(store.trusted.len(), 1, "{kind}");
        let entry = store.into_key(Some("server")).unwrap();
        assert_eq!(entry.chain.len(), 1);
        let config =
            rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(entry.chain, entry.key);
        config.unwrap();
        let error = KeyStore::read(&path, "wrong").unwrap_err().to_string();
        assert!(error.contains("password"), "{error}");
    }
}
