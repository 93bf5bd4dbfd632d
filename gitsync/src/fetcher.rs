//! Getting objects from a remote of any kind into a store.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::SyncError;
use crate::keyring::Keys;
use crate::metrics::Metrics;
use crate::protocol::{FetchEvent, FetchRequest, INFINITE_DEPTH, ObjectId, RemoteRef};
use crate::repo::{CheckoutOptions, Lacking, LocalSource, RepoError, Store};
use crate::transport::{GitRemote, HttpRemote, Remote, RemoteUrl, SshRemote, TransportError};

/// Where log lines go that tell what is asked of others (`--verbose=5`) ...
pub(crate) const COMMAND: &str = "gitsync::command";
/// ... and what they answer (`--verbose=6`).
pub(crate) const RESULT: &str = "gitsync::result";

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
        tracing::debug!(target: COMMAND, ?names, "asking for refs");
        let found: Result<Vec<RemoteRef>, SyncError> = match self {
            Self::Local(path) => {
                let path = path.clone();
                blocking(move || LocalSource::open(&path)?.refs(&names)).await
            }
            Self::Network(remote) => tokio::select! {
                refs = remote.refs(&names) => refs.map_err(SyncError::from),
                () = cancel.cancelled() => Err(RepoError::Cancelled.into()),
            },
        };
        for found in found.iter().flatten() {
            tracing::debug!(target: RESULT, name = found.name, id = %found.id, "a ref");
        }
        found
    }

    /// Logs in with the keys for the address.
    pub(crate) fn log_in(&mut self, keys: &Keys, url: &str) {
        if let Self::Network(Remote::Http(remote)) = self {
            remote.set_credentials(keys.for_url(url));
            remote.set_cookie(keys.cookie(url).as_ref());
        }
    }
}

/// What a fetch is to bring.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    /// Without these it failed.
    pub(crate) wanted: ObjectId,
    /// To come along, where the store is one that several share: what others of them will want.
    pub(crate) others: Vec<ObjectId>,
    /// Commits that are here besides the store's own.
    pub(crate) tips: Vec<ObjectId>,
    /// History may go further back than asked for: somebody else may want it.
    pub(crate) shared: bool,
    /// What a network remote may leave out; see [`Fetcher::complete`].
    pub(crate) filter: Option<String>,
}

impl Goal {
    /// One object, and no more history than asked for.
    pub(crate) fn one(wanted: ObjectId) -> Self {
        Self { wanted, others: Vec::new(), tips: Vec::new(), shared: false, filter: None }
    }
}

/// Opens remotes and fetches from them.
pub(crate) struct Fetcher {
    config: Arc<Config>,
    /// Whether it was said that the remote knows no filters.
    unfiltered: AtomicBool,
}

/// What is noted about a fetch.
struct Intake {
    /// How deep it was, once the pack is in.
    depth: Option<u32>,
    /// What a filter left out, before the pack is in.
    filter: Option<String>,
}

/// Names asked for in one request: 2.5 MB of them.
const MOST_WANTS: usize = 50_000;
/// Rounds of fetching what a filter left out: directories, then files. More means a server that sends
/// something else than what it is asked for.
const MOST_ROUNDS: usize = 3;

impl Fetcher {
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self { config, unfiltered: AtomicBool::new(false) }
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

    /// The TLS files that a connection to `url` uses.
    pub(crate) fn tls_files(&self, url: &str) -> Vec<PathBuf> {
        let Ok(RemoteUrl::Http(url)) = RemoteUrl::parse(&self.config.git.rewrite(url)) else {
            return Vec::new();
        };
        let Ok(options) = self.config.git.http_options(Some(&url)) else { return Vec::new() };
        let tls = options.tls;
        let pair = tls.identity.into_iter().flat_map(|(chain, key)| [chain, key]);
        tls.ca_file.into_iter().chain(pair).collect()
    }

