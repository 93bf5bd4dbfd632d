//! Private keys from files: ed25519, ECDSA and RSA, in OpenSSH's form and in PEM (PKCS#1, PKCS#8, SEC1).
//!
//! Files are read at each use, so a replaced secret counts from the next connection on.

use std::path::{Path, PathBuf};

use common::secret::{self, ExposeSecret, SecretError};
use russh::keys::PrivateKey;

/// Why a key file cannot be used; names the file, never its content.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Missing, not readable, not text, or larger than 1 MiB.
    #[error(transparent)]
    Unreadable(#[from] SecretError),
    /// Nobody is there to type the passphrase.
    #[error("the SSH key {path} is protected by a passphrase; use one without (ssh-keygen -p)")]
    Passphrase {
        /// The file.
        path: PathBuf,
    },
    /// A public key where the private one belongs.
    #[error("the SSH key {path} is a public key; the private one is needed")]
    Public {
        /// The file.
        path: PathBuf,
    },
    /// Hardware keys (`sk-…`) and DSA.
    #[error("the SSH key {path} is of the type {kind}, which is not supported")]
    Kind {
        /// The file.
        path: PathBuf,
        /// The type's name.
        kind: String,
    },
    /// Not a private key.
    #[error("the SSH key {path} holds no usable private key: {reason}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        reason: String,
    },
}

/// Reads a private key.
///
/// # Errors
/// The file cannot be read, is protected by a passphrase, or holds no usable private key.
pub fn read(path: &Path) -> Result<PrivateKey, KeyError> {
    let text = secret::read(path)?;
    parse(path, text.expose_secret())
}

/// Parses a private key; `path` is only named in errors.
///
/// # Errors
/// As [`read`], but for reading.
pub fn parse(path: &Path, text: &str) -> Result<PrivateKey, KeyError> {
    let path = path.to_owned();
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(KeyError::Passphrase { path });
    }
    let start = text.trim_start();
    if start.starts_with("ssh-") || start.starts_with("ecdsa-") || start.contains("BEGIN PUBLIC KEY") {
        return Err(KeyError::Public { path });
    }
    // The parser compares whole lines: stray blanks around them come from copying and templating.
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let key = match russh::keys::decode_secret_key(&lines.join("\n"), None) {
        Ok(key) => key,
        Err(russh::keys::Error::KeyIsEncrypted) => return Err(KeyError::Passphrase { path }),
        Err(error) => return Err(KeyError::Broken { path, reason: error.to_string() }),
    };
    use russh::keys::Algorithm as A;
    match key.algorithm() {
        A::Ed25519 | A::Ecdsa { .. } | A::Rsa { .. } => Ok(key),
        other => Err(KeyError::Kind { path, kind: other.as_str().to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Made for this test alone.
    const ED25519: &str = "-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACBLWXn7JhEuU+h7m0nLljUVkr97H+Qtr0TzPgunwg9LDgAAAIgmCBlOJggZ
TgAAAAtzc2gtZWQyNTUxOQAAACBLWXn7JhEuU+h7m0nLljUVkr97H+Qtr0TzPgunwg9LDg
AAAEBlPOr/WfHtJaakzi3oYF4YGqgR5PufvtrLGnSPXgU6cUtZefsmES5T6HubScuWNRWS
v3sf5C2vRPM+C6fCD0sOAAAABHRlc3QB
-----END OPENSSH PRIVATE KEY-----
";

    fn check(text: &str) -> Result<PrivateKey, KeyError> {
        parse(Path::new("/keys/id"), text)
    }

    #[test]
    fn a_key_is_read_with_stray_blanks_and_line_ends() {
        for text in [ED25519.to_owned(), ED25519.replace('\n', "\r\n"), ED25519.replace('\n', " \n  ")] {
            assert_eq!(check(&text).unwrap().algorithm(), russh::keys::Algorithm::Ed25519);
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (text, part) in [
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n", "passphrase"),
            ("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", "passphrase"),
            ("ssh-ed25519 AAAA me", "public key"),
            ("hello", "no usable private key"),
            ("", "no usable private key"),
        ] {
            let message = check(text).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("/keys/id"), "{message}");
        }
        assert!(read(Path::new("/nonexistent/key")).unwrap_err().to_string().contains("/nonexistent/key"));
    }

    proptest! {
        #[test]
        fn damaged_keys_never_panic(at in 0usize..ED25519.len(), byte in 32u8..127, cut in 0usize..ED25519.len()) {
            let mut text = ED25519.as_bytes().to_vec();
            text[at] = byte;
            let _ = check(&String::from_utf8(text).unwrap());
            let _ = check(&ED25519[..cut]);
        }

        #[test]
        fn garbage_never_panics(
            kind in "(OPENSSH |RSA |EC |DSA |)",
            body in proptest::collection::vec(any::<u8>(), 0..300),
            raw in any::<String>(),
        ) {
            use base64::Engine;
            let body = base64::engine::general_purpose::STANDARD.encode(body);
            let _ = check(&format!("-----BEGIN {kind}PRIVATE KEY-----\n{body}\n-----END {kind}PRIVATE KEY-----\n"));
            let _ = check(&raw);
        }
    }
}
