//! A source with many refs: lists those that fit, and has a loop and a folder for each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use common::shutdown::Shutdown;
use tokio::task::JoinHandle;

use super::book::Entry;
use super::{Shared, stop};
use crate::app::{DRAIN, Seat, Trigger, open_root, policy};
use crate::board::Counts;
use crate::config::Config;
use crate::error::{Error, SyncError};
use crate::fetcher::blocking;
use crate::hub::{Hub, Interest};
use crate::metrics::{Metrics, Status};
use crate::protocol::{Glob, fitting, folders};
use crate::repo::RepoError;
use crate::sync::{Next, Outcome, Schedule};
use crate::trigger::{Progress, Target};
use crate::view::View;

/// One such source.
pub(super) struct Previews {
    config: Arc<Config>,
    name: String,
    globs: Vec<Glob>,
    max: usize,
    /// How each ref counts for readiness.
    counts: Counts,
    store: String,
    hub: Arc<Hub>,
    shared: Shared,
    metrics: Metrics,
    view: View,
    trigger: Trigger,
    progress: Progress,
    children: BTreeMap<String, Child>,
}

/// What is followed, by the full name of the ref.
struct Child {
    key: String,
    trigger: Trigger,
    metrics: Metrics,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), Error>>,
}

impl Previews {
    pub(super) fn new(
        config: Arc<Config>,
        (globs, max): (&[Glob], usize),
        (store, optional): (&str, bool),
        hub: Arc<Hub>,
        shared: &Shared,
    ) -> Self {
        let name = config.name.clone().unwrap_or_default();
        let view = View::new(&config.repo, &config.reference, &config.link, shared.board.feed());
        let trigger = Trigger::default();
        let (progress, control) = Progress::new(&trigger);
        let interest = Interest::All(globs.to_vec());
        hub.follow(&name, interest.clone());
        shared.targets.add(&name, Target::new(&config, interest, control, None));
        shared.board.show(&name, &view, if optional { Counts::No } else { Counts::Published });
        Self {
            name: name.clone(),
            config,
            globs: globs.to_vec(),
            max,
            counts: if optional { Counts::No } else { Counts::Tried },
            store: store.to_owned(),
            hub,
            metrics: shared.metrics.of(&name),
            shared: shared.clone(),
            view,
            trigger,
            progress,
            children: BTreeMap::new(),
        }
    }

    /// Follows until shutdown; once, with a one-time process.
    pub(super) async fn run(mut self, since: Instant, shutdown: &Shutdown) -> Result<(), Error> {
        let result = self.follow(since, shutdown).await;
        let children = std::mem::take(&mut self.children);
        children.values().for_each(|child| child.shutdown.trigger());
        for (_, child) in children {
            stop(child.task).await;
            self.leave(&child.key, &child.metrics);
        }
        result
    }

    async fn follow(&mut self, since: Instant, shutdown: &Shutdown) -> Result<(), Error> {
        let mut since = since;
        let mut schedule = Schedule::new(policy(&self.config));
        // What an earlier run published is served whatever becomes of the remote.
        for (reference, folder) in self.shared.book.folders(&self.name) {
            if self.globs.iter().any(|glob| glob.fits(&reference))
                && let Err(error) = self.start(&reference, &folder, since, shutdown).await
            {
                tracing::error!(source = self.name, reference, %error, "can't follow this ref");
            }
        }
        loop {
            let started = Instant::now();
            self.progress.begin();
            self.view.pausing(None);
            let result = self.attempt(since, shutdown).await;
            if shutdown.is_triggered() {
                return Ok(());
            }
            let took = started.elapsed();
            let next = match &result {
                Ok(()) => {
                    self.view.follows(self.children.len(), took);
                    let next = schedule.after(Outcome::Success { settled: false });
                    self.metrics.sync(Status::Noop, took, 0);
                    next
                }
                Err(error) => {
                    let next = schedule.after(Outcome::Failure { serving: !self.children.is_empty() });
                    let (failures, text) = (schedule.failures(), error.to_string());
                    tracing::error!(source = self.name, error = %text, failCount = failures, "error listing refs, will retry");
                    self.metrics.sync(Status::Error, took, failures);
                    self.view.failure(&text, failures, took, Vec::new());
                    next
                }
            };
            self.progress.end(result.as_ref().map(|()| None).map_err(ToString::to_string), took);
            self.look_for_ends().await?;
            match (next, result) {
                (Next::Finish, _) => return self.finish(shutdown).await,
                (Next::GiveUp, Err(last)) => {
                    let failures = schedule.failures();
                    return Err(Error::TooManyFailures { failures, last: Box::new(last) });
                }
                (Next::Wait(pause), _) => {
                    let plan = self.hub.plan(pause);
                    self.view.pausing(Some(plan.pause));
                    tokio::select! {
                        () = tokio::time::sleep(plan.pause) => since = plan.since.unwrap_or_else(Instant::now),
                        then = self.trigger.fired() => since = then,
                        () = shutdown.triggered() => return Ok(()),
                    }
                }
                // Refs that fit a pattern are never settled.
                (Next::Rest | Next::GiveUp, _) => return Ok(()),
            }
        }
    }

