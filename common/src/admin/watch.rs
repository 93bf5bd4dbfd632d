//! The status page and, at the same address, the stream of its changes (`Accept: text/event-stream`,
//! <https://html.spec.whatwg.org/multipage/server-sent-events.html>).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{no_store, page};
use crate::Build;
use crate::server::{Request, Response, endless, respond, text};
use crate::status::Status;

/// Streams at one time; each costs a rendering a second.
const MAX_WATCHERS: usize = 32;
/// How often the content is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// A stream without changes gets a comment that often, so that proxies keep it and a lost reader is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Answers for a status page. Clones share the limit on watchers.
#[derive(Clone)]
pub struct StatusPage {
    build: Build,
    status: Arc<dyn Fn() -> Status + Send + Sync>,
    watchers: Arc<Semaphore>,
}

impl StatusPage {
    /// `status` is called for each look, so it must be cheap and must not block.
    pub fn new(build: Build, status: impl Fn() -> Status + Send + Sync + 'static) -> Self {
        Self { build, status: Arc::new(status), watchers: Arc::new(Semaphore::new(MAX_WATCHERS)) }
    }

    /// What the page shows now.
    #[must_use]
    pub fn status(&self) -> Status {
        (self.status)()
    }

    /// The page, or the stream of its changes where the request accepts only that.
    #[must_use]
    pub fn answer(&self, request: &Request) -> Response {
        let accepts = request.headers().get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        match accepts == Some("text/event-stream") {
            true => self.changes(),
            false => self.document(),
        }
    }

    /// The whole document, with headers that forbid anything from outside.
    fn document(&self) -> Response {
        let html = page::render(&self.build, &self.status());
        let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", html);
        let policy = HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        );
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        no_store(response)
    }

    fn changes(&self) -> Response {
        let Ok(permit) = Arc::clone(&self.watchers).try_acquire_owned() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "too many watch this page already\n");
        };
        let watcher =
            Watcher { status: Arc::clone(&self.status), sent: None, spoke: Instant::now(), _permit: permit };
        let pieces = futures_util::stream::unfold(watcher, |mut watcher| async move {
            Some((watcher.next().await, watcher))
        });
        no_store(endless("text/event-stream", pieces))
    }
}

struct Watcher {
    status: Arc<dyn Fn() -> Status + Send + Sync>,
    /// The content that the reader has.
    sent: Option<String>,
    /// When something was written last.
    spoke: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    /// The next piece of the stream: at once for the first, then when the content is another.
    async fn next(&mut self) -> Bytes {
        loop {
            if self.sent.is_some() {
                tokio::time::sleep(PERIOD).await;
            }
            let content = page::content(&(self.status)());
            if self.sent.as_ref() != Some(&content) {
                self.spoke = Instant::now();
                let piece = event(&content);
                self.sent = Some(content);
                return piece;
            }
            if self.spoke.elapsed() >= HEARTBEAT {
                self.spoke = Instant::now();
                return Bytes::from_static(b":\n\n");
            }
        }
    }
}

/// One message; each line of the content is a `data` field, and CR would be taken for a line end.
fn event(content: &str) -> Bytes {
    let mut piece = String::with_capacity(content.len() + 64);
    for line in content.split(['\n', '\r']) {
        piece.push_str("data: ");
        piece.push_str(line);
        piece.push('\n');
    }
    piece.push('\n');
    piece.into()
}
