//! One attempt: from the remote's ref to the published link. The driver of [`crate::repo`] and
//! [`crate::transport`].

use std::fs::{self, File};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::SyncError;
use crate::fetcher::blocking;
use crate::hook::Hooks;
use crate::hub::{Hub, Using};
use crate::keyring::Keys;
use crate::metrics::Metrics;
use crate::news::News;
use crate::orders::Orders;
use crate::probe::Probe;
use crate::protocol::{Follow, ObjectId};
use crate::publish::Link;
use crate::repo::{
    CheckoutOptions, CheckoutStats, Layout, Patrol, Preparation, RepoError, Reuse, RootLock, Sighting, Spare,
    Store, Tidied, between, has_stale, mark_replaced,
};
use crate::submodule;
use crate::view::Phases;

/// Files looked at for changes in one poll: about half a millisecond of `lstat`.
const PATROL_FILES: usize = 500;

/// What an attempt did.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    /// The commit that is published now.
    pub(crate) commit: ObjectId,
    /// What a new publication changed.
    pub(crate) news: Option<Arc<News>>,
    /// Whether a checkout was made or the link moved.
    pub(crate) changed: bool,
    /// Whether the ref can never mean another commit.
    pub(crate) settled: bool,
}

/// Owns the root.
pub(crate) struct Engine {
    config: Arc<Config>,
    layout: Layout,
    link: Link,
    hub: Arc<Hub>,
    /// What to log in with, in the running attempt.
    keys: Arc<Keys>,
    hooks: Hooks,
    orders: Orders,
    probe: Option<Probe>,
    /// What the ref means, in the running attempt.
    followed: ObjectId,
    /// Its name: that of the newest tag, where a range of versions is followed.
    reference: String,
    /// The annotated tag that names that commit, where its signature is asked for.
    tag: Option<(ObjectId, ObjectId)>,
    metrics: Metrics,
    lock: Option<RootLock>,
    /// Set while the published checkout is known to be good.
    patrol: Option<Patrol>,
    /// The same for a published copy.
    copy: Option<Patrol>,
    /// The packs as they were when all was well.
    packs: u64,
    /// Bytes in them that are no longer needed, at most, once that is known.
    garbage: Option<u64>,
    first: bool,
    /// The remote has said that there is something new.
    expectant: bool,
    /// Checkouts whose files were written by this process, the newest last.
    made: Vec<ObjectId>,
    /// What the running attempt spent its time on.
    phases: Phases,
    /// What of the last commit is kept with LFS.
    extent: Option<crate::lfs::Extent>,
    /// The store of an update after which nobody has tidied up.
    untidy: Option<(Store, Using, ObjectId)>,
}

/// Checkouts that are remembered.
const MAX_MADE: usize = 16;

/// A look at the spare that has begun.
type Looking = Option<JoinHandle<Option<Spare>>>;

impl Engine {
    /// # Errors
    /// When the address can't be used.
    pub(crate) fn new(
        config: Arc<Config>,
        layout: Layout,
        hooks: Hooks,
        orders: Orders,
        metrics: Metrics,
        hub: Arc<Hub>,
    ) -> Result<Self, SyncError> {
        let link = Link::new(&layout, &config.link).shaped(
            config.publish,
            config.subpath.clone(),
            !config.stale_worktree_timeout.is_zero(),
        );
        let link = link.for_web(config.web.clone());
        let probe = config.probe.clone().map(Probe::new).transpose().map_err(SyncError::Internal)?;
        let reference = config.reference.clone();
        let engine = Self {
            config,
            layout,
            link,
            hub,
            keys: Arc::default(),
            hooks,
            orders,
            probe,
            followed: ObjectId::ZERO,
            reference,
            tag: None,
            metrics,
            lock: None,
            patrol: None,
            copy: None,
            packs: 0,
            garbage: None,
            first: true,
            expectant: false,
            made: Vec::new(),
            phases: Phases::new(),
            extent: None,
            untidy: None,
        };
        Ok(engine)
    }

    /// What the last attempt spent its time on.
    pub(crate) fn take_phases(&mut self) -> Phases {
        std::mem::take(&mut self.phases)
    }

    fn spent(&mut self, phase: &'static str, since: Instant) {
        self.phases.push((phase, since.elapsed()));
    }

