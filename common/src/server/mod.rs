//! The only HTTP server: HTTP/1.1 with limits, time-outs and a graceful end. What a browser sends from
//! a page of another site is refused unless it only reads.

mod site;
mod stall;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, BodyStream, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};

use crate::config::ListenAddr;
use crate::shutdown::Shutdown;

use stall::StallGuard;

/// A request whose body has not been read.
pub type Request = hyper::Request<Incoming>;
/// A response; its body may be streamed.
pub type Response = hyper::Response<Body>;
/// A whole or streamed body.
pub type Body = BoxBody<Bytes, io::Error>;
/// What a [`Handler`] returns.
pub type ResponseFuture = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Answers requests. Implemented for functions from [`Request`] to a future of [`Response`].
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: Request) -> ResponseFuture;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Response> + Send + 'static,
{
    fn call(&self, request: Request) -> ResponseFuture {
        Box::pin(self(request))
    }
}

/// Exact paths and a fallback.
#[derive(Clone, Default)]
pub struct Router {
    routes: Vec<(&'static str, Arc<dyn Handler>)>,
    dynamic: Vec<(String, Arc<dyn Handler>)>,
    fallback: Option<Arc<dyn Handler>>,
}

impl Router {
    /// A router that answers 404 to everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a path; a later route of the same path replaces an earlier one.
    #[must_use]
    pub fn route(mut self, path: &'static str, handler: impl Handler) -> Self {
        self.routes.retain(|(known, _)| *known != path);
        self.routes.push((path, Arc::new(handler)));
        self
    }

    /// Adds a path that is only known at run time (a setting).
    #[must_use]
    pub fn route_at(mut self, path: String, handler: impl Handler) -> Self {
        self.dynamic.retain(|(known, _)| *known != path);
        self.dynamic.push((path, Arc::new(handler)));
        self
    }

    /// Takes a path out.
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        self.routes.retain(|(known, _)| *known != path);
        self.dynamic.retain(|(known, _)| known != path);
        self
    }

    /// Answers what no path matches, instead of 404.
    #[must_use]
    pub fn fallback(mut self, handler: impl Handler) -> Self {
        self.fallback = Some(Arc::new(handler));
        self
    }
}

impl Handler for Router {
    fn call(&self, request: Request) -> ResponseFuture {
        let path = request.uri().path();
        let dynamic = self.dynamic.iter().find(|(known, _)| known == path).map(|(_, handler)| handler);
        let fixed = || self.routes.iter().find(|(known, _)| *known == path).map(|(_, handler)| handler);
        match dynamic.or_else(fixed).or(self.fallback.as_ref()) {
            Some(handler) => handler.call(request),
            None => Box::pin(std::future::ready(text(StatusCode::NOT_FOUND, "not found\n"))),
        }
    }
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fixed = self.routes.iter().map(|(path, _)| *path);
        let dynamic = self.dynamic.iter().map(|(path, _)| path.as_str());
        f.debug_list().entries(fixed.chain(dynamic)).finish()
    }
}

/// What one peer may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at one time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Time for a request's head, and for the next request on an idle connection.
    pub head: Duration,
    /// Time a response waits for a client that reads nothing.
    pub stall: Duration,
    /// Time for running answers after shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            // Longer than the usual scrape interval, so that a scraper keeps its connection.
            head: Duration::from_secs(35),
            stall: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

/// Binds the first candidate of an address that works.
///
/// # Errors
/// The name does not resolve, or the port is taken or not allowed; the text names the address.
pub async fn bind(address: &ListenAddr) -> io::Result<TcpListener> {
    let mut last = None;
    for candidate in address.candidates() {
        match TcpListener::bind(&candidate).await {
            Ok(listener) => return Ok(listener),
            Err(error) => {
                last = Some(io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")));
            }
        }
    }
    Err(last.unwrap_or_else(|| io::Error::other(format!("{address} names no address"))))
}

/// Serves until shutdown, then lets running answers finish (at most `limits.drain`).
///
/// A failing `accept` (too many open files) is logged and retried; it never ends the server.
/// Cancel safe: dropping it closes the listener and all connections.
pub async fn serve(listener: TcpListener, handler: Arc<dyn Handler>, limits: Limits, shutdown: Shutdown) {
    serve_over(listener, |stream| std::future::ready(Ok(stream)), handler, limits, shutdown).await;
}

/// [`serve`] over whatever `secure` makes of an accepted connection (a TLS handshake), which has
/// `limits.head` of time. A connection that it refuses is closed and logged at debug level.
pub async fn serve_over<W, F, S>(
    listener: TcpListener,
    secure: W,
    handler: Arc<dyn Handler>,
    limits: Limits,
    shutdown: Shutdown,
) where
    W: Fn(TcpStream) -> F,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(limits.connections));
    let connections = shutdown.child();
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit,
            () = shutdown.triggered() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.triggered() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "HTTP accept failed; trying again in 100 ms");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let (secured, handler, token) = (secure(stream), Arc::clone(&handler), connections.clone());
        connections.spawn(async move {
            match tokio::time::timeout(limits.head, secured).await {
                Ok(Ok(stream)) => serve_connection(stream, handler, limits, token).await,
                Ok(Err(error)) => tracing::debug!(%error, "HTTP connection refused"),
                Err(_) => tracing::debug!("HTTP connection refused: no handshake in time"),
            }
            drop(permit);
        });
    }
    drop(listener);
    if !connections.drain(limits.drain).await {
        tracing::warn!("HTTP connections were still open at the deadline");
    }
}

