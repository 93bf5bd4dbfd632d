//! Is this the right server? Known keys, certificates and revocations, turned into an answer for the
//! session.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use russh::client::{DisconnectReason, Handler};
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::{Certificate, HashAlg};
use russh::keys::{Algorithm, EcdsaCurve, PublicKey, PublicKeyOrCertificate};

use super::error::{ShownKey, SshError};
use super::known_hosts::{self, KnownHosts, Verdict};

/// Whom to trust.
#[derive(Debug, Clone)]
pub(super) enum Trust {
    /// Only keys and authorities of this file.
    File(PathBuf, Arc<KnownHosts>),
    /// Anybody: host-key checking is off.
    Anyone,
}

/// What the server said when it hung up.
pub(super) type Farewell = Arc<Mutex<Option<String>>>;

/// Answers the session's questions.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) trust: Trust,
    pub(super) farewell: Farewell,
}

impl Handler for Client {
    type Error = SshError;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, SshError> {
        match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.check_key(key)?,
            PublicKeyOrCertificate::Certificate(certificate) => self.check_certificate(certificate)?,
        }
        Ok(true)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<SshError>) -> Result<(), SshError> {
        match reason {
            DisconnectReason::Error(error) => Err(error),
            DisconnectReason::ReceivedDisconnect(info) => {
                let mut farewell = self.farewell.lock().unwrap_or_else(PoisonError::into_inner);
                *farewell = Some(info.message.chars().filter(|c| !c.is_control()).take(500).collect());
                Ok(())
            }
        }
    }
}

impl Client {
    fn name(&self) -> String {
        known_hosts::entry_name(&self.host, self.port)
    }

    fn check_key(&self, key: &PublicKey) -> Result<(), SshError> {
        let Trust::File(path, known) = &self.trust else { return Ok(()) };
        let bytes = wire(key)?;
        let shown = || self.shown(path, &bytes);
        match known.check(&self.host, self.port, &bytes) {
            Verdict::Known => Ok(()),
            Verdict::Revoked { line } => Err(SshError::RevokedHostKey { shown: shown(), line }),
            Verdict::Changed { line } => Err(SshError::ChangedHostKey { shown: shown(), known_line: line }),
            Verdict::Unknown => {
                let shown = shown();
                let line = known_hosts::line_for(&self.host, self.port, &shown.key_type, &bytes);
                Err(SshError::UnknownHostKey { shown, line, note: skipped_note(known) })
            }
        }
    }

    fn shown(&self, path: &Path, key: &[u8]) -> Box<ShownKey> {
        let key_type = known_hosts::declared_type(key).unwrap_or_default();
        Box::new(ShownKey {
            host: self.name(),
            path: path.to_owned(),
            key_type: String::from_utf8_lossy(key_type).into_owned(),
            fingerprint: known_hosts::fingerprint(key),
        })
    }

    /// A certificate counts when an authority listed for the host signed it and it is made out to the
    /// host, now, without conditions. From an authority that is not listed, the bare key may still be
    /// known.
    fn check_certificate(&self, certificate: &Certificate) -> Result<(), SshError> {
        let Trust::File(path, known) = &self.trust else { return Ok(()) };
        let subject = PublicKey::new(certificate.public_key().clone(), "");
        let authority = wire(&PublicKey::new(certificate.signature_key().clone(), ""))?;
        let subject_bytes = wire(&subject)?;
        match known.check_certificate(&self.host, self.port, &authority, &subject_bytes) {
            Verdict::Known => {}
            Verdict::Revoked { line } => {
                return Err(SshError::RevokedHostKey { shown: self.shown(path, &subject_bytes), line });
            }
            Verdict::Unknown | Verdict::Changed { .. } => return self.check_key(&subject),
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        certificate_fault(certificate, &self.host, now)
            .map_or(Ok(()), |reason| Err(SshError::HostCertificate { host: self.name(), reason }))
    }
}

/// Why a certificate of a trusted authority does not count, if so. `now` is Unix time in seconds.
/// Source: OpenSSH's PROTOCOL.certkeys.
fn certificate_fault(certificate: &Certificate, host: &str, now: u64) -> Option<String> {
    if certificate.cert_type() != CertType::Host {
        return Some("it is made out to a user, not to a host".to_owned());
    }
    if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None }) {
        return Some("it is signed with SHA-1".to_owned());
    }
    if now < certificate.valid_after() {
        return Some("it is not valid yet".to_owned());
    }
    if now >= certificate.valid_before() {
        return Some("it has expired".to_owned());
    }
    let host = host.to_ascii_lowercase();
    let principals = certificate.valid_principals();
    let names_host = |name: &String| known_hosts::pattern_matches(&name.to_ascii_lowercase(), &host);
    if !principals.is_empty() && !principals.iter().any(names_host) {
        return Some("it is made out to other hosts".to_owned());
    }
    if !certificate.critical_options().is_empty() {
        return Some("it carries conditions that are not understood".to_owned());
    }
    let authority = certificate.signature_key().fingerprint(HashAlg::Sha256);
    certificate.validate_at(now, [&authority]).err().map(|_| "its signature is wrong".to_owned())
}

fn wire(key: &PublicKey) -> Result<Vec<u8>, SshError> {
    key.to_bytes().map_err(|error| russh::Error::SshKey(error).into())
}

fn skipped_note(known: &KnownHosts) -> String {
    match known.skipped() {
        [] => String::new(),
        [(line, reason), rest @ ..] => {
            format!(
                " ({} lines of the file were not understood, first line {line}: {reason})",
                rest.len() + 1
            )
        }
    }
}

/// Host-key algorithms to ask for: those the host is known by first, so that it does not show a key
/// that is not listed while it has one that is. SHA-1 signatures are never asked for.
pub(super) fn algorithms(trust: &Trust, host: &str, port: u16) -> Cow<'static, [Algorithm]> {
    let mut order = ALGORITHMS.to_vec();
    if let Trust::File(_, known) = trust {
        let types: Vec<&str> = known.key_types(host, port).collect();
        // A stable sort: among known ones our preference stands.
        order.sort_by_key(|algorithm| !types.contains(&listed_as(algorithm)));
    }
    Cow::Owned(order)
}

/// Certificate algorithms to ask for: all when an authority is listed for the host, else none, since a
/// server prefers showing a certificate that nobody here could judge.
pub(super) fn certificate_algorithms(trust: &Trust, host: &str, port: u16) -> Cow<'static, [Algorithm]> {
    match trust {
        Trust::File(_, known) if known.authorities(host, port).next().is_some() => Cow::Borrowed(ALGORITHMS),
        _ => Cow::Borrowed(&[]),
    }
}

/// The key type under which `known_hosts` lists keys of an algorithm.
fn listed_as(algorithm: &Algorithm) -> &str {
    match algorithm {
        Algorithm::Rsa { .. } => "ssh-rsa",
        other => other.as_str(),
    }
}

const ALGORITHMS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];
