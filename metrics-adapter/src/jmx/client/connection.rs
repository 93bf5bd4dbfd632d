//! One TCP or TLS connection: the handshakes, and calls whose replies are decoded as they arrive.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::{libc, setsockopt_impl, sockopt_impl};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Timeouts;
use super::error::{Error, Phase};
use super::template::{HEAD, IDENTIFIER};
use super::tls::TlsSettings;
use crate::jmx::jrmp::{self, Method, Outcome, ReplyDecoder};
use crate::jmx::serialization::{Graph, Limits};

const READ_BYTES: usize = 64 * 1024;
/// A JVM sends each reply by itself, and waking up for each would cost both sides more than the calls do. So the
/// system is asked to speak up only when about three quarters of what is still to come are there, or this much.
const MOST_GATHERED: usize = 48 * 1024;
/// Fewer bytes than these are not worth the asking.
const LEAST_GATHERED: usize = 2 * 1024;
/// How much a reply is taken for before the first one has come.
const REPLY_BYTES: usize = 256;
/// Then whatever has come is looked at, since the rest may be shorter than expected.
const GATHER: Duration = Duration::from_millis(3);

sockopt_impl!(
    /// From how many bytes on a socket counts as readable.
    LowWater,
    SetOnly,
    libc::SOL_SOCKET,
    libc::SO_RCVLOWAT,
    i32
);

/// When the bytes on a socket are told of.
struct Mark<'s> {
    socket: &'s OwnedFd,
    bytes: usize,
}

impl Mark<'_> {
    /// On a system that has no such mark every reply wakes this thread up, no more.
    fn set(&mut self, bytes: usize) {
        if bytes != self.bytes {
            let _ = setsockopt(self.socket, LowWater, &i32::try_from(bytes).unwrap_or(1));
            self.bytes = bytes;
        }
    }
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.set(1);
    }
}

/// Where to connect to, and how.
#[derive(Clone, Debug)]
pub(super) struct Dial {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: Option<Arc<TlsSettings>>,
    pub(super) timeouts: Timeouts,
    pub(super) limits: Limits,
}

impl Dial {
    pub(super) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Anything bytes flow through.
trait Transport: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Transport for T {}

/// What happens to the replies of a pipeline.
pub(super) enum Event<'e> {
    /// The bytes there are, from the start of a reply on.
    Start(&'e [u8]),
    /// A reply was decoded; with its bytes, if they came in one piece.
    Reply(&'e Graph, Outcome, Option<&'e [u8]>),
}

/// The answer to a question that was asked before.
pub(super) enum Repeated {
    /// Byte for byte the answer of last time, but for the identifier of the reply.
    Same,
    /// Another answer, with its bytes unless they are too many to keep.
    Other(Outcome, Option<Vec<u8>>),
}

/// An open connection behind its handshakes.
pub(super) struct Connection {
    address: String,
    /// The socket below whatever is spoken over it.
    socket: OwnedFd,
    reader: ReadHalf<Box<dyn Transport>>,
    writer: WriteHalf<Box<dyn Transport>>,
    input: Vec<u8>,
    decoder: ReplyDecoder,
    reply_timeout: Duration,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) async fn open(dial: &Dial) -> Result<Self, Error> {
        let address = dial.address();
        let limit = dial.timeouts.connect;
        let connect = TcpStream::connect((dial.host.as_str(), dial.port));
        let stream = within(limit, &address, Phase::Connect, connect).await?;
        // Calls are written whole; waiting for more would only delay them.
        stream.set_nodelay(true).map_err(|source| io_error(&address, Phase::Connect, source))?;
        let socket = stream.as_fd().try_clone_to_owned();
        let socket = socket.map_err(|source| io_error(&address, Phase::Connect, source))?;
        let transport: Box<dyn Transport> = match &dial.tls {
            None => Box::new(stream),
            Some(settings) => {
                let name = settings.server_name(&dial.host);
                let name = name.ok_or_else(|| Error::ServerName { address: address.clone() })?;
                let handshake = settings.connector().connect(name, stream);
                match timeout(dial.timeouts.handshake, handshake).await {
                    Ok(Ok(stream)) => Box::new(stream),
                    Ok(Err(source)) => return Err(Error::TlsRefused { address, source }),
                    Err(_) => return Err(too_slow(&address, Phase::TlsHandshake, dial.timeouts.handshake)),
                }
            }
        };
        let (reader, writer) = tokio::io::split(transport);
        let mut connection = Self {
            address,
            socket,
            reader,
            writer,
            input: Vec::with_capacity(READ_BYTES),
            decoder: ReplyDecoder::new(dial.limits),
            reply_timeout: dial.timeouts.reply,
        };
        connection.handshake(dial.timeouts.handshake).await?;
        Ok(connection)
    }

