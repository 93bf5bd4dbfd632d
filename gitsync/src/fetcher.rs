//! Getting objects from a remote of any kind into a store.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::SyncError;
use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::protocol::{FetchEvent, FetchRequest, INFINITE_DEPTH, ObjectId, RemoteRef};
use crate::repo::{LocalSource, RepoError, Store};
use crate::transport::{GitRemote, HttpRemote, Remote, RemoteUrl, SshRemote, TransportError};

/// Pieces of a pack between network and disk.
const PACK_QUEUE: usize = 16;

/// A remote of any kind.
pub(crate) enum Source {
    /// On this machine.
    Local(PathBuf),
    /// Reached over the network.
    Network(Remote),
}

impl Source {
    /// Those of the given full ref names that exist.
    pub(crate) async fn refs(
        &mut self,
        names: Vec<String>,
        cancel: &CancellationToken,
    ) -> Result<Vec<RemoteRef>, SyncError> {
        match self {
            Self::Local(path) => {
                let path = path.clone();
                blocking(move || LocalSource::open(&path)?.refs(&names)).await
            }
            Self::Network(remote) => tokio::select! {
                refs = remote.refs(&names) => Ok(refs?),
                () = cancel.cancelled() => Err(RepoError::Cancelled.into()),
            },
        }
    }

    /// Logs in with what the keyring has for the address.
    pub(crate) fn log_in(&mut self, keyring: &Keyring, url: &str) {
        if let Self::Network(Remote::Http(remote)) = self {
            remote.set_credentials(keyring.for_url(url));
            remote.set_cookie(keyring.cookie(url).as_ref());
        }
    }
}

/// Opens remotes and fetches from them.
pub(crate) struct Fetcher {
    config: Arc<Config>,
    metrics: Metrics,
}

impl Fetcher {
    pub(crate) fn new(config: Arc<Config>, metrics: Metrics) -> Self {
        Self { config, metrics }
    }

    /// The remote behind an address.
    ///
    /// # Errors
    /// When the address can't be used.
    pub(crate) fn source(&self, url: &str) -> Result<Source, SyncError> {
        let parsed = RemoteUrl::parse(&self.config.git.rewrite(url))?;
        let protocol = parsed.protocol();
        if !self.config.allows(protocol, url != self.config.repo) {
            return Err(SyncError::Forbidden { protocol });
        }
        let remote = match parsed {
            RemoteUrl::Local(path) => return Ok(Source::Local(path)),
            RemoteUrl::Git { host, port, path } => Remote::Git(GitRemote::new(host, port, path)),
            RemoteUrl::Http(url) => {
                let options = self.config.git.http_options(Some(&url)).map_err(SyncError::Internal)?;
                Remote::Http(Box::new(HttpRemote::new(url, &options)?))
            }
            RemoteUrl::Ssh(target) => Remote::Ssh(SshRemote::new(target, self.config.ssh.clone())),
        };
        Ok(Source::Network(remote))
    }

    /// The state of the TLS files that a connection to `url` uses, as one number; `None` where none is.
    pub(crate) fn tls_state(&self, url: &str) -> Option<u64> {
        let Ok(RemoteUrl::Http(url)) = RemoteUrl::parse(&self.config.git.rewrite(url)) else { return None };
        let tls = self.config.git.http_options(Some(&url)).ok()?.tls;
        let pair = tls.identity.into_iter().flat_map(|(chain, key)| [chain, key]);
        let mut hasher = DefaultHasher::new();
        let mut any = false;
        for path in tls.ca_file.into_iter().chain(pair) {
            any = true;
            let meta = std::fs::metadata(path).ok();
            meta.map(|meta| (meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec())).hash(&mut hasher);
        }
        any.then(|| hasher.finish())
    }

