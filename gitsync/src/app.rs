//! The loop: attempts, pauses, the end.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::error::chain;
use common::metrics::{Registry, registry};
use common::shutdown::Shutdown;
use common::trace::Span;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::board::Board;
use crate::config::{Config, Http};
use crate::engine::Engine;
use crate::error::{Error, SyncError};
use crate::hook::Hooks;
use crate::hub::{Hub, Interest};
use crate::metrics::{Metrics, Status};
use crate::orders::Orders;
use crate::repo::{Layout, RepoError};
use crate::sync::{Next, Outcome, Policy, Schedule};
use crate::trigger::{Api, Progress, Target, Targets, Triggers};
use crate::view::{ErrorFile, Feed, View};
use crate::{BUILD, endpoint, redact};

/// Starts a sync at once, from wherever: a signal handler, a request. One call is remembered while
/// a sync runs. Clones share.
///
/// ```
/// # let place = tempfile::tempdir()?;
/// # let (site, volume) = (place.path().join("site.git"), place.path().join("volume"));
/// # let repository = git2::Repository::init_bare(&site)?;
/// # let who = git2::Signature::now("A Tester", "tester@localhost")?;
/// # let tree = repository.find_tree(repository.treebuilder(None)?.write()?)?;
/// # repository.commit(Some("HEAD"), &who, &who, "first", &tree, &[])?;
/// # let site = site.display().to_string();
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use gitsync::{Config, Shutdown, Trigger, run_triggered};
///
/// let (trigger, shutdown) = (Trigger::default(), Shutdown::new());
/// let running = run_triggered(Config::new(site, &volume), trigger.clone(), shutdown.clone());
/// let told_about_a_push = async {
///     trigger.fire(); // looks now, and not when the period is over
///     shutdown.trigger();
/// };
/// tokio::join!(running, told_about_a_push).0?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Trigger(Arc<Fired>);

#[derive(Debug, Default)]
struct Fired {
    notify: Notify,
    /// What the remote says from then on is new enough.
    since: Mutex<Option<Instant>>,
    /// The remote itself said that there is something new.
    pushed: AtomicBool,
}

impl Trigger {
    /// Ends the pause between two attempts.
    ///
    /// ```
    /// let trigger = gitsync::Trigger::default();
    /// trigger.fire();
    /// ```
    pub fn fire(&self) {
        self.fire_since(Instant::now());
    }

    /// The same for what happened at `then`.
    pub(crate) fn fire_since(&self, then: Instant) {
        let mut since = self.0.since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = (*since).max(Some(then));
        self.0.notify.notify_one();
    }

    /// The same for a push that the remote told of.
    pub(crate) fn fire_pushed(&self, then: Instant) {
        self.0.pushed.store(true, Ordering::SeqCst);
        self.fire_since(then);
    }

    /// Whether a push was told of since the last call.
    fn take_pushed(&self) -> bool {
        self.0.pushed.swap(false, Ordering::SeqCst)
    }

    /// Waits until somebody fires; gives the time of what happened.
    pub(crate) async fn fired(&self) -> Instant {
        self.0.notify.notified().await;
        let since = self.0.since.lock().unwrap_or_else(PoisonError::into_inner).take();
        since.unwrap_or_else(Instant::now)
    }
}

/// Syncs until shutdown, or until the configuration says that it's enough.
///
/// # Errors
/// When the root, the remote or the HTTP address can't be used, after too many failures, or
/// (one-time) when a hook failed.
///
/// ```
/// # let place = tempfile::tempdir()?;
/// # let (site, volume) = (place.path().join("site.git"), place.path().join("volume"));
/// # let repository = git2::Repository::init_bare(&site)?;
/// # let who = git2::Signature::now("A Tester", "tester@localhost")?;
/// # let tree = repository.find_tree(repository.treebuilder(None)?.write()?)?;
/// # repository.commit(Some("HEAD"), &who, &who, "first", &tree, &[])?;
/// # let site = site.display().to_string();
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use gitsync::{Config, Shutdown, run};
///
/// let mut config = Config::new(site, &volume);
/// config.one_time = true;
/// run(config, Shutdown::new()).await?;
/// assert!(volume.join("site.git").is_symlink());
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    run_triggered(config, Trigger::default(), shutdown).await
}