    /// The commit that consumers see, if what they see is whole.
    pub(crate) fn serving(&self) -> Option<ObjectId> {
        let commit = self.link.current()?;
        (self.link.leads_to(&self.layout, commit) && self.layout.worktree(commit).is_dir()).then_some(commit)
    }

    /// Waits for the hooks of a one-time run.
    pub(crate) async fn finish(&mut self) -> Result<(), crate::hook::HookError> {
        self.hooks.finish().await
    }

    /// The remote.
    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Brings the link up to date with what the remote had at some time from `since` on. What nobody waits for
    /// is left to [`Self::tidy_up`].
    ///
    /// # Errors
    /// Whatever failed; what was published before still is.
    pub(crate) async fn attempt(
        &mut self,
        since: Instant,
        cancel: &CancellationToken,
    ) -> Result<Report, SyncError> {
        let mut looking = std::mem::take(&mut self.expectant).then(|| self.look_ahead()).flatten();
        let result = self.look_and_update(since, &mut looking, cancel).await;
        // Nothing may go on behind.
        if let Some(looking) = looking {
            let _ = looking.await;
        }
        result
    }

    /// The next attempt will find something new: the remote has said so.
    pub(crate) fn expect_news(&mut self) {
        self.expectant = true;
    }

    async fn look_and_update(
        &mut self,
        since: Instant,
        looking: &mut Looking,
        cancel: &CancellationToken,
    ) -> Result<Report, SyncError> {
        if self.lock.is_none() {
            self.lock = Some(RootLock::take(&self.layout)?);
        }
        if self.link.is_once()
            && let Some(commit) = self.link.current()
        {
            return Ok(Report { commit, news: None, changed: false, settled: true });
        }
        self.keys = self.hub.enter(since, &self.metrics, cancel).await?;
        let asked = Instant::now();
        self.followed = self.resolve(since, cancel).await?;
        self.spent("ask", asked);
        let (wanted, held) = self.orders.decide(self.followed);
        self.metrics.not_followed(self.orders.reason().is_some());
        let failed = held.filter(|held| held.failed);
        let held = move || match &failed {
            Some(held) => Err(SyncError::Held(held.reason.clone())),
            None => Ok(()),
        };
        if !self.first && !self.orders.is_on_trial(wanted) && self.is_current(wanted).await? {
            held()?;
            return Ok(self.report(&Updated { commit: wanted, changed: false, news: None }));
        }
        let state = self.hub.state(&self.layout);
        let mut result = Box::pin(self.update(wanted, false, looking, cancel)).await;
        if let Err(error) = &result
            && error.is_damage()
            && !cancel.is_cancelled()
        {
            let alone = !self.hub.lends();
            if alone {
                tracing::warn!(%error, "the object store is damaged; fetching everything afresh");
                self.metrics.rebuilt();
            } else {
                self.hub.rebuild(state, error, &self.metrics, cancel).await?;
            }
            result = Box::pin(self.update(wanted, alone, &mut None, cancel)).await;
        }
        if let Err(SyncError::Repo(error)) = &result
            && error.is_disk_full()
        {
            self.make_room().await;
        }
        let updated = result?;
        self.after(&updated);
        held()?;
        Ok(self.report(&updated))
    }

    fn report(&self, updated: &Updated) -> Report {
        let settled = self.config.reference == updated.commit.to_string();
        Report { commit: updated.commit, changed: updated.changed, news: updated.news.clone(), settled }
    }

    /// Which object the configured ref means now.
    async fn resolve(&mut self, since: Instant, cancel: &CancellationToken) -> Result<ObjectId, SyncError> {
        if let Some(known) = self.orders.pinned() {
            return Ok(known);
        }
        if let Some(known) = self.orders.take_pending() {
            self.metrics.rolled_back("call");
            return Ok(known);
        }
        let follow = self.config.follow();
        if let Follow::Name(name) = &follow
            && let Ok(hash) = name.parse()
        {
            return Ok(hash);
        }
        let refs = self.hub.refs(since, cancel).await?;
        let found = follow.choose(&refs).ok_or_else(|| SyncError::UnknownRef { name: follow.to_string() })?;
        if matches!(follow, Follow::Newest(_)) {
            self.reference.clone_from(&found.name);
        }
        let is_asked = self.config.verification.mode != crate::verify::Verify::Off;
        self.tag = found.peeled.filter(|_| is_asked).map(|commit| (commit, found.id));
        Ok(found.target())
    }

