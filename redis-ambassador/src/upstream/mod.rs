//! Connections to servers: sockets, buffers, the hand-shake, and what is outstanding on each.

mod access;
mod buffer;
mod handshake;
mod link;
mod socket;
mod tls_socket;

pub(crate) use access::Access;
pub(crate) use buffer::Buffer;
pub(crate) use handshake::{Credentials, Handshake, Told, connect};
pub(crate) use link::{Link, LinkError, LinkState, Part, Phase, Waiter};
pub(crate) use socket::Socket;
pub(crate) use tls_socket::TlsSocket;