/// As [`run`], with a way to start a sync at once.
///
/// # Errors
/// As [`run`].
///
/// ```
/// # let place = tempfile::tempdir()?;
/// # let (site, volume) = (place.path().join("site.git"), place.path().join("volume"));
/// # let repository = git2::Repository::init_bare(&site)?;
/// # let who = git2::Signature::now("A Tester", "tester@localhost")?;
/// # let tree = repository.find_tree(repository.treebuilder(None)?.write()?)?;
/// # repository.commit(Some("HEAD"), &who, &who, "first", &tree, &[])?;
/// # let site = site.display().to_string();
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use gitsync::{Config, Shutdown, Trigger, run_triggered};
///
/// let mut config = Config::new(site, &volume);
/// config.one_time = true;
/// let trigger = Trigger::default(); // a clone of it goes to whoever hears of pushes
/// run_triggered(config, trigger.clone(), Shutdown::new()).await?;
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub async fn run_triggered(config: Config, trigger: Trigger, shutdown: Shutdown) -> Result<(), Error> {
    let errors = ErrorFile::new(&config.root, config.error_file.as_deref());
    let workers = shutdown.child();
    let looping = set_up(config, trigger, &workers).await;
    let nothing = serde_json::json!({});
    let mut looping = looping.inspect_err(|error| errors.write("can't start", &chain(error), &nothing))?;
    let result = looping.run(Instant::now(), &shutdown).await;
    workers.trigger();
    workers.drain(DRAIN).await;
    result
}

/// All that comes before the first attempt.
async fn set_up(config: Config, trigger: Trigger, workers: &Shutdown) -> Result<Loop, Error> {
    let config = prepare(config)?;
    let layout = open_root(&config).map_err(Error::Root)?;
    let registry = registry(&BUILD);
    let metrics = Metrics::register(&registry);
    let hub = Hub::alone(&config).map_err(Error::Remote)?;
    let (feed, targets) = (Arc::<Feed>::default(), Targets::default());
    let seat = Seat { config, layout, hub, metrics, feed: Arc::clone(&feed), trigger };
    let (looping, target) = seat.take(workers)?;
    targets.add("", target);
    let board = Board::alone(&looping.view, &feed);
    let public = Public { http: looping.config.http.as_ref(), triggers: &looping.config.triggers };
    public.serve(registry, &board, &looping.metrics, &targets, workers).await?;
    Ok(looping)
}

/// Time for workers to end.
pub(crate) const DRAIN: std::time::Duration = std::time::Duration::from_millis(500);

/// Takes git's settings in and tells what can't be taken.
pub(crate) fn prepare(mut config: Config) -> Result<Arc<Config>, Error> {
    for reason in &config.passed_over {
        tracing::warn!(reason, "a setting is left out of account");
    }
    for key in config.apply_git_settings().map_err(Error::Setup)? {
        tracing::warn!(key, "this git setting means nothing here; it is ignored");
    }
    Ok(Arc::new(config))
}

/// What the process serves.
pub(crate) struct Public<'a> {
    pub(crate) http: Option<&'a Http>,
    pub(crate) triggers: &'a Triggers,
}

impl Public<'_> {
    pub(crate) async fn serve(
        &self,
        registry: Registry,
        board: &Board,
        metrics: &Metrics,
        targets: &Targets,
        workers: &Shutdown,
    ) -> Result<(), Error> {
        let api = self.triggers.is_on().then(|| Api::new(self.triggers, targets, metrics.clone()));
        let apart = self.triggers.listen.as_ref();
        if self.triggers.token_file.is_some() && apart.is_none() {
            board.allow_steering();
        }
        if let Some(http) = self.http {
            let api = api.as_ref().filter(|_| apart.is_none());
            endpoint::start(http, registry, board, api, workers).await?;
        }
        if let (Some(address), Some(api)) = (apart, &api) {
            endpoint::start_triggers(address, api, workers).await?;
        }
        Ok(())
    }
}

/// What one loop needs.
pub(crate) struct Seat {
    pub(crate) config: Arc<Config>,
    pub(crate) layout: Layout,
    pub(crate) hub: Arc<Hub>,
    pub(crate) metrics: Metrics,
    pub(crate) feed: Arc<Feed>,
    pub(crate) trigger: Trigger,
}

