//! SSH (`gitprotocol-pack`, "SSH Transport"): one connection per conversation, no ssh program.

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use russh::client::{self, Handle, Msg};
use russh::keys::ssh_key::{Algorithm, HashAlg};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelStream, Preferred};
use tokio::net::TcpStream;

use super::known_hosts::HostKeys;
use super::stream::Conversation;
use super::{AGENT, CONNECT, FetchSink, STALL, TransportError};
use crate::protocol::{FetchRequest, RemoteRef};

/// How to log in by SSH, and whom to trust.
#[derive(Debug, Clone)]
pub struct SshOptions {
    /// Private keys, tried in order; those that don't exist are passed over.
    pub keys: Vec<PathBuf>,
    /// Known host keys; `None` accepts any host key.
    pub known_hosts: Option<PathBuf>,
}

impl Default for SshOptions {
    fn default() -> Self {
        Self {
            keys: vec![PathBuf::from("/etc/git-secret/ssh")],
            known_hosts: Some(PathBuf::from("/etc/git-secret/known_hosts")),
        }
    }
}

/// A repository behind an SSH server.
pub struct SshRemote {
    user: String,
    host: String,
    port: u16,
    path: String,
    options: SshOptions,
}

impl SshRemote {
    /// From the parts of the URL.
    pub fn new(user: Option<String>, host: String, port: u16, path: String, options: SshOptions) -> Self {
        let user = user.or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "git".to_owned());
        Self { user, host, port, path, options }
    }

    pub(super) async fn refs(&self, names: &[String]) -> Result<Vec<RemoteRef>, TransportError> {
        let (conversation, session) = self.connect().await?;
        let refs = conversation.refs(names).await;
        close(session).await;
        refs
    }

    pub(super) async fn fetch(&self, request: &FetchRequest, sink: FetchSink) -> Result<(), TransportError> {
        let (conversation, session) = self.connect().await?;
        let result = conversation.fetch(request, sink).await;
        close(session).await;
        result
    }

    fn address(&self) -> String {
        format!("ssh://{}@{}:{}", self.user, self.host, self.port)
    }

    fn refuse(&self, reason: impl Into<String>) -> TransportError {
        TransportError::Ssh { address: self.address(), reason: reason.into() }
    }

    async fn connect(&self) -> Result<(Conversation<ChannelStream<Msg>>, Handle<Guard>), TransportError> {
        let opening = async {
            let mut session = self.handshake().await?;
            self.log_in(&mut session).await?;
            let fail = |e: russh::Error| self.refuse(e.to_string());
            let channel = session.channel_open_session().await.map_err(fail)?;
            // Servers that don't accept the variable speak version 0, which works too.
            channel.set_env(false, "GIT_PROTOCOL", "version=2").await.map_err(fail)?;
            let command = format!("git-upload-pack {}", quote(&self.path));
            channel.exec(false, command).await.map_err(fail)?;
            Ok((Conversation::new(channel.into_stream(), self.address()), session))
        };
        match tokio::time::timeout(STALL, opening).await {
            Ok(result) => result,
            Err(_) => {
                Err(TransportError::Silent { what: "logging in", address: self.address(), limit: STALL })
            }
        }
    }

    async fn handshake(&self) -> Result<Handle<Guard>, TransportError> {
        let known = match &self.options.known_hosts {
            None => None,
            Some(path) => {
                let text = tokio::fs::read_to_string(path).await.map_err(|e| {
                    self.refuse(format!("can't read the known hosts {}: {e}", path.display()))
                })?;
                let keys = HostKeys::read(&text, &self.host, self.port);
                if keys.is_empty() {
                    return Err(
                        self.refuse(format!("the host isn't among the known hosts in {}", path.display()))
                    );
                }
                Some(keys)
            }
        };
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = match tokio::time::timeout(CONNECT, connecting).await {
            Ok(result) => result.map_err(|source| TransportError::Io {
                what: "connecting to",
                address: self.address(),
                source,
            })?,
            Err(_) => {
                return Err(TransportError::Silent {
                    what: "connecting",
                    address: self.address(),
                    limit: CONNECT,
                });
            }
        };
        let _ = stream.set_nodelay(true);
        let config = client::Config {
            client_id: russh::SshId::Standard(Cow::Owned(format!("SSH-2.0-{}", AGENT.replace('/', "_")))),
            inactivity_timeout: Some(STALL),
            preferred: preferred(known.as_ref()),
            ..client::Config::default()
        };
        let refusal = Arc::new(Mutex::new(None));
        let guard = Guard { known, host: self.host.clone(), refusal: Arc::clone(&refusal) };
        client::connect_stream(Arc::new(config), stream, guard).await.map_err(|error| {
            let reason = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.refuse(reason.unwrap_or_else(|| error.to_string()))
        })
    }

    async fn log_in(&self, session: &mut Handle<Guard>) -> Result<(), TransportError> {
        let fail = |e: russh::Error| self.refuse(e.to_string());
        let mut tried = Vec::new();
        for path in &self.options.keys {
            let key = match load(path) {
                Ok(Some(key)) => Arc::new(key),
                Ok(None) => continue,
                Err(reason) => {
                    tracing::warn!(key = %path.display(), %reason, "can't use the SSH key");
                    continue;
                }
            };
            let hash = match key.algorithm() {
                Algorithm::Rsa { .. } => {
                    let offered = session.best_supported_rsa_hash().await.map_err(fail)?;
                    offered.unwrap_or(Some(HashAlg::Sha512))
                }
                _ => None,
            };
            let key = PrivateKeyWithHashAlg::new(key, hash);
            if session.authenticate_publickey(&self.user, key).await.map_err(fail)?.success() {
                return Ok(());
            }
            tried.push(path.display().to_string());
        }
        // Some servers ask for nothing.
        if session.authenticate_none(&self.user).await.map_err(fail)?.success() {
            return Ok(());
        }
        Err(self.refuse(match tried.is_empty() {
            true => "there is no usable SSH key (see --ssh-key-file)".to_owned(),
            false => format!("the server accepts none of the keys {}", tried.join(", ")),
        }))
    }
}

