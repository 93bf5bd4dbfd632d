//! A real Envoy.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use crate::process::Daemon;
use crate::repository;

/// A running Envoy.
#[derive(Debug)]
pub struct Envoy {
    /// The process.
    pub daemon: Daemon,
    _directory: TempDir,
}

impl Envoy {
    /// Starts it with a configuration, whose listener is at this port of the loopback.
    ///
    /// # Errors
    /// It was not fetched, or does not start.
    pub fn start(configuration: &str, port: u16) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("envoy.yaml");
        std::fs::write(&file, configuration)?;
        let mut daemon = Daemon::start(&mut Self::command(&file)?)?;
        daemon.wait_for_port(port)?;
        Ok(Self { daemon, _directory: directory })
    }

    /// What starts it with a configuration, with one worker.
    ///
    /// # Errors
    /// It was not fetched.
    pub fn command(configuration: &Path) -> Result<Command> {
        let program = repository().join("target/envoy/envoy/_bin/envoy");
        ensure!(program.is_file(), "there is no Envoy at {}: run `make setup`", program.display());
        let mut command = Command::new(program);
        // Without hot restart there is no shared memory that two runs could quarrel about.
        command.args(["--disable-hot-restart", "--concurrency", "1", "--config-path"]).arg(configuration);
        Ok(command)
    }
}