    /// Whether `wanted` is published and, as far as this poll looks, as it was written.
    async fn is_current(&mut self, wanted: ObjectId) -> Result<bool, SyncError> {
        if self.patrol.as_ref().is_none_or(|patrol| patrol.commit() != wanted)
            || !self.link.leads_to(&self.layout, wanted)
        {
            return Ok(false);
        }
        let Some(mut patrol) = self.patrol.take() else { return Ok(false) };
        let layout = self.layout.clone();
        let timeout = self.config.stale_worktree_timeout;
        let keep = self.orders.kept(self.config.keep, wanted);
        let hub = Arc::clone(&self.hub);
        let (patrol, sighting, packs, stale) = blocking(move || {
            let sighting = patrol.step(PATROL_FILES);
            Ok((patrol, sighting, hub.state(&layout), has_stale(&layout, wanted, timeout, &keep)))
        })
        .await?;
        if sighting.lost || packs != self.packs {
            return Ok(false);
        }
        self.patrol = Some(patrol);
        if stale {
            let (layout, config) = (self.layout.clone(), Arc::clone(&self.config));
            let store = blocking(move || Ok(Store::open(layout, &config.repo, Some(wanted))?.0)).await?;
            self.untidy = Some((store, None, wanted));
        }
        if !sighting.is_clean()
            && let Err(error) = self.repair(wanted, sighting).await
        {
            tracing::warn!(hash = %wanted, %error, "can't repair single files; making the checkout anew");
            self.patrol = None;
            return Ok(false);
        }
        self.renew_copy(wanted, PATROL_FILES).await?;
        Ok(true)
    }

    /// Exchanges a published copy that isn't as it was made for a new one.
    async fn renew_copy(&mut self, commit: ObjectId, limit: usize) -> Result<(), SyncError> {
        if !self.link.has_copy() {
            return Ok(());
        }
        let (link, copy) = (self.link.clone(), self.copy.take());
        let known = copy.filter(|copy| copy.commit() == commit);
        let (copy, clean) = blocking(move || {
            let mut copy = known.or_else(|| link.patrol());
            let clean = copy.as_mut().is_none_or(|copy| copy.step(limit).is_clean());
            Ok((copy, clean))
        })
        .await?;
        self.copy = copy;
        if !clean {
            tracing::warn!(hash = %commit, "somebody changed the published copy; exchanging it for a new one");
            self.metrics.restored(1);
            let (layout, link) = (self.layout.clone(), self.link.clone());
            blocking(move || link.publish(&layout, commit)).await?;
            self.copy = self.watch_copy().await?;
        }
        Ok(())
    }

    async fn repair(&mut self, commit: ObjectId, sighting: Sighting) -> Result<(), SyncError> {
        let (layout, config) = (self.layout.clone(), Arc::clone(&self.config));
        let restored = blocking(move || {
            let (store, _) = Store::open(layout, &config.repo, Some(commit))?;
            store.repair(commit, &sighting)
        })
        .await?;
        if restored > 0 {
            tracing::warn!(hash = %commit, files = restored, "restored files that somebody had changed");
            self.metrics.restored(restored);
        }
        // The patrol's open index is no longer the current one.
        self.patrol = Some(self.watch(commit).await?);
        Ok(())
    }

