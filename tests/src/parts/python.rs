//! Python with the clients that stories drive, in an environment of its own.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{output, run};
use crate::{program, repository};

/// The clients, pinned.
const PACKAGES: &[&str] =
    &["redis==5.2.1", "statsd==4.0.1", "datadog==0.50.2", "kubernetes-validate==1.37.0"];

/// A Python interpreter that has the packages the stories need; made on first use and kept under `target`.
///
/// # Errors
/// python3 or its venv module is missing, or the packages cannot be installed.
pub fn python() -> Result<PathBuf> {
    let directory = repository().join("target").join("python");
    std::fs::create_dir_all(&directory)?;
    let lock = File::create(directory.join("lock"))?;
    lock.lock()?;
    let interpreter = directory.join("bin").join("python");
    let stamp = directory.join("packages");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == PACKAGES.join(" ")) {
        return Ok(interpreter);
    }
    run(program("python3")?, ["-m".as_ref(), "venv".as_ref(), directory.as_os_str()])
        .context("python3 has no venv module: run `make setup`")?;
    output(
        Command::new(&interpreter)
            .args(["-m", "pip", "install", "-q", "--disable-pip-version-check"])
            .args(PACKAGES),
    )?;
    std::fs::write(stamp, PACKAGES.join(" "))?;
    Ok(interpreter)
}