    /// Lists the refs and follows them, under the time limit.
    async fn attempt(&mut self, since: Instant, shutdown: &Shutdown) -> Result<(), SyncError> {
        let (limit, cancel) = (self.config.sync_timeout, shutdown.token().child_token());
        let hub = Arc::clone(&self.hub);
        let (metrics, globs) = (self.metrics.clone(), self.globs.clone());
        let listing = async {
            hub.enter(since, &metrics, &cancel).await?;
            Ok::<_, SyncError>(fitting(&globs, &hub.refs(since, &cancel).await?))
        };
        let listed = match tokio::time::timeout(limit, listing).await {
            Ok(listed) => listed,
            Err(_) => Err(SyncError::TimedOut(limit)),
        };
        let old: Vec<String> = self.children.keys().cloned().collect();
        let result = match listed {
            Ok(found) => self.adjust(found.into_keys().collect(), since, shutdown).await,
            Err(error) => Err(error),
        };
        // They take the same answer, also when it was an error.
        old.iter()
            .filter_map(|name| self.children.get(name))
            .for_each(|child| child.trigger.fire_since(since));
        result
    }

    /// Stops following what is gone, and begins with what is new, up to the bound.
    async fn adjust(
        &mut self,
        found: BTreeSet<String>,
        since: Instant,
        shutdown: &Shutdown,
    ) -> Result<(), SyncError> {
        let known = self.shared.book.folders(&self.name);
        let rank = |name: &String| match (self.children.contains_key(name), known.contains_key(name)) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        // Those that are followed go before new ones.
        let mut wanted: Vec<String> = found.iter().cloned().collect();
        wanted.sort_by_key(rank);
        let left = wanted.len().saturating_sub(self.max);
        wanted.truncate(self.max);
        let wanted: BTreeSet<String> = wanted.into_iter().collect();
        // One that can't be removed or begun is no reason to leave the others as they are.
        let mut result = Ok(());
        let gone: Vec<String> =
            self.children.keys().filter(|name| !wanted.contains(*name)).cloned().collect();
        for name in gone {
            result = result.and(self.drop_ref(&name, shutdown).await);
        }
        for (name, folder) in self.shared.book.folders(&self.name) {
            if !wanted.contains(&name) {
                tracing::debug!(source = self.name, reference = name, folder, "no longer followed");
                result = result.and(self.remove(&format!("{}/{folder}", self.name), shutdown).await);
            }
        }
        let folders = folders(&wanted, &self.shared.book.folders(&self.name));
        for (name, folder) in folders {
            if !self.children.contains_key(&name)
                && let Err(error) = self.start(&name, &folder, since, shutdown).await
            {
                result = result.and(Err(SyncError::Internal(format!("{name}: {error}"))));
            }
        }
        result?;
        if left > 0 {
            let patterns = self.config.reference.clone();
            return Err(SyncError::TooManyRefs { patterns, found: found.len(), max: self.max, left });
        }
        Ok(())
    }

