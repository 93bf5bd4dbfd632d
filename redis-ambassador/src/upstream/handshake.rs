//! From an address to a connection that has the right user, protocol and database.

use super::LinkError;
use super::{Access, Socket, TlsSocket};
use crate::address::ServerAddr;
use crate::resp::{ReplyFramer, write_multibulk};
use crate::session::Profile;
use common::secret::{ExposeSecret, SecretString};
use std::future::poll_fn;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// Whom to authenticate as.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// User name; `default` for password-only servers.
    pub(crate) user: String,
    /// Password.
    pub(crate) password: SecretString,
}

/// What a fresh connection is told before anything else.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) profile: Profile,
    pub(crate) credentials: Option<Credentials>,
    /// Further requests, whose refusal does no harm.
    pub(crate) extras: Vec<Vec<Vec<u8>>>,
}

impl Handshake {
    /// The requests, and how many of them must succeed.
    fn encode(&self) -> (Vec<u8>, usize, usize) {
        let mut out = Vec::new();
        let mut required = 0;
        if let Some(credentials) = &self.credentials {
            let password = credentials.password.expose_secret().as_bytes();
            let named = [&b"AUTH"[..], credentials.user.as_bytes(), password];
            let bare = [&b"AUTH"[..], password];
            // Servers before 6.0 know no user names.
            match credentials.user.as_str() {
                "default" => write_multibulk(&mut out, bare.into_iter()),
                _ => write_multibulk(&mut out, named.into_iter()),
            }
            required += 1;
        }
        if self.profile.resp3 {
            write_multibulk(&mut out, [&b"HELLO"[..], b"3"].into_iter());
            required += 1;
        }
        if self.profile.db != 0 {
            let db = self.profile.db.to_string();
            write_multibulk(&mut out, [&b"SELECT"[..], db.as_bytes()].into_iter());
            required += 1;
        }
        for extra in &self.extras {
            write_multibulk(&mut out, extra.iter().map(Vec::as_slice));
        }
        (out, required, required + self.extras.len())
    }
}

/// Connects and shakes hands within `timeout`.
///
/// # Errors
/// [`LinkError::Refused`] carries the server's own words; everything else may be tried again.
pub(crate) async fn connect(
    address: &ServerAddr,
    access: &Access,
    handshake: &Handshake,
    timeout: Duration,
) -> Result<Socket, LinkError> {
    let attempt = async {
        let socket = match address {
            ServerAddr::Tcp { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(LinkError::Connect)?;
                stream.set_nodelay(true).map_err(LinkError::Connect)?;
                match access.tls() {
                    None => Socket::Tcp(stream),
                    Some(tls) => {
                        let name = tls.name(host).map_err(LinkError::Connect)?;
                        let session = TlsSocket::client(stream, tls.config(), name);
                        Socket::Tls(Box::new(session.map_err(LinkError::Connect)?))
                    }
                }
            }
            ServerAddr::Unix(path) => {
                Socket::Unix(UnixStream::connect(path).await.map_err(LinkError::Connect)?)
            }
        };
        shake_hands(&socket, handshake).await?;
        Ok(socket)
    };
    tokio::time::timeout(timeout, attempt).await.map_err(|_| LinkError::ConnectTimeout)?
}

async fn shake_hands(socket: &Socket, handshake: &Handshake) -> Result<(), LinkError> {
    let (out, required, expected) = handshake.encode();
    let mut sent = 0;
    while sent < out.len() {
        poll_fn(|cx| socket.poll_writable(cx)).await.map_err(LinkError::Io)?;
        match socket.try_write(&out[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(LinkError::Io(error)),
        }
    }
    let (mut framer, mut input, mut answered) = (ReplyFramer::new(), Vec::new(), 0);
    let mut buf = [0u8; 2048];
    while answered < expected {
        let count = poll_fn(|cx| socket.poll_read(cx, &mut buf)).await.map_err(LinkError::Io)?;
        if count == 0 {
            return Err(LinkError::Closed);
        }
        input.extend_from_slice(&buf[..count]);
        loop {
            let first = input.first().copied();
            let fresh = !framer.in_reply();
            let chunk = framer.advance(&input)?;
            if chunk.taken == 0 {
                break;
            }
            if fresh && first == Some(b'-') && answered < required {
                return Err(refusal(&input[..chunk.taken]));
            }
            input.drain(..chunk.taken);
            answered += usize::from(chunk.done && !framer.is_push());
        }
    }
    Ok(())
}

fn refusal(line: &[u8]) -> LinkError {
    if line.starts_with(b"-LOADING") || line.starts_with(b"-MASTERDOWN") {
        return LinkError::NotReady;
    }
    LinkError::Refused(line.to_vec())
}
