//! Running a program beside the checkout.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::{HookError, Runner};
use crate::config::ExecHook;
use crate::news::News;
use crate::repo::Layout;

/// How much of a program's output is kept for the log.
const MAX_OUTPUT: usize = 4_096;

/// Runs a program with the checkout as working directory and `GITSYNC_HASH` set.
pub(crate) struct ExecRunner {
    hook: ExecHook,
    name: &'static str,
    layout: Layout,
}

impl ExecRunner {
    pub(crate) fn new(hook: ExecHook, name: &'static str, layout: Layout) -> Self {
        Self { hook, name, layout }
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
        let mut child = Command::new(program)
            .current_dir(&directory)
            .env("GITSYNC_HASH", commit.to_string())
            .envs(news.environment(list.as_deref()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| HookError::Start { command: command.clone(), source })?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let working = async {
            let (out, err, status) = tokio::join!(collect(stdout), collect(stderr), child.wait());
            status.map(|status| (status, format!("{out}{err}")))
        };
        let limit = self.hook.timeout;
        // Dropping the child on a timeout kills it.
        let finished = tokio::time::timeout(limit, working)
            .await
            .map_err(|_| HookError::TimedOut { what: command.clone(), limit })?;
        let (status, output) =
            finished.map_err(|source| HookError::Start { command: command.clone(), source })?;
        tracing::debug!(hook = self.name, %status, output = output.trim_end(), "program ended");
        if status.success() {
            Ok(())
        } else {
            Err(HookError::Failed { command: command.clone(), status, output: output.trim_end().to_owned() })
        }
    }
}

/// Reads to the end and keeps the last part, so that a chatty program neither blocks nor costs memory.
async fn collect(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let (mut kept, mut buffer) = (Vec::new(), [0; 4_096]);
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        if kept.len() > MAX_OUTPUT {
            kept.drain(..kept.len() - MAX_OUTPUT);
        }
    }
    String::from_utf8_lossy(&kept).into_owned()
}
