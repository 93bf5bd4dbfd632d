//! The loop: attempts, pauses, the end.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use common::metrics::registry;
use common::shutdown::Shutdown;
use common::trace::Span;
use tokio::sync::Notify;

use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, SyncError};
use crate::hook::Hooks;
use crate::metrics::{Metrics, Status};
use crate::orders::Orders;
use crate::repo::{Layout, RepoError};
use crate::sync::{Next, Outcome, Policy, Schedule, spread};
use crate::trigger::{Api, Control, Progress};
use crate::view::{ErrorFile, View};
use crate::{BUILD, endpoint, redact};

/// Starts a sync at once, from wherever: a signal handler, a request. One call is remembered while
/// a sync runs. Clones share.
#[derive(Debug, Clone, Default)]
pub struct Trigger(Arc<Notify>);

impl Trigger {
    /// Ends the pause between two attempts.
    pub fn fire(&self) {
        self.0.notify_one();
    }
}

/// Syncs until shutdown, or until the configuration says that it's enough.
///
/// # Errors
/// When the root, the remote or the HTTP address can't be used, after too many failures, or
/// (one-time) when a hook failed.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    run_triggered(config, Trigger::default(), shutdown).await
}

/// As [`run`], with a way to start a sync at once.
///
/// # Errors
/// As [`run`].
pub async fn run_triggered(config: Config, trigger: Trigger, shutdown: Shutdown) -> Result<(), Error> {
    let mut config = config;
    for reason in &config.passed_over {
        tracing::warn!(reason, "a setting is left out of account");
    }
    for key in config.apply_git_settings().map_err(Error::Setup)? {
        tracing::warn!(key, "this git setting means nothing here; it is ignored");
    }
    let config = Arc::new(config);
    let layout = open_root(&config).map_err(Error::Root)?;
    let registry = registry(&BUILD);
    let metrics = Metrics::register(&registry);
    let link = layout.root().join(&config.link);
    let view = View::new(&config.repo, &config.reference, &link);
    let workers = shutdown.child();
    let hooks = Hooks::start(&config, &layout, &metrics, &workers).map_err(Error::Setup)?;
    let orders = Orders::load(&layout);
    let view = view.with_orders(orders.clone());
    let engine = Engine::new(Arc::clone(&config), layout.clone(), hooks, orders.clone(), metrics.clone())
        .map_err(Error::Remote)?;
    if let Some(commit) = engine.serving() {
        tracing::info!(hash = %commit, "an earlier run's tree is published");
        view.found(commit);
    }
    let (progress, control) = Progress::new(&trigger);
    serve(&config, registry, &view, &metrics, (control, orders), &workers).await?;
    let errors = ErrorFile::new(layout.root(), config.error_file.as_deref());
    let schedule = Schedule::new(policy(&config));
    let mut looping = Loop { schedule, config, engine, metrics, view, errors, trigger, progress };
    let result = looping.run(&shutdown).await;
    workers.trigger();
    workers.drain(std::time::Duration::from_millis(500)).await;
    result
}

async fn serve(
    config: &Config,
    registry: common::metrics::Registry,
    view: &View,
    metrics: &Metrics,
    (control, orders): (Control, Orders),
    workers: &Shutdown,
) -> Result<(), Error> {
    let api = config.triggers.is_on().then(|| {
        Api::new(config, config.sync_timeout + config.sync_timeout, control, orders, metrics.clone())
    });
    let apart = config.triggers.listen.as_ref();
    if config.triggers.token_file.is_some() && apart.is_none() {
        view.allow_steering();
    }
    if let Some(http) = &config.http {
        endpoint::start(http, registry, view, api.as_ref().filter(|_| apart.is_none()), workers).await?;
    }
    if let (Some(address), Some(api)) = (apart, &api) {
        endpoint::start_triggers(address, api, workers).await?;
    }
    Ok(())
}

