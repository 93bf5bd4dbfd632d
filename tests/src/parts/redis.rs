//! Real redis-servers, and a client that shows every byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process::Daemon;
use crate::{eventually, free_port, program};

/// A running redis-server.
#[derive(Debug)]
pub struct Redis {
    /// Its port on loopback.
    pub port: u16,
    /// The process.
    pub daemon: Daemon,
    directory: TempDir,
}

impl Redis {
    /// Starts a server without persistence.
    ///
    /// # Errors
    /// redis-server is missing or does not start.
    pub fn start() -> Result<Self> {
        Self::start_on(free_port()?, &[])
    }

    /// Starts a replica and waits until it is in sync.
    ///
    /// # Errors
    /// It does not start or does not get in sync.
    pub fn replica_of(primary: u16) -> Result<Self> {
        let replica = Self::start_on(free_port()?, &["--replicaof", "127.0.0.1", &primary.to_string()])?;
        eventually("the replica to be in sync", || {
            let info = replica.client()?.command(&["INFO", "replication"])?;
            if info.contains("master_link_status:up") { Ok(()) } else { bail!("{info}") }
        })?;
        Ok(replica)
    }

    /// Starts a server on a given port.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_on(port: u16, arguments: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(program("redis-server")?);
        command.current_dir(&directory).args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"]).args(arguments);
        let mut daemon = Daemon::start(&mut command)?;
        daemon.wait_for_port(port)?;
        Ok(Self { port, daemon, directory })
    }

    /// A connection to it.
    ///
    /// # Errors
    /// It does not accept.
    pub fn client(&self) -> Result<RespClient> {
        RespClient::connect(self.port)
    }

    /// Its working directory.
    #[must_use]
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }
}

/// A redis-sentinel that watches a primary as `mymaster`, with a quorum of 2.
#[derive(Debug)]
pub struct Sentinel {
    /// Its port on loopback.
    pub port: u16,
    /// The process.
    pub daemon: Daemon,
    _directory: TempDir,
}

impl Sentinel {
    /// Starts one; a server that is silent for so many milliseconds counts as down.
    ///
    /// # Errors
    /// redis-sentinel is missing or does not start.
    pub fn start(primary: u16, down_after: u64) -> Result<Self> {
        let (port, directory) = (free_port()?, tempfile::tempdir()?);
        let file = directory.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {primary} 2\n\
             sentinel down-after-milliseconds mymaster {down_after}\nsentinel failover-timeout mymaster 5000\n",
            directory.path().display()
        );
        std::fs::write(&file, text)?;
        let mut daemon = Daemon::start(Command::new(program("redis-sentinel")?).arg(&file))?;
        daemon.wait_for_port(port)?;
        Ok(Self { port, daemon, _directory: directory })
    }

    /// Waits until it knows so many other Sentinels and replicas.
    ///
    /// # Errors
    /// It does not find them.
    pub fn knows(&self, sentinels: usize, replicas: usize) -> Result<()> {
        eventually("the Sentinel to know the others", || {
            let known = self.client()?.command(&["SENTINEL", "MASTER", "mymaster"])?;
            let wanted = [format!("num-other-sentinels, {sentinels},"), format!("num-slaves, {replicas},")];
            if wanted.iter().all(|wanted| known.contains(wanted)) { Ok(()) } else { bail!("{known}") }
        })
    }

    /// A connection to it.
    ///
    /// # Errors
    /// It does not accept.
    pub fn client(&self) -> Result<RespClient> {
        RespClient::connect(self.port)
    }
}

/// A RESP2 client that renders replies as text: strings bare, numbers as `:1`, errors with `-`,
/// nulls as `(nil)`, arrays as `[a, b]`.
#[derive(Debug)]
pub struct RespClient {
    stream: BufReader<TcpStream>,
}

impl RespClient {
    /// Connects to a port of loopback; every read is bounded by 10 s.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(port: u16) -> Result<Self> {
        Self::connect_with(port, Duration::from_secs(10))
    }

    /// [`connect`](Self::connect) with another bound.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect_with(port: u16, patience: Duration) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends one command and reads one reply.
    ///
    /// # Errors
    /// The connection breaks.
    pub fn command(&mut self, words: &[&str]) -> Result<String> {
        self.send(words)?;
        self.reply()
    }

    /// Sends one command.
    ///
    /// # Errors
    /// The connection breaks.
    pub fn send(&mut self, words: &[&str]) -> Result<()> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        Ok(self.stream.get_mut().write_all(&bytes)?)
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// The connection breaks, or it is not RESP2.
    pub fn reply(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the connection was closed");
        }
        let line = line.trim_end();
        let (kind, rest) = line.split_at_checked(1).context("an empty line")?;
        match kind {
            "+" => Ok(rest.to_owned()),
            "-" | ":" => Ok(line.to_owned()),
            "$" | "*" if rest == "-1" => Ok("(nil)".to_owned()),
            "$" => {
                let mut bytes = vec![0; rest.parse::<usize>()? + 2];
                self.stream.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" => {
                let items: Result<Vec<String>> = (0..rest.parse::<usize>()?).map(|_| self.reply()).collect();
                Ok(format!("[{}]", items?.join(", ")))
            }
            _ => bail!("not RESP2: {line:?}"),
        }
    }
}
