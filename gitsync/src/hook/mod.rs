//! Programs and requests around publication.

mod children;
mod exec;
mod web;
mod worker;

use std::sync::Arc;

use common::shutdown::Shutdown;
use thiserror::Error;

pub(crate) use exec::ExecRunner;
pub(crate) use web::WebRunner;
pub(crate) use worker::Worker;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::news::News;
use crate::repo::Layout;

/// A hook that didn't work.
///
/// ```
/// use gitsync::{Error, HookError};
/// use std::time::Duration;
///
/// let limit = Duration::from_secs(30);
/// let error = Error::Hook(HookError::TimedOut { what: "bin/check".into(), limit });
/// assert_eq!(common::error::chain(&error), "a hook failed: bin/check took longer than 30s");
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HookError {
    /// The program can't be started.
    #[error("{command} can't be started: {source}")]
    Start {
        /// The program.
        command: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The program ended with a failure.
    #[error("{command} ended with {status}: {output}")]
    Failed {
        /// The program.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it wrote.
        output: String,
    },
    /// Over its time limit.
    #[error("{what} took longer than {}", common::config::format_duration(*.limit))]
    TimedOut {
        /// The program or address.
        what: String,
        /// The limit.
        limit: std::time::Duration,
    },
    /// The request failed.
    #[error("{url}: {reason}")]
    Request {
        /// The address, passwords masked.
        url: String,
        /// Why.
        reason: String,
    },
    /// The answer has another status than the one wanted.
    #[error("{url} answered {status}")]
    Status {
        /// The address, passwords masked.
        url: String,
        /// The HTTP status code.
        status: u16,
    },
}

/// Something that is done for a commit and can fail.
pub(crate) trait Runner: Send + Sync + 'static {
    /// As in the metrics.
    fn name(&self) -> &'static str;
    /// Pause before another try.
    fn backoff(&self) -> std::time::Duration;
    /// Does it once.
    fn run(&self, news: &News) -> impl Future<Output = Result<(), HookError>> + Send;
}

/// The hooks of one sync loop.
pub(crate) struct Hooks {
    pre_publish: Option<Arc<ExecRunner>>,
    pre_publish_worker: Option<Worker>,
    after: Vec<Worker>,
    metrics: Metrics,
}

impl Hooks {
    /// Starts a worker for each hook that is configured.
    ///
    /// # Errors
    /// When the web hook can't be set up.
    pub(crate) fn start(
        config: &Config,
        layout: &Layout,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> Result<Self, String> {
        let once = config.one_time;
        let children = children::Children::default();
        children.bury_orphans(shutdown);
        let exec = |hook: &crate::config::ExecHook, name| {
            ExecRunner::new(hook.clone(), name, layout.clone(), children.clone(), config.hook_environment())
        };
        let pre_publish =
            config.hooks.pre_publish.as_ref().map(|hook| Arc::new(exec(hook, "pre-publish-exechook")));
        let mut after = Vec::new();
        if let Some(hook) = &config.hooks.exec {
            after.push(Worker::start(Arc::new(exec(hook, "exechook")), once, metrics.clone(), shutdown));
        }
        if let Some(hook) = &config.hooks.web {
            for url in std::iter::once(&hook.url).chain(&hook.more_urls) {
                let runner = Arc::new(WebRunner::new(hook.clone(), url)?);
                after.push(Worker::start(runner, once, metrics.clone(), shutdown));
            }
        }
        let worker = pre_publish
            .as_ref()
            .filter(|_| config.hooks.pre_publish_async)
            .map(|runner| Worker::start(Arc::clone(runner), once, metrics.clone(), shutdown));
        Ok(Self { pre_publish, pre_publish_worker: worker, after, metrics: metrics.clone() })
    }

    /// Whether somebody is asked or told before publication.
    pub(crate) fn has_gate(&self) -> bool {
        self.pre_publish.is_some()
    }

    /// Before publication: asks the pre-publish hook, or only tells it.
    ///
    /// # Errors
    /// The hook's failure, which forbids publication.
    pub(crate) async fn before(&self, news: &Arc<News>) -> Result<(), HookError> {
        match (&self.pre_publish_worker, &self.pre_publish) {
            (Some(worker), _) => {
                worker.send(news);
                Ok(())
            }
            (None, Some(runner)) => worker::run_once(&**runner, news, &self.metrics).await,
            (None, None) => Ok(()),
        }
    }

    /// After publication: tells the others, which work in the background.
    pub(crate) fn after(&self, news: &Arc<News>) {
        self.after.iter().for_each(|worker| worker.send(news));
    }

    /// For one-time runs: waits for each hook's single try.
    ///
    /// # Errors
    /// The first hook's failure.
    pub(crate) async fn finish(&mut self) -> Result<(), HookError> {
        let mut result = Ok(());
        for worker in self.pre_publish_worker.iter_mut().chain(&mut self.after) {
            result = result.and(worker.finish().await);
        }
        result
    }
}