fn policy(config: &Config) -> Policy {
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

fn open_root(config: &Config) -> Result<Layout, RepoError> {
    let root = &config.root;
    fs::create_dir_all(root).map_err(RepoError::io("creating", root))?;
    let root = root.canonicalize().map_err(RepoError::io("resolving", root))?;
    let layout = Layout::new(root);
    Ok(if config.publish == crate::publish::Mode::Symlink { layout } else { layout.sparing(&config.link) })
}

/// A number from 0 to 1; nothing depends on its quality.
fn random() -> f64 {
    use std::hash::BuildHasher as _;
    let bits = std::hash::RandomState::new().hash_one(Instant::now());
    f64::from((bits >> 32) as u32) / f64::from(u32::MAX)
}

struct Loop {
    config: Arc<Config>,
    engine: Engine,
    schedule: Schedule,
    metrics: Metrics,
    view: View,
    errors: ErrorFile,
    trigger: Trigger,
    progress: Progress,
}

impl Loop {
    async fn run(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        loop {
            let started = Instant::now();
            self.progress.begin();
            self.view.pausing(None);
            let result = self.attempt(shutdown).await;
            if shutdown.is_triggered() {
                return Ok(());
            }
            let next = self.account(&result, started);
            let told = result.as_ref().map(Clone::clone).map_err(ToString::to_string);
            self.progress.end(told, started.elapsed());
            match (next, result) {
                (Next::Wait(pause), _) => {
                    let pause = spread(pause, self.config.jitter, random());
                    self.view.pausing(Some(pause));
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.trigger.0.notified() => tracing::debug!("woken up"),
                        () = shutdown.triggered() => return Ok(()),
                    }
                }
                (Next::Rest, _) => {
                    tracing::info!("the ref is a fixed commit; nothing more to look for");
                    tokio::select! {
                        () = self.trigger.0.notified(), if self.config.triggers.is_on() => {}
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
    async fn attempt(&mut self, shutdown: &Shutdown) -> Result<crate::engine::Report, SyncError> {
        let limit = self.config.sync_timeout;
        let cancel = shutdown.token().child_token();
        let timer = {
            let cancel = cancel.clone();
            async move {
                tokio::time::sleep(limit).await;
                cancel.cancel();
            }
        };
        let attempt = self.engine.attempt(&cancel);
        tokio::pin!(attempt, timer);
        let result = tokio::select! {
            result = &mut attempt => result,
            () = &mut timer => attempt.await,
        };
        match result {
            Err(error) if error.is_cancelled() && !shutdown.is_triggered() => Err(SyncError::TimedOut(limit)),
            other => other,
        }
    }

    fn account(&mut self, result: &Result<crate::engine::Report, SyncError>, started: Instant) -> Next {
        let took = started.elapsed();
        let phases = self.engine.take_phases();
        Span::record("sync", took, |span| {
            span.set("git.ref", self.config.reference.as_str());
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
                    Status::Noop => tracing::debug!(hash = %report.commit, "nothing new"),
                    _ => {
                        tracing::info!(hash = %report.commit, took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "updated successfully");
                    }
                }
                next
            }
            Err(error) => {
                let serving = self.engine.serving().is_some();
                let is_known = error.is_held() && !self.config.one_time;
                let next = if is_known {
                    Next::Wait(self.config.period)
                } else {
                    self.schedule.after(Outcome::Failure { serving })
                };
                let (failures, text) = (self.schedule.failures(), error.to_string());
                let message = match next {
                    Next::GiveUp => "too many failures, aborting",
                    _ => "error syncing repo, will retry",
                };
                self.metrics.sync(Status::Error, took, failures);
                self.view.failure(&text, failures, took, phases);
                self.errors.write(message, &text, failures);
                if is_known {
                    tracing::debug!(error = %text, "nothing new");
                    return next;
                }
                tracing::error!(error = %text, repo = redact::url(&self.config.repo), failures, "{message}");
                next
            }
        }
    }
}
