//! Listening for HTTP.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use common::config::ListenAddr;
use common::server::{self, Limits};
use common::shutdown::Shutdown;
use tokio::net::TcpListener;

use super::Page;

/// Why the HTTP side did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// The address could not be bound; the text names it.
    #[error("{0}")]
    Listen(#[source] io::Error),
}

/// A bound HTTP server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(address: &ListenAddr, _config: Option<&Path>) -> Result<Self, WebError> {
        let listener = server::bind(address).await.map_err(WebError::Listen)?;
        let address = listener.local_addr().map_err(WebError::Listen)?;
        Ok(Self { listener, address })
    }

    /// The address that was bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until shutdown.
    pub async fn serve(self, page: Page, shutdown: &Shutdown) {
        let routes = Arc::new(page.routes(shutdown));
        server::serve(self.listener, routes, Limits::default(), shutdown.clone()).await;
    }
}