    /// Fetches, checks out, publishes.
    async fn update(
        &mut self,
        wanted: ObjectId,
        afresh: bool,
        looking: &mut Looking,
        cancel: &CancellationToken,
    ) -> Result<Updated, SyncError> {
        let old = self.link.current();
        let begun = Instant::now();
        // A tag brings its commit along.
        let object = self.tag.filter(|(commit, _)| *commit == wanted).map_or(wanted, |(_, tag)| tag);
        // Afresh because what a filter leaves out didn't come, it may be.
        let filter = self.config.filter.as_deref().filter(|_| !afresh);
        let asked = (object, wanted, filter);
        let fetching = async {
            let store = self.prepare(afresh, cancel).await?;
            self.hub.fetch(store, asked, &self.keys, &self.metrics, cancel).await
        };
        // Both to the end: nothing may go on behind.
        let (fetched, spare) = tokio::join!(fetching, self.look_at_spare(wanted, afresh, looking.take()));
        let (store, using) = fetched?;
        // What a roll-back leads to was looked at when it was published.
        self.spent("fetch", begun);
        let known = wanted != self.followed && self.orders.was_published(wanted);
        let store = if known { store } else { self.verify(store, object, old, cancel).await? };
        let store = self.large_files(store, wanted, cancel).await?;
        let begun = Instant::now();
        let mut made = self.check_out(store, wanted, spare, cancel).await?;
        let commit = made.commit;
        made.store = self.submodules(made.store, commit, cancel).await?;
        self.spent("check out", begun);
        let begun = Instant::now();
        let published = self.link.leads_to(&self.layout, commit);
        let on_trial = self.probe.is_some() && (!published || self.orders.is_on_trial(commit));
        let old = if on_trial { self.orders.begin_trial(commit, old) } else { old };
        let changed = made.stats.is_some() || !published || on_trial;
        let mut news = None;
        if changed && self.hooks.has_gate() {
            let known;
            (made.store, known) = self.news(made.store, old, commit).await?;
            self.hooks.before(&known).await.map_err(SyncError::Vetoed)?;
            news = Some(known);
        }
        if !published {
            self.publish(commit, old).await?;
        } else if made.restored > 0 || self.first {
            self.renew_copy(commit, usize::MAX).await?;
        }
        if on_trial {
            self.try_out(commit, old, cancel).await?;
        }
        // What nobody waits for before publication comes after it.
        let news = match news {
            Some(news) => news,
            None => {
                let known;
                (made.store, known) = self.news(made.store, old, commit).await?;
                known
            }
        };
        self.spent("publish", begun);
        self.orders.published(self.followed, commit, self.config.keep);
        if changed || self.first {
            self.metrics.fetch();
            self.hooks.after(&news);
        }
        self.garbage = match (self.garbage, news.old, &news.changes) {
            (Some(known), Some(_), Some(changes)) => Some(known.saturating_add(changes.replaced)),
            (known, None, _) => known,
            _ => None,
        };
        self.copy = self.watch_copy().await?;
        self.patrol = Some(self.watch(commit).await?);
        self.untidy = Some((made.store, using, commit));
        Ok(Updated { commit, changed, news: Some(news) })
    }

    /// Gets what LFS pointers stand for.
    async fn large_files(
        &mut self,
        store: Store,
        wanted: ObjectId,
        cancel: &CancellationToken,
    ) -> Result<Store, SyncError> {
        if !self.config.lfs {
            return Ok(store);
        }
        let begun = Instant::now();
        let (store, commit) = blocking(move || {
            let commit = store.commit_behind(wanted)?;
            Ok((
                store,
                commit.ok_or_else(|| RepoError::NotFound(format!("the remote didn't send {wanted}")))?,
            ))
        })
        .await?;
        let (config, keys, metrics) = (&self.config, &*self.keys, &self.metrics);
        let update = crate::lfs::Update { config, keys, metrics, cancel };
        let options = CheckoutOptions { sparse: config.sparse_checkout_file.clone() };
        let (store, extent) = update.run(store, &config.repo, commit, options).await?;
        self.extent = extent;
        self.spent("lfs", begun);
        Ok(store)
    }

    /// What of the commit of the last update is kept with LFS.
    pub(crate) fn large_extent(&self) -> Option<crate::lfs::Extent> {
        self.extent
    }

    /// Looks at signatures, before anything of the commit is written.
    async fn verify(
        &self,
        store: Store,
        wanted: ObjectId,
        old: Option<ObjectId>,
        cancel: &CancellationToken,
    ) -> Result<Store, SyncError> {
        if self.config.verification.mode == crate::verify::Verify::Off {
            return Ok(store);
        }
        let (config, cancel) = (Arc::clone(&self.config), cancel.clone());
        let (store, verdict) = blocking(move || {
            let verdict = config.verification.check(store.objects(), wanted, old, &cancel)?;
            Ok((store, verdict))
        })
        .await?;
        self.metrics
            .signature_check(verdict.as_ref().map_or_else(crate::verify::Unverified::outcome, |()| "good"));
        verdict.map_err(SyncError::Unverified)?;
        Ok(store)
    }

