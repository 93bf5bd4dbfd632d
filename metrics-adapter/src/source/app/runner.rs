//! Running sources: on a scrape or by an interval, each under its own timeout, apart from the others.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use common::shutdown::Shutdown;
use common::trace::Span;
use futures_util::future::join_all;
use tokio::sync::watch;

use super::config::{Config, Source as Configured};
use super::{Gather, GatherError, SourceOptions, limits};
use crate::family::Walk;
use crate::family::normal::{Normal, Order};
use crate::family::union::{Part, Reason, Union};
use crate::source::{Collecting, Source};

/// What one gathering gave.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) families: Part,
    pub(super) samples: usize,
    pub(super) took: Duration,
    /// When it ended.
    pub(super) at: SystemTime,
    /// Why it failed.
    pub(super) error: Option<String>,
    /// Values that could not be taken, and the first reason.
    pub(super) skipped: u64,
    pub(super) first_skip: Option<String>,
}

/// Durations and series of past gatherings, for the charts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) seconds: f64,
    pub(super) samples: usize,
    pub(super) up: bool,
}

/// Points that are kept.
const POINTS: usize = 60;

/// One source and its state.
pub(super) struct Slot {
    pub(super) options: SourceOptions,
    gather: Arc<dyn Gather>,
    configured: Configured,
    shutdown: Shutdown,
    state: Mutex<State>,
    /// In which order it lists its samples.
    order: Mutex<Order>,
    pub(super) gathered: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) skipped: AtomicU64,
}

/// A gathering at work.
#[derive(Clone)]
struct Running {
    begun: Instant,
    outcome: watch::Receiver<Option<Arc<Snapshot>>>,
}

#[derive(Default)]
struct State {
    running: Option<Running>,
    /// A page already waited for the gathering that runs, in vain.
    late: bool,
    last: Option<Arc<Snapshot>>,
    points: VecDeque<Point>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is complete in itself.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    fn new(configured: Configured, shutdown: &Shutdown) -> Arc<Self> {
        Arc::new(Self {
            options: configured.options.clone(),
            gather: Arc::clone(&configured.gather),
            configured,
            shutdown: shutdown.child(),
            state: Mutex::default(),
            order: Mutex::default(),
            gathered: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        })
    }

    /// The last snapshot and past points.
    pub(super) fn history(&self) -> (Option<Arc<Snapshot>>, Vec<Point>) {
        let state = lock(&self.state);
        (state.last.clone(), state.points.iter().copied().collect())
    }

    /// Begins gathering, or joins the one that runs.
    fn begin(self: &Arc<Self>, state: &mut State) -> Running {
        if let Some(running) = &state.running {
            return running.clone();
        }
        let (done, outcome) = watch::channel(None);
        let running = Running { begun: Instant::now(), outcome };
        state.running = Some(running.clone());
        let slot = Arc::clone(self);
        tokio::spawn(async move {
            let snapshot = Arc::new(slot.gather_once().await);
            slot.note(&snapshot);
            let _ = done.send(Some(snapshot));
        });
        running
    }

    fn note(&self, snapshot: &Arc<Snapshot>) {
        self.gathered.fetch_add(1, Ordering::Relaxed);
        self.skipped.fetch_add(snapshot.skipped, Ordering::Relaxed);
        let name = &self.options.name;
        let mut state = lock(&self.state);
        let before = state.last.as_ref().and_then(|last| last.error.clone());
        if let Some(error) = &snapshot.error {
            self.errors.fetch_add(1, Ordering::Relaxed);
            if before.as_ref() != Some(error) {
                tracing::warn!(source = name, error, "a source could not be gathered");
            }
        } else if before.is_some() {
            tracing::info!(source = name, "a source can be gathered again");
        }
        let point = Point {
            seconds: snapshot.took.as_secs_f64(),
            samples: snapshot.samples,
            up: snapshot.error.is_none(),
        };
        state.points.push_back(point);
        if state.points.len() > POINTS {
            state.points.pop_front();
        }
        state.last = Some(Arc::clone(snapshot));
        state.running = None;
        state.late = false;
    }

    async fn gather_once(&self) -> Snapshot {
        let mut span = Span::start("gather");
        let snapshot = self.gathered().await;
        if span.is_recorded() {
            span.set("source", self.options.name.as_str());
            span.set("samples", snapshot.samples);
            snapshot.error.iter().for_each(|error| span.fail(error));
        }
        snapshot
    }

