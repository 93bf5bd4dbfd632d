//! Conversations over SSH: one connection each. The driver of [`crate::ssh`].

use super::stream::Conversation;
use super::{FetchSink, TransportError};
use crate::protocol::{FetchRequest, RemoteRef};
use crate::ssh::{Channel, Options, Target, open};

/// A repository behind an SSH server.
pub struct SshRemote {
    target: Target,
    options: Options,
}

impl SshRemote {
    /// From the parts of the address.
    pub fn new(target: Target, options: Options) -> Self {
        Self { target, options }
    }

    pub(super) async fn refs(&self, names: &[String]) -> Result<Vec<RemoteRef>, TransportError> {
        self.connect().await?.refs(names).await
    }

    pub(super) async fn fetch(&self, request: &FetchRequest, sink: FetchSink) -> Result<(), TransportError> {
        self.connect().await?.fetch(request, sink).await
    }

    async fn connect(&self) -> Result<Conversation<Channel>, TransportError> {
        let opening = Box::pin(open(&self.target, &self.options));
        let channel = opening.await.map_err(|error| TransportError::Ssh(Box::new(error)))?;
        Ok(Conversation::new(channel, format!("ssh://{}:{}", self.target.host, self.target.port)))
    }
}