    /// Asks the neighbour; when it says no, what was published before comes back.
    async fn try_out(
        &mut self,
        commit: ObjectId,
        before: Option<ObjectId>,
        cancel: &CancellationToken,
    ) -> Result<(), SyncError> {
        let Some(probe) = &self.probe else { return Ok(()) };
        let Err(reason) = probe.run(cancel).await.ok_or(RepoError::Cancelled)? else {
            self.orders.end_trial();
            return Ok(());
        };
        let back = before.filter(|before| *before != commit && self.layout.worktree(*before).is_dir());
        self.patrol = None;
        if let Some(back) = back {
            self.publish(back, Some(commit)).await?;
            self.metrics.rolled_back("probe");
        }
        let serve = back.unwrap_or(commit);
        let text = match back {
            Some(_) => format!("its probe failed: {reason}"),
            None => format!("its probe failed, but there is nothing to go back to: {reason}"),
        };
        self.orders.refuse(self.followed, serve, text);
        Err(SyncError::Probe { commit, reason })
    }

    /// What differs between the tree that was published and the new one. Gives the store back.
    async fn news(
        &self,
        store: Store,
        old: Option<ObjectId>,
        new: ObjectId,
    ) -> Result<(Store, Arc<News>), SyncError> {
        let (config, layout) = (Arc::clone(&self.config), self.layout.clone());
        let reference = self.reference.clone();
        let old = old.filter(|old| *old != new);
        blocking(move || {
            let news = News {
                new,
                old,
                changes: old.and_then(|old| between(&layout, old, new)),
                commit: store.describe(new).ok(),
                repository: crate::redact::url(&config.repo),
                reference,
                source: config.name.clone(),
                at: SystemTime::now(),
            };
            Ok((store, Arc::new(news)))
        })
        .await
    }

    async fn prepare(&self, afresh: bool, cancel: &CancellationToken) -> Result<Store, SyncError> {
        let (layout, link, config) = (self.layout.clone(), self.link.clone(), Arc::clone(&self.config));
        let (first, lends) = (self.first, self.hub.lends());
        let cancel = cancel.clone();
        let store = blocking(move || {
            let keep = link.current();
            let (store, preparation) = Store::open(layout, &config.repo, keep)?;
            if preparation == Preparation::Initialised {
                tracing::info!(root = %store.layout().root().display(), "initialised the repository");
            }
            if first {
                store.heal()?;
                link.heal()?;
                store.drop_spare()?;
                if store.configure(&config.checkout_settings())? {
                    store.forget_checkouts()?;
                }
            }
            let mut store = store;
            if afresh || store.is_half_copied() {
                store = store.rebuild()?;
            } else if !lends {
                store.verify_packs(&cancel)?;
            }
            Ok(store)
        })
        .await?;
        if first && let Some(lock) = &self.lock {
            lock.sign(&self.layout);
        }
        Ok(store)
    }

    async fn submodules(
        &self,
        store: Store,
        commit: ObjectId,
        cancel: &CancellationToken,
    ) -> Result<Store, SyncError> {
        let (config, metrics) = (&self.config, &self.metrics);
        let update = submodule::Update {
            lfs: &crate::lfs::Update { config, keys: &self.keys, metrics, cancel },
            layout: &self.layout,
            fetcher: self.hub.fetcher(),
            keys: &self.keys,
            mode: self.config.submodules,
            allow_local: self.config.allows_local_submodules(),
            cancel,
        };
        update.run(store, &self.config.repo, commit).await
    }

    /// What can be done for the checkout while its commit is on its way, and may have begun already.
    async fn look_at_spare(&self, wanted: ObjectId, afresh: bool, looking: Looking) -> Option<Spare> {
        let looking = match looking {
            None if afresh || self.layout.worktree(wanted).is_dir() => None,
            None => self.look_ahead(),
            begun => begun,
        };
        looking?.await.ok()?
    }

    /// Begins to look at the spare, if the next checkout is to be made of one.
    fn look_ahead(&self) -> Looking {
        if self.config.reuse != Reuse::Auto || self.first {
            return None;
        }
        let layout = self.layout.clone();
        Some(spawn_blocking(move || Spare::look(&layout)))
    }

