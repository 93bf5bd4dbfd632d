//! What a program prints. Only with `--allow-exec`: whoever writes the configuration could run anything.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};

use super::{Gather, GatherError, Gathering};
use crate::reader::{Reader, Reading};

/// Bytes of the error output that are shown.
const SHOWN: u64 = 300;

pub(super) struct Exec {
    /// Program and arguments; no shell is between.
    pub(super) words: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    /// Where it runs.
    pub(super) directory: PathBuf,
    pub(super) limit: usize,
    pub(super) reader: Reader,
    pub(super) max_series: usize,
}

/// Ends the program and whatever it started, however gathering ends.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            let _ =
                nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl Gather for Exec {
    fn gather(&self) -> Gathering<'_> {
        Box::pin(async {
            let failed = |error: std::io::Error| GatherError(format!("{}: {error}", self.words[0]));
            let mut command = Command::new(&self.words[0]);
            command.args(&self.words[1..]).envs(self.environment.iter().map(|(name, value)| (name, value)));
            if !self.directory.as_os_str().is_empty() {
                command.current_dir(&self.directory);
            }
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.process_group(0).kill_on_drop(true);
            let mut group = Group(command.spawn().map_err(failed)?);
            let (stdout, stderr) = (group.0.stdout.take(), group.0.stderr.take());
            let mut output = Vec::new();
            let mut errors = Vec::new();
            let read = async {
                if let Some(stdout) = stdout {
                    stdout.take(self.limit as u64 + 1).read_to_end(&mut output).await?;
                }
                Ok::<_, std::io::Error>(())
            };
            let complain = async {
                if let Some(mut stderr) = stderr {
                    (&mut stderr).take(SHOWN).read_to_end(&mut errors).await?;
                    // Further complaints are read, so that the program does not wait.
                    tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
                }
                Ok(())
            };
            let both = futures_util::future::try_join(read, complain);
            both.await.map_err(failed)?;
            if output.len() > self.limit {
                return Err(GatherError(format!("it printed more than {} bytes (max_bytes)", self.limit)));
            }
            let status = group.0.wait().await.map_err(failed)?;
            if !status.success() {
                let said = crate::reader::shortened(String::from_utf8_lossy(&errors).trim(), 200);
                return Err(GatherError(format!("{} ended with {status}: {said}", self.words[0])));
            }
            super::build::parse(&self.reader, output, self.max_series).await
        })
    }

    fn read(&self, document: &[u8]) -> Option<Result<Reading, GatherError>> {
        Some(self.reader.read(document, self.max_series).map_err(GatherError::from))
    }
}
