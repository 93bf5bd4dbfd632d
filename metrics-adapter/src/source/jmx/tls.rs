//! TLS settings of a configuration: towards the JVMs, and of the page's own port.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use tokio_rustls::TlsAcceptor;

use super::config::{Names, ServerSsl, SslFile, StoreFile};
use super::key_store::{KeyEntry, KeyStore};
use super::settings::resolve;
use crate::jmx::client::tls::{NameCheck, Suites, TlsSettings};

type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Reads what `ssl` says about connections to a JVM. Java's own system properties, which arrive as
/// `-D` arguments, stand in for stores that it does not name.
pub(super) fn client(
    file: &SslFile,
    path: &Path,
    environment: Environment<'_>,
    name_check: NameCheck,
) -> Result<TlsSettings, String> {
    let mut roots = system_roots();
    let trust = file.trust_store.clone().or_else(|| from_properties("trustStore", environment));
    if let Some(store) = &trust {
        add_roots(&mut roots, open(store, path, environment)?);
    }
    let keys = file.key_store.clone().or_else(|| from_properties("keyStore", environment));
    let identity = match &keys {
        Some(file) => {
            let entry = open(file, path, environment)?.into_key(None);
            let entry = entry.ok_or_else(|| format!("{}: there is no private key in it", shown(file)))?;
            Some((entry.chain, entry.key))
        }
        None => None,
    };
    let suites = suites(file.protocols.as_ref(), file.ciphers.as_ref())?;
    TlsSettings::new(&suites, roots, identity, name_check).map_err(|error| common::error::chain(&error))
}

fn from_properties(store: &str, environment: Environment<'_>) -> Option<StoreFile> {
    let property = |suffix: &str| environment(&format!("javax.net.ssl.{store}{suffix}"));
    Some(StoreFile {
        filename: Some(property("")?.into()),
        kind: property("Type"),
        password: property("Password").map(|text| text.as_str().into()),
    })
}

fn shown(file: &StoreFile) -> String {
    file.filename.as_deref().unwrap_or(Path::new("")).display().to_string()
}

fn open(file: &StoreFile, config: &Path, environment: Environment<'_>) -> Result<KeyStore, String> {
    if let Some(kind) = &file.kind
        && !["JKS", "PKCS12", "PEM"].iter().any(|known| kind.eq_ignore_ascii_case(known))
    {
        return Err(format!("key store type `{kind}` is not supported (JKS, PKCS12, PEM)"));
    }
    let name = file.filename.as_deref().ok_or("a key store needs a `filename`")?;
    let password = file.password.as_deref().map(|text| resolve(text, environment)).transpose()?;
    KeyStore::read(&beside(name, config), &password.unwrap_or_default()).map_err(|error| error.to_string())
}

/// Where a store lies. The peer looks from its working directory; beside the configuration is what people expect.
pub(super) fn beside(name: &Path, config: &Path) -> PathBuf {
    if name.exists() { name.to_owned() } else { config.parent().unwrap_or(Path::new("")).join(name) }
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // An image without certificates has none; the configured store is what counts then.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn add_roots(roots: &mut RootCertStore, store: KeyStore) {
    roots.add_parsable_certificates(store.into_certificates());
}

fn suites(protocols: Option<&Names>, ciphers: Option<&Names>) -> Result<Suites, String> {
    let mut suites = Suites::default();
    if let Some(names) = protocols {
        suites.versions = versions(&names.list())?;
    }
    if let Some(names) = ciphers {
        suites.provider = Arc::new(only(&suites.provider, &names.list())?);
    }
    Ok(suites)
}

fn versions(names: &[String]) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    let mut versions = Vec::new();
    for name in names {
        match name.as_str() {
            "TLSv1.2" => versions.push(&rustls::version::TLS12),
            "TLSv1.3" => versions.push(&rustls::version::TLS13),
            // Listed for old JVMs' sake; the others may still be agreed on.
            "TLSv1" | "TLSv1.1" | "SSLv3" | "SSLv2Hello" => {
                tracing::warn!(protocol = name, "TLS protocol left out: it is not supported");
            }
            _ => return Err(format!("unknown TLS protocol `{name}` (TLSv1.2, TLSv1.3)")),
        }
    }
    if versions.is_empty() {
        return Err("none of the TLS `protocols` is supported (TLSv1.2, TLSv1.3)".to_owned());
    }
    Ok(versions)
}

/// Keeps the suites that Java knows by these names.
fn only(provider: &CryptoProvider, names: &[String]) -> Result<CryptoProvider, String> {
    let mut provider = provider.clone();
    let java_name = |suite: &SupportedCipherSuite| format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
    let known: Vec<String> = provider.cipher_suites.iter().map(java_name).collect();
    for name in names.iter().filter(|name| !known.contains(name)) {
        tracing::warn!(cipher = name, "TLS cipher left out: it is not supported");
    }
    provider.cipher_suites.retain(|suite| names.contains(&java_name(suite)));
    match provider.cipher_suites.is_empty() {
        true => Err("none of the TLS `ciphers` is supported".to_owned()),
        false => Ok(provider),
    }
}

/// The certificate and key of the page's own port.
fn identity(file: &ServerSsl, path: &Path, environment: Environment<'_>) -> Result<KeyEntry, String> {
    if let Some(pem) = &file.pem {
        if file.key_store.is_some() {
            return Err("`httpServer.ssl`: `keyStore` and `pem` exclude each other".to_owned());
        }
        let key = open(&pem.private_key, path, environment)?.into_key(None);
        let key = key.ok_or_else(|| format!("{}: there is no private key in it", shown(&pem.private_key)))?;
        let chain = open(&pem.certificate, path, environment)?.into_certificates();
        if chain.is_empty() {
            return Err(format!("{}: there is no certificate in it", shown(&pem.certificate)));
        }
        return Ok(key.with_chain(chain));
    }
    let store = file.key_store.clone().or_else(|| from_properties("keyStore", environment));
    let store = store.ok_or("`httpServer.ssl` needs a `keyStore` or `pem`")?;
    let alias = file.certificate.as_ref().and_then(|certificate| certificate.alias.as_deref());
    let keys = open(&store, path, environment)?;
    let pem = keys.keys.iter().all(|entry| entry.alias.is_empty());
    if alias.is_none() && !pem {
        return Err("`httpServer.ssl.certificate.alias` is needed".to_owned());
    }
    let entry = keys.into_key(if pem { None } else { alias });
    entry.ok_or_else(|| format!("{}: no private key under that alias", shown(&store)))
}

/// TLS of the page's own port.
#[derive(Clone)]
pub(super) struct ServerTls {
    pub(super) acceptor: TlsAcceptor,
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    pub(super) fn new(file: &ServerSsl, path: &Path, environment: Environment<'_>) -> Result<Self, String> {
        let entry = identity(file, path, environment)?;
        let suites = suites(file.protocols.as_ref(), file.ciphers.as_ref())?;
        let builder = ServerConfig::builder_with_provider(Arc::clone(&suites.provider))
            .with_protocol_versions(&suites.versions)
            .map_err(|error| error.to_string())?;
        let builder = if file.mutual_tls {
            let trust = file.trust_store.clone().or_else(|| from_properties("trustStore", environment));
            let trust = trust.ok_or("`httpServer.ssl.mutualTLS` needs a `trustStore`")?;
            let mut roots = RootCertStore::empty();
            add_roots(&mut roots, open(&trust, path, environment)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), suites.provider)
                .build()
                .map_err(|error| error.to_string())?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let config = builder.with_single_cert(entry.chain, entry.key).map_err(|error| error.to_string())?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}