    async fn check_out(
        &mut self,
        store: Store,
        wanted: ObjectId,
        spare: Option<Spare>,
        cancel: &CancellationToken,
    ) -> Result<Made, SyncError> {
        let (layout, cancel, published) = (self.layout.clone(), cancel.clone(), self.link.current());
        let started = std::time::Instant::now();
        let options = CheckoutOptions { sparse: self.config.sparse_checkout_file.clone() };
        let (how, base) = (self.config.reuse, published.filter(|old| self.made.contains(old)));
        let made = blocking(move || {
            let commit = store
                .commit_behind(wanted)?
                .ok_or_else(|| RepoError::NotFound(format!("the remote didn't send {wanted}")))?;
            store.set_head(commit)?;
            if store.has_checkout(commit) && store.has_patterns(commit, &options)? {
                store.heal_index(commit)?;
                let mut patrol = Patrol::new(layout, commit);
                let sighting = patrol.step(usize::MAX);
                if sighting.is_clean() {
                    return Ok(Made { store, commit, stats: None, restored: 0 });
                }
                if !sighting.lost
                    && let Ok(restored) = store.repair(commit, &sighting)
                {
                    return Ok(Made { store, commit, stats: None, restored });
                }
            }
            let reused = match options.sparse {
                Some(_) => None,
                None if store.endings().links_as_files => None,
                None => store.reuse_checkout(commit, base, how, spare, &cancel).transpose(),
            };
            let stats = match reused.unwrap_or_else(|| store.make_checkout(commit, &options, &cancel)) {
                Err(error) if error.is_disk_full() => {
                    reclaim(&store, published);
                    store.make_checkout(commit, &options, &cancel)
                }
                other => other,
            }?;
            tracing::debug!(hash = %commit, files = stats.files, written = stats.written, "checked out");
            Ok(Made { store, commit, stats: Some(stats), restored: 0 })
        })
        .await?;
        if made.restored > 0 {
            tracing::warn!(hash = %made.commit, files = made.restored, "restored files that somebody had changed");
            self.metrics.restored(made.restored);
        }
        if let Some(stats) = made.stats {
            self.metrics.checkout(stats.files, stats.written);
            self.made.retain(|known| *known != made.commit);
            self.made.push(made.commit);
            let excess = self.made.len().saturating_sub(MAX_MADE);
            self.made.drain(..excess);
        }
        tracing::debug!(took = ?started.elapsed(), "checkout ready");
        Ok(made)
    }

    async fn publish(&self, commit: ObjectId, old: Option<ObjectId>) -> Result<(), SyncError> {
        let (layout, link) = (self.layout.clone(), self.link.clone());
        let before = fs::read_link(link.path()).ok();
        blocking(move || {
            // Before the switch: killed after it, the next run must not take the old one for long replaced.
            if let Some(old) = old.filter(|old| *old != commit) {
                mark_replaced(&layout, old);
            }
            link.publish(&layout, commit)?;
            tracing::info!(
                reference = %link.path().display(),
                old = old.map(|hash| hash.to_string()),
                new = %commit,
                "published"
            );
            if let Some(before) = before {
                remove_v3_checkout(&layout, &link, &before);
            }
            Ok(())
        })
        .await
    }

    /// Removes what the last attempt left that is no longer needed, and tells how long that took. What can't be
    /// removed now is tried again after the next update.
    pub(crate) async fn tidy_up(&mut self, cancel: &CancellationToken) -> Option<Duration> {
        let (store, using, commit) = self.untidy.take()?;
        let begun = Instant::now();
        if let Err(error) = self.tidy(store, using, commit, cancel).await {
            tracing::warn!(%error, "can't tidy up");
        }
        self.packs = self.hub.state(&self.layout);
        if let Some(patrol) = &mut self.patrol {
            patrol.restart();
        }
        let given = blocking(|| {
            crate::memory::give_back();
            Ok(())
        });
        given.await.ok()?;
        Some(begun.elapsed())
    }

