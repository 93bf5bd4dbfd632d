//! One bounded exchange with a credential service.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use common::client::{Client, RequestBody};
use http_body_util::{BodyExt, Collected, Limited};
use hyper::header::HeaderValue;
use hyper::{Request, StatusCode};

use super::url;

/// Largest answer that is taken, in bytes.
const MAX_ANSWER: usize = 64 << 10;

/// Why a credential service gave no answer. Nothing of the answer's body is repeated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The URL cannot be put into a request.
    #[error("unusable URL {url}")]
    Url {
        /// The URL, without secrets.
        url: String,
    },
    /// No answer in time.
    #[error("no answer from {url} within {after:?}")]
    Timeout {
        /// The URL, without secrets.
        url: String,
        /// The limit.
        after: Duration,
    },
    /// The exchange failed.
    #[error("cannot ask {url}")]
    Exchange {
        /// The URL, without secrets.
        url: String,
        /// What failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another status than the one that means success.
    #[error("{url} answered {status} instead of {wanted}")]
    Status {
        /// The URL, without secrets.
        url: String,
        /// The answer's status.
        status: StatusCode,
        /// The expected status.
        wanted: StatusCode,
    },
    /// The answer is too long, or not what it should be.
    #[error("unusable answer from {url}: {reason}")]
    Answer {
        /// The URL, without secrets.
        url: String,
        /// What is wrong.
        reason: String,
    },
}

impl FetchError {
    /// Whether the same request may succeed later without a change here.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Exchange { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error()
                    || *status == StatusCode::TOO_MANY_REQUESTS
                    || *status == StatusCode::REQUEST_TIMEOUT
            }
            Self::Url { .. } | Self::Answer { .. } => false,
        }
    }
}

/// Sends the request and gives the body of an answer with the wanted status. Redirects are not
/// followed: a credential must not be asked for elsewhere.
pub(super) async fn exchange(
    client: &Client,
    request: Request<RequestBody>,
    wanted: StatusCode,
    limit: Duration,
) -> Result<Bytes, FetchError> {
    let address = request.uri().to_string();
    let shown = || url::mask(&address).into_owned();
    let work = async {
        let answer = client
            .request(request)
            .await
            .map_err(|error| FetchError::Exchange { url: shown(), source: error.into() })?;
        let status = answer.status();
        if status != wanted {
            return Err(FetchError::Status { url: shown(), status, wanted });
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        body.map(Collected::to_bytes).map_err(|source| FetchError::Exchange { url: shown(), source })
    };
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(FetchError::Timeout { url: shown(), after: limit }))
}

/// Who asks.
pub(super) const USER_AGENT: &str = concat!("gitsync/", env!("CARGO_PKG_VERSION"));

/// The value of an `Authorization` header for basic authentication (RFC 7617), marked as secret.
pub(crate) fn basic(user: &str, password: &str) -> HeaderValue {
    let mut value =
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            .unwrap_or(HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

/// No body.
pub(super) fn empty() -> RequestBody {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed()
}

#[cfg(test)]
pub(super) mod fake {
    //! A server of one canned answer.

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    /// Answers the first connection; gives the base URL and, in the end, the request's head.
    pub(in crate::auth) async fn serve(answer: String) -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                assert_ne!(socket.read_buf(&mut head).await.unwrap(), 0);
            }
            socket.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        });
        (base, served)
    }

    pub(in crate::auth) fn client() -> common::client::Client {
        let tls = common::client::tls(&common::client::TlsOptions::default()).unwrap();
        common::client::client(tls, std::time::Duration::from_secs(5))
    }
}
