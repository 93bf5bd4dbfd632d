//! Proving who we are: the keys in order, until the server is content.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use russh::MethodKind;
use russh::client::{AuthResult, Handle};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg};

use super::error::SshError;
use super::host_key::{Client, Farewell};
use super::keys::{self, KeyError};

/// Logs in with the first key that the server accepts. A key that cannot be read is passed over, as
/// the ssh program does, and named when none is accepted.
pub(super) async fn log_in(
    session: &mut Handle<Client>,
    user: &str,
    paths: &[PathBuf],
    address: &str,
    farewell: &Farewell,
) -> Result<(), SshError> {
    let failed = |error: russh::Error| SshError::from(error).during("logging in", address);
    let mut tried = Vec::new();
    let mut offered = false;
    for path in paths {
        let key = match read(path).await {
            Ok(key) => Arc::new(key),
            Err(error) => {
                tried.push(with_sources(&error));
                continue;
            }
        };
        offered = true;
        match offer(session, user, key).await.map_err(failed)? {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure { remaining_methods, .. } => {
                tried.push(format!("{} is not accepted", path.display()));
                if !remaining_methods.contains(&MethodKind::PublicKey) {
                    break;
                }
            }
        }
    }
    // Some servers serve public repositories to anybody; asking costs a try, so only without a key.
    if !offered && session.authenticate_none(user).await.map_err(failed)?.success() {
        return Ok(());
    }
    if let Some(farewell) = farewell.lock().unwrap_or_else(PoisonError::into_inner).take() {
        tried.push(format!("the server hung up: {farewell}"));
    }
    if tried.is_empty() {
        tried.push("no key is configured".to_owned());
    }
    Err(SshError::NoKeyAccepted {
        address: address.to_owned(),
        user: user.to_owned(),
        tried: tried.join("; "),
    })
}

/// Secrets may lie on a slow volume; the runtime's threads do not wait for it.
async fn read(path: &Path) -> Result<PrivateKey, KeyError> {
    let owned = path.to_owned();
    tokio::task::spawn_blocking(move || keys::read(&owned))
        .await
        .unwrap_or_else(|error| Err(KeyError::Broken { path: path.to_owned(), reason: error.to_string() }))
}

/// Offers one key. An RSA key signs with SHA-2 only: in the better variant that the server names, and
/// when it names none in both, the stronger first.
async fn offer(
    session: &mut Handle<Client>,
    user: &str,
    key: Arc<PrivateKey>,
) -> Result<AuthResult, russh::Error> {
    if !key.algorithm().is_rsa() {
        return session.authenticate_publickey(user, PrivateKeyWithHashAlg::new(key, None)).await;
    }
    let hashes = match session.best_supported_rsa_hash().await? {
        Some(Some(hash)) => vec![hash],
        Some(None) | None => vec![HashAlg::Sha512, HashAlg::Sha256],
    };
    let mut result = None;
    for hash in hashes {
        let key = PrivateKeyWithHashAlg::new(key.clone(), Some(hash));
        let answer = session.authenticate_publickey(user, key).await?;
        let again = matches!(&answer, AuthResult::Failure { remaining_methods, partial_success: false }
            if remaining_methods.contains(&MethodKind::PublicKey));
        result = Some(answer);
        if !again {
            break;
        }
    }
    result.ok_or(russh::Error::UnsupportedAuthMethod)
}

fn with_sources(error: &KeyError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