    async fn handshake(&mut self, limit: Duration) -> Result<(), Error> {
        let mut bytes = Vec::new();
        jrmp::encode_handshake(&mut bytes);
        self.write(&bytes, Phase::RmiHandshake).await?;
        let length = loop {
            let decoded = jrmp::decode_acknowledgement(&self.input);
            if let Some(length) = decoded.map_err(|source| self.protocol(source))? {
                break length;
            }
            read_more(&mut self.reader, &mut self.input, limit, &self.address, Phase::RmiHandshake).await?;
        };
        self.input.drain(..length);
        bytes.clear();
        jrmp::encode_endpoint(&mut bytes);
        self.write(&bytes, Phase::RmiHandshake).await
    }

    fn protocol(&self, source: jrmp::Error) -> Error {
        Error::Protocol { address: self.address.clone(), source }
    }

    async fn write(&mut self, bytes: &[u8], phase: Phase) -> Result<(), Error> {
        let limit = self.reply_timeout;
        within(limit, &self.address, phase, write_all(&mut self.writer, bytes)).await
    }

    pub(super) fn set_reply_timeout(&mut self, limit: Duration) {
        self.reply_timeout = limit;
    }

    /// The objects of the last reply.
    pub(super) fn graph(&self) -> &Graph {
        self.decoder.graph()
    }

