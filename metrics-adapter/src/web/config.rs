//! The web configuration file of the Prometheus exporter-toolkit: TLS, passwords, headers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::header::{HeaderName, HeaderValue};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

use super::clients;
use crate::yaml;

/// A web configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {reason}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
pub struct WebConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, when known.
    pub line: Option<u64>,
    /// What is wrong, naming the key.
    pub reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    tls_server_config: Option<FileTls>,
    http_server_config: Option<FileHttp>,
    basic_auth_users: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileTls {
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    cert: Option<String>,
    key: Option<String>,
    client_auth_type: Option<String>,
    client_ca_file: Option<PathBuf>,
    client_ca: Option<String>,
    client_allowed_sans: Option<Vec<String>>,
    min_version: Option<String>,
    max_version: Option<String>,
    cipher_suites: Option<Vec<String>>,
    /// Go's server has had its own order for years and ignores this; so do we.
    #[serde(rename = "prefer_server_cipher_suites")]
    _prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileHttp {
    /// The server speaks HTTP/1.1, which a client of HTTP/2 falls back to.
    #[serde(rename = "http2")]
    _http2: Option<bool>,
    headers: Option<BTreeMap<String, String>>,
}

/// What the file says, ready for use.
pub(super) struct Security {
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// Names and bcrypt hashes.
    pub(super) users: BTreeMap<String, String>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Every file that was read.
    pub(super) files: Vec<PathBuf>,
}

/// Reads and checks the file and those it names.
pub(super) fn load(path: &Path) -> Result<Security, WebConfigError> {
    let fail = |line, reason: String| WebConfigError { path: path.to_owned(), line, reason };
    let text = std::fs::read_to_string(path).map_err(|error| fail(None, error.to_string()))?;
    let file = yaml::from_str::<Option<File>>(&text, yaml::Options::default())
        .map_err(|error| fail(error.line, error.reason))?;
    let file = file.unwrap_or_default();
    let mut files = vec![path.to_owned()];
    let tls = match &file.tls_server_config {
        Some(raw) => Some(tls(raw, path, &mut files).map_err(|reason| fail(None, reason))?),
        None => None,
    };
    let users = file.basic_auth_users.unwrap_or_default();
    for (name, hash) in &users {
        if bcrypt::verify("", hash).is_err() {
            return Err(fail(None, format!("basic_auth_users: the password of `{name}` is no bcrypt hash")));
        }
    }
    let headers = file.http_server_config.and_then(|http| http.headers).unwrap_or_default();
    let headers = headers.into_iter().map(|(name, value)| header(&name, &value));
    let headers = headers.collect::<Result<_, _>>().map_err(|reason| fail(None, reason))?;
    Ok(Security { tls, users, headers, files })
}

/// Headers that the toolkit allows to be set.
const HEADERS: [&str; 5] = [
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "x-xss-protection",
    "content-security-policy",
];

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    let known = HEADERS.iter().find(|known| known.eq_ignore_ascii_case(name));
    let known = known.ok_or_else(|| format!("headers: `{name}` cannot be set ({})", HEADERS.join(", ")))?;
    let value =
        HeaderValue::from_str(value).map_err(|_| format!("headers: the value of `{name}` is not valid"))?;
    Ok((HeaderName::from_static(known), value))
}