    /// Makes sure that `wanted` is in the store, as deep as configured. Asks the remote only if it
    /// isn't.
    ///
    /// # Errors
    /// When the remote can't be reached or doesn't have it, or the store can't take it in.
    pub(crate) async fn fetch(
        &self,
        source: &mut Source,
        store: Store,
        wanted: ObjectId,
        keyring: &Keyring,
        url: &str,
        cancel: &CancellationToken,
    ) -> Result<Store, SyncError> {
        let depth = self.config.depth;
        let (store, request) = blocking(move || {
            let request = request(&store, depth, wanted)?;
            Ok((store, request))
        })
        .await?;
        let Some(request) = request else { return Ok(store) };
        source.log_in(keyring, url);
        match source {
            Source::Local(path) => {
                let (path, cancel) = (path.clone(), cancel.clone());
                blocking(move || {
                    let limit = (depth > 0).then_some(depth);
                    LocalSource::open(&path)?.fetch(&store, wanted, limit, &cancel)?;
                    store.set_fetched_depth(depth)?;
                    Ok(store)
                })
                .await
            }
            Source::Network(remote) => self.over_network(remote, store, &request, cancel).await,
        }
    }

    async fn over_network(
        &self,
        remote: &mut Remote,
        store: Store,
        request: &FetchRequest,
        cancel: &CancellationToken,
    ) -> Result<Store, SyncError> {
        let depth = self.config.depth;
        let (sender, receiver) = mpsc::channel(PACK_QUEUE);
        let token = cancel.clone();
        let taking = blocking(move || take(store, receiver, depth, &token));
        let sending = async {
            tokio::select! {
                result = remote.fetch(request, sender) => result.map_err(SyncError::from),
                () = cancel.cancelled() => Err(RepoError::Cancelled.into()),
            }
        };
        let (sent, taken) = tokio::join!(sending, taking);
        match (sent, taken) {
            // The reason is with the side that stopped taking.
            (Err(SyncError::Transport(TransportError::SinkClosed)), Err(error)) => Err(error),
            (Err(error), _) | (Ok(()), Err(error)) => Err(error),
            (Ok(()), Ok((store, bytes))) => {
                self.metrics.fetched(bytes);
                Ok(store)
            }
        }
    }
}

/// What has to be fetched, if anything.
fn request(store: &Store, depth: u32, wanted: ObjectId) -> Result<Option<FetchRequest>, RepoError> {
    let here = store.commit_behind(wanted)?.is_some();
    if here && store.fetched_depth() == Some(depth) && store.ends_at_depth(wanted, depth)? {
        return Ok(None);
    }
    let shallow = store.shallow()?;
    let depth = match depth {
        0 if shallow.is_empty() => None,
        0 => Some(INFINITE_DEPTH),
        depth => Some(depth),
    };
    let haves = store.haves()?;
    Ok(Some(FetchRequest { wants: vec![wanted], haves, shallow, depth, filter: None }))
}

/// Takes in what a fetch brings.
fn take(
    store: Store,
    mut events: mpsc::Receiver<FetchEvent>,
    depth: u32,
    cancel: &CancellationToken,
) -> Result<(Store, u64), RepoError> {
    let (mut shallow, mut unshallow) = (Vec::new(), Vec::new());
    let mut first = loop {
        match events.blocking_recv() {
            Some(FetchEvent::Shallow(id)) => shallow.push(id),
            Some(FetchEvent::Unshallow(id)) => unshallow.push(id),
            Some(FetchEvent::Progress(_)) => {}
            Some(FetchEvent::Pack(bytes)) => break Some(bytes),
            Some(FetchEvent::Done) | None => break None,
        }
    };
    if first.is_none() {
        return Err(RepoError::BadPack("it never came".to_owned()));
    }
    store.add_shallow(&shallow)?;
    let mut complete = false;
    let next = || -> Option<Bytes> {
        if let Some(bytes) = first.take() {
            return Some(bytes);
        }
        loop {
            match events.blocking_recv()? {
                FetchEvent::Pack(bytes) => return Some(bytes),
                FetchEvent::Done => {
                    complete = true;
                    return None;
                }
                FetchEvent::Progress(_) | FetchEvent::Shallow(_) | FetchEvent::Unshallow(_) => {}
            }
        }
    };
    let stats = store.take_pack(next, cancel)?;
    if !complete {
        return Err(RepoError::Cancelled);
    }
    store.remove_shallow(&unshallow)?;
    store.set_fetched_depth(depth)?;
    tracing::debug!(bytes = stats.bytes, objects = stats.objects, "fetched");
    Ok((store, stats.bytes))
}

/// Runs file work on a thread that may block.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, SyncError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, RepoError> + Send + 'static,
{
    match spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(SyncError::Internal(error.to_string())),
    }
}
