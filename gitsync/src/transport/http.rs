//! Smart HTTP (`gitprotocol-http`): one pooled connection, so that a poll that finds nothing is a
//! single small POST.

use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use common::client::{Client, Proxies, TlsOptions};
use common::secret::{ExposeSecret as _, SecretString};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use url::Url;

use super::{AGENT, CONNECT, FetchSink, STALL, TransportError, USER_AGENT};
use crate::protocol::{
    AdvertReader, Advertisement, Capabilities, Decoder, FetchEvent, FetchRequest, FetchResponse, Packet,
    ProtocolError, RefsReader, RemoteRef, encode_ls_refs,
};

/// More redirects than this are a loop.
const MAX_REDIRECTS: usize = 5;

/// Settings of HTTP remotes.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use std::time::Duration;
///
/// config.transport.proxy = Some("http://proxy.example:3128".into());
/// config.transport.low_speed = Some((1_000, Duration::from_secs(30)));
/// ```
#[derive(Debug, Clone, Default)]
pub struct HttpOptions {
    /// What to trust and to show.
    pub tls: TlsOptions,
    /// Further headers (`http.extraHeader`).
    pub headers: Vec<(String, String)>,
    /// The proxy; empty for none, `None` for what the environment says.
    pub proxy: Option<String>,
    /// Instead of our own `User-Agent`.
    pub user_agent: Option<String>,
    /// Follow no redirect.
    pub refuse_redirects: bool,
    /// Give up on an answer that brought less than so many bytes a second for so long.
    pub low_speed: Option<(u64, Duration)>,
}

impl HttpOptions {
    /// The proxies these options ask for.
    #[doc(hidden)]
    pub fn proxies(&self) -> Proxies {
        match self.proxy.as_deref() {
            None => Proxies::from_env(),
            Some("") => Proxies::none(),
            // git takes a bare host and port for an HTTP proxy.
            Some(proxy) if !proxy.contains("://") => Proxies::all(&format!("http://{proxy}")),
            Some(proxy) => Proxies::all(proxy),
        }
    }
}

/// A repository behind an HTTP server.
pub struct HttpRemote {
    client: Client,
    /// As configured.
    origin: Url,
    /// Where redirects led.
    base: Url,
    authorization: Option<HeaderValue>,
    cookie: Option<HeaderValue>,
    extra: Vec<(header::HeaderName, HeaderValue)>,
    proxies: Proxies,
    user_agent: HeaderValue,
    refuse_redirects: bool,
    low_speed: Option<(u64, Duration)>,
    /// What the server offered when it was asked; asked again after any failure.
    known: Option<Capabilities>,
}

