//! Sending a request after publication.

use std::time::Duration;

use bytes::Bytes;
use common::client::{Client, Proxies, RequestBody, TlsOptions};
use common::secret::ExposeSecret as _;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request};
use url::Url;

use super::{HookError, Runner};
use crate::config::WebHook;
use crate::keyring::unix_now;
use crate::news::News;
use crate::redact;
use crate::trigger::sign_hex;

/// More redirects than this are a loop.
const MAX_REDIRECTS: usize = 10;

/// What a request says.
struct Content {
    body: Bytes,
    headers: Vec<(&'static str, String)>,
}

/// Sends the configured request with the header `Gitsync-Hash`.
pub(crate) struct WebRunner {
    hook: WebHook,
    method: Method,
    /// Without user and password.
    url: Url,
    /// From what the address held of them.
    authorization: Option<HeaderValue>,
    client: Client,
}

impl WebRunner {
    /// # Errors
    /// When the address, the method or the TLS settings can't be used.
    pub(crate) fn new(hook: WebHook, url: &str) -> Result<Self, String> {
        let shown = redact::url(url);
        let mut url = Url::parse(url).map_err(|e| format!("--webhook-url {shown}: {e}"))?;
        let authorization = basic(&url);
        // Neither can fail for http; what has no host fails when it is asked.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        let method =
            hook.method.parse().map_err(|_| format!("--webhook-method: `{}` is no method", hook.method))?;
        let tls = common::client::tls(&TlsOptions::default()).map_err(|e| e.to_string())?;
        Ok(Self {
            client: common::client::client_via(tls, hook.timeout, Proxies::from_env()),
            hook,
            method,
            url,
            authorization,
        })
    }

    /// The body and the headers that vouch for it. The secret is read each time, so it can change.
    fn content(&self, news: &News) -> Result<Content, String> {
        let body = if self.hook.json { news.to_json().to_string() } else { String::new() };
        let mut headers = vec![("Gitsync-Hash", news.new.to_string())];
        if self.hook.json {
            headers.push(("Content-Type", "application/json".to_owned()));
        }
        if let Some(path) = &self.hook.secret_file {
            let secret = common::secret::read(path).map_err(|error| common::error::chain(&error))?;
            let time = unix_now().to_string();
            let key = secret.expose_secret().lines().next().unwrap_or_default().trim();
            if key.is_empty() {
                return Err(format!("the secret file {} is empty", path.display()));
            }
            let sum = sign_hex(key.as_bytes(), &[time.as_bytes(), b".", body.as_bytes()]);
            headers.extend([("Gitsync-Timestamp", time), ("Gitsync-Signature", format!("sha256={sum}"))]);
        }
        Ok(Content { body: body.into(), headers })
    }

    async fn send(&self, news: &News) -> Result<u16, HookError> {
        let Content { body: content, headers: vouching } = self
            .content(news)
            .map_err(|reason| HookError::Request { url: redact::url(self.url.as_str()), reason })?;
        let (mut url, mut method) = (self.url.clone(), self.method.clone());
        for _ in 0..=MAX_REDIRECTS {
            let fail = |reason: String| HookError::Request { url: redact::url(url.as_str()), reason };
            let content = if method == Method::GET { Bytes::new() } else { content.clone() };
            let length = content.len();
            let body: RequestBody = Full::new(content).map_err(|never| match never {}).boxed();
            let mut request = Request::builder().method(&method).uri(url.as_str());
            let same_host = url.origin() == self.url.origin();
            let own =
                self.hook.headers.iter().filter(|_| same_host).map(|(name, value)| (&name[..], &value[..]));
            for (name, value) in vouching.iter().map(|(name, value)| (*name, &value[..])).chain(own) {
                request = request.header(name, value);
            }
            if let Some(value) = self.authorization.as_ref().filter(|_| same_host) {
                request = request.header(header::AUTHORIZATION, value);
            }
            let request =
                request.header(header::CONTENT_LENGTH, length).body(body).map_err(|e| fail(e.to_string()))?;
            let response = self.client.request(request).await.map_err(|e| fail(e.to_string()))?;
            let status = response.status();
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let next = location.filter(|_| status.is_redirection()).and_then(|text| url.join(text).ok());
            let Some(next) = next else {
                let mut body = response.into_body();
                while let Some(frame) = body.frame().await {
                    frame.map_err(|e| fail(e.to_string()))?;
                }
                return Ok(status.as_u16());
            };
            if matches!(status.as_u16(), 301..=303) && method != Method::HEAD {
                method = Method::GET;
            }
            url = next;
        }
        Err(HookError::Request { url: redact::url(url.as_str()), reason: "too many redirects".to_owned() })
    }
}

/// User and password of an address, for its server.
fn basic(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let user = redact::percent_decode(url.username());
    let password = redact::percent_decode(url.password().unwrap_or_default());
    Some(crate::auth::basic(&user, &password))
}

impl Runner for WebRunner {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn backoff(&self) -> Duration {
        self.hook.backoff
    }

    async fn run(&self, news: &News) -> Result<(), HookError> {
        let limit = self.hook.timeout;
        let what = redact::url(self.url.as_str());
        let status = tokio::time::timeout(limit, self.send(news))
            .await
            .map_err(|_| HookError::TimedOut { what: what.clone(), limit })??;
        match self.hook.success_status {
            Some(wanted) if wanted != status => Err(HookError::Status { url: what, status }),
            _ => Ok(()),
        }
    }
}
