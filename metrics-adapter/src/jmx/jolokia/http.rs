//! One connection to an agent: requests one after another, answers bounded.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Error;
use super::url::AgentUrl;
use crate::jmx::client::tls::TlsSettings;
use crate::jmx::client::{Credentials, Timeouts};

/// Largest answer, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// Where to, and how.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) url: AgentUrl,
    pub(super) credentials: Option<Credentials>,
    pub(super) tls: Option<Arc<TlsSettings>>,
    pub(super) timeouts: Timeouts,
}

/// An open connection; ends with the peer's first refusal to go on.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authorization: Option<HeaderValue>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connection {
    pub(super) async fn open(dial: &Dial) -> Result<Self, Error> {
        let address = dial.url.authority();
        let limit = dial.timeouts.connect;
        let io = |what, source| Error::Io { address: address.clone(), what, source };
        let slow = |what| Error::Timeout { address: address.clone(), what, after: limit };
        let connect = timeout(limit, TcpStream::connect((dial.url.host.as_str(), dial.url.port)));
        let stream = connect.await.map_err(|_| slow("connecting"))?;
        let stream = stream.map_err(|source| io("connecting", source))?;
        stream.set_nodelay(true).map_err(|source| io("connecting", source))?;
        let stream: Box<dyn Stream> = match &dial.tls {
            Some(tls) if dial.url.tls => {
                let name = tls.server_name(&dial.url.host);
                let invalid =
                    || io::Error::new(io::ErrorKind::InvalidInput, "no name that a certificate can carry");
                let name = name.ok_or_else(|| io("the TLS handshake", invalid()))?;
                let secured = timeout(dial.timeouts.handshake, tls.connector().connect(name, stream)).await;
                let secured = secured.map_err(|_| slow("the TLS handshake"))?;
                Box::new(secured.map_err(|source| io("the TLS handshake", source))?)
            }
            _ => Box::new(stream),
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| io("opening the HTTP connection", io::Error::other(error)))?;
        // Ends when the sender is dropped or the peer closes; failures reach the caller through the sender.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        let authorization = dial.credentials.as_ref().map(|pair| {
            let pair = format!("{}:{}", pair.username, pair.password.expose_secret());
            let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
            let mut value =
                HeaderValue::from_str(&format!("Basic {encoded}")).unwrap_or(HeaderValue::from_static(""));
            value.set_sensitive(true);
            value
        });
        Ok(Self { sender, authorization })
    }

    /// Whether the peer still listens, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    pub(super) async fn post(&mut self, dial: &Dial, body: String) -> Result<String, Error> {
        let address = dial.url.authority();
        let limit = dial.timeouts.reply;
        match timeout(limit, self.exchange(dial, body)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { address, what: "reading an answer", after: limit }),
        }
    }

    async fn exchange(&mut self, dial: &Dial, body: String) -> Result<String, Error> {
        let address = dial.url.authority();
        let io = |what, source| Error::Io { address: address.clone(), what, source };
        let scheme = if dial.url.tls { "https" } else { "http" };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&dial.url.path)
            .header(header::HOST, &address)
            .header(header::CONTENT_TYPE, "application/json")
            // Agents with strict checks want to know where a request comes from.
            .header(header::ORIGIN, format!("{scheme}://{address}"))
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| io("making a request", io::Error::other(error)))?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        self.sender.ready().await.map_err(|error| io("sending a request", io::Error::other(error)))?;
        let response = self.sender.send_request(request).await;
        let response = response.map_err(|error| io("sending a request", io::Error::other(error)))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(Error::Status {
                address,
                status: status.as_u16(),
                with_credentials: self.authorization.is_some(),
            });
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| io("reading an answer", io::Error::other(error)))?.to_bytes();
        String::from_utf8(body.into())
            .map_err(|_| Error::NotJolokia { address, why: "it is no UTF-8".to_owned() })
    }
}

impl Dial {
    /// Time for an answer.
    pub(super) fn set_reply_timeout(&mut self, limit: Duration) {
        self.timeouts.reply = limit;
    }
}
