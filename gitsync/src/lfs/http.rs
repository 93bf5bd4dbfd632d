//! Requests to LFS servers: each server gets the headers that are for it and nobody else's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use common::client::{Client, Proxies, RequestBody};
use common::secret::{ExposeSecret as _, SecretString};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use url::Url;

use crate::config::Config;
use crate::keyring::Keys;
use crate::transport::{CONNECT, HttpOptions, STALL, USER_AGENT, same_site};

const MAX_REDIRECTS: usize = 5;
/// A server's wish for a pause is heeded up to this; the attempt has its own limit.
const MAX_PAUSE: u64 = 60;

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) reason: String,
    pub(super) then: Then,
}

/// What may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The same once more, after the server's own pause if it names one.
    Again(Option<Duration>),
    /// Asking the server for a new address.
    Renew,
    GiveUp,
}

impl Fault {
    pub(super) fn again(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), then: Then::Again(None) }
    }

    pub(super) fn fatal(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), then: Then::GiveUp }
    }

    /// From an answer's status.
    pub(super) fn status(status: StatusCode, headers: &HeaderMap) -> Self {
        let hint = match status.as_u16() {
            401 => " (credentials are missing or wrong)",
            403 => " (these credentials don't give access)",
            404 => " (no such thing there, or not with these credentials)",
            429 => " (too many requests)",
            507 | 509 => " (the server's own limit)",
            _ => "",
        };
        let then = match status.as_u16() {
            408 | 429 | 500 | 502..=504 => Then::Again(pause(headers)),
            401 | 403 | 410 => Then::Renew,
            _ => Then::GiveUp,
        };
        Self { reason: format!("answered {}{hint}", status.as_u16()), then }
    }
}

fn pause(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.min(MAX_PAUSE)))
}

/// One host and what to use for it.
struct Peer {
    client: Client,
    options: HttpOptions,
    proxies: Proxies,
}

/// Sends requests with the keys for each host.
pub(super) struct Caller<'a> {
    config: &'a Config,
    keys: &'a Keys,
    /// The git remote, whose further headers its own host gets, too.
    remote: Option<Url>,
    peers: Mutex<HashMap<String, Arc<Peer>>>,
}

impl<'a> Caller<'a> {
    pub(super) fn new(config: &'a Config, keys: &'a Keys, remote: Option<Url>) -> Self {
        Self { config, keys, remote, peers: Mutex::default() }
    }

    fn peer(&self, url: &Url) -> Result<Arc<Peer>, Fault> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let name = url.origin().ascii_serialization();
        if let Some(peer) = peers.get(&name) {
            return Ok(Arc::clone(peer));
        }
        if !self.config.allows(url.scheme(), false) {
            return Err(Fault::fatal(format!("the protocol {} is not allowed here", url.scheme())));
        }
        let options = self.config.git.http_options(Some(url)).map_err(Fault::fatal)?;
        let tls = common::client::tls(&options.tls).map_err(|e| Fault::fatal(format!("TLS: {e}")))?;
        let proxies = options.proxies();
        let client = common::client::client_via(tls, CONNECT, proxies.clone());
        let peer = Arc::new(Peer { client, options, proxies });
        // A server could name a new host for each object.
        if peers.len() < 64 {
            peers.insert(name, Arc::clone(&peer));
        }
        Ok(peer)
    }

    /// What logs in at an address, by the user's own settings.
    pub(super) fn own_headers(&self, url: &Url) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some((user, password)) = self.keys.for_url(url.as_str()) {
            headers.insert(header::AUTHORIZATION, crate::auth::basic(user, password.expose_secret()));
        }
        if let Some(cookie) = self.keys.cookie(url.as_str()) {
            headers.extend(secret(&cookie).map(|value| (header::COOKIE, value)));
        }
        if self.remote.as_ref().is_some_and(|remote| same_site(remote, url))
            && let Ok(peer) = self.peer(url)
        {
            let pairs = peer.options.headers.iter();
            headers.extend(pairs.filter_map(|(name, value)| {
                Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
            }));
        }
        headers
    }

    /// Sends a request; redirects are followed, but `headers` stay with the site they are for, while `plain`
    /// tells no secret and goes along.
    pub(super) async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        plain: &HeaderMap,
        body: &Bytes,
    ) -> Result<(Response<Incoming>, Url), Fault> {
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let peer = self.peer(&at)?;
            let mut all = plain.clone();
            if same_site(&at, url) {
                all.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            let answer = ask(&peer, method, &at, all, body.clone()).await?;
            let status = answer.status();
            // 303 would turn a question into another one.
            if !matches!(status.as_u16(), 301 | 302 | 307 | 308) {
                return Ok((answer, at));
            }
            if peer.options.refuse_redirects {
                return Err(Fault::fatal("redirects, and http.followRedirects is false"));
            }
            let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|text| at.join(text).ok());
            let next = next.filter(|next| {
                next.scheme() == "https" || (next.scheme() == "http" && at.scheme() == "http")
            });
            at = next.ok_or_else(|| Fault::fatal("redirects to where nobody may follow"))?;
        }
        Err(Fault::fatal("redirects too often"))
    }
}

async fn ask(
    peer: &Peer,
    method: &Method,
    url: &Url,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Incoming>, Fault> {
    let body: RequestBody = Full::new(body).map_err(|never| match never {}).boxed();
    let mut request = Request::builder()
        .method(method)
        .uri(url.as_str())
        .body(body)
        .map_err(|_| Fault::fatal("has an address that can't be asked"))?;
    *request.headers_mut() = headers;
    let agent = peer.options.user_agent.as_deref().and_then(|agent| HeaderValue::from_str(agent).ok());
    let agent = agent.unwrap_or(HeaderValue::from_static(USER_AGENT));
    request.headers_mut().insert(header::USER_AGENT, agent);
    if let Some(value) = url.as_str().parse().ok().and_then(|url| peer.proxies.authorization(&url)) {
        request.headers_mut().insert(header::PROXY_AUTHORIZATION, value);
    }
    match tokio::time::timeout(STALL, peer.client.request(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Fault::again(common::error::chain(&error))),
        Err(_) => Err(silent()),
    }
}

/// The next piece of an answer, whoever sends it within the limit.
pub(super) async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, Fault> {
    loop {
        match tokio::time::timeout(STALL, body.frame()).await {
            Ok(None) => return Ok(None),
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Ok(Some(Err(error))) => return Err(Fault::again(common::error::chain(&error))),
            Err(_) => return Err(silent()),
        }
    }
}

fn silent() -> Fault {
    Fault::again(format!("was silent for {} s", STALL.as_secs()))
}

/// A header's value that is never printed.
pub(super) fn secret(text: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text.expose_secret()).ok()?;
    value.set_sensitive(true);
    Some(value)
}
