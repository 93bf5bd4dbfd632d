//! SSH (`gitprotocol-pack`, "SSH Transport"): one connection per conversation, through [`crate::ssh`].

use super::stream::Conversation;
use super::{FetchSink, TransportError};
use crate::protocol::{FetchRequest, RemoteRef};
use crate::ssh::{Channel, Options, SshError, Target, open};

/// A repository behind an SSH server.
pub struct SshRemote {
    target: Target,
    options: Options,
}

impl SshRemote {
    /// A remote; keys and known hosts are read at each connection.
    pub fn new(target: Target, options: Options) -> Self {
        Self { target, options }
    }

    pub(super) async fn refs(&self, names: &[String]) -> Result<Vec<RemoteRef>, TransportError> {
        self.connect().await?.refs(names).await.map_err(explained)
    }

    pub(super) async fn fetch(&self, request: &FetchRequest, sink: FetchSink) -> Result<(), TransportError> {
        self.connect().await?.fetch(request, sink).await.map_err(explained)
    }

    async fn connect(&self) -> Result<Conversation<Channel>, TransportError> {
        let channel = open(&self.target, &self.options).await.map_err(|e| refused(&e))?;
        let user = self.target.user.as_deref().unwrap_or(&self.options.default_user);
        let address = format!("ssh://{user}@{}:{}", self.target.host, self.target.port);
        Ok(Conversation::new(channel, address))
    }
}

/// The server's refusal of the command shows as an error of the first read; it says more than that.
fn explained(error: TransportError) -> TransportError {
    match error {
        TransportError::Io { what, address, source } => match SshError::from_io(&source) {
            Some(found) => refused(found),
            None => TransportError::Io { what, address, source },
        },
        other => other,
    }
}

fn refused(error: &SshError) -> TransportError {
    TransportError::Ssh { reason: common::error::chain(error) }
}
