//! The client side of Git's wire protocol, pure: bytes in, values out.
//!
//! Versions 2, 1 and 0 of the upload-pack conversation as described by Git's own
//! `gitprotocol-common`, `gitprotocol-pack` and `gitprotocol-v2` pages. Nothing here reads a
//! socket; the drivers live in [`crate::transport`].

mod advert;
mod fetch;
mod follow;
mod oid;
mod pktline;
mod refs;

pub use advert::{AdvertReader, Advertisement, Capabilities};
pub use fetch::{FetchEvent, FetchRequest, FetchResponse, INFINITE_DEPTH};
pub use follow::{Follow, Glob, fitting, folders};
pub use oid::ObjectId;
pub(crate) use oid::hex;
pub use pktline::{Decoder, Packet, encode_data, encode_delim, encode_flush};
pub use refs::{RefsReader, RemoteRef, encode_ls_refs, ref_prefixes, resolve};

use thiserror::Error;

/// What a server said that can't be understood, or that it refused.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A packet's four length digits aren't hexadecimal or name an impossible length.
    #[error("bad packet length {0:?}")]
    BadLength(String),
    /// The server's answer ended in the middle.
    #[error("the server's answer ended early, while reading {0}")]
    UnexpectedEnd(&'static str),
    /// A packet that doesn't belong at this place.
    #[error("unexpected packet while reading {what}: {packet:?}")]
    UnexpectedPacket {
        /// What was being read.
        what: &'static str,
        /// The start of the packet.
        packet: String,
    },
    /// The server reports an error in words (`ERR` packet or sideband channel 3).
    #[error("the server says: {0}")]
    Remote(String),
    /// The repository uses another hash than SHA-1.
    #[error("the repository uses object format {0:?}; only sha1 is supported")]
    ObjectFormat(String),
    /// A capability without which this client can't fetch.
    #[error("the server doesn't offer {0}")]
    MissingCapability(&'static str),
    /// More than the bound for this part of the conversation.
    #[error("the server sent more than {limit} {what}")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// The answer isn't the Git protocol at all (a web page, for example).
    #[error("this isn't a Git server: {0}")]
    NotGit(String),
}

/// The start of a packet as text for an error message, without control characters.
fn excerpt(data: &[u8]) -> String {
    let cut = &data[..data.len().min(120)];
    String::from_utf8_lossy(cut).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A packet's text without its optional trailing line feed.
fn chomp(data: &[u8]) -> &[u8] {
    data.strip_suffix(b"\n").unwrap_or(data)
}