    async fn gathered(&self) -> Snapshot {
        let start = Instant::now();
        let gather = Arc::clone(&self.gather);
        let limit = self.options.timeout;
        // In a task of its own, so that a panic in a source is that source's error.
        let task = tokio::spawn(async move { tokio::time::timeout(limit, gather.gather()).await });
        let abort = task.abort_handle();
        // At the end of the process there is one more push, of what is there then.
        let ending = self.shutdown.is_triggered();
        let gathered = tokio::select! {
            gathered = task => gathered,
            () = self.shutdown.triggered(), if !ending => {
                abort.abort();
                return self.failed(GatherError::from("the source was taken out"), start.elapsed());
            }
        };
        let reading = match gathered {
            Ok(Ok(Ok(reading))) => reading,
            Ok(Ok(Err(error))) => return self.failed(error, start.elapsed()),
            Ok(Err(_)) => {
                let limit = common::config::format_duration(limit);
                return self.failed(format!("not done within {limit} (timeout)").into(), start.elapsed());
            }
            Err(error) => return self.failed(format!("the source failed: {error}").into(), start.elapsed()),
        };
        let mut reading = reading;
        let over = limit_samples(&mut reading.families, self.options.max_series);
        let (mut families, out) = self.options.normal.apply_again(reading.families, &mut lock(&self.order));
        for family in families.iter_mut().filter(|family| family.help.is_empty()) {
            family.help = format!("From the source {} ({}).", self.options.name, self.options.kind);
        }
        let over_reason = || format!("there are more than {} samples (max_series)", self.options.max_series);
        let first_skip = reading.first_skip.or_else(|| (over > 0).then(over_reason)).or(out.first);
        Snapshot {
            samples: families.iter().map(|family| family.samples.len()).sum(),
            families: Arc::new(families),
            took: start.elapsed(),
            at: SystemTime::now(),
            error: None,
            skipped: reading.skipped + over + out.samples,
            first_skip,
        }
    }

    fn failed(&self, error: GatherError, took: Duration) -> Snapshot {
        let (families, _) = self.options.normal.apply(self.gather.down());
        Snapshot {
            samples: families.iter().map(|family| family.samples.len()).sum(),
            families: Arc::new(families),
            took,
            at: SystemTime::now(),
            error: Some(error.0),
            skipped: 0,
            first_skip: None,
        }
    }

    /// What belongs on a page that has to be there at the deadline. A page waits for a source that is usually
    /// quick. One that was slow the last time, or is slow now, is gathered behind the pages' backs, and its last
    /// result is shown; whether it has failed is for its own timeout to say.
    async fn for_page(self: &Arc<Self>, deadline: Instant) -> Arc<Snapshot> {
        let now = Instant::now();
        let (last, mut running, late) = {
            let mut state = lock(&self.state);
            let last = state.last.clone();
            if let (Some(last), Some(_)) = (&last, self.options.interval) {
                return Arc::clone(last);
            }
            let last = last.filter(|last| last.at.elapsed().is_ok_and(|age| age < limits::LAST_AGE));
            (last, self.begin(&mut state), state.late)
        };
        let slow = late || last.as_ref().is_some_and(|last| last.took > limits::PATIENCE);
        // Time that it has had already counts: a source that hangs since the start holds up no page of later.
        let patience = if slow { Duration::ZERO } else { limits::PATIENCE };
        let until = deadline.min((running.begun + patience).max(now + limits::GRACE));
        let done = tokio::time::timeout_at(until.into(), running.outcome.wait_for(Option::is_some)).await;
        if let Ok(Ok(snapshot)) = done
            && let Some(snapshot) = snapshot.as_ref()
        {
            return Arc::clone(snapshot);
        }
        lock(&self.state).late = true;
        let failed = || self.failed("not done within the time the page has".into(), now.elapsed());
        last.unwrap_or_else(|| Arc::new(failed()))
    }

    async fn every(self: Arc<Self>, interval: Duration) {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.shutdown.triggered() => return,
            }
            let mut running = self.begin(&mut lock(&self.state));
            let _ = running.outcome.wait_for(Option::is_some).await;
        }
    }

    async fn start(self: &Arc<Self>) -> Result<(), GatherError> {
        Arc::clone(&self.gather).start(self.shutdown.clone()).await?;
        if let Some(interval) = self.options.interval {
            self.shutdown.spawn(Arc::clone(self).every(interval));
        } else {
            // So that the first page finds connections open, and slow sources known.
            self.begin(&mut lock(&self.state));
        }
        Ok(())
    }

    async fn stop(&self) {
        self.shutdown.trigger();
        self.shutdown.drain(Duration::from_secs(2)).await;
    }
}

fn limit_samples(families: &mut [crate::family::Family], most: usize) -> u64 {
    let (mut room, mut over) = (most, 0);
    for family in families {
        let kept = family.samples.len().min(room);
        over += (family.samples.len() - kept) as u64;
        family.samples.truncate(kept);
        room -= kept;
    }
    over
}

