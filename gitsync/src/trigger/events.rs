//! Server-sent events: a neighbour waits for publications instead of looking for them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::server::{Request, Response, endless, require_method, text};
use hyper::{Method, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::news::News;
use crate::view::Newest;

/// Listeners at one time.
const MAX_LISTENERS: usize = 64;
/// A silent connection gets a comment that often, so that proxies keep it and a lost peer is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Where publications come from. Clones share.
#[derive(Clone)]
pub(crate) struct Events {
    news: watch::Receiver<Newest>,
    permits: Arc<Semaphore>,
}

impl Events {
    pub(crate) fn new(news: watch::Receiver<Newest>) -> Self {
        Self { news, permits: Arc::new(Semaphore::new(MAX_LISTENERS)) }
    }

    /// Answers with a stream that begins with what is published, unless the caller says by
    /// `Last-Event-ID` that it knows that.
    pub(crate) fn answer(&self, request: &Request) -> Response {
        if let Some(wrong) = require_method(request, &Method::GET) {
            return wrong;
        }
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "too many listeners\n");
        };
        let known = request.headers().get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let mut news = self.news.clone();
        // Headers go out with the first piece.
        news.mark_changed();
        let listener = Listener { news, known, seen: 0, _permit: permit };
        let pieces = futures_util::stream::unfold(listener, |mut listener| async move {
            Some((listener.next().await?, listener))
        });
        let mut response = endless("text/event-stream", pieces);
        response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        response
    }
}

/// Who listens. One that is slow misses what lies between, not the newest.
struct Listener {
    news: watch::Receiver<Newest>,
    /// The publication that it knows of.
    known: Option<String>,
    /// What was sent has numbers up to this.
    seen: u64,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    /// The next piece for it; `None` when there will be no more news.
    async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            changed = self.news.changed() => changed.ok()?,
            () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b": still here\n\n")),
        }
        let newest: Newest = {
            let all = self.news.borrow_and_update();
            all.iter().filter(|(number, _)| *number > self.seen).cloned().collect()
        };
        self.seen = newest.last().map_or(self.seen, |(number, _)| *number);
        let unknown = newest.iter().filter(|(_, news)| self.known.as_deref() != Some(&news.new.to_string()));
        let piece: String = unknown.map(|(_, news)| event(news)).collect();
        // Only what the caller knew when it came needs no telling.
        self.known = self.known.take().filter(|_| newest.is_empty());
        Some(if piece.is_empty() { ": nothing new\n\n".to_owned() } else { piece }.into())
    }
}

fn event(news: &News) -> String {
    // JSON has no raw line ends.
    format!("event: published\nid: {}\ndata: {}\n\n", news.new, news.to_json())
}
