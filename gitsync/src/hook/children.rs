//! The programs that run, and what they leave behind.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::shutdown::Shutdown;
use rustix::process::{Pid, Signal, WaitOptions};
use tokio::process::{Child, Command};

/// How often a process that is PID 1 looks for orphans to bury.
const BURIAL: Duration = Duration::from_secs(5);

/// The hooks' programs of this process. Clones share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Children(Arc<Mutex<HashSet<i32>>>);

impl Children {
    /// Starts a program at the head of a process group of its own.
    ///
    /// # Errors
    /// When it can't be started.
    pub(super) fn start(&self, command: &mut Command) -> io::Result<Group> {
        // Held meanwhile, so that nobody takes a program that ends at once for an orphan.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let child = command.process_group(0).spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        known.extend(pid);
        Ok(Group { child, pid, children: self.clone() })
    }

    /// As PID 1 of a container, waits for orphans that were left to it, as an init does; they would
    /// stay as zombies. As any other process there are none.
    pub(super) fn bury_orphans(&self, shutdown: &Shutdown) {
        if std::process::id() != 1 {
            return;
        }
        let (children, token) = (self.clone(), shutdown.token().clone());
        shutdown.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(BURIAL) => children.bury(),
                    () = token.cancelled() => return,
                }
            }
        });
    }

    fn bury(&self) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for pid in zombies(std::process::id()).filter(|pid| !known.contains(&pid.as_raw_nonzero().get())) {
            if rustix::process::waitpid(Some(pid), WaitOptions::NOHANG).is_ok_and(|found| found.is_some()) {
                tracing::debug!(pid = pid.as_raw_nonzero().get(), "an orphan ended");
            }
        }
    }
}

/// Ended children of a process that nobody waited for.
fn zombies(parent: u32) -> impl Iterator<Item = Pid> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(move |entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name before it may hold anything, a parenthesis too.
        let mut words = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let is_zombie = words.next() == Some("Z") && words.next()?.parse() == Ok(parent);
        is_zombie.then(|| Pid::from_raw(pid)).flatten()
    })
}

/// A running program and whatever it started; dropping this ends all of them.
pub(super) struct Group {
    pub(super) child: Child,
    pid: Option<i32>,
    children: Children,
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(pid) = self.pid else { return };
        // A program that ended well may leave others behind, which are its own affair.
        if self.child.id().is_some()
            && let Some(group) = Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        self.children.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn zombies_are_found_and_known_ones_left() {
        let children = Children::default();
        let mut group = children.start(&mut Command::new("true")).unwrap();
        let mut orphan = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(orphan.id()).unwrap();
        let is_zombie = |pid: i32| zombies(std::process::id()).any(|z| z.as_raw_nonzero().get() == pid);
        while !is_zombie(pid) {
            tokio::task::yield_now().await;
        }
        children.bury();
        assert!(!is_zombie(pid));
        assert!(orphan.wait().is_err(), "it was waited for already");
        assert!(group.child.wait().await.unwrap().success());
    }
}
