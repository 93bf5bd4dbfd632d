//! Instructions and system calls of the ambassador's data path per command, counted by valgrind's callgrind.
//!
//! Unlike time they hardly depend on what else the machine does: two runs of one binary differ by less than 1 %. Only
//! the worker's thread counts. The load goes in lock-step, so that every run has the same turns: a batch of requests
//! is written, then all of its answers are read. A row is the median of several parts, since what befalls one of them (a
//! stalled probe, a connection made anew) is no part of a command's cost.

use anyhow::{Context, Result, bail};
use e2e::parts::Redis;
use e2e::process::{Daemon, run as run_program};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Get,
    Set,
    Mget,
}

/// A kind of work; every batch is `clients` times `depth` requests.
#[derive(Clone, Copy)]
struct Row {
    verb: Verb,
    clients: usize,
    depth: usize,
    size: usize,
}

/// Keys of each size that exist before.
const KEYS: usize = 64;
/// Keys of one MGET.
const MANY: usize = 10;
const SIZES: [usize; 3] = [64, 1 << 10, 16 << 10];
const MODES: [&str; 2] = ["pod", "eventual"];
/// Parts that a row is measured in.
const PARTS: usize = 5;
/// More than this over the noted figure is a regression.
const TOLERANCE: f64 = 0.03;
/// Where the noted figures are, from the root of the repository.
const NOTED: &str = "redis-ambassador/docs/instructions.md";

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for depth in [1, 16] {
        for size in SIZES {
            rows.extend([Verb::Get, Verb::Set].map(|verb| Row { verb, clients: 1, depth, size }));
        }
        rows.push(Row { verb: Verb::Mget, clients: 1, depth, size: SIZES[0] });
    }
    rows.extend([Verb::Get, Verb::Set].map(|verb| Row { verb, clients: 50, depth: 1, size: SIZES[0] }));
    rows
}

impl Row {
    fn name(self) -> String {
        let verb = match self.verb {
            Verb::Get => "get",
            Verb::Set => "set",
            Verb::Mget => "mget10",
        };
        let size =
            if self.size < 1024 { format!("{} B", self.size) } else { format!("{} KB", self.size >> 10) };
        format!(
            "{verb}, {} client{}, pipeline {}, {size}",
            self.clients,
            if self.clients == 1 { "" } else { "s" },
            self.depth
        )
    }

    fn batches(self) -> usize {
        match (self.depth, self.clients) {
            (1, 1) => 2000,
            (1, _) => 240,
            _ => 250,
        }
    }

    /// Whether a batch and its answers go in one piece each. A server writes more than 16 KB in pieces, whose number
    /// depends on the moment; such rows are shown and not judged.
    fn is_steady(self) -> bool {
        self.requests(0).len().max(self.answers()) <= 16 << 10
    }

    /// What one client writes in batch `number`.
    fn requests(self, number: usize) -> Vec<u8> {
        let value = vec![b'x'; self.size];
        let mut bytes = Vec::new();
        for at in 0..self.depth {
            let key = |nth: usize| format!("k{}:{:02}", self.size, (number * self.depth + at + nth) % KEYS);
            match self.verb {
                Verb::Get => words(&mut bytes, &[b"GET", key(0).as_bytes()]),
                // Others than those that are read: a fresh key is not read from a replica.
                Verb::Set => words(&mut bytes, &[b"SET", format!("w{}", key(0)).as_bytes(), &value]),
                Verb::Mget => {
                    let keys: Vec<String> = (0..MANY).map(key).collect();
                    let mut all: Vec<&[u8]> = vec![b"MGET"];
                    all.extend(keys.iter().map(String::as_bytes));
                    words(&mut bytes, &all);
                }
            }
        }
        bytes
    }

    /// Length of what answers these.
    fn answers(self) -> usize {
        let value = format!("${}\r\n\r\n", self.size).len() + self.size;
        self.depth
            * match self.verb {
                Verb::Get => value,
                Verb::Set => b"+OK\r\n".len(),
                Verb::Mget => format!("*{MANY}\r\n").len() + MANY * value,
            }
    }
}

