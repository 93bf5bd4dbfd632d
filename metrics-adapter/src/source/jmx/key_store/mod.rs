//! Certificates and keys from the stores that Java operators have: PKCS #12, JKS, and PEM files.

mod der;
mod jks;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p12_keystore::{KeyStore as Pkcs12, KeyStoreEntry, Pkcs12ImportPolicy};
use pkcs5::EncryptionScheme;
use pkcs5::der::Decode as _;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ParsedCertificate;
use thiserror::Error;

/// Largest store that is read, in bytes.
const MAX_BYTES: u64 = 8 << 20;

/// Why a store cannot be used; never holds its content.
#[derive(Debug, Error)]
#[error("key store {}: {reason}", path.display())]
pub(super) struct KeyStoreError {
    path: PathBuf,
    reason: String,
}

/// A private key with its certificates, the key's own first.
#[derive(Debug)]
pub(super) struct KeyEntry {
    pub(super) alias: String,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl KeyEntry {
    /// The key with the certificates of another file.
    pub(super) fn with_chain(mut self, chain: Vec<CertificateDer<'static>>) -> Self {
        self.chain = chain;
        self.complete();
        self
    }

    /// Adds the public key to an EC key that lacks it.
    fn complete(&mut self) {
        let (PrivateKeyDer::Pkcs8(key), Some(certificate)) = (&self.key, self.chain.first()) else { return };
        let Ok(certificate) = ParsedCertificate::try_from(certificate) else { return };
        let spki = certificate.subject_public_key_info();
        if let Some(key) = der::with_public_key(key.secret_pkcs8_der(), spki.as_ref()) {
            self.key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        }
    }
}

/// The content of a store.
#[derive(Debug, Default)]
pub(super) struct KeyStore {
    pub(super) trusted: Vec<CertificateDer<'static>>,
    pub(super) keys: Vec<KeyEntry>,
}

impl KeyStore {
    /// Reads a store. Its form is told by its content, as the JDK does.
    pub(super) fn read(path: &Path, password: &str) -> Result<Self, KeyStoreError> {
        let fail = |reason: String| KeyStoreError { path: path.to_owned(), reason };
        let size = std::fs::metadata(path).map_err(|error| fail(error.to_string()))?.len();
        if size > MAX_BYTES {
            return Err(fail(format!("{size} bytes; a store has at most {MAX_BYTES}")));
        }
        let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        let mut store = if jks::is_jks(&bytes) {
            jks::parse(&bytes, password).map_err(|error| fail(error.to_string()))?
        } else if bytes.windows(11).any(|window| window == b"-----BEGIN ") {
            pem(&bytes, password).map_err(fail)?
        } else {
            pkcs12(&bytes, password).map_err(fail)?
        };
        store.keys.iter_mut().for_each(KeyEntry::complete);
        Ok(store)
    }

    /// All certificates, those of keys among them.
    pub(super) fn into_certificates(self) -> Vec<CertificateDer<'static>> {
        self.trusted.into_iter().chain(self.keys.into_iter().flat_map(|entry| entry.chain)).collect()
    }

    /// The entry of this alias (Java ignores the case), or the only one there is.
    pub(super) fn into_key(self, alias: Option<&str>) -> Option<KeyEntry> {
        let mut keys = self.keys.into_iter();
        match alias {
            Some(alias) => keys.find(|entry| entry.alias.eq_ignore_ascii_case(alias)),
            None => keys.next(),
        }
    }
}

fn pem(bytes: &[u8], password: &str) -> Result<KeyStore, String> {
    if bytes.windows(LEGACY.len()).any(|window| window == LEGACY) {
        return Err(
            "the private key is encrypted in an old way; `openssl pkcs8 -topk8` makes one that can be read"
                .to_owned(),
        );
    }
    let certificates: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(bytes).collect();
    let chain = certificates.map_err(|error| error.to_string())?;
    let key = match PrivateKeyDer::from_pem_slice(bytes) {
        Err(rustls::pki_types::pem::Error::NoItemsFound) => decrypted(bytes, password)?,
        key => Some(key.map_err(|error| error.to_string())?),
    };
    Ok(match key {
        Some(key) => {
            KeyStore { trusted: Vec::new(), keys: vec![KeyEntry { alias: String::new(), chain, key }] }
        }
        None => KeyStore { trusted: chain, keys: Vec::new() },
    })
}

/// How OpenSSL once marked encrypted keys.
const LEGACY: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// The private key of a PEM file that has it in PKCS #8's encrypted form.
fn decrypted(bytes: &[u8], password: &str) -> Result<Option<PrivateKeyDer<'static>>, String> {
    let text = String::from_utf8_lossy(bytes);
    let Some((_, rest)) = text.split_once("-----BEGIN ENCRYPTED PRIVATE KEY-----") else { return Ok(None) };
    if password.is_empty() {
        return Err("the private key is encrypted, and there is no `password`".to_owned());
    }
    let body = rest.split("-----END").next().unwrap_or_default();
    let body: String = body.split_whitespace().collect();
    let sealed = STANDARD.decode(body).ok();
    let parts = sealed.as_deref().and_then(|sealed| {
        let (_, content) = der::split(sealed, 0x30)?;
        let (rest, _) = der::split(content, 0x30)?;
        let scheme = EncryptionScheme::from_der(content.strip_suffix(rest)?).ok()?;
        Some((scheme, der::split(rest, 0x04)?.1))
    });
    let (scheme, sealed) = parts.ok_or("the encrypted private key is not in a form that can be read")?;
    let key = scheme.decrypt(password, sealed);
    let key = key.map_err(|_| "the private key cannot be decrypted, or the password is wrong")?;
    Ok(Some(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key))))
}

fn pkcs12(bytes: &[u8], password: &str) -> Result<KeyStore, String> {
    let opened = Pkcs12::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Relaxed)
        .map_err(|error| format!("cannot be opened as PKCS #12, or the password is wrong: {error}"))?;
    let mut store = KeyStore::default();
    for (alias, entry) in opened.entries() {
        match entry {
            KeyStoreEntry::Certificate(certificate) => {
                store.trusted.push(CertificateDer::from(certificate.as_der().to_vec()));
            }
            KeyStoreEntry::PrivateKeyChain(chain) => store.keys.push(KeyEntry {
                alias: alias.clone(),
                chain: chain
                    .certs()
                    .iter()
                    .map(|cert| CertificateDer::from(cert.as_der().to_vec()))
                    .collect(),
                key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(chain.key().as_der().to_vec())),
            }),
            KeyStoreEntry::Secret(_) => {}
        }
    }
    if store.trusted.is_empty() && store.keys.is_empty() {
        // Stores made by other tools than keytool lack Java's mark on trusted certificates.
        let all = Pkcs12::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Raw)
            .map_err(|error| error.to_string())?;
        store.trusted.extend(all.entries().filter_map(|(_, entry)| match entry {
            KeyStoreEntry::Certificate(certificate) => {
                Some(CertificateDer::from(certificate.as_der().to_vec()))
            }
            _ => None,
        }));
    }
    Ok(store)
}

#[cfg(test)]
mod tests;