    async fn tidy(
        &mut self,
        store: Store,
        using: Using,
        commit: ObjectId,
        cancel: &CancellationToken,
    ) -> Result<(), SyncError> {
        let (mode, token, lends) = (self.config.tidy, cancel.clone(), self.hub.lends());
        let timeout = self.config.stale_worktree_timeout;
        let (how, made) = (self.config.reuse, self.made.clone());
        let keep = self.orders.kept(self.config.keep, commit);
        let (lfs, garbage) = (self.config.lfs, self.garbage);
        let tidied = blocking(move || {
            let removed = store.clear_stale(commit, timeout, how, &made, &keep)?;
            if lfs {
                store.tidy_lfs(commit)?;
            }
            let mut garbage = garbage;
            if !lends {
                match store.tidy(&[commit], &removed, mode, garbage, &token)? {
                    Tidied::Nothing => {}
                    Tidied::Counted(bytes) => garbage = Some(bytes),
                    Tidied::Rewritten => {
                        garbage = Some(0);
                        tracing::debug!("rewrote the packs as one");
                    }
                }
                store.note_packs()?;
            }
            Ok((removed, garbage))
        });
        let tidied = tidied.await;
        // Nothing is removed from a shared store while somebody uses it, which we no longer do.
        drop(using);
        let (removed, garbage) = tidied?;
        self.garbage = garbage;
        if !removed.is_empty() {
            tracing::debug!(removed = removed.len(), "removed replaced checkouts");
        }
        self.hub.tidy(removed, mode, cancel).await
    }

    /// For the next attempt.
    async fn make_room(&self) {
        let Some(commit) = self.link.current() else { return };
        let (layout, config) = (self.layout.clone(), Arc::clone(&self.config));
        let removed = blocking(move || {
            reclaim(&Store::open(layout, &config.repo, Some(commit))?.0, Some(commit));
            Ok(())
        });
        if let Err(error) = removed.await {
            tracing::warn!(%error, "can't make room");
        }
    }

    async fn watch(&self, commit: ObjectId) -> Result<Patrol, SyncError> {
        let layout = self.layout.clone();
        blocking(move || Ok(Patrol::watching(layout, commit))).await
    }

    async fn watch_copy(&self) -> Result<Option<Patrol>, SyncError> {
        if !self.link.has_copy() {
            return Ok(None);
        }
        let link = self.link.clone();
        blocking(move || Ok(link.patrol())).await
    }

    /// Once all is done. Whoever waits for the touch file may look at the metrics next.
    fn after(&mut self, updated: &Updated) {
        if (updated.changed || self.first)
            && let Some(path) = &self.config.touch_file
        {
            touch(&self.layout.root().join(path));
        }
        self.metrics.published(updated.commit);
        self.first = false;
    }
}

struct Made {
    store: Store,
    commit: ObjectId,
    /// What was made; `None` when it was there.
    stats: Option<CheckoutStats>,
    restored: usize,
}

/// What an update did.
struct Updated {
    commit: ObjectId,
    changed: bool,
    news: Option<Arc<News>>,
}

/// Makes room by removing what only a stale reader could still want.
fn reclaim(store: &Store, published: Option<ObjectId>) {
    tracing::warn!("the disk is full; removing replaced checkouts before their time");
    if let Err(error) = store.drop_spare() {
        tracing::warn!(%error, "can't make room");
    }
    let removed = published.map_or(Ok(Vec::new()), |commit| store.remove_stale(commit, Duration::ZERO, &[]));
    if let Err(error) = removed {
        tracing::warn!(%error, "can't make room");
    }
}

/// kubernetes/git-sync v3 kept checkouts directly under the root.
fn remove_v3_checkout(layout: &Layout, link: &Link, before: &std::path::Path) {
    let directory = link.path().parent().unwrap_or(layout.root());
    let Ok(old) = directory.join(before).canonicalize() else { return };
    let is_v3 = old.parent() == Some(layout.root())
        && old
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.parse::<ObjectId>().is_ok());
    if is_v3 && let Err(error) = fs::remove_dir_all(&old) {
        tracing::warn!(path = %old.display(), %error, "can't remove the checkout of an older version");
    }
}

fn touch(path: &std::path::Path) {
    let now = SystemTime::now();
    let touched = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
        let file = File::options().append(true).create(true).open(path)?;
        file.set_times(fs::FileTimes::new().set_accessed(now).set_modified(now))
    });
    if let Err(error) = touched {
        tracing::error!(path = %path.display(), %error, "can't touch the touch file");
    }
}
