//! What to log in with, had anew before every attempt.

use std::sync::Arc;

use common::secret::SecretString;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config::{Config, Credential, Password};
use crate::error::SyncError;
use crate::metrics::Metrics;

/// The credentials of the running attempt.
pub(crate) struct Keyring {
    config: Arc<Config>,
    current: Vec<(Url, String, SecretString)>,
}

impl Keyring {
    /// # Errors
    /// When a credential's URL is none.
    pub(crate) fn new(config: &Arc<Config>, _metrics: &Metrics) -> Result<Self, SyncError> {
        Ok(Self { config: Arc::clone(config), current: Vec::new() })
    }

    /// Reads password files again.
    ///
    /// # Errors
    /// When one of them can't be had.
    pub(crate) async fn refresh(&mut self, _cancel: &CancellationToken) -> Result<(), SyncError> {
        if self.config.credentials.by_url.is_empty() {
            return Ok(());
        }
        let config = Arc::clone(&self.config);
        let read = tokio::task::spawn_blocking(move || -> Result<Vec<_>, SyncError> {
            config.credentials.by_url.iter().filter_map(|credential| load(credential).transpose()).collect()
        });
        self.current = read.await.map_err(|e| SyncError::Internal(e.to_string()))??;
        Ok(())
    }

    /// User and password for an address: those whose URL reaches furthest into it.
    pub(crate) fn for_url(&self, url: &str) -> Option<(&str, &SecretString)> {
        let url = Url::parse(url).ok()?;
        let fits = |known: &&(Url, String, SecretString)| {
            let known = &known.0;
            let path = known.path().trim_end_matches('/');
            known.scheme() == url.scheme()
                && known.host() == url.host()
                && known.port_or_known_default() == url.port_or_known_default()
                && url.path().strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let best = self
            .current
            .iter()
            .filter(fits)
            .reduce(|best, next| if next.0.path().len() > best.0.path().len() { next } else { best });
        best.map(|(_, user, password)| (user.as_str(), password))
    }
}

/// `None`: for an address that no credential can be for (a path, ssh).
fn load(credential: &Credential) -> Result<Option<(Url, String, SecretString)>, SyncError> {
    let Ok(url) = Url::parse(&credential.url) else { return Ok(None) };
    let password = match &credential.password {
        Password::Inline(password) => password.clone(),
        Password::File(path) => common::secret::read(path).map_err(|e| {
            let source = std::error::Error::source(&e).map_or_else(String::new, |s| format!(": {s}"));
            SyncError::Credential(format!("{e}{source}"))
        })?,
    };
    Ok(Some((url, credential.username.clone(), password)))
}
