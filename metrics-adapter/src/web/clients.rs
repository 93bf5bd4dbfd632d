//! What is asked of clients that connect with TLS: the exporter-toolkit's `client_auth_type` and
//! `client_allowed_sans`.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::san::alternative_names;

/// Go's policies for client certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// Asked for; any certificate will do, and none.
    Request,
    /// One must be there, whoever signed it.
    RequireAny,
    /// Checked when there is one.
    VerifyIfGiven,
    /// One must be there, signed by the client CA.
    RequireAndVerify,
}

impl Policy {
    /// Reads `client_auth_type`; `None` when no certificate is asked for.
    fn read(text: &str) -> Result<Option<Self>, String> {
        Ok(Some(match text {
            "" | "NoClientCert" => return Ok(None),
            "RequestClientCert" => Self::Request,
            // The second name is an old one of the toolkit's.
            "RequireAnyClientCert" | "RequireClientCert" => Self::RequireAny,
            "VerifyClientCertIfGiven" => Self::VerifyIfGiven,
            "RequireAndVerifyClientCert" => Self::RequireAndVerify,
            other => {
                return Err(format!(
                    "client_auth_type: `{other}` is not known (NoClientCert, RequestClientCert, \
                     RequireAnyClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert)"
                ));
            }
        }))
    }

    fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }

    fn requires(self) -> bool {
        matches!(self, Self::RequireAny | Self::RequireAndVerify)
    }
}

/// Builds the verifier that the configuration asks for; `None` when clients are not asked for certificates.
///
/// `authorities` are the certificates of `client_ca`, empty when there is none.
pub(super) fn verifier(
    client_auth_type: &str,
    authorities: Vec<CertificateDer<'static>>,
    allowed: Option<&[String]>,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let Some(policy) = Policy::read(client_auth_type)? else {
        return match (authorities.is_empty(), allowed) {
            (true, None) => Ok(None),
            (false, _) => {
                Err("client_auth_type: a client CA needs a type that asks for certificates, such as \
                               RequireAndVerifyClientCert"
                    .to_owned())
            }
            (true, Some(_)) => {
                Err("client_allowed_sans: nothing would be checked without a client_auth_type, \
                                    such as RequireAndVerifyClientCert"
                    .to_owned())
            }
        };
    };
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate).map_err(|error| format!("client_ca: {error}"))?;
    }
    if policy.verifies() && roots.is_empty() {
        return Err(
            "client_auth_type: client_ca or client_ca_file must be set to check clients against".to_owned()
        );
    }
    let hints = roots.subjects();
    let algorithms = provider.signature_verification_algorithms;
    let chain = if policy.verifies() {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        Some(builder.build().map_err(|error| format!("client_ca: {error}"))?)
    } else {
        None
    };
    let allowed = allowed.map(<[String]>::to_vec);
    Ok(Some(Arc::new(Verifier { policy, chain, allowed, hints, algorithms })))
}

#[derive(Debug)]
struct Verifier {
    policy: Policy,
    /// Checks the chain, where the policy asks for that.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    /// Names of which the certificate must have one.
    allowed: Option<Vec<String>>,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.policy.requires()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(end_entity, intermediates, now)?;
        }
        if let Some(allowed) = &self.allowed
            && !alternative_names(end_entity).iter().any(|name| allowed.contains(name))
        {
            tracing::debug!("a client's certificate has none of client_allowed_sans");
            return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }

    // Whatever the policy, a client proves that it holds the key of the certificate it shows.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
