//! The running command as a stream of bytes.

use std::io;
use std::pin::{Pin, pin};
use std::sync::PoisonError;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use russh::client::{Handle, Msg};
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::DropGuard;

use super::error::SshError;
use super::host_key::{Client, Farewell};

/// Most of standard error that is kept, in bytes; the rest is dropped.
const MAX_STDERR: usize = 16 << 10;

/// What the server told about the command's end.
#[derive(Debug, Default)]
struct Ending {
    refused: bool,
    /// `status 1`, `signal KILL`; `None` while running or when all is well.
    failure: Option<String>,
    /// The server ended the output or the channel: what follows is not a lost connection.
    orderly: bool,
}

/// The standard input and output of `git-upload-pack` on the server.
///
/// Reading ends only when the command has ended well. A refused or failed command and a lost connection
/// are [`io::Error`]s that hold a [`SshError`] ([`SshError::from_io`]). When writing fails, a read tells
/// why. Flow control goes through to the server; at most about 2.5 MB are buffered.
///
/// Dropping the channel closes the connection at once, in the middle of whatever it does.
pub struct Channel {
    read: ChannelReadHalf,
    write: Pin<Box<dyn AsyncWrite + Send>>,
    /// Not yet handed to the reader.
    unread: Bytes,
    stderr: Vec<u8>,
    ending: Ending,
    closed: bool,
    address: String,
    farewell: Farewell,
    // Both keep the session alive.
    _session: Handle<Client>,
    _guard: DropGuard,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Channel {
    /// Requests the environment and the command on an open channel.
    pub(super) async fn start(
        session: Handle<Client>,
        guard: DropGuard,
        channel: russh::Channel<Msg>,
        command: &[u8],
        address: &str,
        farewell: Farewell,
    ) -> Result<Self, russh::Error> {
        let (read, write): (_, ChannelWriteHalf<Msg>) = channel.split();
        // Without a reply wanted, a server that does not take the variable just ignores it, and speaks
        // version 0 or 1.
        write.set_env(false, "GIT_PROTOCOL", "version=2").await?;
        write.exec(true, command).await?;
        Ok(Self {
            read,
            write: Box::pin(write.make_writer()),
            unread: Bytes::new(),
            stderr: Vec::new(),
            ending: Ending::default(),
            closed: false,
            address: address.to_owned(),
            farewell,
            _session: session,
            _guard: guard,
        })
    }

    /// What the command has written to standard error so far: at most 16 KiB, control characters
    /// replaced.
    #[must_use]
    pub fn stderr(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        text.chars()
            .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
            .collect::<String>()
            .trim()
            .to_owned()
    }

    fn take(&mut self, message: ChannelMsg) {
        match message {
            ChannelMsg::Data { data } => self.unread = data,
            ChannelMsg::ExtendedData { data, .. } => {
                let room = MAX_STDERR - self.stderr.len();
                self.stderr.extend_from_slice(&data[..data.len().min(room)]);
            }
            ChannelMsg::Failure => self.ending.refused = true,
            ChannelMsg::ExitStatus { exit_status: 0 } => self.ending.orderly = true,
            ChannelMsg::ExitStatus { exit_status } => {
                self.ending.failure = Some(format!("status {exit_status}"));
            }
            ChannelMsg::ExitSignal { signal_name, .. } => {
                self.ending.failure = Some(format!("signal {signal_name:?}"));
            }
            ChannelMsg::Eof | ChannelMsg::Close => self.ending.orderly = true,
            _ => {}
        }
    }

    /// The reason why nothing more comes, or `None` after a good end.
    fn failure(&self) -> Option<SshError> {
        let address = self.address.clone();
        if self.ending.refused {
            return Some(SshError::CommandRefused { address, stderr: self.stderr() });
        }
        if let Some(status) = self.ending.failure.clone() {
            return Some(SshError::Command { address, status, stderr: self.stderr() });
        }
        if self.ending.orderly {
            return None;
        }
        let farewell = self.farewell.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Some(SshError::Lost { address, reason: farewell.unwrap_or_else(|| self.stderr()) })
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        while this.unread.is_empty() {
            if this.closed || this.ending.refused {
                return Poll::Ready(this.failure().map_or(Ok(()), |error| Err(error.into_io())));
            }
            // Waiting is cancel safe, so a future per poll loses nothing.
            let message = ready!(pin!(this.read.wait()).poll(cx));
            match message {
                Some(message) => this.take(message),
                None => this.closed = true,
            }
        }
        let length = this.unread.len().min(buf.remaining());
        buf.put_slice(&this.unread[..length]);
        this.unread.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Channel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match buf.is_empty() {
            // The layer below takes this for an error.
            true => Poll::Ready(Ok(0)),
            false => self.write.as_mut().poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write.as_mut().poll_shutdown(cx)
    }
}
