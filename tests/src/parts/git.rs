//! A repository made by the real git, and its servers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use tempfile::TempDir;

use crate::process::{Daemon, output};
use crate::{free_port, program};

/// A bare repository and a clone to commit in.
#[derive(Debug)]
pub struct Repository {
    directory: TempDir,
}

impl Repository {
    /// An empty repository whose branch is `main`.
    ///
    /// # Errors
    /// git is missing or fails.
    pub fn new() -> Result<Self> {
        let repository = Self { directory: tempfile::tempdir()? };
        let bare = repository.bare();
        output(Command::new(program("git")?).args(["init", "-q", "--bare", "-b", "main"]).arg(&bare))?;
        output(Command::new("git").args(["init", "-q", "-b", "main"]).arg(repository.work()))?;
        repository.git(["remote", "add", "origin", &bare.to_string_lossy()])?;
        Ok(repository)
    }

    /// The bare repository: what a sidecar syncs from.
    #[must_use]
    pub fn bare(&self) -> PathBuf {
        self.directory.path().join("site.git")
    }

    /// The clone.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// Runs git in the clone.
    ///
    /// # Errors
    /// git fails.
    pub fn git<const N: usize>(&self, arguments: [&str; N]) -> Result<String> {
        git_in(&self.work(), arguments)
    }

    /// Writes files, commits and pushes them; returns the commit's hash.
    ///
    /// # Errors
    /// A file cannot be written, or git fails.
    pub fn push(&self, files: &[(&str, &str)]) -> Result<String> {
        for (name, content) in files {
            let path = self.work().join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, content)?;
        }
        self.git(["add", "-A"])?;
        self.git(["commit", "-q", "--allow-empty", "-m", "change"])?;
        self.git(["push", "-q", "-f", "origin", "HEAD:main"])?;
        Ok(self.git(["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Serves the bare repository by `git daemon`; the URL ends in its name.
    ///
    /// # Errors
    /// The server does not start.
    pub fn serve(&self) -> Result<(Daemon, String)> {
        let port = free_port()?;
        // Not through `git`, whose child would be left behind.
        let program = format!("{}/git-daemon", self.git(["--exec-path"])?.trim());
        let mut server = Daemon::start(Command::new(program).args([
            "--export-all",
            "--listen=127.0.0.1",
            &format!("--port={port}"),
            &format!("--base-path={}", self.directory.path().display()),
            "--reuseaddr",
        ]))?;
        server.wait_for_port(port)?;
        Ok((server, format!("git://127.0.0.1:{port}/site.git")))
    }

    /// The directory that holds the bare repository.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }
}

/// Runs git in a directory, with an identity of its own and nobody's configuration.
///
/// # Errors
/// git fails.
pub fn git_in<const N: usize>(directory: &Path, arguments: [&str; N]) -> Result<String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(arguments);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{who}_NAME"), "A Tester")
            .env(format!("GIT_{who}_EMAIL"), "tester@localhost");
    }
    output(&mut command)
}
