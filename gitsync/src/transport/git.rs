//! `git://` (`gitprotocol-pack`, "Git Transport"): one TCP connection per conversation.

use tokio::net::TcpStream;

use super::stream::Conversation;
use super::{CONNECT, FetchSink, STALL, TransportError};
use crate::protocol::{FetchRequest, RemoteRef, encode_data};

/// A repository behind a git daemon.
pub struct GitRemote {
    host: String,
    port: u16,
    path: String,
}

impl GitRemote {
    /// From the parts of the URL.
    pub fn new(host: String, port: u16, path: String) -> Self {
        Self { host, port, path }
    }

    pub(super) async fn refs(&self, names: &[String]) -> Result<Vec<RemoteRef>, TransportError> {
        self.connect().await?.refs(names).await
    }

    pub(super) async fn fetch(&self, request: &FetchRequest, sink: FetchSink) -> Result<(), TransportError> {
        self.connect().await?.fetch(request, sink).await
    }

    async fn connect(&self) -> Result<Conversation<TcpStream>, TransportError> {
        let address = format!("{}:{}", self.host, self.port);
        let fail = |source| TransportError::Io { what: "connecting to", address: address.clone(), source };
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let mut stream = match tokio::time::timeout(CONNECT, connecting).await {
            Ok(result) => result.map_err(fail)?,
            Err(_) => {
                return Err(TransportError::Silent { what: "connecting", address, limit: CONNECT });
            }
        };
        // Requests are single writes; waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        let mut hello = Vec::new();
        let host = if self.port == 9418 { self.host.clone() } else { address.clone() };
        let line = format!("git-upload-pack {}\0host={host}\0\0version=2\0", self.path);
        encode_data(&mut hello, line.as_bytes());
        let sending = tokio::io::AsyncWriteExt::write_all(&mut stream, &hello);
        match tokio::time::timeout(STALL, sending).await {
            Ok(result) => result.map_err(fail)?,
            Err(_) => return Err(TransportError::Silent { what: "greeting", address, limit: STALL }),
        }
        Ok(Conversation::new(stream, address))
    }
}
