//! Finding a JVM among the processes.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Longest command line, status or map file that is looked at, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// SIGQUIT's bit in a signal mask.
const SIGQUIT_BIT: u64 = 1 << (3 - 1);

/// Which JVM is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The only one.
    Only,
    /// The one with this process id, as this process sees it.
    Pid(u32),
    /// The only one with this text in its command line.
    CommandLine(String),
}

impl Selector {
    /// Reads what stands behind `attach:` or `hsperfdata:`: a process id, `*` or nothing for the only JVM, or a
    /// text of its command line.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim().trim_start_matches("//");
        match text.parse() {
            Ok(pid) => Self::Pid(pid),
            Err(_) if text.is_empty() || text == "*" => Self::Only,
            Err(_) => Self::CommandLine(text.to_owned()),
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Only => f.write_str("*"),
            Self::Pid(pid) => write!(f, "{pid}"),
            Self::CommandLine(text) => f.write_str(text),
        }
    }
}

/// Why a JVM of this machine cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LocalError {
    /// No process fits.
    #[error(
        "no JVM fits `{0}` among the processes that can be seen here (a pod needs shareProcessNamespace)"
    )]
    None(Selector),
    /// More than one fits.
    #[error("`{selector}` fits {found} JVMs; name one by its process id or by more of its command line")]
    Several {
        /// What was looked for.
        selector: Selector,
        /// Process ids.
        found: String,
    },
    /// The process may not be looked into.
    #[error("process {pid}: {path} cannot be read; the same user or root is needed")]
    Denied {
        /// Process id as this process sees it.
        pid: u32,
        /// The file.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// It does not answer as HotSpot does.
    #[error("process {pid}: {reason}")]
    NotAttachable {
        /// Process id as this process sees it.
        pid: u32,
        /// Why not.
        reason: String,
    },
    /// The counters cannot be read.
    #[error("process {pid}: {source}")]
    PerfData {
        /// Process id as this process sees it.
        pid: u32,
        /// Why not.
        source: super::PerfDataError,
    },
}

/// A JVM of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jvm {
    /// Its process id as this process sees it.
    pub pid: u32,
    /// Its process id as it sees itself; files carry this one.
    pub own_pid: u32,
    /// Its user and group.
    pub owner: (u32, u32),
    pub(super) catches_quit: bool,
}

impl Jvm {
    /// A file of its temporary directory.
    pub(super) fn temporary(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/tmp/{name}", self.pid))
    }

    /// Reads what the kernel tells of a process; `None` when it is no JVM or has ended.
    fn of(proc: &Path, pid: u32) -> Option<Result<Self, LocalError>> {
        let directory = proc.join(pid.to_string());
        let status = read(&directory.join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number =
            |name: &str, index: usize| field(name)?.split_whitespace().nth(index)?.parse::<u32>().ok();
        let maps = directory.join("maps");
        match read(&maps) {
            Ok(text) if text.contains("/libjvm.so") => {}
            Ok(_) => return None,
            Err(source) if looks_like_java(&directory) => {
                return Some(Err(LocalError::Denied { pid, path: maps.display().to_string(), source }));
            }
            Err(_) => return None,
        }
        let own_pid =
            field("NSpid").and_then(|ids| ids.split_whitespace().last()?.parse().ok()).unwrap_or(pid);
        let caught = field("SigCgt").and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        Some(Ok(Self {
            pid,
            own_pid,
            // The effective ones.
            owner: (number("Uid", 1)?, number("Gid", 1)?),
            catches_quit: caught & SIGQUIT_BIT != 0,
        }))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn looks_like_java(directory: &Path) -> bool {
    read(&directory.join("comm")).is_ok_and(|name| name.trim() == "java")
}

fn command_line(proc: &Path, pid: u32) -> String {
    read(&proc.join(pid.to_string()).join("cmdline")).unwrap_or_default().replace('\0', " ")
}

/// Finds the JVM that is meant.
///
/// # Errors
/// None or several fit, or the one may not be looked into. Blocks on the file system.
pub fn find(selector: &Selector) -> Result<Jvm, LocalError> {
    find_in(Path::new("/proc"), selector)
}

fn find_in(proc: &Path, selector: &Selector) -> Result<Jvm, LocalError> {
    let none = || LocalError::None(selector.clone());
    if let Selector::Pid(pid) = selector {
        return Jvm::of(proc, *pid).ok_or_else(none)?;
    }
    let entries = fs::read_dir(proc).map_err(|_| none())?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let fits = |pid: &u32| match selector {
        Selector::CommandLine(text) => command_line(proc, *pid).contains(text.as_str()),
        _ => true,
    };
    let own = std::process::id();
    let mut found: Vec<Result<Jvm, LocalError>> =
        pids.filter(|pid| *pid != own).filter(fits).filter_map(|pid| Jvm::of(proc, pid)).collect();
    // One that may not be looked into does not count beside one that may.
    if found.iter().any(Result::is_ok) {
        found.retain(Result::is_ok);
    }
    match found.len() {
        0 => Err(none()),
        1 => found.remove(0),
        _ => {
            let mut pids: Vec<u32> = found.iter().flatten().map(|jvm| jvm.pid).collect();
            pids.sort_unstable();
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            Err(LocalError::Several { selector: selector.clone(), found: pids.join(", ") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(proc: &Path, pid: u32, maps: &str, command: &str) {
        let directory = proc.join(pid.to_string());
        fs::create_dir_all(&directory).unwrap();
        let status = format!(
            "Name:\tjava\nUid:\t1\t7\t1\t1\nGid:\t1\t8\t1\t1\nNSpid:\t{pid}\t4\nSigCgt:\t0000000000000004\n"
        );
        fs::write(directory.join("status"), status).unwrap();
        fs::write(directory.join("maps"), maps).unwrap();
        fs::write(directory.join("cmdline"), command.replace(' ', "\0")).unwrap();
    }

    #[test]
    fn only_jvms_are_found() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), 10, "7f /bin/sleep", "sleep app.Main");
        process(proc.path(), 11, "7f /usr/lib/jvm/lib/server/libjvm.so", "java -jar app.Main");
        fs::create_dir(proc.path().join("self")).unwrap();
        let find = |text: &str| find_in(proc.path(), &Selector::parse(text));
        let jvm = find("*").unwrap();
        assert_eq!(jvm, Jvm { pid: 11, own_pid: 4, owner: (7, 8), catches_quit: true });
        assert_eq!(find("//app.Main").unwrap(), jvm);
        assert_eq!(find("11").unwrap(), jvm);
        assert!(matches!(find("10"), Err(LocalError::None(_))));
        assert!(matches!(find("other"), Err(LocalError::None(_))));
        process(proc.path(), 12, "/libjvm.so", "java -cp . app.Main2");
        let several = find("app.Main").unwrap_err().to_string();
        assert!(several.contains("11, 12"), "{several}");
        assert_eq!(find("app.Main2").unwrap().pid, 12);
    }
}
