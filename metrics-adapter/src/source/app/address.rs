//! Where a byte stream goes: `host:port` or a unix socket.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::GatherError;

/// A peer of a byte stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(String),
    Unix(PathBuf),
}

type Stream = Pin<Box<dyn ReadWrite>>;

pub(super) trait ReadWrite: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> ReadWrite for T {}

impl Address {
    /// `host:port`, `tcp://host:port`, `unix:/path`, `unix:///path` or `/path`.
    pub(super) fn parse(text: &str, default_port: Option<u16>) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither host:port nor unix:/path");
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text)) {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') { Ok(Self::Unix(path.into())) } else { Err(wrong()) };
        }
        let text = text.strip_prefix("tcp://").unwrap_or(text);
        match (text.rsplit_once(':'), default_port) {
            (Some((host, port)), _) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                Ok(Self::Tcp(text.to_owned()))
            }
            (None, Some(port)) if !text.is_empty() => Ok(Self::Tcp(format!("{text}:{port}"))),
            _ => Err(wrong()),
        }
    }

    pub(super) async fn connect(&self) -> Result<Stream, GatherError> {
        let connected: io::Result<Stream> = match self {
            Self::Tcp(address) => TcpStream::connect(address).await.map(|stream| Box::pin(stream) as Stream),
            Self::Unix(path) => UnixStream::connect(path).await.map(|stream| Box::pin(stream) as Stream),
        };
        connected.map_err(|error| format!("cannot connect to {self}: {error}").into())
    }

    /// Sends, and reads until the peer closes, or until `done` says that the answer is whole.
    pub(super) async fn exchange(
        &self,
        send: &[u8],
        limit: usize,
        mut done: impl FnMut(&[u8]) -> bool + Send,
    ) -> Result<Vec<u8>, GatherError> {
        let mut stream = self.connect().await?;
        let failed = |error: io::Error| GatherError(format!("{self}: {error}"));
        // A peer that answers before everything is sent must not block us: both go on at once.
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let write = async {
            writer.write_all(send).await.map_err(failed)?;
            writer.flush().await.map_err(failed)
        };
        let read = async {
            let mut answer = Vec::new();
            let mut piece = vec![0; 16 << 10];
            loop {
                let read = reader.read(&mut piece).await.map_err(failed)?;
                if answer.len() + read > limit {
                    return Err(GatherError(format!(
                        "{self}: the answer is longer than {limit} bytes (max_bytes)"
                    )));
                }
                answer.extend_from_slice(&piece[..read]);
                if read == 0 || done(&answer) {
                    return Ok(answer);
                }
            }
        };
        // An early end of the answer counts more than a command that could not be sent whole.
        let (sent, answer) = futures_util::future::join(write, read).await;
        let answer = answer?;
        if answer.is_empty() {
            sent?;
        }
        Ok(answer)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => f.write_str(address),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn addresses() {
        for (text, expected) in [
            ("127.0.0.1:11211", "127.0.0.1:11211"),
            ("tcp://[::1]:1", "[::1]:1"),
            ("host", "host:9"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
            ("unix:///run/x.sock", "unix:/run/x.sock"),
            ("/run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(Address::parse(text, Some(9)).unwrap().to_string(), expected);
        }
        for text in ["", "host:", ":1", "host:0", "unix:x"] {
            assert!(Address::parse(text, None).is_err(), "{text}");
        }
    }
}
