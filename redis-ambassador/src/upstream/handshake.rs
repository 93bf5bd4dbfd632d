//! From an address to a connection that has the right user, protocol and database.

use super::LinkError;
use super::{Access, Socket, TlsSocket};
use crate::address::ServerAddr;
use crate::resp::{ReplyFramer, parse_integer, write_multibulk};
use crate::session::Profile;
use common::secret::{ExposeSecret, SecretString};
use std::future::poll_fn;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// Whom to authenticate as.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    /// User name; empty where only a password was given, which servers before 6.0 expect and later ones refuse when
    /// their default user has none.
    pub(crate) user: String,
    /// Password.
    pub(crate) password: SecretString,
}

/// What a fresh connection is told before anything else.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) profile: Profile,
    pub(crate) credentials: Option<Credentials>,
    /// Who selects the database, see [`Profile::selector`].
    pub(crate) selector: Option<Credentials>,
    /// The server is asked for the connection's number.
    pub(crate) numbered: bool,
    /// Further requests, whose refusal does no harm.
    pub(crate) extras: Vec<Vec<Vec<u8>>>,
}

/// Requests of one round of the hand-shake.
#[derive(Debug, Default, PartialEq, Eq)]
struct Round {
    out: Vec<u8>,
    /// How many of them, from the first on, must succeed.
    required: usize,
    /// How many of them, from the first on, the round is about.
    counted: usize,
    all: usize,
}

impl Round {
    fn ask<'a>(&mut self, words: impl ExactSizeIterator<Item = &'a [u8]>) {
        write_multibulk(&mut self.out, words);
        self.all += 1;
    }

    fn authenticate(&mut self, credentials: &Credentials) {
        let password = credentials.password.expose_secret().as_bytes();
        match credentials.user.as_str() {
            "" => self.ask([&b"AUTH"[..], password].into_iter()),
            user => self.ask([&b"AUTH"[..], user.as_bytes(), password].into_iter()),
        }
    }

    fn select(&mut self, profile: Profile) {
        if profile.db != 0 {
            self.ask([&b"SELECT"[..], profile.db.to_string().as_bytes()].into_iter());
        }
    }

    fn introduce(&mut self, extras: &[Vec<Vec<u8>>]) {
        extras.iter().for_each(|extra| self.ask(extra.iter().map(Vec::as_slice)));
    }
}

impl Handshake {
    /// What is said before a client's own user takes over, who need not be allowed to: a client may have selected its
    /// database as somebody else. Nothing of it has to succeed.
    fn as_selector(&self) -> Option<Round> {
        if self.profile.user == 0 && (self.profile.selector == 0 || self.credentials.is_none()) {
            return None;
        }
        let mut round = Round::default();
        if let Some(credentials) = &self.selector {
            round.authenticate(credentials);
        }
        round.select(self.profile);
        round.counted = round.all;
        round.introduce(&self.extras);
        Some(round).filter(|round| round.all > 0)
    }

    /// What is said as the user whose connection it is; `prepared` when the rest is done already.
    fn as_user(&self, prepared: bool) -> Round {
        let mut round = Round::default();
        if let Some(credentials) = &self.credentials {
            round.authenticate(credentials);
        }
        if self.profile.resp3 {
            round.ask([&b"HELLO"[..], b"3"].into_iter());
        }
        if !prepared {
            round.select(self.profile);
        }
        round.required = round.all;
        if !prepared {
            round.introduce(&self.extras);
        }
        if self.numbered {
            round.ask([&b"CLIENT"[..], b"ID"].into_iter());
        }
        round
    }
}

/// What a server has said in one round of the hand-shake.
struct Heard {
    /// What the round is about was not refused.
    succeeded: bool,
    /// The last answer.
    last: Vec<u8>,
}

/// What a server has told in the hand-shake.
pub(crate) struct Told {
    /// Its number of the connection, where it was asked for that.
    pub(crate) number: Option<u64>,
    /// The user whose connection it is may select the database.
    pub(crate) selects: bool,
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
) -> Result<(Socket, Told), LinkError> {
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
        let told = shake_hands(&socket, handshake).await?;
        Ok((socket, told))
    };
    tokio::time::timeout(timeout, attempt).await.map_err(|_| LinkError::ConnectTimeout)?
}

async fn shake_hands(socket: &Socket, handshake: &Handshake) -> Result<Told, LinkError> {
    let prepared = match handshake.as_selector() {
        Some(round) => converse(socket, &round).await?.succeeded,
        None => false,
    };
    let heard = converse(socket, &handshake.as_user(prepared)).await?;
    let number = heard.last.strip_prefix(b":").and_then(|line| parse_integer(line.strip_suffix(b"\r\n")?));
    let number = number.and_then(|number| u64::try_from(number).ok()).filter(|_| handshake.numbered);
    Ok(Told { number, selects: !prepared })
}

/// Says what a round consists of and hears the answers; refusals of what is required are errors.
async fn converse(socket: &Socket, round: &Round) -> Result<Heard, LinkError> {
    let Round { out, required, counted, all: expected } = round;
    let mut heard = Heard { succeeded: true, last: Vec::new() };
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
    while answered < *expected {
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
            if fresh && first == Some(b'-') {
                if answered < *required {
                    return Err(refusal(&input[..chunk.taken]));
                }
                heard.succeeded &= answered >= *counted;
            }
            heard.last = input.drain(..chunk.taken).collect();
            answered += usize::from(chunk.done && !framer.is_push());
        }
    }
    Ok(heard)
}

fn refusal(line: &[u8]) -> LinkError {
    if line.starts_with(b"-LOADING") || line.starts_with(b"-MASTERDOWN") {
        return LinkError::NotReady;
    }
    LinkError::Refused(line.to_vec())
}
