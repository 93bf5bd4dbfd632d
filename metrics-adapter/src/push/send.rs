//! Sending one batch, and what the answer means.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::client::{self, Client, RequestBody};
use common::retry::{Backoff, Policy};
use common::shutdown::Shutdown;
use http_body_util::{BodyExt as _, Collected, Full, Limited};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};

use super::batch::Batch;
use super::state::State;
use super::target::{Protocol, PushError, Target};

/// Time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER: usize = 64 << 10;
/// Longest pause that a receiver can ask for.
const LONGEST_WISH: Duration = Duration::from_secs(300);

/// A client for one target.
pub(super) struct Sender {
    client: Client,
    url: Uri,
    headers: HeaderMap,
    protocol: Protocol,
    timeout: Duration,
    retry: Policy,
    state: Arc<State>,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Taken, but for some samples.
    Taken { refused: u64, why: String },
    /// Not now; perhaps after the pause that the receiver asked for.
    Later { reason: String, pause: Option<Duration> },
    /// Never.
    Refused { reason: String },
}

impl Sender {
    pub(super) fn new(target: &Target, state: Arc<State>) -> Result<Self, PushError> {
        let url = target
            .url
            .parse()
            .map_err(|_| PushError::Url { url: state.target().to_owned(), reason: "it is no URL" })?;
        let mut headers: HeaderMap = target
            .protocol
            .headers()
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        headers.insert(
            header::USER_AGENT,
            HeaderValue::from_static(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"))),
        );
        headers.extend(target.headers.iter().cloned());
        Ok(Self {
            client: client::client(client::tls(&target.tls)?, CONNECT),
            url,
            headers,
            protocol: target.protocol,
            timeout: target.timeout,
            retry: Policy::new(target.retry.0, target.retry.1),
            state,
        })
    }

    /// Sends a batch, as often as it takes, until it is taken or refused or the process ends.
    pub(super) async fn send(&self, batch: &Batch, shutdown: &Shutdown) {
        let mut backoff = Backoff::new(self.retry);
        loop {
            let Outcome::Later { reason, pause } = self.attempt(batch).await else { return };
            self.state.will_retry(&reason);
            let pause = backoff.next_delay().max(pause.unwrap_or_default().min(LONGEST_WISH));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.triggered() => return,
            }
        }
    }

    /// Sends a batch; false when it was not taken and would have to be sent again.
    pub(super) async fn send_once(&self, batch: &Batch) -> bool {
        !matches!(self.attempt(batch).await, Outcome::Later { .. })
    }

    async fn attempt(&self, batch: &Batch) -> Outcome {
        let outcome = match tokio::time::timeout(self.timeout, self.post(batch.body.clone())).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(reason)) => Outcome::Later { reason, pause: None },
            Err(_) => Outcome::Later { reason: format!("no answer within {:?}", self.timeout), pause: None },
        };
        match &outcome {
            Outcome::Taken { refused, why } => {
                self.state.taken(batch.samples, *refused);
                if *refused > 0 {
                    tracing::warn!(
                        target = self.state.target(),
                        refused,
                        why,
                        "the receiver refused samples"
                    );
                }
            }
            Outcome::Refused { reason } => self.state.refused(batch.samples, reason),
            Outcome::Later { .. } => {}
        }
        outcome
    }

    async fn post(&self, body: Bytes) -> Result<Outcome, String> {
        let body: RequestBody = Full::new(body).map_err(|never| -> io::Error { match never {} }).boxed();
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.url.clone();
        *request.headers_mut() = self.headers.clone();
        let answer = self.client.request(request).await.map_err(|error| common::error::chain(&error))?;
        let (head, body) = answer.into_parts();
        // Read to its end, so that the connection can be used again; what is too long is not worth that.
        let body = Limited::new(body, ANSWER).collect().await.map(Collected::to_bytes).unwrap_or_default();
        Ok(judge(self.protocol, head.status, &head.headers, &body))
    }
}

/// What an answer means.
pub(super) fn judge(protocol: Protocol, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
    if status.is_success() {
        let (refused, why) = if protocol == Protocol::Otlp { partial(body) } else { (0, String::new()) };
        return Outcome::Taken { refused, why };
    }
    let mut reason = format!("status {status}");
    let said: String = String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(300).collect();
    if !said.is_empty() && protocol != Protocol::Otlp {
        reason.push_str(": ");
        reason.push_str(&said);
    }
    if status == StatusCode::UNSUPPORTED_MEDIA_TYPE && protocol == Protocol::RemoteWrite2 {
        reason.push_str(" (perhaps the receiver only knows remote write 1.0)");
    }
    let later = match protocol {
        Protocol::Otlp => matches!(status.as_u16(), 429 | 502 | 503 | 504),
        Protocol::RemoteWrite1 | Protocol::RemoteWrite2 => {
            status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
        }
    };
    if !later {
        return Outcome::Refused { reason };
    }
    let pause = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Outcome::Later { reason, pause: pause.map(Duration::from_secs) }
}

/// `ExportMetricsServiceResponse`: number of points that were refused, and why.
fn partial(body: &[u8]) -> (u64, String) {
    let (mut refused, mut why) = (0, String::new());
    for (field, value) in fields(body) {
        let (1, Field::Bytes(success)) = (field, value) else { continue };
        for (field, value) in fields(success) {
            match (field, value) {
                (1, Field::Number(number)) => refused = number,
                (2, Field::Bytes(text)) => {
                    why =
                        String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(300).collect();
                }
                _ => {}
            }
        }
    }
    (refused, why)
}

/// A field of a protobuf message.
#[derive(Debug, PartialEq)]
pub(super) enum Field<'a> {
    /// A varint or fixed number.
    Number(u64),
    /// A message, text or packed numbers.
    Bytes(&'a [u8]),
}

/// The fields of a message; ends at the first that is damaged.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Field<'_>)> {
    fn number(bytes: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if *byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
    std::iter::from_fn(move || {
        let key = number(&mut bytes)?;
        let value = match key & 7 {
            0 => Field::Number(number(&mut bytes)?),
            1 => {
                let (fixed, rest) = bytes.split_first_chunk()?;
                bytes = rest;
                Field::Number(u64::from_le_bytes(*fixed))
            }
            2 => {
                let length = usize::try_from(number(&mut bytes)?).ok()?;
                let (content, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Field::Bytes(content)
            }
            _ => return None,
        };
        Some((key >> 3, value))
    })
}