fn words(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Instructions and system calls.
type Cost = [f64; 2];

/// Runs the benchmark, prints its table, and fails where a row needs more than is noted.
///
/// # Errors
/// A program is missing or does not start; a row got worse.
pub(crate) fn run() -> Result<()> {
    let primary = Redis::start()?;
    let replicas = [Redis::replica_of(primary.port)?, Redis::replica_of(primary.port)?];
    fill(&primary)?;
    let noted = noted(&std::fs::read_to_string(e2e::repository().join(NOTED)).unwrap_or_default());
    let directory = tempfile::tempdir()?;
    let mut measured: BTreeMap<String, Vec<Cost>> = BTreeMap::new();
    for mode in MODES {
        let ambassador = Ambassador::start(mode, &primary, &replicas, directory.path())?;
        for row in rows() {
            measured.entry(row.name()).or_default().push(ambassador.measure(row)?);
        }
    }
    println!(
        "Instructions and system calls of the worker per command, by consistency; last: to what is noted in {NOTED}.\n"
    );
    println!("| work | pod | calls | eventual | calls |\n| --- | --- | --- | --- | --- |");
    let mut worse = Vec::new();
    for row in rows() {
        let name = row.name();
        let costs = &measured[&name];
        let cells: Vec<String> =
            costs.iter().map(|[instructions, calls]| format!("{instructions:.0} | {calls:.2}")).collect();
        print!("| {name} | {} |", cells.join(" | "));
        match noted.get(&name) {
            Some(before) => {
                let ratios: Vec<f64> =
                    costs.iter().zip(before).map(|(now, before)| now[0] / before).collect();
                println!(
                    " {}",
                    ratios.iter().map(|ratio| format!("{ratio:.3}")).collect::<Vec<_>>().join(" ")
                );
                if row.is_steady() && ratios.iter().any(|ratio| *ratio > 1.0 + TOLERANCE) {
                    worse.push(row.name());
                }
            }
            None => println!(" not noted"),
        }
    }
    if worse.is_empty() {
        Ok(())
    } else {
        bail!("more instructions than noted in {NOTED}: {}", worse.join("; "))
    }
}

/// Instructions by row and mode, from the table's lines.
fn noted(page: &str) -> BTreeMap<String, Vec<f64>> {
    let line = |line: &str| {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let figures: Option<Vec<f64>> = [1, 3].into_iter().map(|at| cells.get(at)?.parse().ok()).collect();
        Some((cells.first()?.to_string(), figures?))
    };
    page.lines().filter_map(line).collect()
}

fn fill(primary: &Redis) -> Result<()> {
    let mut client = primary.client()?;
    for size in SIZES {
        let value = "x".repeat(size);
        for key in 0..KEYS {
            client.command(&["SET", &format!("k{size}:{key:02}"), &value])?;
        }
    }
    let acknowledged = client.command(&["WAIT", "2", "5000"])?;
    if acknowledged == ":2" { Ok(()) } else { bail!("replicas are not in sync: WAIT says {acknowledged}") }
}

/// The ambassador under callgrind.
struct Ambassador {
    daemon: Daemon,
    port: u16,
    directory: PathBuf,
    /// What its worker does in a second without commands.
    idle: Cost,
}

impl Ambassador {
    fn start(mode: &str, primary: &Redis, replicas: &[Redis], directory: &Path) -> Result<Self> {
        let port = e2e::free_port()?;
        let directory = directory.join(mode);
        std::fs::create_dir(&directory)?;
        let mut command = Command::new(e2e::program("valgrind")?);
        command.current_dir(&directory).args([
            "--tool=callgrind",
            "--separate-threads=yes",
            "--collect-systime=yes",
        ]);
        command.arg(e2e::binary("redis-ambassador")?);
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", "", "--consistency", mode]);
        command.args(["--primary", &format!("127.0.0.1:{}", primary.port)]);
        for replica in replicas {
            command.args(["--replica", &format!("127.0.0.1:{}", replica.port)]);
        }
        let mut daemon = Daemon::start(&mut command)?;
        daemon.wait_for_port(port)?;
        let mut ambassador = Self { daemon, port, directory, idle: [0.0; 2] };
        // Connections to all servers, and the server's own table of commands.
        for verb in [Verb::Get, Verb::Set] {
            let row = Row { verb, clients: 1, depth: 16, size: SIZES[0] };
            ambassador.load(row, &mut ambassador.connect(1)?, 10)?;
        }
        ambassador.dump()?;
        let begun = Instant::now();
        std::thread::sleep(Duration::from_secs(2));
        let cost = ambassador.dump()?;
        ambassador.idle = cost.map(|cost| cost / begun.elapsed().as_secs_f64());
        Ok(ambassador)
    }

    /// The cost of one command.
    fn measure(&self, row: Row) -> Result<Cost> {
        let mut clients = self.connect(row.clients)?;
        let batches = row.batches() / PARTS;
        self.load(row, &mut clients, batches)?;
        self.dump()?;
        let commands = (batches * row.depth * row.clients) as f64;
        let mut parts = Vec::with_capacity(PARTS);
        for _ in 0..PARTS {
            let begun = Instant::now();
            self.load(row, &mut clients, batches)?;
            let cost = self.dump()?;
            let passed = begun.elapsed().as_secs_f64();
            parts.push(std::array::from_fn(|at| (cost[at] - self.idle[at] * passed).max(0.0) / commands));
        }
        Ok(median(&parts))
    }

    fn connect(&self, count: usize) -> Result<Vec<TcpStream>> {
        let client = || -> Result<TcpStream> {
            let client = TcpStream::connect(("127.0.0.1", self.port))?;
            client.set_nodelay(true)?;
            client.set_read_timeout(Some(Duration::from_secs(20)))?;
            Ok(client)
        };
        (0..count).map(|_| client()).collect()
    }

    fn load(&self, row: Row, clients: &mut [TcpStream], batches: usize) -> Result<()> {
        let mut answers = vec![0; row.answers()];
        for number in 0..batches {
            let requests = row.requests(number);
            // All of them are there before it looks at one.
            if row.clients > 1 {
                self.daemon.signal("STOP")?;
            }
            clients.iter_mut().try_for_each(|client| client.write_all(&requests))?;
            if row.clients > 1 {
                self.daemon.signal("CONT")?;
            }
            for client in clients.iter_mut() {
                client.read_exact(&mut answers).context("answers")?;
                if answers.first() == Some(&b'-') {
                    bail!("the answer is {}", String::from_utf8_lossy(&answers));
                }
            }
        }
        Ok(())
    }

    /// What the worker has cost since the last time.
    fn dump(&self) -> Result<Cost> {
        run_program("callgrind_control", ["-d", &self.daemon.pid().to_string()])?;
        let mut most = [0.0; 2];
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            // One file for each thread, and for each dump.
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("callgrind.out.")) {
                let cost = totals(&std::fs::read_to_string(&path)?).unwrap_or_default();
                if cost[0] > most[0] {
                    most = cost;
                }
                std::fs::remove_file(&path)?;
            }
        }
        Ok(most)
    }
}

/// The median of each figure.
fn median(parts: &[Cost]) -> Cost {
    std::array::from_fn(|at| {
        let mut figures: Vec<f64> = parts.iter().map(|part| part[at]).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures[figures.len() / 2]
    })
}

/// The sums at the end of one of callgrind's files.
fn totals(page: &str) -> Option<Cost> {
    let line = |name: &str| page.lines().find_map(|line| line.strip_prefix(name));
    let events: Vec<&str> = line("events:")?.split_whitespace().collect();
    let totals: Vec<f64> = line("totals:")
        .or_else(|| line("summary:"))?
        .split_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    let event = |name: &str| totals.get(events.iter().position(|event| *event == name)?).copied();
    Some([event("Ir")?, event("sysCount").unwrap_or(0.0)])
}
