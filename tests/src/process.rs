//! Child processes that end with their owner.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{eventually, within};

/// A running program whose output goes to files; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    logs: TempDir,
}

impl Daemon {
    /// Starts a command.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
        let logs = tempfile::tempdir()?;
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(logs.path().join("out"))?)
            .stderr(File::create(logs.path().join("err"))?)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, logs })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard output and error so far.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        format!("{}{}", read("out"), read("err"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.logs.path().join(name)
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    /// It ended, or never listened; its output is in the error.
    pub fn wait_for_port(&mut self, port: u16) -> Result<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let start = Instant::now();
        loop {
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before it listened:\n{}", self.name, self.log());
            }
            if start.elapsed() > crate::PATIENCE {
                bail!("{} does not listen on {port}:\n{}", self.name, self.log());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for a line of its output that contains `text`, and returns the line.
    ///
    /// # Errors
    /// No such line came.
    pub fn wait_for_line(&self, text: &str) -> Result<String> {
        eventually(format!("{text:?} in the output of {}", self.name), || {
            for name in ["out", "err"] {
                let lines = BufReader::new(File::open(self.path(name))?).lines();
                if let Some(line) = lines.map_while(Result::ok).find(|line| line.contains(text)) {
                    return Ok(line);
                }
            }
            bail!("not there yet; the output so far:\n{}", self.log())
        })
    }

    /// Sends a signal by name, such as `TERM` or `STOP`.
    ///
    /// # Errors
    /// `kill` failed.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status()?;
        if status.success() { Ok(()) } else { bail!("kill -{name} {} failed", self.pid()) }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It is still running after `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let name = self.name.clone();
        let child = &mut self.child;
        within(patience, format!("the end of {name}"), || child.try_wait()?.context("still running"))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// CPU seconds (user and system) it has used so far, its waited-for children included.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.pid())
    }

    /// Resident memory now, in bytes.
    ///
    /// # Errors
    /// It is gone.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// Most memory that was resident at one time so far, in bytes.
    ///
    /// # Errors
    /// It is gone.
    pub fn peak_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|line| line.starts_with(name)).context("no such figure")?;
        let kilobytes: u64 = line.split_whitespace().nth(1).context("no figure")?.parse()?;
        Ok(kilobytes << 10)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- output of {} ---\n{}", self.name, self.log());
        }
    }
}

/// CPU seconds (user and system) of a process, its waited-for children included.
///
/// # Errors
/// It is gone.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(") ").context("unexpected stat line")?.1;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks: u64 =
        fields.get(11..15).context("short stat line")?.iter().filter_map(|f| f.parse::<u64>().ok()).sum();
    // The kernel's USER_HZ is 100 on every architecture we build for.
    Ok(ticks as f64 / 100.0)
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// It cannot be started or fails; its output is in the error.
pub fn run<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Result<String> {
    output(Command::new(program).args(arguments))
}

/// [`run`] for a prepared command.
///
/// # Errors
/// It cannot be started or fails; its output is in the error.
pub fn output(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(stdout);
    }
    bail!("{command:?} ended with {status}:\n{stdout}{}", String::from_utf8_lossy(&stderr))
}