impl HttpRemote {
    /// For a URL without credentials in it.
    ///
    /// # Errors
    /// When the TLS settings can't be used.
    pub fn new(url: Url, options: &HttpOptions) -> Result<Self, TransportError> {
        let tls = common::client::tls(&options.tls).map_err(|e| TransportError::Tls(e.to_string()))?;
        let proxies = options.proxies();
        let client = common::client::client_via(tls, CONNECT, proxies.clone());
        let extra: Vec<_> = options
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?)))
            .collect();
        let own = HeaderValue::from_static(USER_AGENT);
        let user_agent = options.user_agent.as_deref().map(HeaderValue::from_str);
        let user_agent = user_agent.and_then(Result::ok).unwrap_or(own);
        Ok(Self {
            client,
            base: url.clone(),
            origin: url,
            authorization: None,
            cookie: None,
            extra,
            proxies,
            user_agent,
            refuse_redirects: options.refuse_redirects,
            low_speed: options.low_speed,
            known: None,
        })
    }

    /// Sets what to log in with from the next request on.
    pub fn set_credentials(&mut self, credentials: Option<(&str, &SecretString)>) {
        let encode = |(user, password): (&str, &SecretString)| {
            let pair = format!("{user}:{}", password.expose_secret());
            let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
            let mut value = HeaderValue::try_from(text).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        self.authorization = credentials.and_then(encode);
    }

    /// Sets the `Cookie` header from the next request on.
    pub fn set_cookie(&mut self, cookie: Option<&SecretString>) {
        self.cookie = cookie.and_then(|text| {
            let mut value = HeaderValue::from_str(text.expose_secret()).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
    }

    pub(super) async fn refs(&mut self, names: &[String]) -> Result<Vec<RemoteRef>, TransportError> {
        let result = self.refs_once(names).await;
        if result.is_err() {
            self.forget();
        }
        result
    }

    async fn refs_once(&mut self, names: &[String]) -> Result<Vec<RemoteRef>, TransportError> {
        if self.known.is_none() {
            match self.discover(names).await? {
                Advertisement::V0 { refs, .. } => return Ok(refs),
                Advertisement::V2(capabilities) => self.known = Some(capabilities),
            }
        }
        let mut request = Vec::new();
        encode_ls_refs(&mut request, AGENT, names);
        let mut answer = self.post(request, true).await?;
        let mut reader = RefsReader::new(names.to_vec());
        loop {
            let packet = answer.packet("listing refs").await?;
            if let Some(refs) = reader.packet(packet).map_err(|e| answer.protocol(e))? {
                answer.drain().await;
                return Ok(refs);
            }
        }
    }

    pub(super) async fn fetch(
        &mut self,
        request: &FetchRequest,
        sink: FetchSink,
    ) -> Result<(), TransportError> {
        let result = self.fetch_once(request, sink).await;
        if result.is_err() {
            self.forget();
        }
        result
    }

    async fn fetch_once(&mut self, request: &FetchRequest, sink: FetchSink) -> Result<(), TransportError> {
        let advertisement = match &self.known {
            Some(capabilities) => Advertisement::V2(capabilities.clone()),
            None => self.discover(&[]).await?,
        };
        let fail = |source| TransportError::Protocol { address: self.base.to_string(), source };
        let (wire, mut response, v2) = match &advertisement {
            Advertisement::V2(c) => (request.encode_v2(c, AGENT).map_err(fail)?, FetchResponse::v2(), true),
            Advertisement::V0 { capabilities: c, .. } => {
                let response = FetchResponse::v0(request.depth.is_some());
                (request.encode_v0(c, AGENT).map_err(fail)?, response, false)
            }
        };
        if let Advertisement::V2(capabilities) = &advertisement
            && request.is_filtered_by(capabilities)
        {
            sink.send(FetchEvent::Filtered).await.map_err(|_| TransportError::SinkClosed)?;
        }
        let mut answer = self.post(wire, v2).await?;
        loop {
            let packet = answer.packet("sending the pack").await?;
            let Some(event) = response.packet(packet).map_err(|e| answer.protocol(e))? else { continue };
            let done = event == FetchEvent::Done;
            sink.send(event).await.map_err(|_| TransportError::SinkClosed)?;
            if done {
                answer.drain().await;
                return Ok(());
            }
        }
    }

    fn forget(&mut self) {
        self.known = None;
        self.base = self.origin.clone();
    }

    async fn discover(&mut self, names: &[String]) -> Result<Advertisement, TransportError> {
        let url = service_url(&self.base, "info/refs?service=git-upload-pack");
        let (mut answer, landed) = self.get(url).await?;
        if !answer.content_type.starts_with("application/x-git-upload-pack-advertisement") {
            let text = format!("{} sends {:?}", answer.address, answer.content_type);
            return Err(answer.protocol(ProtocolError::NotGit(text)));
        }
        if let Some(base) = base_of(&landed) {
            self.base = base;
        }
        let mut reader = AdvertReader::new(true, names.to_vec());
        loop {
            let packet = answer.packet("greeting").await?;
            if let Some(advertisement) = reader.packet(packet).map_err(|e| answer.protocol(e))? {
                answer.drain().await;
                return Ok(advertisement);
            }
        }
    }

    /// GET with redirects; the credentials stay with the host they are for.
    async fn get(&self, mut url: Url) -> Result<(Answer, Url), TransportError> {
        for _ in 0..=MAX_REDIRECTS {
            let trusted = same_site(&url, &self.origin);
            let response = self.send(Method::GET, &url, Bytes::new(), true, trusted).await?;
            if !response.status().is_redirection() {
                return Ok((Answer::new(response, &url, self.low_speed)?, url));
            }
            let refuse =
                |reason: &str| TransportError::Redirect { url: url.to_string(), reason: reason.to_owned() };
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|text| url.join(text).ok()).ok_or_else(|| refuse("to nowhere"))?;
            if self.refuse_redirects {
                return Err(refuse("and http.followRedirects is false"));
            }
            if !matches!(next.scheme(), "http" | "https") {
                return Err(refuse("to another protocol"));
            }
            if url.scheme() == "https" && next.scheme() == "http" {
                return Err(refuse("from https to http"));
            }
            url = next;
        }
        Err(TransportError::Redirect { url: url.to_string(), reason: "too often".to_owned() })
    }

    async fn post(&self, body: Vec<u8>, v2: bool) -> Result<Answer, TransportError> {
        let url = service_url(&self.base, "git-upload-pack");
        let trusted = same_site(&url, &self.origin);
        let response = self.send(Method::POST, &url, body.into(), v2, trusted).await?;
        Answer::new(response, &url, self.low_speed)
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        body: Bytes,
        v2: bool,
        trusted: bool,
    ) -> Result<Response<Incoming>, TransportError> {
        let address = url.to_string();
        let invalid = |e: hyper::http::Error| TransportError::Io {
            what: "building a request for",
            address: address.clone(),
            source: std::io::Error::other(e),
        };
        let mut request =
            Request::builder().method(&method).uri(url.as_str()).header(header::USER_AGENT, &self.user_agent);
        if let Some(value) = url.as_str().parse().ok().and_then(|url| self.proxies.authorization(&url)) {
            request = request.header(header::PROXY_AUTHORIZATION, value);
        }
        if v2 {
            request = request.header("Git-Protocol", "version=2");
        }
        if method == Method::POST {
            request = request
                .header(header::CONTENT_TYPE, "application/x-git-upload-pack-request")
                .header(header::ACCEPT, "application/x-git-upload-pack-result");
        }
        if trusted {
            if let Some(value) = &self.authorization {
                request = request.header(header::AUTHORIZATION, value);
            }
            if let Some(value) = &self.cookie {
                request = request.header(header::COOKIE, value);
            }
            for (name, value) in &self.extra {
                request = request.header(name, value);
            }
        }
        let request = request.body(Full::new(body)).map_err(invalid)?;
        match tokio::time::timeout(STALL, common::client::read(&self.client, request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(TransportError::Io {
                what: "asking",
                address,
                source: std::io::Error::other(common::error::chain(&error)),
            }),
            Err(_) => Err(TransportError::Silent { what: "answering", address, limit: STALL }),
        }
    }
}

pub(crate) fn same_site(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

fn service_url(base: &Url, tail: &str) -> Url {
    let mut url = base.clone();
    let (path, query) = tail.split_once('?').map_or((tail, None), |(path, query)| (path, Some(query)));
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url.set_query(query);
    url
}

/// The repository's URL behind the URL where `info/refs` was found.
fn base_of(landed: &Url) -> Option<Url> {
    let mut base = landed.clone();
    base.set_path(landed.path().strip_suffix("/info/refs")?);
    base.set_query(None);
    Some(base)
}

/// A response body, read packet by packet.
struct Answer {
    body: Incoming,
    decoder: Decoder,
    address: String,
    content_type: String,
    pace: Option<Pace>,
}

/// Watches how fast an answer comes.
struct Pace {
    /// Bytes a second.
    limit: u64,
    time: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    /// Takes note of what came; whether it was too little for too long.
    fn is_slow(&mut self, bytes: usize, now: Instant) -> bool {
        self.bytes += bytes as u64;
        let passed = now.saturating_duration_since(self.since);
        if passed < self.time {
            return false;
        }
        let slow = u128::from(self.bytes) * 1_000 < u128::from(self.limit) * passed.as_millis();
        (self.since, self.bytes) = (now, 0);
        slow
    }
}

impl Answer {
    fn new(
        response: Response<Incoming>,
        url: &Url,
        low_speed: Option<(u64, Duration)>,
    ) -> Result<Self, TransportError> {
        let status = response.status();
        if status != StatusCode::OK {
            return Err(TransportError::Status { url: url.to_string(), status: status.as_u16() });
        }
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        Ok(Self {
            body: response.into_body(),
            decoder: Decoder::default(),
            address: url.to_string(),
            content_type,
            pace: low_speed.map(|(limit, time)| Pace { limit, time, since: Instant::now(), bytes: 0 }),
        })
    }

    async fn packet(&mut self, what: &'static str) -> Result<Packet, TransportError> {
        loop {
            if let Some(packet) = self.decoder.next_packet().map_err(|e| self.protocol(e))? {
                return Ok(packet);
            }
            match self.bytes(what).await? {
                Some(bytes) => self.decoder.push(&bytes),
                None => return Err(self.protocol(ProtocolError::UnexpectedEnd(what))),
            }
        }
    }

    async fn bytes(&mut self, what: &'static str) -> Result<Option<Bytes>, TransportError> {
        let patience = self.pace.as_ref().map_or(STALL, |pace| pace.time.min(STALL));
        loop {
            match tokio::time::timeout(patience, self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => {
                    if let Ok(bytes) = frame.into_data() {
                        if let Some(pace) = &mut self.pace
                            && pace.is_slow(bytes.len(), Instant::now())
                        {
                            let (address, limit) = (self.address.clone(), pace.limit);
                            return Err(TransportError::Slow { address, limit, time: pace.time });
                        }
                        return Ok(Some(bytes));
                    }
                }
                Ok(Some(Err(error))) => {
                    let source = std::io::Error::other(common::error::chain(&error));
                    return Err(TransportError::Io {
                        what: "reading from",
                        address: self.address.clone(),
                        source,
                    });
                }
                Err(_) => {
                    let address = self.address.clone();
                    return Err(TransportError::Silent { what, address, limit: patience });
                }
            }
        }
    }

    /// Reads to the end, so that the connection can be used again. What comes late is left.
    async fn drain(&mut self) {
        let rest = async { while self.body.frame().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
    }

    fn protocol(&self, source: ProtocolError) -> TransportError {
        TransportError::Protocol { address: self.address.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_is_noticed() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut pace = Pace { limit: 100, time: Duration::from_secs(10), since: start, bytes: 0 };
        assert!(!pace.is_slow(10, after(9)));
        assert!(!pace.is_slow(990, after(10)));
        assert!(!pace.is_slow(900, after(19)));
        assert!(pace.is_slow(50, after(20)));
    }

    #[test]
    fn urls_of_the_service() {
        let base = Url::parse("https://h/a/x.git/").unwrap();
        assert_eq!(service_url(&base, "git-upload-pack").as_str(), "https://h/a/x.git/git-upload-pack");
        let refs = service_url(&base, "info/refs?service=git-upload-pack");
        assert_eq!(refs.as_str(), "https://h/a/x.git/info/refs?service=git-upload-pack");
        assert_eq!(base_of(&refs).unwrap().as_str(), "https://h/a/x.git");
    }

    #[test]
    fn credentials_belong_to_one_site() {
        let a = Url::parse("https://h/x").unwrap();
        assert!(same_site(&a, &Url::parse("https://h:443/y").unwrap()));
        assert!(!same_site(&a, &Url::parse("http://h/x").unwrap()));
        assert!(!same_site(&a, &Url::parse("https://h2/x").unwrap()));
    }
}
