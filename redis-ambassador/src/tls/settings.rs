//! The TLS part of the configuration.

use common::config::{ConfigError, FromSetting, Settings};
use std::path::PathBuf;

/// What of a server's certificate is checked.
///
/// ```
/// use redis_ambassador::{UpstreamTls, Verify};
///
/// let tls = UpstreamTls { verify: Verify::Ca, ..UpstreamTls::default() };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// The chain and the name.
    #[default]
    Full,
    /// The chain; for servers that are named by address while their certificates hold names.
    Ca,
    /// Nothing: whoever answers is believed.
    None,
}

impl FromSetting for Verify {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            "ca" => Ok(Self::Ca),
            "none" => Ok(Self::None),
            _ => Err(format!("`{text}` is no way to verify (full, ca, none)")),
        }
    }
}

/// TLS towards servers.
///
/// ```
/// # let mut config = redis_ambassador::Config::new("10.0.0.1:6379".parse()?, vec![]);
/// use redis_ambassador::UpstreamTls;
///
/// let ca_file = Some("/etc/redis/ca.pem".into());
/// config.upstream_tls = Some(UpstreamTls { ca_file, ..UpstreamTls::default() });
/// # Ok::<(), redis_ambassador::InvalidAddr>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamTls {
    /// PEM bundle to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM certificate chain and key to show to servers.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that servers have to prove, instead of the one they are reached by.
    pub server_name: Option<String>,
    /// What is checked.
    pub verify: Verify,
}

/// TLS towards clients.
///
/// ```
/// # let mut config = redis_ambassador::Config::new("10.0.0.1:6379".parse()?, vec![]);
/// use redis_ambassador::{ClientTls, Listen, ListenAddr};
///
/// config.listen = vec![Listen::Tls(ListenAddr::loopback(6380))];
/// config.client_tls = Some(ClientTls {
///     certificate: "/etc/tls/tls.crt".into(),
///     key: "/etc/tls/tls.key".into(),
///     client_ca: None,
/// });
/// # Ok::<(), redis_ambassador::InvalidAddr>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// PEM certificate chain to show.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
    /// Clients have to show a certificate that one of these authorities has signed.
    pub client_ca: Option<PathBuf>,
}

impl UpstreamTls {
    pub(crate) fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let file = |name: &'static str| settings.optional::<PathBuf>(name);
        let identity = match (file("upstream-tls-cert")?, file("upstream-tls-key")?) {
            (None, None) => None,
            (Some(chain), Some(key)) => Some((chain, key)),
            (Some(_), None) => return Err(settings.invalid("upstream-tls-cert", "needs --upstream-tls-key")),
            (None, Some(_)) => return Err(settings.invalid("upstream-tls-key", "needs --upstream-tls-cert")),
        };
        Ok(Self {
            ca_file: file("upstream-tls-ca")?,
            identity,
            server_name: settings.optional("upstream-tls-name")?,
            verify: settings.value("upstream-tls-verify")?,
        })
    }
}

impl ClientTls {
    pub(crate) fn from_settings(settings: &Settings) -> Result<Option<Self>, ConfigError> {
        let file = |name: &'static str| settings.optional::<PathBuf>(name);
        let client_ca = file("tls-client-ca")?;
        match (file("tls-cert")?, file("tls-key")?) {
            (Some(certificate), Some(key)) => Ok(Some(Self { certificate, key, client_ca })),
            (None, None) if client_ca.is_none() => Ok(None),
            (None, None) => Err(settings.invalid("tls-client-ca", "needs --tls-cert and --tls-key")),
            (Some(_), None) => Err(settings.invalid("tls-cert", "needs --tls-key")),
            (None, Some(_)) => Err(settings.invalid("tls-key", "needs --tls-cert")),
        }
    }
}
