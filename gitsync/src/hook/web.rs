//! Sending a request after publication.

use std::time::Duration;

use common::client::{Client, Proxies, RequestBody, TlsOptions};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Method, Request, header};
use url::Url;

use super::{HookError, Runner};
use crate::config::WebHook;
use crate::protocol::ObjectId;
use crate::redact;

/// More redirects than this are a loop.
const MAX_REDIRECTS: usize = 10;

/// Sends the configured request with the header `Gitsync-Hash`.
pub(crate) struct WebRunner {
    hook: WebHook,
    method: Method,
    url: Url,
    client: Client,
}

impl WebRunner {
    /// # Errors
    /// When the address, the method or the TLS settings can't be used.
    pub(crate) fn new(hook: WebHook) -> Result<Self, String> {
        let shown = redact::url(&hook.url);
        let url = Url::parse(&hook.url).map_err(|e| format!("--webhook-url {shown}: {e}"))?;
        let method =
            hook.method.parse().map_err(|_| format!("--webhook-method: `{}` is no method", hook.method))?;
        let tls = common::client::tls(&TlsOptions::default()).map_err(|e| e.to_string())?;
        Ok(Self {
            client: common::client::client_via(tls, hook.timeout, Proxies::from_env()),
            hook,
            method,
            url,
        })
    }

    async fn send(&self, commit: ObjectId) -> Result<u16, HookError> {
        let (mut url, mut method) = (self.url.clone(), self.method.clone());
        for _ in 0..=MAX_REDIRECTS {
            let fail = |reason: String| HookError::Request { url: redact::url(url.as_str()), reason };
            let body: RequestBody = Empty::new().map_err(|never| match never {}).boxed();
            let request = Request::builder()
                .method(&method)
                .uri(url.as_str())
                .header("Gitsync-Hash", commit.to_string())
                .header(header::CONTENT_LENGTH, 0)
                .body(body)
                .map_err(|e| fail(e.to_string()))?;
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

impl Runner for WebRunner {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn backoff(&self) -> Duration {
        self.hook.backoff
    }

    async fn run(&self, commit: ObjectId) -> Result<(), HookError> {
        let limit = self.hook.timeout;
        let what = redact::url(self.url.as_str());
        let status = tokio::time::timeout(limit, self.send(commit))
            .await
            .map_err(|_| HookError::TimedOut { what: what.clone(), limit })??;
        match self.hook.success_status {
            Some(wanted) if wanted != status => Err(HookError::Status { url: what, status }),
            _ => Ok(()),
        }
    }
}
