//! A document fetched over HTTP(S).

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use common::client::{self, Client, TlsOptions, rustls};
use common::secret::{self, ExposeSecret};
use http_body_util::{BodyExt, Full};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri};

use super::{Gather, GatherError, Gathering};
use crate::reader::{Reader, Reading};

/// Time for connecting; the source's timeout bounds the whole.
const CONNECT: Duration = Duration::from_secs(10);

/// How requests prove who we are. The files are read for every request, so that they may be rotated.
#[derive(Clone, Debug, Default)]
pub(super) enum Login {
    #[default]
    None,
    Basic(String, PathBuf),
    Bearer(PathBuf),
}

/// What is asked, and how.
#[derive(Clone)]
pub(super) struct Fetch {
    pub(super) uri: Uri,
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    pub(super) login: Login,
    pub(super) limit: usize,
    pub(super) client: Client,
}

/// A client for addresses without TLS: no certificates are loaded for it.
pub(super) fn plain_client() -> Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    let make = || {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(rustls::ALL_VERSIONS).unwrap_or_else(|_| {
            // Unreachable: the provider has suites for these versions.
            rustls::ClientConfig::builder()
        });
        let tls = builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
        client::client(tls, CONNECT)
    };
    CLIENT.get_or_init(make).clone()
}

/// A client for this address.
///
/// # Errors
/// A file cannot be used.
pub(super) fn client_for(uri: &Uri, tls: &TlsOptions) -> Result<Client, String> {
    if uri.scheme_str() != Some("https") {
        return Ok(plain_client());
    }
    let tls = client::tls(tls).map_err(|error| error.to_string())?;
    Ok(client::client(tls, CONNECT))
}

/// Reads an address; what it must not have is named.
///
/// # Errors
/// It is no http or https address, or holds a password.
pub(super) fn address(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|error| format!("`{text}` is no address: {error}"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(format!("`{text}` is no http:// or https:// address"));
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("an address holds no password; use `username` and `password_file`".to_owned());
    }
    Ok(uri)
}

impl Fetch {
    /// A GET without anything special.
    pub(super) fn get(uri: Uri, client: Client, limit: usize) -> Self {
        Self {
            uri,
            method: Method::GET,
            headers: Vec::new(),
            body: Bytes::new(),
            login: Login::None,
            limit,
            client,
        }
    }

    /// The same, of another path of the same server.
    pub(super) fn sibling(&self, path: &str) -> Result<Self, GatherError> {
        let mut parts = self.uri.clone().into_parts();
        let base = self.uri.path().trim_end_matches('/');
        let path =
            format!("{base}{path}").parse().map_err(|_| GatherError(format!("`{path}` is no path")))?;
        parts.path_and_query = Some(path);
        let uri = Uri::from_parts(parts).map_err(|error| GatherError(error.to_string()))?;
        Ok(Self { uri, ..self.clone() })
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, GatherError> {
        let mut request = Request::builder().method(self.method.clone()).uri(self.uri.clone());
        request = request.header(header::USER_AGENT, concat!("metrics-adapter/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let read =
            |path: &PathBuf| secret::read(path).map_err(|error| GatherError(common::error::chain(&error)));
        let authorization = match &self.login {
            Login::None => None,
            Login::Basic(user, path) => {
                let both = format!("{user}:{}", read(path)?.expose_secret());
                Some(format!("Basic {}", STANDARD.encode(both)))
            }
            Login::Bearer(path) => Some(format!("Bearer {}", read(path)?.expose_secret())),
        };
        if let Some(text) = authorization {
            let mut value = HeaderValue::from_str(&text).map_err(|_| {
                GatherError("the password holds characters that no header may have".to_owned())
            })?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(Full::new(self.body.clone())).map_err(|error| GatherError(error.to_string()))
    }

    /// The body of a successful answer.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, GatherError> {
        let shown = &self.uri;
        let answer = client::read(&self.client, self.request()?).await.map_err(|error| {
            let cause = common::error::chain(&error);
            GatherError(format!("{shown}: {cause}"))
        })?;
        if !answer.status().is_success() {
            let place = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let place = place.map(|place| format!(" and points to {place}, which is not followed"));
            return Err(GatherError(format!(
                "{shown} answered {}{}",
                answer.status(),
                place.unwrap_or_default()
            )));
        }
        let long =
            || GatherError(format!("{shown}: the answer is longer than {} bytes (max_bytes)", self.limit));
        let length = answer.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        if length.and_then(|text| text.parse::<u64>().ok()).is_some_and(|length| length > self.limit as u64) {
            return Err(long());
        }
        let mut body = answer.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| GatherError(format!("{shown}: {}", common::error::chain(&error))))?;
            let Some(data) = frame.data_ref() else { continue };
            if bytes.len() + data.len() > self.limit {
                return Err(long());
            }
            bytes.extend_from_slice(data);
        }
        Ok(bytes)
    }
}

/// A document over HTTP, read by a reader.
pub(super) struct Http {
    pub(super) fetch: Fetch,
    pub(super) reader: Reader,
    pub(super) max_series: usize,
}

impl Gather for Http {
    fn gather(&self) -> Gathering<'_> {
        Box::pin(async {
            let body = self.fetch.fetch().await?;
            super::build::parse(&self.reader, body, self.max_series).await
        })
    }

    fn read(&self, document: &[u8]) -> Option<Result<Reading, GatherError>> {
        Some(self.reader.read(document, self.max_series).map_err(GatherError::from))
    }
}
