//! Trust and identity for TLS connections to a JVM.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use thiserror::Error;
use tokio_rustls::TlsConnector;

/// Whether the certificate has to carry the host's name.
///
/// ```
/// use metrics_adapter::jmx::client::tls::NameCheck;
///
/// assert_eq!(NameCheck::default(), NameCheck::Required);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameCheck {
    /// It has to.
    #[default]
    Required,
    /// Only its chain is checked, as Java's RMI clients do: stubs often carry a bare address.
    Skipped,
}

/// Why TLS cannot be set up.
///
/// ```
/// use metrics_adapter::jmx::client::tls::{NameCheck, Suites, TlsError, TlsSettings};
///
/// let nothing = Some((vec![], rustls_pki_types::PrivatePkcs8KeyDer::from(vec![]).into()));
/// let refused = TlsSettings::new(&Suites::default(), rustls::RootCertStore::empty(), nothing, NameCheck::Required);
/// assert!(matches!(refused, Err(TlsError::Settings(_))));
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificates or the key do not fit together.
    #[error("unusable TLS settings")]
    Settings(#[from] rustls::Error),
}

/// A ready TLS client.
///
/// ```
/// use metrics_adapter::jmx::client::{Options, tls::{NameCheck, Suites, TlsSettings}};
///
/// let roots = rustls::RootCertStore::empty(); // and then the JVM's certificate
/// let tls = TlsSettings::new(&Suites::default(), roots, None, NameCheck::Skipped)?;
/// let mut options = Options::new("localhost", 9010);
/// options.tls = Some(tls.into());
/// # Ok::<(), metrics_adapter::jmx::client::tls::TlsError>(())
/// ```
#[derive(Clone)]
pub struct TlsSettings {
    config: Arc<ClientConfig>,
}

impl std::fmt::Debug for TlsSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsSettings").finish_non_exhaustive()
    }
}

/// Which versions and cipher suites may be agreed on.
///
/// ```
/// use metrics_adapter::jmx::client::tls::Suites;
///
/// let suites = Suites { versions: vec![&rustls::version::TLS13], ..Suites::default() };
/// ```
#[derive(Clone, Debug)]
pub struct Suites {
    /// Cipher suites and algorithms.
    pub provider: Arc<CryptoProvider>,
    /// Protocol versions.
    pub versions: Vec<&'static SupportedProtocolVersion>,
}

impl Default for Suites {
    fn default() -> Self {
        Self { provider: provider(), versions: rustls::DEFAULT_VERSIONS.to_vec() }
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A certificate chain with its private key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl TlsSettings {
    /// Trusts `roots`, and shows `identity` to servers that ask for one.
    ///
    /// # Errors
    /// The key does not fit the certificate, or is of an unknown kind.
    ///
    /// ```
    /// use metrics_adapter::jmx::client::tls::{NameCheck, Suites, TlsSettings};
    ///
    /// let roots = rustls::RootCertStore::empty();
    /// assert!(TlsSettings::new(&Suites::default(), roots, None, NameCheck::Required).is_ok());
    /// ```
    pub fn new(
        suites: &Suites,
        roots: RootCertStore,
        identity: Option<Identity>,
        name_check: NameCheck,
    ) -> Result<Self, TlsError> {
        let provider = Arc::clone(&suites.provider);
        let algorithms = provider.signature_verification_algorithms;
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&suites.versions)?;
        let builder = match name_check {
            NameCheck::Required => builder.with_root_certificates(roots),
            NameCheck::Skipped => {
                let verifier = ChainVerifier { roots, algorithms };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
        };
        let config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config) })
    }

    pub(crate) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.config))
    }

    pub(crate) fn server_name(&self, host: &str) -> Option<ServerName<'static>> {
        ServerName::try_from(host.to_owned()).ok()
    }
}

/// Checks the chain and the signatures, but not the name.
#[derive(Debug)]
struct ChainVerifier {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ChainVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
