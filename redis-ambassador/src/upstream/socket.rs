//! One stream socket of any kind, usable through a shared reference.

use super::TlsSocket;
use std::io;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

/// A connected stream socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsSocket>),
}

macro_rules! each {
    ($self:expr, $socket:ident => $body:expr, $tls:ident => $of_tls:expr) => {
        match $self {
            Socket::Tcp($socket) => $body,
            Socket::Unix($socket) => $body,
            Socket::Tls($tls) => return $of_tls,
        }
    };
}

impl Socket {
    /// Who is at the other end, as far as that has a name.
    pub(crate) fn peer(&self) -> String {
        let at = match self {
            Self::Tcp(stream) => stream.peer_addr(),
            Self::Unix(_) => return "unix".to_owned(),
            Self::Tls(stream) => stream.peer(),
        };
        at.map_or_else(|_| "gone".to_owned(), |at| at.to_string())
    }

    /// Reads what is there; 0 is the end of the stream.
    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(each!(self, socket => socket.poll_read_ready(cx), tls => tls.poll_read(cx, buf)))?;
            match each!(self, socket => socket.try_read(buf), tls => tls.poll_read(cx, buf)) {
                Ok(count) => {
                    if count > 0 && count < buf.len() {
                        // The socket is drained: readiness is edge-triggered, so saying so now saves the system
                        // call that would find it empty.
                        let drained = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                        let _ = each!(self, socket => socket.try_io(Interest::READABLE, drained), _tls => Poll::Ready(Ok(count)));
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Waits until a write may succeed.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => socket.poll_write_ready(cx), tls => tls.poll_writable(cx))
    }

    /// Writes what the kernel takes at once.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing; otherwise the connection is broken.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        each!(self, socket => socket.try_write(bytes), tls => tls.try_write(bytes))
    }

    /// Whether bytes that a write has taken still wait for the kernel.
    #[inline]
    pub(crate) fn is_backed_up(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.is_backed_up())
    }

    /// Whether it cannot be used yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.is_handshaking())
    }
}
