//! Git over SSH without an `ssh` program: where to connect ([`target`]), whom to trust
//! ([`known_hosts`]), how to prove oneself ([`keys`]), and [`open`], which puts them together and runs
//! `git-upload-pack` on the server.
//!
//! No passwd entry, home directory, agent or configuration file is consulted.

mod channel;
mod error;
mod host_key;
pub mod keys;
pub mod known_hosts;
mod login;
mod stream;
pub mod target;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use russh::Preferred;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub use channel::Channel;
pub use error::{ShownKey, SshError};
use host_key::{Client, Farewell, Trust};
use known_hosts::KnownHosts;
use stream::Breakable;
pub use target::{Target, TargetError, is_ssh};

/// Whom to trust.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use gitsync::HostKeys;
///
/// config.ssh.host_keys = HostKeys::Strict("/etc/ssh/ssh_known_hosts".into());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeys {
    /// Only keys and certificates that this known-hosts file vouches for.
    Strict(PathBuf),
    /// Any key: whoever answers is believed.
    AcceptAny,
}

/// How to reach SSH remotes.
///
/// ```
/// # let mut config = gitsync::Config::new("https://git.example/site.git", "/srv/git");
/// use gitsync::SshOptions;
///
/// config.ssh = SshOptions { keys: vec!["/etc/git-secret/ssh".into()], ..SshOptions::default() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Private keys, tried in this order; read anew at each connection.
    pub keys: Vec<PathBuf>,
    /// Host-key checking; the file is read anew at each connection.
    pub host_keys: HostKeys,
    /// User for addresses that name none.
    pub default_user: String,
    /// Limit for resolving the name and for connecting.
    pub connect_timeout: Duration,
    /// Limit from the first byte until the command is requested.
    pub handshake_timeout: Duration,
}

impl Default for Options {
    /// The peer's files, strict checking, user `git`, 30 seconds for either step.
    fn default() -> Self {
        Self {
            keys: vec![PathBuf::from("/etc/git-secret/ssh")],
            host_keys: HostKeys::Strict(PathBuf::from("/etc/git-secret/known_hosts")),
            default_user: "git".to_owned(),
            connect_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(30),
        }
    }
}

/// Connects, authenticates both sides and starts `git-upload-pack` on the target, asking for protocol
/// version 2.
///
/// The server's answer to the command is not awaited: a refused or failed command shows as an error of
/// the first read, see [`Channel`].
///
/// # Errors
/// Any [`SshError`] but [`SshError::Command`], [`SshError::CommandRefused`] and [`SshError::Lost`].
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn open(target: &Target, options: &Options) -> Result<Channel, SshError> {
    run(target, options, &target.upload_pack()).await
}

/// The same with another command.
pub(crate) async fn run(target: &Target, options: &Options, command: &[u8]) -> Result<Channel, SshError> {
    let address = address(target);
    let trust = read_trust(&options.host_keys).await?;
    let tcp = connect(target, options.connect_timeout, &address).await?;
    let shaking = handshake(target, options, trust, tcp, &address, command);
    match timeout(options.handshake_timeout, Box::pin(shaking)).await {
        Ok(result) => result,
        Err(_) => {
            Err(SshError::Timeout { address, stage: "the handshake", after: options.handshake_timeout })
        }
    }
}

fn address(target: &Target) -> String {
    match target.host.contains(':') {
        true => format!("[{}]:{}", target.host, target.port),
        false => format!("{}:{}", target.host, target.port),
    }
}

async fn read_trust(host_keys: &HostKeys) -> Result<Trust, SshError> {
    let HostKeys::Strict(path) = host_keys else { return Ok(Trust::Anyone) };
    let content = blocking({
        let path = path.clone();
        move || read_bounded(&path, known_hosts::MAX_FILE)
    })
    .await
    .map_err(|source| SshError::KnownHostsFile { path: path.clone(), source })?;
    let known =
        KnownHosts::parse(&content).map_err(|source| SshError::KnownHosts { path: path.clone(), source })?;
    Ok(Trust::File(path.clone(), Arc::new(known)))
}

/// At most one byte more than `limit`: the parser then says that it is too much.
fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, limit), &mut content)?;
    Ok(content)
}

/// Secrets may lie on a slow volume; the runtime's threads do not wait for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

async fn connect(target: &Target, limit: Duration, address: &str) -> Result<TcpStream, SshError> {
    let attempt = async {
        let candidates: Vec<_> = tokio::net::lookup_host((target.host.as_str(), target.port))
            .await
            .map_err(|source| SshError::Resolve { host: target.host.clone(), source })?
            .collect();
        let tcp = TcpStream::connect(candidates.as_slice()).await.and_then(|tcp| {
            tcp.set_nodelay(true)?;
            Ok(tcp)
        });
        tcp.map_err(|source| SshError::Connect { address: address.to_owned(), source })
    };
    timeout(limit, attempt).await.unwrap_or_else(|_| {
        Err(SshError::Timeout { address: address.to_owned(), stage: "connecting", after: limit })
    })
}

async fn handshake(
    target: &Target,
    options: &Options,
    trust: Trust,
    tcp: TcpStream,
    address: &str,
    command: &[u8],
) -> Result<Channel, SshError> {
    let token = CancellationToken::new();
    let guard = token.clone().drop_guard();
    let config = Arc::new(session_config(&trust, target));
    let farewell = Farewell::default();
    let client = Client { host: target.host.clone(), port: target.port, trust, farewell: farewell.clone() };
    let mut session = russh::client::connect_stream(config, Breakable::new(tcp, token), client)
        .await
        .map_err(|error| error.during("agreeing on keys", address))?;
    let user = target.user.as_deref().unwrap_or(&options.default_user);
    login::log_in(&mut session, user, &options.keys, address, &farewell).await?;
    let running = session
        .channel_open_session()
        .await
        .map_err(|error| SshError::from(error).during("opening a channel", address))?;
    Channel::start(session, guard, running, command, address, farewell)
        .await
        .map_err(|error| SshError::from(error).during("requesting the command", address))
}

fn session_config(trust: &Trust, target: &Target) -> russh::client::Config {
    russh::client::Config {
        preferred: Preferred {
            key: host_key::algorithms(trust, &target.host, target.port),
            host_key_certificates: host_key::certificate_algorithms(trust, &target.host, target.port),
            ..Preferred::DEFAULT
        },
        // A window of 32 KiB packets fits the buffer, so a slow reader stalls the server, not the session.
        window_size: 2 << 20,
        channel_buffer_size: 80,
        // A dead server is noticed after two minutes; a live one may think as long as it likes.
        keepalive_interval: Some(Duration::from_secs(30)),
        keepalive_max: 3,
        nodelay: true,
        ..russh::client::Config::default()
    }
}