    async fn start(
        &mut self,
        reference: &str,
        folder: &str,
        since: Instant,
        shutdown: &Shutdown,
    ) -> Result<(), Error> {
        let key = format!("{}/{folder}", self.name);
        let mut config = (*self.config).clone();
        config.name = Some(key.clone());
        reference.clone_into(&mut config.reference);
        config.root.push(folder);
        config.link.push(folder);
        let config = Arc::new(config);
        let (book, noted, store) = (self.shared.book.clone(), key.clone(), self.store.clone());
        let (made, name) = (Arc::clone(&config), reference.to_owned());
        let layout = tokio::task::spawn_blocking(move || {
            let layout = open_root(&made)?;
            let root = layout.root().to_owned();
            let entry = Entry { root, link: made.link.clone(), store, reference: Some(name) };
            book.note(&noted, entry)?;
            Ok::<_, RepoError>(layout)
        });
        let layout = layout.await.map_err(|e| Error::Setup(e.to_string()))?.map_err(Error::Root)?;
        let trigger = Trigger::default();
        let (metrics, own) = (self.shared.metrics.of(&key), shutdown.child());
        let workers = own.child();
        let seat = Seat {
            config,
            layout: layout.borrowing(&self.shared.store(&self.store)),
            hub: Arc::clone(&self.hub),
            metrics: metrics.clone(),
            feed: Arc::clone(self.shared.board.feed()),
            trigger: trigger.clone(),
        };
        let (looping, target) = seat.take(&workers)?;
        self.shared.board.show(&key, &looping.view, self.counts);
        self.shared.targets.add(&key, target.without_webhooks());
        let (mut looping, until) = (looping.without_timer(), own.clone());
        let task = tokio::spawn(async move {
            let result = looping.run(since, &until).await;
            workers.trigger();
            workers.drain(DRAIN).await;
            result
        });
        self.children.insert(reference.to_owned(), Child { key, trigger, metrics, shutdown: own, task });
        Ok(())
    }

    /// The remote no longer has it: neither has the volume.
    async fn drop_ref(&mut self, name: &str, shutdown: &Shutdown) -> Result<(), SyncError> {
        let Some(child) = self.children.remove(name) else { return Ok(()) };
        child.shutdown.trigger();
        stop(child.task).await;
        self.leave(&child.key, &child.metrics);
        self.remove(&child.key, shutdown).await
    }

    fn leave(&self, key: &str, metrics: &Metrics) {
        self.hub.unfollow(key);
        self.shared.targets.remove(key);
        self.shared.board.hide(key);
        metrics.forget();
    }

    async fn remove(&self, key: &str, shutdown: &Shutdown) -> Result<(), SyncError> {
        let removed = self.shared.remove(key, false).await?;
        self.hub.tidy(removed, self.config.tidy, shutdown.token()).await
    }

    /// What ended by itself: after too many failures, or because it could only be done once.
    async fn look_for_ends(&mut self) -> Result<(), Error> {
        if self.config.one_time {
            return Ok(());
        }
        let ended: Vec<String> = self
            .children
            .iter()
            .filter(|(_, child)| child.task.is_finished())
            .map(|(name, _)| name.clone())
            .collect();
        for name in ended {
            let Some(child) = self.children.remove(&name) else { continue };
            self.leave(&child.key, &child.metrics);
            child.task.await.unwrap_or_else(|error| Err(Error::Setup(error.to_string())))?;
        }
        Ok(())
    }

    /// Waits for the only attempts of a one-time process.
    async fn finish(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        let mut result = Ok(());
        for (_, child) in std::mem::take(&mut self.children) {
            tokio::select! {
                ended = child.task => {
                    result = result.and(ended.unwrap_or_else(|error| Err(Error::Setup(error.to_string()))));
                }
                () = shutdown.triggered() => return Ok(()),
            }
        }
        result
    }
}

impl Shared {
    /// Removes something that is published, with its folder when it was the `whole` source's; gives the
    /// checkouts that went.
    pub(super) async fn remove(&self, key: &str, whole: bool) -> Result<Vec<std::path::PathBuf>, SyncError> {
        let (book, key) = (self.book.clone(), key.to_owned());
        blocking(move || {
            let checkouts = book.checkouts(&key)?;
            book.remove(&key, whole)?;
            Ok(checkouts)
        })
        .await
    }
}