    /// Makes sure that what is wanted is in the store, as deep as configured. Asks the remote only if it
    /// isn't.
    ///
    /// # Errors
    /// When the remote can't be reached or doesn't have it, or the store can't take it in.
    pub(crate) async fn fetch(
        &self,
        source: &mut Source,
        store: Store,
        goal: Goal,
        (keys, url): (&Keys, &str),
        metrics: &Metrics,
        cancel: &CancellationToken,
    ) -> Result<Store, SyncError> {
        let (depth, wanted, filter) = (self.config.depth, goal.wanted, goal.filter.clone());
        let (store, request) = blocking(move || {
            let request = request(&store, depth, &goal)?;
            Ok((store, request))
        })
        .await?;
        let Some(mut request) = request else { return Ok(store) };
        request.whole |= filter.is_some();
        request.filter = filter;
        source.log_in(keys, url);
        match source {
            Source::Local(path) => {
                let (path, cancel) = (path.clone(), cancel.clone());
                tracing::debug!(target: COMMAND, path = %path.display(), want = %wanted, depth, "copying objects");
                blocking(move || {
                    let limit = (depth > 0).then_some(depth);
                    // A local source looks at what is here to know what isn't.
                    let store = if store.is_partial() { store.rebuild()? } else { store };
                    LocalSource::open(&path)?.fetch(&store, &request.wants, limit, &cancel)?;
                    store.set_fetched_depth(depth)?;
                    Ok(store)
                })
                .await
            }
            Source::Network(remote) => {
                let intake = Intake { depth: Some(depth), filter: request.filter.clone() };
                self.over_network(remote, store, &request, intake, metrics, cancel).await
            }
        }
    }

    /// Fetches what the checkout of a commit needs and a filter left out, in one request if directories
    /// are here. Asks nothing of a store that lacks nothing.
    ///
    /// # Errors
    /// As [`Fetcher::fetch`]; damage, when the remote doesn't send single objects.
    pub(crate) async fn complete(
        &self,
        source: &mut Source,
        mut store: Store,
        wanted: ObjectId,
        keys: &Keys,
        metrics: &Metrics,
        cancel: &CancellationToken,
    ) -> Result<Store, SyncError> {
        let url = &self.config.repo;
        let options = CheckoutOptions { sparse: self.config.sparse_checkout_file.clone() };
        for _ in 0..MOST_ROUNDS {
            let (options, token) = (options.clone(), cancel.clone());
            let lacking;
            (store, lacking) = blocking(move || {
                let commit = store.commit_behind(wanted)?.filter(|_| store.is_partial());
                let lacking = commit.map(|commit| store.lacking(commit, &options, &token)).transpose()?;
                Ok((store, lacking.unwrap_or(Lacking::Nothing)))
            })
            .await?;
            let (wants, filter) = match lacking {
                Lacking::Nothing => return Ok(store),
                // Without patterns all files are needed, too.
                Lacking::Trees(trees) => {
                    (trees, self.config.sparse_checkout_file.as_ref().map(|_| "blob:none".to_owned()))
                }
                Lacking::Blobs(blobs) => (blobs, None),
            };
            tracing::debug!(objects = wants.len(), "fetching what the checkout lacks");
            source.log_in(keys, url);
            let Source::Network(remote) = source else {
                store = blocking(move || store.rebuild()).await?;
                store = self.fetch(source, store, Goal::one(wanted), (keys, url), metrics, cancel).await?;
                continue;
            };
            for wants in wants.chunks(MOST_WANTS) {
                let request = FetchRequest {
                    wants: wants.to_vec(),
                    filter: filter.clone(),
                    whole: true,
                    ..FetchRequest::default()
                };
                let intake = Intake { depth: None, filter: None };
                store = match self.over_network(remote, store, &request, intake, metrics, cancel).await {
                    Err(SyncError::Transport(error @ TransportError::Protocol { .. })) => {
                        return Err(lacks(wants, &common::error::chain(&error)));
                    }
                    other => other?,
                };
            }
        }
        Err(lacks(&[wanted], "the remote left out what it was asked for"))
    }

