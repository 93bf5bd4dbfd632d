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

/// A key in PKCS #8's encrypted form, as `openssl pkcs8 -topk8` writes it.
fn sealed(key: &[u8], password: &str) -> String {
    use pkcs5::der::Encode as _;
    use pkcs5::pbes2::Parameters;
    let scheme = Parameters::generate_pbkdf2_sha256_aes256cbc(1000, b"salt of it", [7; 16]).unwrap();
    let scheme = EncryptionScheme::Pbes2(scheme);
    let sealed = scheme.encrypt(password, key).unwrap();
    let parts = [scheme.to_der().unwrap(), der::wrap(0x04, &sealed)].concat();
    let body = STANDARD.encode(der::wrap(0x30, &parts));
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    let label = "ENCRYPTED PRIVATE KEY";
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn encrypted_keys_in_pem_files() {
    // The same each time, for one wrong password of 256 gives something that could be a key.
    let key = [5; 100];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.pem");
    let read = |text: &str, password: &str| {
        std::fs::write(&path, text).unwrap();
        KeyStore::read(&path, password).map_err(|error| error.to_string())
    };
    let text = sealed(&key, "s3cret");
    let entry = read(&text, "s3cret").unwrap().into_key(None).unwrap();
    assert_eq!(entry.key.secret_der(), key);
    for (text, password, complaint) in [
        (&text[..], "", "no `password`"),
        (&text, "wrong", "cannot be decrypted"),
        (&text.replacen("KEY-----\nM", "KEY-----\nQ", 1), "s3cret", "not in a form"),
        ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", "x", "openssl pkcs8"),
    ] {
        let error = read(text, password).unwrap_err();
        assert!(error.contains(complaint) && !error.contains("wrong\""), "{error}");
    }
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
