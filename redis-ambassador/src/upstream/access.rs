//! How servers are reached: as whom, and whether over TLS. Both may change while connections stay.

use super::Credentials;
use crate::address::ServerAddr;
use crate::tls::TowardsServers;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// What new connections use.
#[derive(Debug, Default)]
pub(crate) struct Access {
    credentials: Mutex<Option<Credentials>>,
    tls: Option<Arc<TowardsServers>>,
}

/// A connected stream of whatever kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Access {
    pub(crate) fn new(credentials: Option<Credentials>, tls: Option<Arc<TowardsServers>>) -> Arc<Self> {
        Arc::new(Self { credentials: Mutex::new(credentials), tls })
    }

    /// Whom to authenticate as.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on, for new connections.
    pub(crate) fn set_credentials(&self, credentials: Option<Credentials>) {
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = credentials;
    }

    /// TLS, for servers that are reached over TCP.
    pub(crate) fn tls(&self) -> Option<&Arc<TowardsServers>> {
        self.tls.as_ref()
    }

    /// Opens a stream for questions; cancel safe.
    ///
    /// # Errors
    /// The server cannot be reached, or does not prove its name.
    pub(crate) async fn open(&self, address: &ServerAddr) -> io::Result<Box<dyn Stream>> {
        let (host, port) = match address {
            ServerAddr::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            ServerAddr::Tcp { host, port } => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let connector = tokio_rustls::TlsConnector::from(tls.config());
        Ok(Box::new(connector.connect(tls.name(host)?, stream).await?))
    }
}
