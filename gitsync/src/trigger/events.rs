//! Server-sent events: a neighbour waits for publications instead of looking for them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::server::{Request, Response, require_method, stream, text};
use common::shutdown::Shutdown;
use hyper::{Method, StatusCode, header};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::news::News;

/// Listeners at one time.
const MAX_LISTENERS: usize = 64;
/// A silent connection gets a comment that often, so that proxies keep it and a lost peer is noticed.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Where publications come from. Clones share.
#[derive(Clone)]
pub(crate) struct Events {
    news: watch::Receiver<Option<Arc<News>>>,
    permits: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl Events {
    pub(crate) fn new(news: watch::Receiver<Option<Arc<News>>>, shutdown: &Shutdown) -> Self {
        Self { news, permits: Arc::new(Semaphore::new(MAX_LISTENERS)), shutdown: shutdown.clone() }
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
        let (sender, pieces) = mpsc::channel(4);
        let (news, token) = (self.news.clone(), self.shutdown.token().clone());
        self.shutdown.spawn(async move {
            tokio::select! {
                () = feed(news, known, sender) => {}
                () = token.cancelled() => {}
            }
            drop(permit);
        });
        let mut response = Response::new(stream(pieces));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        response
    }
}

/// Sends until the listener is gone. One that is slow misses what lies between, not the newest.
async fn feed(
    mut news: watch::Receiver<Option<Arc<News>>>,
    mut known: Option<String>,
    to: mpsc::Sender<Bytes>,
) {
    loop {
        let newest = news.borrow_and_update().clone();
        let piece = match newest {
            Some(newest) if known.as_deref() != Some(&newest.new.to_string()) => {
                known = Some(newest.new.to_string());
                event(&newest)
            }
            // Headers go out with the first piece.
            _ => ": nothing new\n\n".to_owned(),
        };
        if to.send(piece.into()).await.is_err() {
            return;
        }
        loop {
            tokio::select! {
                changed = news.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = tokio::time::sleep(HEARTBEAT) => {
                    if to.send(": still here\n\n".into()).await.is_err() {
                        return;
                    }
                }
                () = to.closed() => return,
            }
        }
    }
}

fn event(news: &News) -> String {
    // JSON has no raw line ends.
    format!("event: published\nid: {}\ndata: {}\n\n", news.new, news.to_json())
}
