//! Listening for HTTP, plain or with TLS and passwords.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use common::config::ListenAddr;
use common::server::{self, Handler, Limits, Request, Router};
use common::shutdown::Shutdown;
use common::watch::Watch;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::Page;
use super::auth::Users;
use super::config::{self, Security, WebConfigError};

/// Why the HTTP side did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// The address could not be bound; the text names it.
    #[error("{0}")]
    Listen(#[source] io::Error),
    /// The web configuration cannot be used.
    #[error("the web configuration cannot be used")]
    Config(#[from] WebConfigError),
}

/// Checks a web configuration file without using it.
///
/// # Errors
/// What is wrong with it.
pub fn check(path: &Path) -> Result<(), WebConfigError> {
    config::load(path).map(drop)
}

/// A bound HTTP server.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    guard: Option<Guard>,
}

/// What the web configuration asks of every connection and request, replaced when its files change.
struct Guard {
    path: PathBuf,
    files: Vec<PathBuf>,
    current: Arc<ArcSwap<Current>>,
}

struct Current {
    tls: Option<TlsAcceptor>,
    users: Arc<Users>,
    headers: Vec<(hyper::header::HeaderName, hyper::header::HeaderValue)>,
}

/// How often the files are looked at where the system sends no notifications.
const POLL: Duration = Duration::from_secs(30);

impl Server {
    /// Binds, and reads the web configuration if there is one.
    ///
    /// # Errors
    /// The address cannot be bound, or the configuration cannot be used.
    pub async fn bind(address: &ListenAddr, config: Option<&Path>) -> Result<Self, WebError> {
        let guard = match config {
            Some(path) => Some(Guard::load(path)?),
            None => None,
        };
        let listener = server::bind(address).await.map_err(WebError::Listen)?;
        let address = listener.local_addr().map_err(WebError::Listen)?;
        Ok(Self { listener, address, guard })
    }

    /// The address that was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until shutdown.
    pub async fn serve(self, page: Page, shutdown: &Shutdown) {
        let routes = page.routes(shutdown);
        let Some(guard) = self.guard else {
            return server::serve(self.listener, Arc::new(routes), Limits::default(), shutdown.clone()).await;
        };
        shutdown.spawn(follow(guard.path, guard.files, Arc::clone(&guard.current), shutdown.clone()));
        let handler = guarded(routes, Arc::clone(&guard.current));
        if guard.current.load().tls.is_none() {
            return server::serve(self.listener, handler, Limits::default(), shutdown.clone()).await;
        }
        let current = Arc::clone(&guard.current);
        let secure = move |stream: TcpStream| {
            let tls = current.load().tls.clone();
            async move {
                // Once served with TLS, the port never falls back to plain text.
                let acceptor =
                    tls.ok_or_else(|| io::Error::other("TLS was taken out of the configuration"))?;
                acceptor.accept(stream).await
            }
        };
        server::serve_over(self.listener, secure, handler, Limits::default(), shutdown.clone()).await;
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Guard {
    fn load(path: &Path) -> Result<Self, WebConfigError> {
        let security = config::load(path)?;
        let files = security.files.clone();
        let current = Arc::new(ArcSwap::from_pointee(Current::new(security)));
        Ok(Self { path: path.to_owned(), files, current })
    }
}

impl Current {
    fn new(security: Security) -> Self {
        Self {
            tls: security.tls.map(TlsAcceptor::from),
            users: Arc::new(Users::new(security.users)),
            headers: security.headers,
        }
    }
}

/// Puts passwords and headers in front of the routes.
fn guarded(routes: Router, current: Arc<ArcSwap<Current>>) -> Arc<dyn Handler> {
    Arc::new(move |request: Request| {
        let (current, routes) = (current.load_full(), routes.clone());
        async move {
            let mut response = match Arc::clone(&current.users).refuse(&request).await {
                Some(refusal) => refusal,
                None => routes.call(request).await,
            };
            for (name, value) in &current.headers {
                response.headers_mut().insert(name, value.clone());
            }
            response
        }
    })
}

/// Reads the configuration and its certificates again when they change; what is broken is not used.
async fn follow(path: PathBuf, files: Vec<PathBuf>, current: Arc<ArcSwap<Current>>, shutdown: Shutdown) {
    let mut watch = Watch::new(files, POLL);
    loop {
        tokio::select! {
            () = watch.changed() => {}
            () = shutdown.triggered() => return,
        }
        match config::load(&path) {
            Ok(security) => {
                watch = Watch::new(security.files.clone(), POLL);
                current.store(Arc::new(Current::new(security)));
                tracing::info!("web configuration read again");
            }
            Err(error) => tracing::error!(%error, "the old web configuration stays in use"),
        }
    }
}
