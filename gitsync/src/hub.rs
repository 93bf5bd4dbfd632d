//! One remote: asked, logged in to and fetched from in one place for all that follow its refs. A single sync
//! loop has one of its own; of several sources, those of the same repository share one, and with it one
//! object store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::watch::Fingerprint;
use tokio::sync::{OwnedRwLockReadGuard, RwLock};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Tidy};
use crate::error::SyncError;
use crate::fetcher::{Fetcher, Goal, Source, blocking};
use crate::keyring::{Keyring, Keys};
use crate::metrics::Metrics;
use crate::protocol::{Follow, Glob, ObjectId, RemoteRef};
use crate::repo::{Layout, RepoError, Store, Tidied};
use crate::sync::spread;

/// Removed checkouts that are remembered until the store is tidied.
const MAX_GONE: usize = 1_000;

/// What somebody follows.
#[derive(Debug, Clone)]
pub(crate) enum Interest {
    /// One ref.
    One(Follow),
    /// All refs that fit.
    All(Vec<Glob>),
}

impl Interest {
    fn asks(&self) -> Vec<String> {
        match self {
            Self::One(follow) => follow.asks(),
            Self::All(globs) => globs.iter().map(Glob::asks).collect(),
        }
    }

    /// Whether it is touched when a ref, given by its full name, moves.
    pub(crate) fn is_about(&self, moved: &str, default_branch: Option<&str>) -> bool {
        match self {
            Self::One(follow) => follow.is_about(moved, default_branch),
            Self::All(globs) => globs.iter().any(|glob| glob.fits(moved)),
        }
    }
}

/// While it lives, the objects of a shared store stay.
pub(crate) type Using = Option<OwnedRwLockReadGuard<()>>;
/// The outcome of something done once for several.
type Shared<T> = Option<(Instant, Result<Arc<T>, Arc<SyncError>>)>;

/// One remote.
pub(crate) struct Hub {
    config: Arc<Config>,
    fetcher: Fetcher,
    tls_files: Vec<PathBuf>,
    /// Locked before `Lent::lock`, never after it.
    inner: tokio::sync::Mutex<Inner>,
    interests: Mutex<BTreeMap<String, Interest>>,
    /// The next time at which all look.
    next: Mutex<Option<Instant>>,
    lent: Option<Lent>,
}

struct Inner {
    source: Source,
    /// The state of the TLS files that `source` was made with.
    tls: Vec<Fingerprint>,
    keyring: Keyring,
    keys: Shared<Keys>,
    refs: Shared<Vec<RemoteRef>>,
    /// The packs of a shared store as they were when all was well.
    packs: Option<u64>,
}

/// A store that several roots borrow from.
struct Lent {
    layout: Layout,
    /// Those roots.
    members: Box<dyn Fn() -> Vec<Layout> + Send + Sync>,
    /// Read while objects are used, written while some are removed.
    lock: Arc<RwLock<()>>,
    /// Grows when the store is begun anew.
    generation: AtomicU64,
    /// Checkouts that were removed since the store was tidied.
    gone: Mutex<Vec<PathBuf>>,
}

/// When to look again.
pub(crate) struct Plan {
    /// So long from now.
    pub(crate) pause: Duration,
    /// An answer from then on is new enough; `None`: only one from after the pause.
    pub(crate) since: Option<Instant>,
}

impl Hub {
    /// For one loop, which keeps the objects itself.
    ///
    /// # Errors
    /// When the address or the credentials can't be used.
    pub(crate) fn alone(config: &Arc<Config>) -> Result<Arc<Self>, SyncError> {
        Self::new(config, None)
    }

    /// For several roots that borrow from the store under `layout`.
    ///
    /// # Errors
    /// When the address or the credentials can't be used.
    pub(crate) fn shared(
        config: &Arc<Config>,
        layout: Layout,
        members: impl Fn() -> Vec<Layout> + Send + Sync + 'static,
    ) -> Result<Arc<Self>, SyncError> {
        let lent = Lent {
            layout,
            members: Box::new(members),
            lock: Arc::default(),
            generation: AtomicU64::new(0),
            gone: Mutex::default(),
        };
        Self::new(config, Some(lent))
    }