/// Serves one connection, of any byte stream (TCP, TLS, unix socket), until it ends or shutdown.
pub async fn serve_connection<S>(stream: S, handler: Arc<dyn Handler>, limits: Limits, shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let token = shutdown.clone();
    let service = service_fn(move |request| {
        let answer: ResponseFuture = match site::is_cross_site(&request) {
            true => Box::pin(std::future::ready(text(StatusCode::FORBIDDEN, "not from another site\n"))),
            false => handler.call(request),
        };
        let token = token.clone();
        async move { Ok::<_, std::convert::Infallible>(end_at_shutdown(answer.await, token)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(StallGuard::new(stream, limits.stall)), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = shutdown.triggered() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(limits.drain, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

/// A whole body.
pub fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// A body that is written while it is sent. The producer waits while the client is slow; when the
/// client is gone, sending fails.
#[must_use]
pub fn stream(pieces: mpsc::Receiver<Bytes>) -> Body {
    let frames = futures_util::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok(Frame::data(piece)), pieces))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

/// Marks a response whose body has no end of its own.
#[derive(Clone, Copy)]
struct Endless;

/// A response that goes on until the client leaves or the server is shut down, piece by piece.
/// Dropping it (the client is gone) drops `pieces`.
pub fn endless<S>(content_type: &'static str, pieces: S) -> Response
where
    S: Stream<Item = Bytes> + Send + Sync + 'static,
{
    let frames = pieces.map(|piece| Ok(Frame::data(piece)));
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response.extensions_mut().insert(Endless);
    response
}

/// Whether a response was made by [`endless`].
#[must_use]
pub fn is_endless(response: &Response) -> bool {
    response.extensions().get::<Endless>().is_some()
}

/// Ends the body of an endless response when the server ends, so that it does not use up the time
/// that other answers have for finishing.
fn end_at_shutdown(response: Response, shutdown: Shutdown) -> Response {
    if !is_endless(&response) {
        return response;
    }
    response.map(|body| {
        let ended = async move { shutdown.triggered().await };
        BodyExt::boxed(StreamBody::new(BodyStream::new(body).take_until(Box::pin(ended))))
    })
}

/// A response with a content type.
pub fn respond(status: StatusCode, content_type: &str, content: impl Into<Bytes>) -> Response {
    let mut response = Response::new(body(content));
    *response.status_mut() = status;
    if let Ok(value) = header::HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

/// A plain text response.
pub fn text(status: StatusCode, content: impl Into<Bytes>) -> Response {
    respond(status, "text/plain; charset=utf-8", content)
}

/// A JSON response.
pub fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => respond(status, "application/json", bytes),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// 405 with the allowed method, unless the request has it. `HEAD` counts as `GET`.
#[must_use]
pub fn require_method(request: &Request, allowed: &Method) -> Option<Response> {
    let method = request.method();
    if method == allowed || (*allowed == Method::GET && method == Method::HEAD) {
        return None;
    }
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}\n"));
    if let Ok(value) = header::HeaderValue::from_str(allowed.as_str()) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    Some(response)
}

/// Why a request's body could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// More than the limit.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// Not all of it came in time.
    #[error("the body did not arrive within {0:?}")]
    TooSlow(Duration),
    /// The connection broke.
    #[error("the body was cut off")]
    Broken,
}

/// Reads a whole request body within bounds of size and time.
///
/// # Errors
/// Too large, too slow, or cut off.
pub async fn read_body(body: Incoming, limit: usize, time: Duration) -> Result<Bytes, BodyError> {
    match tokio::time::timeout(time, Limited::new(body, limit).collect()).await {
        Err(_) => Err(BodyError::TooSlow(time)),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(BodyError::TooLarge(limit)),
        Ok(Err(_)) => Err(BodyError::Broken),
    }
}