/// Says goodbye; the server may be gone already.
async fn close(session: Handle<Guard>) {
    let leaving = session.disconnect(russh::Disconnect::ByApplication, "", "");
    let _ = tokio::time::timeout(Duration::from_secs(1), leaving).await;
}

/// `None` when there is no such file.
fn load(path: &std::path::Path) -> Result<Option<PrivateKey>, String> {
    let text = match common::secret::read(path) {
        Ok(text) => text,
        Err(common::secret::SecretError::Unreadable { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.to_string()),
    };
    let text = common::secret::ExposeSecret::expose_secret(&text);
    // The secret reader takes the last line end off; key parsers want it.
    russh::keys::decode_secret_key(&format!("{text}\n"), None).map(Some).map_err(|e| e.to_string())
}

/// Asks for keys of the known kinds first, and for certificates where an authority is known.
fn preferred(known: Option<&HostKeys>) -> Preferred {
    let mut preferred = Preferred::DEFAULT;
    let Some(known) = known else { return preferred };
    let algorithms = known.algorithms();
    let is_known =
        |algorithm: &Algorithm| algorithms.iter().any(|a| a == algorithm || (is_rsa(a) && is_rsa(algorithm)));
    let (mut first, rest): (Vec<Algorithm>, Vec<Algorithm>) =
        preferred.key.iter().cloned().partition(is_known);
    if !known.authorities.is_empty() {
        preferred.host_key_certificates = Cow::Owned(preferred.key.to_vec());
    }
    first.extend(rest);
    preferred.key = Cow::Owned(first);
    preferred
}

/// RSA with any hash is the same key.
fn is_rsa(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Rsa { .. })
}

/// Single quotes, as every shell and every Git server takes them.
fn quote(path: &str) -> String {
    format!("'{}'", path.replace('\'', "'\\''").replace('!', "'\\!'"))
}

/// Decides about the host key.
struct Guard {
    known: Option<HostKeys>,
    host: String,
    refusal: Arc<Mutex<Option<String>>>,
}

impl Guard {
    fn refuse(&self, reason: &str) -> bool {
        *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        false
    }
}

impl client::Handler for Guard {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let Some(known) = &self.known else { return Ok(true) };
        Ok(match shown {
            PublicKeyOrCertificate::PublicKey { key, .. } => known.accepts(key)
                || self.refuse(
                    "the host's key isn't the known one; somebody may be in between, or the key was changed",
                ),
            PublicKeyOrCertificate::Certificate(certificate) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let authorities: Vec<_> =
                    known.authorities.iter().map(|key| key.fingerprint(HashAlg::Sha256)).collect();
                let revoked = known.revoked.iter().any(|key| {
                    key.key_data() == certificate.public_key()
                        || key.key_data() == certificate.signature_key()
                });
                let names = certificate.valid_principals();
                let named =
                    names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(&self.host));
                (certificate.cert_type().is_host()
                    && !revoked
                    && named
                    && certificate.validate_at(now, &authorities).is_ok())
                    || self.refuse("the host's certificate isn't valid for it under the known authorities")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_are_quoted() {
        assert_eq!(super::quote("/a b"), "'/a b'");
        assert_eq!(super::quote("it's"), "'it'\\''s'");
    }
}