impl Seat {
    /// Sets the loop up, and how it is reached from outside.
    ///
    /// # Errors
    /// When a hook or an address can't be used.
    pub(crate) fn take(self, workers: &Shutdown) -> Result<(Loop, Target), Error> {
        let Self { config, layout, hub, metrics, feed, trigger } = self;
        let orders = Orders::load(&layout);
        let interest = Interest::One(config.follow());
        let link = layout.root().join(&config.link);
        let view = View::new(&config.repo, &config.follow().to_string(), &link, &feed);
        let view = view.with_orders(orders.clone());
        hub.follow(config.name.as_deref().unwrap_or_default(), interest.clone());
        let hooks = Hooks::start(&config, &layout, &metrics, workers).map_err(Error::Setup)?;
        let errors = ErrorFile::new(layout.root(), config.error_file.as_deref());
        let engine = Engine::new(Arc::clone(&config), layout, hooks, orders.clone(), metrics.clone(), hub)
            .map_err(Error::Remote)?;
        if let Some(commit) = engine.serving() {
            tracing::info!(hash = %commit, source = config.name, "an earlier run's tree is published");
            view.found(commit);
        }
        let (progress, control) = Progress::new(&trigger);
        let target = Target::new(&config, interest, control, Some(orders));
        let schedule = Schedule::new(policy(&config));
        let looping =
            Loop { config, engine, schedule, metrics, view, errors, trigger, progress, timer: true };
        Ok((looping, target))
    }
}

pub(crate) fn policy(config: &Config) -> Policy {
    let max_failures = config.max_failures.unwrap_or(0);
    Policy {
        period: config.period,
        init_period: config.init_period,
        max_failures,
        init_max_failures: config.init_max_failures.unwrap_or(max_failures),
        one_time: config.one_time,
        max_period: config.max_period,
        serve_stale: config.max_failures.is_none() && config.init_max_failures.is_none(),
    }
}

pub(crate) fn open_root(config: &Config) -> Result<Layout, RepoError> {
    let root = &config.root;
    fs::create_dir_all(root).map_err(RepoError::io("creating", root))?;
    let root = root.canonicalize().map_err(RepoError::io("resolving", root))?;
    let layout = Layout::new(root);
    Ok(if config.publish == crate::publish::Mode::Symlink { layout } else { layout.sparing(&config.link) })
}

/// Cancels the work when its time is over, and waits for its end: nothing goes on behind.
async fn limited<T>(limit: Duration, cancel: &CancellationToken, work: impl Future<Output = T>) -> T {
    let timer = async {
        tokio::time::sleep(limit).await;
        cancel.cancel();
    };
    tokio::pin!(work, timer);
    tokio::select! {
        // What ends at once needs no timer.
        biased;
        result = &mut work => result,
        () = &mut timer => work.await,
    }
}

pub(crate) struct Loop {
    config: Arc<Config>,
    engine: Engine,
    schedule: Schedule,
    metrics: Metrics,
    pub(crate) view: View,
    errors: ErrorFile,
    trigger: Trigger,
    progress: Progress,
    /// Whether pauses end by themselves after a success, too, and not only when somebody fires the trigger.
    timer: bool,
}

impl Loop {
    /// Leaves it to somebody else to say when to look again, while all is well.
    #[must_use]
    pub(crate) fn without_timer(self) -> Self {
        Self { timer: false, ..self }
    }

    /// The first attempt takes what the remote said from `since` on.
    pub(crate) async fn run(&mut self, since: Instant, shutdown: &Shutdown) -> Result<(), Error> {
        let mut since = since;
        loop {
            let started = Instant::now();
            self.progress.begin();
            self.view.pausing(None);
            let result = self.attempt(since, shutdown).await;
            if shutdown.is_triggered() {
                return Ok(());
            }
            let next = self.account(&result, started);
            let told = result.as_ref().map(|report| Some(report.clone())).map_err(ToString::to_string);
            self.progress.end(told, started.elapsed());
            self.tidy_up(shutdown).await;
            match (next, result) {
                (Next::Wait(pause), result) => {
                    let plan = self.engine.hub().plan(pause);
                    let timed = self.timer || result.is_err();
                    self.view.pausing(timed.then_some(plan.pause));
                    tokio::select! {
                        () = tokio::time::sleep(plan.pause), if timed => {
                            since = plan.since.unwrap_or_else(Instant::now);
                        }
                        then = self.trigger.fired() => {
                            tracing::debug!(source = self.config.name, "woken up");
                            if self.trigger.take_pushed() {
                                self.engine.expect_news();
                            }
                            since = then;
                        }
                        () = shutdown.triggered() => return Ok(()),
                    }
                }
                (Next::Rest, _) => {
                    tracing::info!(
                        source = self.config.name,
                        "the ref is a fixed commit; nothing more to look for"
                    );
                    tokio::select! {
                        then = self.trigger.fired(), if self.config.triggers.is_on() => since = then,
                        () = shutdown.triggered() => return Ok(()),
                    }
                }
                (Next::Finish, _) => {
                    self.engine.finish().await?;
                    self.errors.clear();
                    return Ok(());
                }
                (Next::GiveUp, Err(last)) => {
                    let failures = self.schedule.failures();
                    return Err(Error::TooManyFailures { failures, last: Box::new(last) });
                }
                // `GiveUp` only follows a failure.
                (Next::GiveUp, Ok(_)) => return Ok(()),
            }
        }
    }

