//! podman with the settings that it needs on this machine, and what a container really may do.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use e2e::process::output;
use e2e::{program, repository};
use serde_json::Value;

/// Runs `images/pods/play.sh`.
pub(crate) fn play(words: &[&str]) -> Result<String> {
    output(Command::new(repository().join("images/pods/play.sh")).args(words))
}

/// podman as `play.sh` would run it.
pub(crate) struct Podman {
    /// `NAME=value` that podman commands need on this machine, if any.
    setting: String,
}

impl Podman {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { setting: play(&["env"])?.trim().to_owned() })
    }

    fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = Command::new(program("podman")?);
        if let Some((name, value)) = self.setting.split_once('=') {
            command.env(name, value);
        }
        command.args(words);
        Ok(command)
    }

    /// Runs a podman command; what it writes to standard output.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        output(&mut self.command(words)?)
    }

    /// What a container wrote, to standard error too.
    pub(crate) fn logs(&self, container: &str) -> String {
        let said = self.command(&["logs", container]).and_then(|mut command| Ok(command.output()?));
        let text = |said: Output| String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        said.map_or_else(|error| format!("{error:#}"), text)
    }

    fn facts(&self, container: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.run(&["inspect", container])?)?)
    }

    /// The process id of a container: another one after a restart.
    pub(crate) fn pid(&self, container: &str) -> Result<u64> {
        let facts = self.facts(container)?;
        facts.pointer("/0/State/Pid").and_then(Value::as_u64).with_context(|| format!("{container}: no pid"))
    }

    /// Looks at the running process, and not at what was asked for: what may it do?
    pub(crate) fn expect_hardened(&self, container: &str) -> Result<()> {
        let facts = self.facts(container)?;
        ensure!(
            facts.pointer("/0/HostConfig/ReadonlyRootfs").is_some_and(|fact| fact == true),
            "{container}: its root is writable"
        );
        let pid = self.pid(container)?.to_string();
        let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).with_context(|| format!("{container}: no {name} in its status"))
        };
        ensure!(!field("Uid:")?.split_whitespace().any(|uid| uid == "0"), "{container}: runs as root");
        for capabilities in ["CapEff:", "CapPrm:", "CapBnd:"] {
            ensure!(field(capabilities)?.trim_start_matches('0').is_empty(), "{container}: {capabilities}");
        }
        ensure!(field("NoNewPrivs:")? == "1", "{container}: may gain privileges");
        ensure!(field("Seccomp:")? == "2", "{container}: no system call filter");
        Ok(())
    }
}
