//! Who is who among the servers: asked of the servers themselves, again and again.
//!
//! This is the only user of the `redis` crate, and never on the data path.

mod cluster;
mod commands;
mod decide;
mod distance;
mod lag;
mod monitor;
mod name;
mod observation;
mod observe;
mod prober;
mod sentinel;

pub(crate) use lag::MAX_LAG;
pub(crate) use monitor::{Monitor, MonitorSettings};
pub(crate) use observation::describe;
pub(crate) use prober::WriteSignal;
pub(crate) use sentinel::{SentinelSettings, start as follow_sentinels};

use crate::address::ServerAddr;
use crate::command::Table;
use crate::route::View;
use std::collections::HashMap;
use std::sync::Arc;

/// What a server said of itself when it was last asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Observation {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It does not answer.
    Unreachable(String),
    /// It answers, but not this question (`NOAUTH`, `NOPERM`, an old server).
    Silent(String),
    /// It is loading its data.
    Loading,
    /// It is a primary.
    Primary {
        /// Its replication offset in bytes.
        offset: u64,
        /// Replicas connected to it, by host and port.
        replicas: Vec<(String, u16)>,
    },
    /// It is a replica.
    Replica {
        /// Whom it follows, as it says: host and port.
        primary: (String, u16),
        /// State of that link: `connected`, `connect`, `connecting`, `sync`, …
        link: String,
        /// The offset it has applied, in bytes; `None` before the first synchronisation.
        offset: Option<u64>,
    },
}

/// The servers, their roles, and the commands they know.
#[derive(Debug, Clone, Default)]
pub struct Topology {
    /// By server number; numbers keep their meaning.
    pub servers: Vec<Arc<ServerAddr>>,
    /// What routing needs.
    pub view: View,
    /// What the servers said, by server number.
    pub observations: Vec<Observation>,
    /// For how long each server has lacked something that the primary had, by server number.
    pub lags: Vec<std::time::Duration>,
    /// How long each server takes to answer a probe, by server number.
    pub distances: Vec<Option<std::time::Duration>>,
    /// Why a server that answers gets no reads as a replica, by server number.
    pub unfit: Vec<Option<&'static str>>,
    /// What the nodes of a cluster call each other, by host and port.
    pub aliases: Arc<HashMap<(String, u16), usize>>,
    /// The primary's command table, when it told it.
    pub table: Option<Arc<Table>>,
}

impl Topology {
    /// A server's address as text.
    pub fn name(&self, server: usize) -> String {
        self.servers.get(server).map_or_else(|| "no server".to_owned(), ToString::to_string)
    }

    /// The server at a host and port, as another server names it; an empty host is that server's own.
    pub(crate) fn find(&self, host: &str, port: u16, told_by: usize) -> Option<usize> {
        let own = match self.servers.get(told_by).map(|address| &**address) {
            Some(ServerAddr::Tcp { host, .. }) => host.as_str(),
            _ => "",
        };
        let wanted = if matches!(host, "" | "?") { own } else { host };
        let is = |address: &ServerAddr| matches!(address, ServerAddr::Tcp { host, port: at } if host == wanted && *at == port);
        let named = || self.aliases.get(&(wanted.to_owned(), port)).copied();
        self.servers.iter().position(|address| is(address)).or_else(named)
    }

    /// A server's address.
    pub fn address(&self, server: usize) -> Option<Arc<ServerAddr>> {
        self.servers.get(server).map(Arc::clone)
    }
}