    /// One attempt under its time limit. The limit cancels; it doesn't leave work behind.
    async fn attempt(
        &mut self,
        since: Instant,
        shutdown: &Shutdown,
    ) -> Result<crate::engine::Report, SyncError> {
        let limit = self.config.sync_timeout;
        let cancel = shutdown.token().child_token();
        match limited(limit, &cancel, self.engine.attempt(since, &cancel)).await {
            Err(error) if error.is_cancelled() && !shutdown.is_triggered() => Err(SyncError::TimedOut(limit)),
            other => other,
        }
    }

    /// What comes after an attempt, when everybody who waits for it knows how it ended. It has a time limit of its
    /// own.
    async fn tidy_up(&mut self, shutdown: &Shutdown) {
        let cancel = shutdown.token().child_token();
        let tidied = limited(self.config.sync_timeout, &cancel, self.engine.tidy_up(&cancel)).await;
        if let Some(took) = tidied {
            self.view.tidied(took);
        }
    }

    fn account(&mut self, result: &Result<crate::engine::Report, SyncError>, started: Instant) -> Next {
        let took = started.elapsed();
        let phases = self.engine.take_phases();
        Span::record("sync", took, |span| {
            span.set("git.ref", self.config.follow().to_string());
            if let Some(source) = &self.config.name {
                span.set("git.source", source.as_str());
            }
            for (phase, spent) in &phases {
                span.set(phase, spent.as_secs_f64());
            }
            match result {
                Ok(report) => {
                    span.set("git.commit", report.commit.to_string());
                    span.set("changed", report.changed);
                }
                Err(error) => span.fail(error),
            }
        });
        match result {
            Ok(report) => {
                let first = !self.schedule.has_succeeded();
                let status = if report.changed || first { Status::Success } else { Status::Noop };
                let next = self.schedule.after(Outcome::Success { settled: report.settled });
                self.metrics.sync(status, took, 0);
                self.view.lfs(self.engine.large_extent());
                self.view.success(report.commit, status, took, phases);
                if let Some(news) = report.news.as_ref().filter(|_| status == Status::Success) {
                    self.view.tell(news);
                }
                self.errors.clear();
                match status {
                    Status::Noop => {
                        tracing::debug!(hash = %report.commit, source = self.config.name, "nothing new");
                    }
                    _ => {
                        tracing::info!(
                            r#ref = %self.config.follow(),
                            remote = %report.commit,
                            source = self.config.name,
                            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                            "updated successfully"
                        );
                    }
                }
                next
            }
            Err(error) => {
                let outcome = match (error, &self.config.hooks.pre_publish) {
                    (SyncError::Vetoed(_), Some(hook)) => Outcome::Refused { pause: hook.backoff },
                    _ => Outcome::Failure { serving: self.engine.serving().is_some() },
                };
                let is_known = error.is_held() && !self.config.one_time;
                let next =
                    if is_known { Next::Wait(self.config.period) } else { self.schedule.after(outcome) };
                let (failures, text) = (self.schedule.failures(), error.to_string());
                let message = match next {
                    Next::GiveUp => "too many failures, aborting",
                    _ => "error syncing repo, will retry",
                };
                self.metrics.sync(Status::Error, took, failures);
                self.view.failure(&text, failures, took, phases);
                self.errors.write(message, &text, &serde_json::json!({ "failCount": failures }));
                if is_known {
                    tracing::debug!(error = %text, "nothing new");
                    return next;
                }
                tracing::error!(
                    error = %text,
                    repo = redact::url(&self.config.repo),
                    source = self.config.name,
                    failCount = failures,
                    "{message}"
                );
                next
            }
        }
    }
}