/// Runs the sources of a configuration and makes the page of them.
pub struct Runner {
    slots: ArcSwap<Vec<Arc<Slot>>>,
    shutdown: Shutdown,
    /// Samples left out of pages because another source has them, by source and reason.
    conflicts: Mutex<BTreeMap<(String, Reason), u64>>,
    /// The disagreements of the last page.
    pub(super) last_conflicts: ArcSwap<Vec<(String, String, Reason)>>,
    pub(super) reloads: AtomicU64,
    pub(super) failed_reloads: AtomicU64,
    /// One reload at a time.
    reloading: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let slots = self.slots.load();
        let names = slots.iter().map(|slot| slot.options.name.as_str());
        f.debug_struct("Runner").field("sources", &names.collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// A source that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("source `{name}` did not start")]
pub struct StartError {
    /// Its name.
    pub name: String,
    /// Why.
    #[source]
    pub cause: GatherError,
}

impl Runner {
    /// Starts the sources of a configuration.
    ///
    /// # Errors
    /// One of them cannot start: an address it listens on is taken.
    pub async fn start(config: &Config, shutdown: &Shutdown) -> Result<Arc<Self>, StartError> {
        let slots: Vec<_> = config.sources.iter().map(|source| Slot::new(source.clone(), shutdown)).collect();
        for slot in &slots {
            slot.start().await.map_err(|cause| StartError { name: slot.options.name.clone(), cause })?;
        }
        Ok(Arc::new(Self {
            slots: ArcSwap::from_pointee(slots),
            shutdown: shutdown.clone(),
            conflicts: Mutex::default(),
            last_conflicts: ArcSwap::default(),
            reloads: AtomicU64::new(0),
            failed_reloads: AtomicU64::new(0),
            reloading: tokio::sync::Mutex::new(()),
        }))
    }

    pub(super) fn slots(&self) -> Arc<Vec<Arc<Slot>>> {
        self.slots.load_full()
    }

    /// Takes over a new configuration. Sources that are the same in both go on with what they hold.
    pub(super) async fn replace(&self, config: &Config) {
        let _turn = self.reloading.lock().await;
        let old = self.slots();
        let same = |slot: &Arc<Slot>, source: &Configured| {
            slot.options.name == source.options.name && slot.configured.raw == source.raw
        };
        let gone = old.iter().filter(|slot| {
            slot.configured.raw.is_some() && !config.sources.iter().any(|source| same(slot, source))
        });
        // Before new ones start, because these may want the same address.
        join_all(gone.map(|slot| slot.stop())).await;
        let mut slots = Vec::new();
        for source in &config.sources {
            if let Some(slot) = old.iter().find(|slot| same(slot, source)) {
                slots.push(Arc::clone(slot));
                continue;
            }
            let slot = Slot::new(source.clone(), &self.shutdown);
            if let Err(error) = slot.start().await {
                tracing::error!(source = slot.options.name, %error, "a source did not start");
                let broken = Configured { gather: Arc::new(Broken(error)), ..source.clone() };
                slots.push(Slot::new(broken, &self.shutdown));
                continue;
            }
            slots.push(slot);
        }
        // An embedder's own sources are in no file.
        slots.extend(old.iter().filter(|slot| slot.configured.raw.is_none()).cloned());
        self.slots.store(Arc::new(slots));
    }

    /// Gathers what is due and puts everything together.
    pub async fn page(&self, deadline: Instant) -> Union {
        let slots = self.slots();
        let snapshots = join_all(slots.iter().map(|slot| slot.for_page(deadline))).await;
        let mut parts: Vec<Part> = snapshots.iter().map(|snapshot| Arc::clone(&snapshot.families)).collect();
        let own = |conflicts: &BTreeMap<(String, Reason), u64>| {
            let families = super::own::families(&slots, &snapshots, conflicts, self);
            Arc::new(Normal::default().apply(families).0)
        };
        // The adapter's own names come first, so that no source can take them.
        parts.insert(0, own(&lock(&self.conflicts)));
        let (union, conflicts) = Union::new(parts.clone());
        if conflicts.is_empty() {
            self.last_conflicts.store(Arc::default());
            return union;
        }
        let named = |part: usize| slots[part - 1].options.name.clone();
        let mut counts = lock(&self.conflicts);
        let mut shown = Vec::new();
        for conflict in conflicts.into_iter().filter(|conflict| conflict.part > 0) {
            let name = named(conflict.part);
            *counts.entry((name.clone(), conflict.reason)).or_default() += conflict.samples as u64;
            if shown.len() < 100 {
                shown.push((name, conflict.what, conflict.reason));
            }
        }
        parts[0] = own(&counts);
        self.last_conflicts.store(Arc::new(shown));
        Union::new(parts).0
    }
}

impl Source for Runner {
    fn name(&self) -> &str {
        "sources"
    }

    fn collect(&self, deadline: Instant) -> Collecting<'_> {
        Box::pin(async move {
            let walk: Box<dyn Walk> = Box::new(self.page(deadline).await);
            Ok(walk)
        })
    }
}

/// Stands in for a source that could not start on a reload.
struct Broken(GatherError);

impl Gather for Broken {
    fn gather(&self) -> super::Gathering<'_> {
        Box::pin(std::future::ready(Err(self.0.clone())))
    }
}