    async fn over_network(
        &self,
        remote: &mut Remote,
        store: Store,
        request: &FetchRequest,
        intake: Intake,
        metrics: &Metrics,
        cancel: &CancellationToken,
    ) -> Result<Store, SyncError> {
        tracing::debug!(
            target: COMMAND,
            want = request.wants.first().map(ToString::to_string),
            wants = request.wants.len(),
            haves = request.haves.len(),
            depth = request.depth,
            filter = request.filter,
            "asking for a pack"
        );
        let (sender, receiver) = mpsc::channel(PACK_QUEUE);
        let token = cancel.clone();
        let taking = blocking(move || take(store, receiver, &intake, &token));
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
            (Ok(()), Ok((store, bytes, filtered))) => {
                metrics.fetched(bytes);
                if request.filter.is_some() && !filtered && !self.unfiltered.swap(true, Ordering::Relaxed) {
                    tracing::info!("the remote knows no filters; --filter leaves nothing out");
                }
                Ok(store)
            }
        }
    }
}

/// What has to be fetched, if anything.
fn request(store: &Store, depth: u32, goal: &Goal) -> Result<Option<FetchRequest>, RepoError> {
    let is_here = |id: ObjectId| -> Result<bool, RepoError> {
        let here = store.commit_behind(id)?.is_some() && store.fetched_depth() == Some(depth);
        Ok(here && store.ends_at_depth(id, depth, goal.shared)?)
    };
    if is_here(goal.wanted)? {
        return Ok(None);
    }
    let mut wants = vec![goal.wanted];
    for other in &goal.others {
        // With a depth the server counts from all that is named: what is here must not be cut shorter.
        if !wants.contains(other) && (depth > 0 || !is_here(*other)?) {
            wants.push(*other);
        }
    }
    let shallow = store.shallow()?;
    let depth = match depth {
        0 if shallow.is_empty() => None,
        0 => Some(INFINITE_DEPTH),
        depth => Some(depth),
    };
    let haves = store.haves(&goal.tips)?;
    let whole = store.is_partial();
    Ok(Some(FetchRequest { wants, haves, shallow, depth, filter: None, whole }))
}

/// Damage, so that everything is fetched afresh and without a filter.
fn lacks(ids: &[ObjectId], reason: &str) -> SyncError {
    let id = ids.first().copied().unwrap_or(ObjectId::ZERO);
    RepoError::BadObject { id, reason: format!("a filter left it out, and {reason}") }.into()
}

/// Takes in what a fetch brings.
fn take(
    store: Store,
    mut events: mpsc::Receiver<FetchEvent>,
    intake: &Intake,
    cancel: &CancellationToken,
) -> Result<(Store, u64, bool), RepoError> {
    let (mut shallow, mut unshallow, mut filtered) = (Vec::new(), Vec::new(), false);
    let mut first = loop {
        match events.blocking_recv() {
            Some(FetchEvent::Filtered) => filtered = true,
            Some(FetchEvent::Shallow(id)) => shallow.push(id),
            Some(FetchEvent::Unshallow(id)) => unshallow.push(id),
            Some(FetchEvent::Progress(words)) => said(&words),
            Some(FetchEvent::Pack(bytes)) => break Some(bytes),
            Some(FetchEvent::Done) | None => break None,
        }
    };
    if first.is_none() {
        return Err(RepoError::BadPack("it never came".to_owned()));
    }
    if let Some(filter) = intake.filter.as_deref().filter(|_| filtered) {
        store.set_partial(filter)?;
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
                FetchEvent::Progress(words) => said(&words),
                FetchEvent::Filtered | FetchEvent::Shallow(_) | FetchEvent::Unshallow(_) => {}
            }
        }
    };
    let stats = store.take_pack(next, cancel)?;
    if !complete {
        return Err(RepoError::Cancelled);
    }
    store.remove_shallow(&unshallow)?;
    if let Some(depth) = intake.depth {
        store.set_fetched_depth(depth)?;
    }
    tracing::debug!(target: RESULT, bytes = stats.bytes, objects = stats.objects, "got a pack");
    Ok((store, stats.bytes, filtered))
}

fn said(words: &Bytes) {
    tracing::debug!(target: RESULT, text = String::from_utf8_lossy(words).trim_end(), "the remote says");
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