    fn new(config: &Arc<Config>, lent: Option<Lent>) -> Result<Arc<Self>, SyncError> {
        let fetcher = Fetcher::new(Arc::clone(config));
        let tls_files = fetcher.tls_files(&config.repo);
        let tls = state_of(&tls_files);
        let source = fetcher.source(&config.repo)?;
        let keyring = Keyring::new(config)?;
        let inner = Inner { source, tls, keyring, keys: None, refs: None, packs: None };
        Ok(Arc::new(Self {
            config: Arc::clone(config),
            fetcher,
            tls_files,
            inner: tokio::sync::Mutex::new(inner),
            interests: Mutex::default(),
            next: Mutex::default(),
            lent,
        }))
    }

    /// Opens other remotes with the same settings.
    pub(crate) fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// From now on the answers are about this as well.
    pub(crate) fn follow(&self, who: &str, interest: Interest) {
        self.lock_interests().insert(who.to_owned(), interest);
    }

    /// No longer.
    pub(crate) fn unfollow(&self, who: &str) {
        self.lock_interests().remove(who);
    }

    fn lock_interests(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Interest>> {
        self.interests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When somebody who wants to pause so long looks again: with the others, if that is near.
    pub(crate) fn plan(&self, pause: Duration) -> Plan {
        let spread = |pause| spread(pause, self.config.jitter, random());
        if self.lent.is_none() {
            return Plan { pause: spread(pause), since: None };
        }
        let (now, period) = (Instant::now(), self.config.period);
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = next.filter(|next| *next > now).unwrap_or_else(|| now + spread(period));
        *next = Some(at);
        let (wanted, near) = (now + pause, period / 2);
        if let Some(late) = wanted.checked_duration_since(at + near) {
            let periods = late.as_nanos().div_ceil(period.as_nanos().max(1));
            at += period.saturating_mul(u32::try_from(periods).unwrap_or(u32::MAX));
        } else if wanted + near < at {
            at = wanted;
        }
        // Whoever wants to know soon again doesn't want the same answer.
        Plan { pause: at - now, since: at.checked_sub(near.min(pause / 2)) }
    }

    /// Logs in anew, unless that was done since then, and looks after the shared store.
    ///
    /// # Errors
    /// When credentials can't be had, or the store can't be used.
    pub(crate) async fn enter(
        &self,
        since: Instant,
        metrics: &Metrics,
        cancel: &CancellationToken,
    ) -> Result<Arc<Keys>, SyncError> {
        let mut inner = self.lock(cancel).await?;
        if let Some(known) = known(&inner.keys, since) {
            return known;
        }
        let begun = Instant::now();
        let result = self.renew(&mut inner, metrics, cancel).await;
        self.keep(&mut inner.keys, begun, result)
    }

    async fn renew(
        &self,
        inner: &mut Inner,
        metrics: &Metrics,
        cancel: &CancellationToken,
    ) -> Result<Arc<Keys>, SyncError> {
        self.look_after(inner, metrics, cancel).await?;
        let keys = inner.keyring.refresh(metrics, cancel).await?;
        self.trust_anew(inner);
        inner.source.log_in(&keys, &self.config.repo);
        Ok(keys)
    }

    /// Takes in certificates and keys that changed. While new ones can't be read, the old ones count.
    fn trust_anew(&self, inner: &mut Inner) {
        let now = state_of(&self.tls_files);
        if now == inner.tls {
            return;
        }
        match self.fetcher.source(&self.config.repo) {
            Ok(source) => {
                tracing::info!("certificates changed on disk; using the new ones");
                inner.source = source;
                inner.tls = now;
            }
            Err(error) => {
                tracing::warn!(%error, "changed certificates can't be used; the old ones count until they can");
            }
        }
    }

    /// The refs that anybody follows, as the remote had them since then or has them now.
    ///
    /// # Errors
    /// When the remote can't be asked.
    pub(crate) async fn refs(
        &self,
        since: Instant,
        cancel: &CancellationToken,
    ) -> Result<Arc<Vec<RemoteRef>>, SyncError> {
        let mut inner = self.lock(cancel).await?;
        if let Some(known) = known(&inner.refs, since) {
            return known;
        }
        let begun = Instant::now();
        let mut names: Vec<String> = self.lock_interests().values().flat_map(Interest::asks).collect();
        names.sort_unstable();
        names.dedup();
        let starts: Vec<String> =
            names.iter().filter_map(|name| Some(name.strip_suffix('*')?.to_owned())).collect();
        let covered = |name: &String| {
            let text = name.trim_end_matches('*');
            starts.iter().any(|start| {
                text.starts_with(start) && (text.len() > start.len() || text.len() == name.len())
            })
        };
        names.retain(|name| !covered(name));
        // Asked for nothing, a server tells everything.
        let result = match names.is_empty() {
            true => Ok(Arc::default()),
            false => inner.source.refs(names, cancel).await.map(Arc::new),
        };
        self.keep(&mut inner.refs, begun, result)
    }

    /// Makes sure that an object (`wanted`, or a tag of it) and all it needs is in the store, together with what
    /// others of this remote follow. A store of one loop may lack what a filter leaves out and the checkout
    /// doesn't need. Gives the store back, and what keeps its objects there.
    ///
    /// # Errors
    /// When the remote can't be reached or doesn't have it, or the store can't take it in.
    pub(crate) async fn fetch(
        &self,
        store: Store,
        (object, wanted, filter): (ObjectId, ObjectId, Option<&str>),
        keys: &Keys,
        metrics: &Metrics,
        cancel: &CancellationToken,
    ) -> Result<(Store, Using), SyncError> {
        let mut inner = self.lock(cancel).await?;
        let login = (keys, &self.config.repo[..]);
        let Some(lent) = &self.lent else {
            let (goal, source) =
                (Goal { filter: filter.map(str::to_owned), ..Goal::one(object) }, &mut inner.source);
            let store = self.fetcher.fetch(source, store, goal, login, metrics, cancel).await?;
            let store = self.fetcher.complete(source, store, wanted, keys, metrics, cancel).await?;
            return Ok((store, None));
        };
        let (others, tips) = (self.followed(&inner), lent.tips().await?);
        let own = self.open(lent).await?;
        let goal = Goal { others, tips, shared: true, ..Goal::one(object) };
        let own = self.fetcher.fetch(&mut inner.source, own, goal, login, metrics, cancel).await?;
        let (store, packs) = blocking(move || {
            own.note_packs()?;
            store.objects().refresh()?;
            Ok((store, own.layout().pack_state()))
        })
        .await?;
        inner.packs = Some(packs);
        // Whoever removes objects holds `inner`, so this doesn't wait.
        let using = Arc::clone(&lent.lock).read_owned().await;
        Ok((store, Some(using)))
    }

    /// What single refs meant when the remote was asked last.
    fn followed(&self, inner: &Inner) -> Vec<ObjectId> {
        let Some((_, Ok(refs))) = &inner.refs else { return Vec::new() };
        let one = |interest: &Interest| match interest {
            Interest::One(follow) => follow.choose(refs).map(|one| one.id),
            Interest::All(_) => None,
        };
        self.lock_interests().values().filter_map(one).collect()
    }

    async fn open(&self, lent: &Lent) -> Result<Store, SyncError> {
        let (layout, repo) = (lent.layout.clone(), self.config.repo.clone());
        blocking(move || {
            std::fs::create_dir_all(layout.root()).map_err(RepoError::io("creating", layout.root()))?;
            Store::open(layout, &repo, None).map(|(store, _)| store)
        })
        .await
    }

    /// A number that changes when somebody touched the packs that the root under `layout` uses.
    pub(crate) fn state(&self, layout: &Layout) -> u64 {
        self.lent.as_ref().map_or_else(|| layout.pack_state(), |lent| lent.generation.load(Ordering::SeqCst))
    }

    /// Whether objects are kept here and not by the one loop itself.
    pub(crate) fn lends(&self) -> bool {
        self.lent.is_some()
    }

    /// Verifies the packs of a shared store when somebody touched them, at the first time all of them.
    async fn look_after(
        &self,
        inner: &mut Inner,
        metrics: &Metrics,
        cancel: &CancellationToken,
    ) -> Result<(), SyncError> {
        let Some(lent) = &self.lent else { return Ok(()) };
        let layout = lent.layout.clone();
        let now = blocking(move || Ok(layout.pack_state())).await?;
        if inner.packs == Some(now) {
            return Ok(());
        }
        let (store, first, token) = (self.open(lent).await?, inner.packs.is_none(), cancel.clone());
        let checked = blocking(move || {
            if first {
                store.heal()?;
            }
            if store.is_half_copied() {
                return Err(RepoError::BadPack("the copy of the source didn't come to its end".to_owned()));
            }
            store.verify_packs(&token)?;
            store.note_packs()?;
            Ok(store.layout().pack_state())
        });
        match checked.await {
            Ok(packs) => {
                inner.packs = Some(packs);
                Ok(())
            }
            Err(error) if error.is_damage() => self.begin_anew(inner, lent, &error, metrics, cancel).await,
            Err(error) => Err(error),
        }
    }

    /// Throws a damaged shared store away, unless somebody did since the number `state` was seen.
    ///
    /// # Errors
    /// When it can't be removed.
    pub(crate) async fn rebuild(
        &self,
        state: u64,
        error: &SyncError,
        metrics: &Metrics,
        cancel: &CancellationToken,
    ) -> Result<(), SyncError> {
        let Some(lent) = &self.lent else { return Ok(()) };
        let mut inner = self.lock(cancel).await?;
        match lent.generation.load(Ordering::SeqCst) == state {
            true => self.begin_anew(&mut inner, lent, error, metrics, cancel).await,
            false => Ok(()),
        }
    }

    async fn begin_anew(
        &self,
        inner: &mut Inner,
        lent: &Lent,
        error: &SyncError,
        metrics: &Metrics,
        cancel: &CancellationToken,
    ) -> Result<(), SyncError> {
        tracing::warn!(%error, "the shared object store is damaged; fetching everything afresh");
        let _alone = tokio::select! {
            alone = lent.lock.write() => alone,
            () = cancel.cancelled() => return Err(RepoError::Cancelled.into()),
        };
        metrics.rebuilt();
        let store = self.open(lent).await?;
        inner.packs = Some(blocking(move || Ok(store.rebuild()?.layout().pack_state())).await?);
        lent.generation.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Tidies a shared store after checkouts were removed, unless somebody uses it; the next who comes does
    /// it then.
    pub(crate) async fn tidy(
        &self,
        removed: Vec<PathBuf>,
        mode: Tidy,
        cancel: &CancellationToken,
    ) -> Result<(), SyncError> {
        let Some(lent) = &self.lent else { return Ok(()) };
        let gone = {
            let mut gone = lent.gone.lock().unwrap_or_else(PoisonError::into_inner);
            gone.extend(removed);
            let excess = gone.len().saturating_sub(MAX_GONE);
            gone.drain(..excess);
            gone.clone()
        };
        if gone.is_empty() {
            return Ok(());
        }
        let Ok(mut inner) = self.inner.try_lock() else { return Ok(()) };
        let Ok(_alone) = lent.lock.try_write() else { return Ok(()) };
        let mut tips = lent.tips().await?;
        // Fetched for somebody who has not come to it yet.
        tips.extend(self.followed(&inner));
        let (store, cancel) = (self.open(lent).await?, cancel.clone());
        let packs = blocking(move || {
            let here = |id: &ObjectId| store.commit_behind(*id).ok().flatten();
            let mut commits: Vec<ObjectId> = tips.iter().filter_map(here).collect();
            commits.sort_unstable();
            commits.dedup();
            if store.tidy(&commits, &gone, mode, None, &cancel)? == Tidied::Rewritten {
                tracing::debug!("rewrote the packs as one");
            }
            store.note_packs()?;
            Ok(store.layout().pack_state())
        });
        inner.packs = Some(packs.await?);
        lent.gone.lock().unwrap_or_else(PoisonError::into_inner).clear();
        Ok(())
    }

    /// Keeps an outcome for the others; not that of somebody who was called off.
    fn keep<T>(
        &self,
        kept: &mut Shared<T>,
        begun: Instant,
        result: Result<Arc<T>, SyncError>,
    ) -> Result<Arc<T>, SyncError> {
        match result {
            Ok(value) => {
                *kept = Some((begun, Ok(Arc::clone(&value))));
                Ok(value)
            }
            Err(error) if error.is_cancelled() || self.lent.is_none() => Err(error),
            Err(error) => {
                let error = Arc::new(error);
                *kept = Some((begun, Err(Arc::clone(&error))));
                Err(SyncError::Shared(error))
            }
        }
    }

    async fn lock(
        &self,
        cancel: &CancellationToken,
    ) -> Result<tokio::sync::MutexGuard<'_, Inner>, SyncError> {
        tokio::select! {
            inner = self.inner.lock() => Ok(inner),
            () = cancel.cancelled() => Err(RepoError::Cancelled.into()),
        }
    }
}

impl Lent {
    /// The commits that the roots publish or still have checked out.
    async fn tips(&self) -> Result<Vec<ObjectId>, SyncError> {
        let members = (self.members)();
        blocking(move || {
            let mut tips = Vec::new();
            for layout in members {
                tips.extend(layout.head()?);
                tips.extend(layout.checkouts()?);
            }
            Ok(tips)
        })
        .await
    }
}

fn known<T>(kept: &Shared<T>, since: Instant) -> Option<Result<Arc<T>, SyncError>> {
    let (_, result) = kept.as_ref().filter(|(begun, _)| *begun >= since)?;
    Some(result.clone().map_err(SyncError::Shared))
}

fn state_of(files: &[PathBuf]) -> Vec<Fingerprint> {
    files.iter().map(|path| Fingerprint::of(path)).collect()
}

/// A number from 0 to 1; nothing depends on its quality.
fn random() -> f64 {
    use std::hash::BuildHasher as _;
    let bits = std::hash::RandomState::new().hash_one(Instant::now());
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(period: Duration) -> Arc<Hub> {
        let mut config = Config::new("/nowhere", "/nowhere");
        config.period = period;
        Hub::shared(&Arc::new(config), Layout::new("/nowhere"), Vec::new).unwrap()
    }

    #[test]
    fn those_who_pause_alike_look_together() {
        let period = Duration::from_secs(60);
        let hub = shared(period);
        let first = Instant::now() + hub.plan(period).pause;
        let second = Instant::now() + hub.plan(period).pause;
        assert!(second - first < period / 4, "to the same time, as exactly as it is measured");
        let plan = hub.plan(period * 3);
        assert!(
            plan.pause > period * 2 && plan.pause < period * 4,
            "with the others, near to what is wanted"
        );
        let now = Instant::now();
        let soon = hub.plan(Duration::from_millis(50));
        assert!(soon.pause <= Duration::from_millis(50));
        assert!(soon.since.unwrap() > now, "it wants another answer");
    }

    #[tokio::test]
    async fn an_answer_is_for_all_who_asked_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let repository = git2::Repository::init_bare(dir.path()).unwrap();
        let who = git2::Signature::now("A", "a@localhost").unwrap();
        let tree = repository.find_tree(repository.treebuilder(None).unwrap().write().unwrap()).unwrap();
        let commit = repository.commit(Some("refs/heads/main"), &who, &who, "one", &tree, &[]).unwrap();
        let mut config = Config::new(dir.path().display().to_string(), "/nowhere");
        config.period = Duration::from_secs(60);
        let hub = Hub::shared(&Arc::new(config), Layout::new("/nowhere"), Vec::new).unwrap();
        let cancel = CancellationToken::new();
        assert!(hub.refs(Instant::now(), &cancel).await.unwrap().is_empty(), "nobody follows anything");
        hub.follow("a", Interest::One(Follow::Name("main".to_owned())));
        hub.follow("b", Interest::All(vec![Glob::new("*")]));
        let asked = Instant::now();
        let refs = hub.refs(asked, &cancel).await.unwrap();
        assert_eq!(refs.len(), 1);
        assert_eq!(refs[0].id.to_string(), commit.to_string());
        repository.reference("refs/heads/two", commit, false, "").unwrap();
        assert_eq!(hub.refs(asked, &cancel).await.unwrap().len(), 1, "the same answer");
        assert_eq!(hub.refs(Instant::now(), &cancel).await.unwrap().len(), 2, "a new one");
        drop(dir);
        let asked = Instant::now();
        assert!(matches!(hub.refs(asked, &cancel).await, Err(SyncError::Shared(_))));
        assert!(hub.refs(asked, &cancel).await.is_err(), "once for all");
    }
}
