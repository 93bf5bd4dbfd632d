//! What to log in with, had anew before every attempt.

mod askpass;
mod cookie;
mod github;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::client::{Client, RequestBody, TlsOptions};
use common::secret::SecretString;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request};
use tokio_util::sync::CancellationToken;
use url::Url;

pub(crate) use cookie::header as cookie_header;

use crate::config::{Config, Credential, Password};
use crate::error::SyncError;
use crate::metrics::{Metrics, Status};
use crate::redact;
use crate::repo::RepoError;

/// Answers of credential servers are small.
const MAX_ANSWER: usize = 64 * 1024;

type Entry = (Url, String, SecretString);

/// The credentials of the running attempt.
pub(crate) struct Keyring {
    config: Arc<Config>,
    metrics: Metrics,
    client: Option<Client>,
    app: Option<github::App>,
    current: Vec<Entry>,
}

impl Keyring {
    /// # Errors
    /// When the TLS settings for credential servers can't be used.
    pub(crate) fn new(config: &Arc<Config>, metrics: &Metrics) -> Result<Self, SyncError> {
        let credentials = &config.credentials;
        let needs_client = credentials.askpass_url.is_some() || credentials.github_app.is_some();
        let client = match needs_client {
            true => Some(client(&config.transport.tls)?),
            false => None,
        };
        Ok(Self {
            app: credentials.github_app.clone().map(github::App::new),
            config: Arc::clone(config),
            metrics: metrics.clone(),
            client,
            current: Vec::new(),
        })
    }

    /// Reads password files again, asks the askpass server, renews the GitHub App's token.
    ///
    /// # Errors
    /// When one of them can't be had.
    pub(crate) async fn refresh(&mut self, cancel: &CancellationToken) -> Result<(), SyncError> {
        let refreshed = tokio::select! {
            refreshed = self.load_all() => refreshed?,
            () = cancel.cancelled() => return Err(RepoError::Cancelled.into()),
        };
        self.current = refreshed;
        Ok(())
    }

    async fn load_all(&mut self) -> Result<Vec<Entry>, SyncError> {
        let mut all = Vec::new();
        if !self.config.credentials.by_url.is_empty() {
            let config = Arc::clone(&self.config);
            let read = tokio::task::spawn_blocking(move || -> Result<Vec<_>, SyncError> {
                config
                    .credentials
                    .by_url
                    .iter()
                    .filter_map(|credential| load(credential).transpose())
                    .collect()
            });
            all = read.await.map_err(|e| SyncError::Internal(e.to_string()))??;
        }
        let (Some(client), Ok(repo)) = (&self.client, Url::parse(&self.config.repo)) else { return Ok(all) };
        if let Some(url) = &self.config.credentials.askpass_url {
            let answer = askpass::ask(client, url).await;
            self.metrics.askpass(if answer.is_ok() { Status::Success } else { Status::Error });
            let (user, password) = answer.map_err(SyncError::Credential)?;
            all.insert(0, (repo.clone(), user, password));
        }
        if let Some(app) = &mut self.app {
            let token = match app.current() {
                Some(token) => token,
                None => {
                    let token = app.renew(client).await;
                    self.metrics.app_token(if token.is_ok() { Status::Success } else { Status::Error });
                    token.map_err(SyncError::Credential)?
                }
            };
            all.insert(0, (repo, "-".to_owned(), token));
        }
        Ok(all)
    }

    /// User and password for an address: those whose URL reaches furthest into it.
    pub(crate) fn for_url(&self, url: &str) -> Option<(&str, &SecretString)> {
        let url = Url::parse(url).ok()?;
        let fits = |known: &&Entry| {
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

fn client(options: &TlsOptions) -> Result<Client, SyncError> {
    let tls = common::client::tls(options).map_err(|e| SyncError::Credential(e.to_string()))?;
    Ok(common::client::client(tls, Duration::from_secs(5)))
}

/// One request to a credential server; redirects aren't followed. The error names the address.
async fn exchange(
    client: &Client,
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    limit: Duration,
) -> Result<(u16, Bytes), String> {
    let shown = redact::url(url);
    let mut request = Request::builder().method(method).uri(url).header("user-agent", "gitsync");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body: RequestBody = Full::default().map_err(|never| match never {}).boxed();
    let request = request.body(body).map_err(|e| format!("{shown}: {e}"))?;
    let exchange = async {
        let response = client.request(request).await.map_err(|e| format!("{shown}: {e}"))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok((status, body.map_err(|e| format!("{shown}: {e}"))?.to_bytes()))
    };
    match tokio::time::timeout(limit, exchange).await {
        Ok(result) => result,
        Err(_) => Err(format!("{shown}: no answer within {}", common::config::format_duration(limit))),
    }
}

/// `None`: for an address that no credential can be for (a path, ssh).
fn load(credential: &Credential) -> Result<Option<Entry>, SyncError> {
    let Ok(url) = Url::parse(&credential.url) else { return Ok(None) };
    let password = read(&credential.password).map_err(SyncError::Credential)?;
    Ok(Some((url, credential.username.clone(), password)))
}

fn read(password: &Password) -> Result<SecretString, String> {
    match password {
        Password::Inline(password) => Ok(password.clone()),
        Password::File(path) => common::secret::read(path).map_err(|e| {
            let cause = std::error::Error::source(&e).map_or_else(String::new, |s| format!(": {s}"));
            format!("{e}{cause}")
        }),
    }
}
