//! Running a program beside the checkout.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::children::Children;
use super::{HookError, Runner};
use crate::config::ExecHook;
use crate::fetcher::{COMMAND, RESULT};
use crate::news::News;
use crate::repo::Layout;

/// How much of a program's output is kept for the log.
const MAX_OUTPUT: usize = 4_096;
/// How long output is waited for once the program has ended: something it started may hold on to it.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs a program with the checkout as working directory and `GITSYNC_HASH` set.
pub(crate) struct ExecRunner {
    hook: ExecHook,
    name: &'static str,
    layout: Layout,
    children: Children,
    /// For a git that the program may run.
    environment: Vec<(String, String)>,
}

impl ExecRunner {
    pub(crate) fn new(
        hook: ExecHook,
        name: &'static str,
        layout: Layout,
        children: Children,
        environment: Vec<(String, String)>,
    ) -> Self {
        Self { hook, name, layout, children, environment }
    }
}

impl ExecRunner {
    /// Writes the changed paths beside the checkout's administration, with which they go.
    fn list(&self, news: &News) -> Option<PathBuf> {
        let path = self.layout.admin(news.new).join(format!("gitsync-changes-{}", self.name));
        let written = common::fs::write_atomically(&path, &news.listing()?, 0o644);
        written
            .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "can't list the changes"))
            .ok()?;
        Some(path)
    }
}

impl Runner for ExecRunner {
    fn name(&self) -> &'static str {
        self.name
    }

    fn backoff(&self) -> Duration {
        self.hook.backoff
    }

    async fn run(&self, news: &News) -> Result<(), HookError> {
        let commit = news.new;
        let list = self.list(news);
        let command = &self.hook.command;
        let directory = self.layout.worktree(commit);
        // A relative path with a slash is meant relative to the checkout.
        let program = match command.contains('/') {
            true => directory.join(command),
            false => command.into(),
        };
        let fail = |source| HookError::Start { command: command.clone(), source };
        tracing::debug!(target: COMMAND, hook = self.name, program = %program.display(), "running a program");
        let mut prepared = Command::new(program);
        prepared
            .current_dir(&directory)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("GITSYNC_HASH", commit.to_string())
            .envs(news.environment(list.as_deref()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Dropped on a timeout or at shutdown, it ends the program and what that started.
        let mut group = self.children.start(&mut prepared).map_err(fail)?;
        let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
        let (out, err) = (Tail::default(), Tail::default());
        let working = async {
            let reading = async { tokio::join!(out.collect(stdout), err.collect(stderr)) };
            tokio::pin!(reading);
            let status = tokio::select! {
                status = group.child.wait() => {
                    let _ = tokio::time::timeout(LAST_WORDS, reading).await;
                    status
                }
                _ = &mut reading => group.child.wait().await,
            };
            status.map(|status| (status, format!("{}{}", out.text(), err.text())))
        };
        let limit = self.hook.timeout;
        let finished = tokio::time::timeout(limit, working)
            .await
            .map_err(|_| HookError::TimedOut { what: command.clone(), limit })?;
        let (status, output) = finished.map_err(fail)?;
        tracing::debug!(target: RESULT, hook = self.name, %status, output = output.trim_end(), "program ended");
        if status.success() {
            Ok(())
        } else {
            Err(HookError::Failed { command: command.clone(), status, output: output.trim_end().to_owned() })
        }
    }
}

/// The last part of a stream, so that a chatty program neither blocks nor costs memory.
#[derive(Default)]
struct Tail(Mutex<Vec<u8>>);

impl Tail {
    async fn collect(&self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut buffer = [0; 4_096];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.extend_from_slice(&buffer[..read]);
            if kept.len() > MAX_OUTPUT {
                let surplus = kept.len() - MAX_OUTPUT;
                kept.drain(..surplus);
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}
