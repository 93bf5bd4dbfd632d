//! TLS towards servers and towards clients: what is trusted, what is shown, and files that change.

mod settings;
#[cfg(test)]
mod tests;
mod verify;

pub use settings::{ClientTls, UpstreamTls, Verify};

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Why TLS could not be set up.
///
/// ```
/// use redis_ambassador::TlsError;
///
/// let error = TlsError::Pem { path: "/etc/tls/tls.crt".into(), reason: "no certificate".into() };
/// assert_eq!(error.to_string(), "cannot use /etc/tls/tls.crt: no certificate");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A PEM file is unreadable or holds nothing usable.
    #[error("cannot use {path}: {reason}")]
    Pem {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not fit, or the library refused the settings.
    #[error("TLS settings refused: {0}")]
    Refused(String),
}

fn refused(error: impl std::fmt::Display) -> TlsError {
    TlsError::Refused(error.to_string())
}

/// Settings made from files, made again when those change. Only new connections are concerned.
#[derive(Debug)]
pub(crate) struct Reloading<S, C> {
    settings: S,
    current: Mutex<Arc<C>>,
    build: fn(&S) -> Result<C, TlsError>,
}

/// TLS towards servers.
pub(crate) type TowardsServers = Reloading<UpstreamTls, ClientConfig>;
/// TLS towards clients.
pub(crate) type TowardsClients = Reloading<ClientTls, ServerConfig>;

impl<S, C> Reloading<S, C> {
    fn new(settings: S, build: fn(&S) -> Result<C, TlsError>) -> Result<Arc<Self>, TlsError> {
        let current = Mutex::new(Arc::new(build(&settings)?));
        Ok(Arc::new(Self { settings, current, build }))
    }

    /// What new connections use.
    pub(crate) fn config(&self) -> Arc<C> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// A file is not usable; what was read before stays in use.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let fresh = Arc::new((self.build)(&self.settings)?);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }
}

impl TowardsServers {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// A file is not usable.
    pub(crate) fn load(settings: &UpstreamTls) -> Result<Arc<Self>, TlsError> {
        Self::new(settings.clone(), client_config)
    }

    /// Whether a server's certificate has to hold the host that it is reached by.
    pub(crate) fn proves_hosts(&self) -> bool {
        self.settings.server_name.is_none() && self.settings.verify == Verify::Full
    }

    /// The name that a server at `host` has to prove.
    ///
    /// # Errors
    /// It is neither a DNS name nor an address.
    pub(crate) fn name(&self, host: &str) -> std::io::Result<ServerName<'static>> {
        let name = self.settings.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(name.to_owned())
            .map_err(|_| std::io::Error::other(format!("`{name}` is no name that a certificate could prove")))
    }
}

impl TowardsClients {
    /// Reads what the settings name.
    ///
    /// # Errors
    /// A file is not usable.
    pub(crate) fn load(settings: &ClientTls) -> Result<Arc<Self>, TlsError> {
        Self::new(settings.clone(), server_config)
    }
}

impl UpstreamTls {
    /// The files it is made from.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain.clone(), key.clone()]);
        self.ca_file.iter().cloned().chain(identity).collect()
    }
}

impl ClientTls {
    /// The files it is made from.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let own = [self.certificate.clone(), self.key.clone()];
        own.into_iter().chain(self.client_ca.clone()).collect()
    }
}

fn client_config(settings: &UpstreamTls) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = match &settings.ca_file {
        // Naming an authority means trusting nobody else.
        Some(path) => roots(path)?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    if roots.is_empty() && settings.verify != Verify::None {
        return Err(refused("no certificate authority on this system; name one with --upstream-tls-ca"));
    }
    let verifier = verify::verifier(settings.verify, roots, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match &settings.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            builder.with_client_auth_cert(certificates(chain)?, private_key(key)?).map_err(refused)
        }
    }
}

fn server_config(settings: &ClientTls) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(roots(path)?);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, provider).build().map_err(refused)?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder
        .with_single_cert(certificates(&settings.certificate)?, private_key(&settings.key)?)
        .map_err(refused)
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| pem(path, error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| pem(path, error))?;
    if found.is_empty() { Err(pem(path, "no certificate in it")) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| pem(path, error))
}

fn pem(path: &Path, reason: impl std::fmt::Display) -> TlsError {
    TlsError::Pem { path: path.display().to_string(), reason: reason.to_string() }
}
