//! The credentials of the running attempt, had anew before each. The driver of [`crate::auth`].

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::client::{Client, Proxies};
use common::secret::{ExposeSecret as _, SecretString};
use tokio_util::sync::CancellationToken;

use crate::auth::github_app::{self, Token};
use crate::auth::store::{self, Credential, Password, Store};
use crate::auth::{askpass, cookie};
use crate::config::Config;
use crate::error::SyncError;
use crate::metrics::{Metrics, Status};
use crate::repo::RepoError;

/// Time for GitHub to give a token.
const TOKEN_LIMIT: Duration = Duration::from_secs(10);

/// User names, passwords and cookies as they were when an attempt began.
#[derive(Default)]
pub(crate) struct Keys {
    store: Store,
    cookies: cookie::Jar,
}

/// Who logs in where.
pub(crate) struct Keyring {
    config: Arc<Config>,
    /// Only where a service has to be asked.
    client: Option<Client>,
    token: Option<Token>,
    keys: Arc<Keys>,
}

impl Keyring {
    /// # Errors
    /// When the TLS settings for credential services or the cookie file can't be used.
    pub(crate) fn new(config: &Arc<Config>) -> Result<Self, SyncError> {
        let credentials = &config.credentials;
        let asks = credentials.askpass_url.is_some() || credentials.github_app.is_some();
        let client = match asks {
            true => {
                let tls = common::client::tls(&config.transport.tls).map_err(|e| failure(&e))?;
                Some(common::client::client_via(tls, TOKEN_LIMIT, Proxies::from_env()))
            }
            false => None,
        };
        let keyring = Self {
            config: Arc::clone(config),
            client,
            token: None,
            keys: Arc::new(Keys { store: Store::default(), cookies: cookies(config)? }),
        };
        Ok(keyring)
    }

    /// Reads password and cookie files again, asks the askpass service, renews the GitHub App's token.
    ///
    /// # Errors
    /// When one of them can't be had.
    pub(crate) async fn refresh(
        &mut self,
        metrics: &Metrics,
        cancel: &CancellationToken,
    ) -> Result<Arc<Keys>, SyncError> {
        tokio::select! {
            refreshed = self.refresh_all(metrics) => refreshed,
            () = cancel.cancelled() => Err(RepoError::Cancelled.into()),
        }
    }

    async fn refresh_all(&mut self, metrics: &Metrics) -> Result<Arc<Keys>, SyncError> {
        let credentials = &self.config.credentials;
        let files = credentials.cookie_file.is_some() || !credentials.stores.is_empty();
        let read = !credentials.by_url.is_empty() || files;
        let mut keys = match read {
            true => {
                let config = Arc::clone(&self.config);
                let read = move || {
                    Ok::<_, SyncError>(Keys { store: read_all(&config)?, cookies: cookies(&config)? })
                };
                let read = tokio::task::spawn_blocking(read).await;
                Some(read.map_err(|e| SyncError::Internal(e.to_string()))??)
            }
            false => None,
        };
        if let Some((username, password)) = self.ask_service(metrics).await? {
            let url = self.config.repo.clone();
            let one = Credential { url, username, password: Password::Value(password) };
            keys.get_or_insert_default().store.insert(one);
        }
        if let Some(keys) = keys {
            self.keys = Arc::new(keys);
        }
        Ok(Arc::clone(&self.keys))
    }

    /// What the askpass service or GitHub gives for `--repo`.
    async fn ask_service(&mut self, metrics: &Metrics) -> Result<Option<(String, SecretString)>, SyncError> {
        let Some(client) = &self.client else { return Ok(None) };
        let status = |good: bool| if good { Status::Success } else { Status::Error };
        if let Some(url) = &self.config.credentials.askpass_url {
            let answer = askpass::ask(client, url, askpass::TIMEOUT).await;
            metrics.askpass(status(answer.is_ok()));
            let answer = answer.map_err(|e| failure(&e))?;
            return Ok(Some((answer.username, answer.password)));
        }
        let Some(app) = &self.config.credentials.github_app else { return Ok(None) };
        let now = unix_now();
        if self.token.as_ref().is_none_or(|token| token.needs_refresh(now)) {
            let token = app.fetch(client, now, TOKEN_LIMIT).await;
            metrics.app_token(status(token.is_ok()));
            self.token = Some(token.map_err(|e| failure(&e))?);
        }
        Ok(self.token.as_ref().map(|token| (github_app::USERNAME.to_owned(), token.secret.clone())))
    }
}

impl Keys {
    /// User and password for an address.
    pub(crate) fn for_url(&self, url: &str) -> Option<(&str, &SecretString)> {
        let found = self.store.find(url)?;
        match &found.password {
            Password::Value(password) => Some((&found.username, password)),
            // Files were read when the attempt began.
            Password::File(_) => None,
        }
    }

    /// The `Cookie` header for an address.
    pub(crate) fn cookie(&self, url: &str) -> Option<SecretString> {
        self.cookies.header(url, unix_now())
    }
}

fn read_all(config: &Config) -> Result<Store, SyncError> {
    let mut store = Store::default();
    // First, so that what was given outright wins.
    for path in &config.credentials.stores {
        match common::secret::read(path) {
            Ok(text) => store::stored(text.expose_secret()).into_iter().for_each(|one| store.insert(one)),
            // git goes on without it, too.
            Err(error) => tracing::debug!(path = %path.display(), %error, "no stored credentials"),
        }
    }
    for credential in &config.credentials.by_url {
        let password = Password::Value(credential.password.read().map_err(|e| failure(&e))?);
        store.insert(Credential { password, ..credential.clone() });
    }
    Ok(store)
}

fn cookies(config: &Config) -> Result<cookie::Jar, SyncError> {
    let Some(path) = &config.credentials.cookie_file else { return Ok(cookie::Jar::default()) };
    let text = common::secret::read(path).map_err(|e| failure(&e))?;
    let jar = cookie::Jar::parse(text.expose_secret()).map_err(|e| failure(&e))?;
    if let Some((line, reason)) = jar.rejected().first() {
        tracing::warn!(path = %path.display(), line, reason, "passed over a line that is no cookie");
    }
    Ok(jar)
}

/// An error with its causes, which name the file or the reason.
fn failure(error: &dyn std::error::Error) -> SyncError {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    SyncError::Credential(text)
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
