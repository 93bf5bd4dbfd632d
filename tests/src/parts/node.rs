//! Node.js with the clients that stories drive, in a folder of their own.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::process::output;
use crate::{program, repository};

/// The clients, pinned. These are the last ones that Debian's Node.js 18 can run.
const PACKAGES: &[&str] = &["ioredis@5.11.1", "redis@5.12.1"];

/// A `node` command that finds the packages the stories need; they are installed on first use and kept under `target`.
///
/// # Errors
/// node or npm is missing, or the packages cannot be installed.
pub fn node() -> Result<Command> {
    let directory = repository().join("target").join("node");
    std::fs::create_dir_all(&directory)?;
    let lock = File::create(directory.join("lock"))?;
    lock.lock()?;
    let stamp = directory.join("packages");
    if std::fs::read_to_string(&stamp).map_or(true, |installed| installed != PACKAGES.join(" ")) {
        let mut npm = Command::new(program("npm")?);
        npm.args(["install", "--silent", "--no-fund", "--no-audit", "--ignore-scripts", "--prefix"]);
        output(npm.arg(&directory).args(PACKAGES))?;
        std::fs::write(stamp, PACKAGES.join(" "))?;
    }
    let mut command = Command::new(program("node")?);
    command.env("NODE_PATH", directory.join("node_modules"));
    Ok(command)
}

/// The folder of the scripts that play an application.
#[must_use]
pub fn client_stories() -> PathBuf {
    repository().join("tests").join("src").join("parts").join("clients")
}