fn tls(raw: &FileTls, config: &Path, files: &mut Vec<PathBuf>) -> Result<Arc<ServerConfig>, String> {
    let mut pem = |key: &str, inline: &Option<String>, file: &Option<PathBuf>| match (inline, file) {
        (Some(_), Some(_)) => Err(format!("tls_server_config: {key} is given both as text and as a file")),
        (Some(text), None) => Ok(Some(text.clone().into_bytes())),
        (None, Some(file)) => {
            // Relative to the configuration, as in the toolkit.
            let path = config.parent().unwrap_or(Path::new("")).join(file);
            let bytes =
                std::fs::read(&path).map_err(|error| format!("{key}_file: {}: {error}", path.display()))?;
            files.push(path);
            Ok(Some(bytes))
        }
        (None, None) => Ok(None),
    };
    let missing = |key: &str| format!("tls_server_config: {key} or {key}_file must be set");
    let certificate = pem("cert", &raw.cert, &raw.cert_file)?.ok_or_else(|| missing("cert"))?;
    let key = pem("key", &raw.key, &raw.key_file)?.ok_or_else(|| missing("key"))?;
    let client_ca = pem("client_ca", &raw.client_ca, &raw.client_ca_file)?;

    let provider = Arc::new(provider(raw)?);
    let chain = certificates(&certificate).map_err(|reason| format!("cert: {reason}"))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| format!("key: {error}"))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(raw)?)
        .map_err(|error| format!("tls_server_config: {error}"))?;
    let authorities = match &client_ca {
        Some(pem) => certificates(pem).map_err(|reason| format!("client_ca: {reason}"))?,
        None => Vec::new(),
    };
    let auth = raw.client_auth_type.as_deref().unwrap_or_default();
    let allowed = raw.client_allowed_sans.as_deref();
    let builder = match clients::verifier(auth, authorities, allowed, provider)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut server =
        builder.with_single_cert(chain, key).map_err(|error| format!("tls_server_config: {error}"))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    if found.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(found) }
}

fn versions(raw: &FileTls) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let read = |key: &str, text: &Option<String>, default: u16| match text.as_deref() {
        None | Some("") => Ok(default),
        Some("TLS13") => Ok(13),
        Some("TLS12") => Ok(12),
        Some(old @ ("TLS11" | "TLS10")) => Err(format!(
            "{key}: {old} cannot be offered, since TLS 1.0 and 1.1 are broken (RFC 8996); set TLS12 or TLS13"
        )),
        Some(other) => Err(format!("{key}: `{other}` is not known (TLS12, TLS13)")),
    };
    let (least, most) =
        (read("min_version", &raw.min_version, 12)?, read("max_version", &raw.max_version, 13)?);
    let all = [(12, &version::TLS12), (13, &version::TLS13)];
    let chosen: Vec<_> = all
        .into_iter()
        .filter(|(number, _)| (least..=most).contains(number))
        .map(|(_, version)| version)
        .collect();
    if chosen.is_empty() { Err("min_version is above max_version".to_owned()) } else { Ok(chosen) }
}

fn provider(raw: &FileTls) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if let Some(names) = raw.cipher_suites.as_ref().filter(|names| !names.is_empty()) {
        let find = |name: &String| {
            let known = provider.cipher_suites.iter().find(|suite| suite_name(**suite) == *name).copied();
            known.ok_or_else(|| format!("cipher_suites: `{name}` is not supported"))
        };
        let mut chosen = names.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        // As in Go, the suites of TLS 1.3 are not up for choice.
        let fixed =
            provider.cipher_suites.iter().filter(|suite| suite.tls13().is_some() && !chosen.contains(suite));
        chosen.extend(fixed.copied().collect::<Vec<_>>());
        provider.cipher_suites = chosen;
    }
    if let Some(names) = raw.curve_preferences.as_ref().filter(|names| !names.is_empty()) {
        let find = |name: &String| -> Result<&'static dyn SupportedKxGroup, String> {
            match name.as_str() {
                "X25519" => Ok(ring::kx_group::X25519),
                "CurveP256" => Ok(ring::kx_group::SECP256R1),
                "CurveP384" => Ok(ring::kx_group::SECP384R1),
                other => Err(format!(
                    "curve_preferences: `{other}` is not supported (X25519, CurveP256, CurveP384)"
                )),
            }
        };
        provider.kx_groups = names.iter().map(find).collect::<Result<_, _>>()?;
    }
    Ok(provider)
}

/// The name Go has for a suite.
fn suite_name(suite: SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}
