//! Reaching servers through an HTTP or SOCKS proxy.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::{SocksV5, Tunnel};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

type BoxError = Box<dyn Error + Send + Sync>;

/// Which proxy is for which server. Clones share.
#[derive(Debug, Clone)]
pub struct Proxies(Option<Arc<Matcher>>);

impl Proxies {
    /// Every server is reached directly.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// What `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say, in either case.
    #[must_use]
    pub fn from_env() -> Self {
        Self(Some(Arc::new(Matcher::from_env())))
    }

    /// One proxy (`http://user:password@host:port`, `socks5://…`, `socks5h://…`) for all but what
    /// `NO_PROXY` names.
    #[must_use]
    pub fn all(url: &str) -> Self {
        let except = std::env::var("NO_PROXY").or_else(|_| std::env::var("no_proxy")).unwrap_or_default();
        Self(Some(Arc::new(Matcher::builder().all(url.to_owned()).no(except).build())))
    }

    /// The header that a proxy wants with each plain request to `server`, if any. (A tunnel gets it
    /// when it is made.)
    #[must_use]
    pub fn authorization(&self, server: &Uri) -> Option<HeaderValue> {
        let plain = server.scheme_str() == Some("http");
        let proxy = self.find(server).filter(|proxy| plain && proxy.uri().scheme_str() == Some("http"))?;
        proxy.basic_auth().cloned()
    }

    fn find(&self, server: &Uri) -> Option<Intercept> {
        self.0.as_ref()?.intercept(server)
    }
}

/// Connects directly or through a proxy.
#[derive(Debug, Clone)]
pub struct Connector {
    http: HttpConnector,
    proxies: Proxies,
}

impl Connector {
    pub(super) fn new(http: HttpConnector, proxies: Proxies) -> Self {
        Self { http, proxies }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let (mut http, proxy) = (self.http.clone(), self.proxies.find(&server));
        Box::pin(async move {
            let Some(proxy) = proxy else { return Ok(Stream::new(http.call(server).await?)) };
            let address = proxy.uri().clone();
            let name = address.authority().map_or("", |authority| authority.as_str());
            let name = name.rsplit('@').next().unwrap_or_default().to_owned();
            let fail = |error: BoxError| -> BoxError { format!("through the proxy {name}: {error}").into() };
            match (address.scheme_str(), server.scheme_str()) {
                (Some("http"), Some("https")) => {
                    let mut tunnel = Tunnel::new(address, http);
                    if let Some(value) = proxy.basic_auth() {
                        tunnel = tunnel.with_auth(value.clone());
                    }
                    tunnel.call(server).await.map(Stream::new).map_err(|e| fail(e.into()))
                }
                (Some("http"), _) => {
                    let stream = http.call(address).await.map_err(|e| fail(e.into()))?;
                    Ok(Stream { proxied: true, ..Stream::new(stream) })
                }
                (Some(kind @ ("socks5" | "socks5h")), _) => {
                    let mut socks = SocksV5::new(address.clone(), http).local_dns(kind == "socks5");
                    if let Some((user, password)) = proxy.raw_auth() {
                        socks = socks.with_auth(user.to_owned(), password.to_owned());
                    }
                    socks.call(server).await.map(Stream::new).map_err(|e| fail(e.into()))
                }
                (kind, _) => {
                    let kind = kind.unwrap_or("no");
                    Err(fail(format!("it is of {kind} kind that is known (http, socks5, socks5h)").into()))
                }
            }
        })
    }
}

/// A connection to a server or to its proxy.
#[derive(Debug)]
pub struct Stream {
    inner: TokioIo<TcpStream>,
    /// Requests have to name the server.
    proxied: bool,
}

impl Stream {
    fn new(inner: TokioIo<TcpStream>) -> Self {
        Self { inner, proxied: false }
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.inner.connected().proxy(self.proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, data)
    }
}
