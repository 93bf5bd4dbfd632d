//! A TLS session over a TCP stream, usable through a shared reference like any [`Socket`](super::Socket).
//!
//! Bytes that the session has taken but the kernel has not stay in it: see [`TlsSocket::is_backed_up`].

use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;

/// Most plaintext that the session holds for a kernel that takes nothing, in bytes.
const BUFFERED: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct TlsSocket {
    stream: TcpStream,
    session: RefCell<Connection>,
}

struct Pipe<'a>(&'a TcpStream);

impl Read for Pipe<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buf)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsSocket {
    /// A session in which we are the client; hands are shaken by the first reads.
    pub(crate) fn client(
        stream: TcpStream,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<Self> {
        let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Self::new(stream, Connection::Client(session)))
    }

    /// A session in which we are the server.
    pub(crate) fn server(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self::new(stream, Connection::Server(session)))
    }

    /// Who is at the other end.
    pub(crate) fn peer(&self) -> io::Result<std::net::SocketAddr> {
        self.stream.peer_addr()
    }

    fn new(stream: TcpStream, mut session: Connection) -> Self {
        session.set_buffer_limit(Some(BUFFERED));
        Self { stream, session: RefCell::new(session) }
    }

    /// Whether hands are still being shaken.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.session.borrow().is_handshaking()
    }

    /// Whether something that was taken by [`try_write`](Self::try_write) waits for the kernel.
    pub(crate) fn is_backed_up(&self) -> bool {
        self.session.borrow().wants_write()
    }

    fn drain(&self, session: &mut Connection) -> io::Result<()> {
        while session.wants_write() {
            match session.write_tls(&mut Pipe(&self.stream)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut session = self.session.borrow_mut();
        loop {
            match session.reader().read(buf) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Frames say where they end, so a missing farewell hides nothing.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Poll::Ready(Ok(0)),
                Err(error) => return Poll::Ready(Err(error)),
            }
            match self.drain(&mut session) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.stream.poll_write_ready(cx)?.is_ready() {
                        continue;
                    }
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.stream.poll_read_ready(cx))?;
            match session.read_tls(&mut Pipe(&self.stream)) {
                Ok(0) => return Poll::Ready(Ok(0)),
                Ok(_) => {
                    if let Err(error) = session.process_new_packets() {
                        // The peer is told why, if it still listens.
                        let _ = self.drain(&mut session);
                        return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Ready when everything taken so far has left.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.drain(&mut self.session.borrow_mut()) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.stream.poll_write_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.session.borrow_mut();
        self.drain(&mut session)?;
        let count = session.writer().write(bytes)?;
        match self.drain(&mut session) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ if count == 0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(count),
        }
    }
}

impl Drop for TlsSocket {
    fn drop(&mut self) {
        let mut session = self.session.borrow_mut();
        session.send_close_notify();
        let _ = self.drain(&mut session);
    }
}