    /// Sends one call and reads its reply.
    pub(super) async fn exchange(&mut self, method: Method, request: &[u8]) -> Result<Outcome, Error> {
        let mut last = None;
        let each = |event: Event<'_>| {
            if let Event::Reply(_, outcome, _) = event {
                last = Some(outcome);
            }
            0
        };
        self.pipeline(method, request, 1, each).await?;
        last.ok_or_else(|| Error::Unexpected { address: self.address.clone() })
    }

    /// Sends one call, and decodes its reply only when it differs from `known`, an earlier reply to the same call.
    /// The bytes of another reply are kept up to `most`.
    pub(super) async fn exchange_again(
        &mut self,
        method: Method,
        request: &[u8],
        known: &[u8],
        most: usize,
    ) -> Result<Repeated, Error> {
        self.write(request, Phase::Call).await?;
        let Self { address, reader, input, decoder, reply_timeout, .. } = self;
        let limit = *reply_timeout;
        while known.starts_with(HEAD) && is_same(known, input) {
            if input.len() >= known.len() {
                input.drain(..known.len());
                give_back(input);
                return Ok(Repeated::Same);
            }
            read_more(reader, input, limit, address, Phase::Reply).await?;
        }
        let mut kept = Some(Vec::new());
        loop {
            let (used, outcome) = decoder
                .advance(method, input)
                .map_err(|source| Error::Protocol { address: address.clone(), source })?;
            kept = kept.filter(|kept: &Vec<u8>| kept.len() + used <= most);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(&input[..used]);
            }
            input.drain(..used);
            if let Some(outcome) = outcome {
                give_back(input);
                return Ok(Repeated::Other(outcome, kept));
            }
            read_more(reader, input, limit, address, Phase::Reply).await?;
        }
    }

    /// Sends `count` calls of one method while it reads their replies, so that neither side waits for the
    /// other's buffers. `each` may take a reply's bytes itself when [`Event::Start`] comes, and says how many.
    pub(super) async fn pipeline(
        &mut self,
        method: Method,
        requests: &[u8],
        count: usize,
        mut each: impl FnMut(Event<'_>) -> usize,
    ) -> Result<(), Error> {
        let Self { address, socket, reader, writer, input, decoder, reply_timeout } = self;
        let limit = *reply_timeout;
        let reading = async {
            let mut mark = Mark { socket, bytes: 1 };
            let mut replies = 0;
            let mut total = 0;
            while replies < count {
                let mut used = 0;
                while replies < count {
                    let whole = decoder.is_between_replies();
                    if whole {
                        let taken = each(Event::Start(&input[used..]));
                        if taken > 0 {
                            used += taken;
                            replies += 1;
                            continue;
                        }
                    }
                    let (bytes, outcome) = decoder
                        .advance(method, &input[used..])
                        .map_err(|source| Error::Protocol { address: address.clone(), source })?;
                    let raw = &input[used..used + bytes];
                    used += bytes;
                    let Some(outcome) = outcome else { break };
                    each(Event::Reply(decoder.graph(), outcome, whole.then_some(raw)));
                    replies += 1;
                }
                input.drain(..used);
                if replies < count {
                    total += used;
                    let usual = usize::checked_div(total, replies).unwrap_or(REPLY_BYTES);
                    let expected = ((count - replies) * usual).saturating_sub(input.len()) / 4 * 3;
                    if expected > LEAST_GATHERED {
                        mark.set(expected.min(MOST_GATHERED));
                        let more = read_more(reader, input, limit, address, Phase::Reply);
                        if let Ok(read) = timeout(GATHER, more).await {
                            read?;
                            continue;
                        }
                    }
                    mark.set(1);
                    read_more(reader, input, limit, address, Phase::Reply).await?;
                }
            }
            Ok(())
        };
        let mut reading = pin!(reading);
        let writing = async {
            write_all(writer, requests).await.map_err(|source| io_error(address, Phase::Call, source))
        };
        let mut writing = pin!(writing);
        tokio::select! {
            result = &mut reading => result,
            // A refused write is explained by what the peer said last.
            written = &mut writing => match reading.await {
                Ok(()) => Ok(()),
                Err(error) => Err(match (written, error) {
                    (Err(write), Error::Io { .. }) => write,
                    (_, error) => error,
                }),
            },
        }
    }
}

/// A long reply leaves no large buffer behind.
fn give_back(input: &mut Vec<u8>) {
    if input.is_empty() {
        input.shrink_to(2 * READ_BYTES);
    }
}

/// Whether as much of a reply as there is could become `known`.
fn is_same(known: &[u8], reply: &[u8]) -> bool {
    let length = known.len().min(reply.len());
    let head = length.min(IDENTIFIER.start);
    let tail = length.min(IDENTIFIER.end);
    known[..head] == reply[..head] && known[tail..length] == reply[tail..length]
}

async fn write_all(writer: &mut WriteHalf<Box<dyn Transport>>, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

/// Appends what there is to `input`, and tells how much it was.
async fn read_more(
    reader: &mut ReadHalf<Box<dyn Transport>>,
    input: &mut Vec<u8>,
    limit: Duration,
    address: &str,
    phase: Phase,
) -> Result<usize, Error> {
    input.reserve(READ_BYTES);
    match within(limit, address, phase, reader.read_buf(input)).await? {
        0 => Err(io_error(
            address,
            phase,
            io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection"),
        )),
        read => Ok(read),
    }
}

async fn within<T>(
    limit: Duration,
    address: &str,
    phase: Phase,
    work: impl Future<Output = io::Result<T>>,
) -> Result<T, Error> {
    match timeout(limit, work).await {
        Ok(result) => result.map_err(|source| io_error(address, phase, source)),
        Err(_) => Err(too_slow(address, phase, limit)),
    }
}

fn io_error(address: &str, phase: Phase, source: io::Error) -> Error {
    Error::Io { address: address.to_owned(), phase, source }
}

fn too_slow(address: &str, phase: Phase, after: Duration) -> Error {
    Error::Timeout { address: address.to_owned(), phase, after }
}
