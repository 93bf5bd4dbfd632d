//! Harness of the end-to-end stories and benchmarks: processes, ports, small clients, real parts.
//!
//! Everything binds to loopback, is bounded in time, and ends with its own process id.

pub mod http;
pub mod parts;
pub mod process;

use std::fmt::Display;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Longest time a story waits for one condition.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A port of 127.0.0.1 that is free, for parts that cannot choose one themselves.
///
/// No two calls of one process give the same port, and all are below the range from which the system takes
/// ports for outgoing connections, so nobody else is given it before the part listens.
///
/// # Errors
/// None of the range is free.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side start at different places.
    let start = (std::process::id() % 97) as u16 * 113;
    for _ in 0..COUNT {
        let port = FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port of {FIRST} to {} is free", FIRST + COUNT)
}

/// Repeats `check` until it succeeds; after [`PATIENCE`] the last failure is the error.
///
/// # Errors
/// It never succeeded.
pub fn eventually<T>(what: impl Display, check: impl FnMut() -> Result<T>) -> Result<T> {
    within(PATIENCE, what, check)
}

/// [`eventually`] with another patience.
///
/// # Errors
/// It never succeeded.
pub fn within<T>(patience: Duration, what: impl Display, mut check: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > patience => {
                return Err(error.context(format!("waited {patience:?} for: {what}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// A binary of this workspace, which the same build put beside the running test.
///
/// # Errors
/// It was not built: run `cargo build --workspace` first.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut places = own.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    match places.find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!("{name} is not beside {}: run `cargo build --workspace` first", own.display()),
    }
}

/// The root of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A program that a story needs; a missing one is a failure and never a silent skip.
///
/// # Errors
/// It is neither in `PATH` nor in the directories of system programs.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not installed: run `make setup`"))
}
