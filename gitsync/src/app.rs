//! The loop: attempts, pauses, the end.

use std::fs;
use std::sync::Arc;
use std::time::Instant;

use common::metrics::registry;
use common::shutdown::Shutdown;
use tokio::sync::Notify;

use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, SyncError};
use crate::hook::Hooks;
use crate::metrics::{Metrics, Status};
use crate::repo::{Layout, RepoError};
use crate::sync::{Next, Outcome, Policy, Schedule};
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
    let engine =
        Engine::new(Arc::clone(&config), layout.clone(), hooks, metrics.clone()).map_err(Error::Remote)?;
    if let Some(commit) = engine.serving() {
        tracing::info!(hash = %commit, "an earlier run's tree is published");
        view.found(commit);
    }
    if let Some(http) = &config.http {
        endpoint::start(http, registry, &view, &workers).await?;
    }
    let errors = ErrorFile::new(layout.root(), config.error_file.as_deref());
    let mut looping =
        Loop { schedule: Schedule::new(policy(&config)), config, engine, metrics, view, errors, trigger };
    let result = looping.run(&shutdown).await;
    workers.trigger();
    workers.drain(std::time::Duration::from_millis(500)).await;
    result
}

fn policy(config: &Config) -> Policy {
    let max_failures = config.max_failures.unwrap_or(0);
    Policy {
        period: config.period,
        init_period: config.init_period,
        max_failures,
        init_max_failures: config.init_max_failures.unwrap_or(max_failures),
        one_time: config.one_time,
        serve_stale: config.max_failures.is_none() && config.init_max_failures.is_none(),
    }
}

fn open_root(config: &Config) -> Result<Layout, RepoError> {
    let root = &config.root;
    fs::create_dir_all(root).map_err(RepoError::io("creating", root))?;
    let root = root.canonicalize().map_err(RepoError::io("resolving", root))?;
    Ok(Layout::new(root))
}

struct Loop {
    config: Arc<Config>,
    engine: Engine,
    schedule: Schedule,
    metrics: Metrics,
    view: View,
    errors: ErrorFile,
    trigger: Trigger,
}

impl Loop {
    async fn run(&mut self, shutdown: &Shutdown) -> Result<(), Error> {
        loop {
            let started = Instant::now();
            let result = self.attempt(shutdown).await;
            if shutdown.is_triggered() {
                return Ok(());
            }
            let next = self.account(&result, started);
            match (next, result) {
                (Next::Wait(pause), _) => {
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.trigger.0.notified() => tracing::debug!("woken up"),
                        () = shutdown.triggered() => return Ok(()),
                    }
                }
                (Next::Rest, _) => {
                    tracing::info!("the ref is a fixed commit; nothing more to look for");
                    shutdown.triggered().await;
                    return Ok(());
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
        match result {
            Ok(report) => {
                let first = !self.schedule.has_succeeded();
                let status = if report.changed || first { Status::Success } else { Status::Noop };
                let next = self.schedule.after(Outcome::Success { settled: report.settled });
                self.metrics.sync(status, took, 0);
                self.view.success(report.commit, status, took);
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
                let next = self.schedule.after(Outcome::Failure { serving });
                let (failures, text) = (self.schedule.failures(), error.to_string());
                let message = match next {
                    Next::GiveUp => "too many failures, aborting",
                    _ => "error syncing repo, will retry",
                };
                self.metrics.sync(Status::Error, took, failures);
                self.view.failure(&text, failures, took);
                self.errors.write(message, &text, failures);
                tracing::error!(error = %text, repo = redact::url(&self.config.repo), failures, "{message}");
                next
            }
        }
    }
}
