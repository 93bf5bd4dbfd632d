//! gitsync's one-time sync against `git clone` doing the same: time, processor, memory; and what idle
//! polls cost.
//!
//! Everything is on tmpfs, and nothing is deleted between runs: on a large ext4 that alone made
//! every tool several times slower.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::process::Daemon;
use e2e::{binary, eventually, free_port, program};
use nix::sys::resource::{UsageWho, getrusage};
use tempfile::TempDir;

const RUNS: usize = 5;
const POLLS: Duration = Duration::from_secs(10);

/// Prints wall and processor time of both, and their ratios.
///
/// # Errors
/// A program is missing or a sync fails.
pub(crate) fn run() -> Result<()> {
    let place = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new())?;
    let mut next = 0;
    println!(
        "{:<22} {:>8} {:>8} {:>5}  {:>8} {:>8} {:>5}  {:>8} {:>8} {:>5}",
        "one-time sync", "gitsync", "git", "wall", "gitsync", "git", "cpu", "gitsync", "git", "peak"
    );
    let (small, medium) =
        (repository(place.path(), "small", 100, 10)?, repository(place.path(), "medium", 10_000, 100)?);
    let large = history(place.path(), "large")?;
    let server = Server::start(place.path())?;
    for path in [&small, &medium, &large] {
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        for (transport, url) in [("http", server.url(path)?), ("file", format!("file://{}", path.display()))]
        {
            for depth in [1, 0] {
                let case =
                    Case { name: format!("{name} {transport} depth {depth}"), url: url.clone(), depth };
                case.compare(place.path(), &mut next)?;
            }
        }
    }
    println!("\n{:<28} {:>14} {:>14}", "idle, every 100 ms", "cpu per poll", "resident");
    for path in [&small, &medium, &large] {
        idle(&server.url(path)?, &place.path().join(format!("idle{next}")))?;
        next += 1;
    }
    many_polls(&server.url(&small)?, &place.path().join("polls"))
}

struct Case {
    name: String,
    url: String,
    depth: u32,
}

#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
    /// Resident megabytes of the process and all below it, at the worst moment.
    peak: f64,
}

impl Case {
    fn compare(&self, place: &Path, next: &mut usize) -> Result<()> {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // Turn about, so that a change in the machine's mood meets both.
        for _ in 0..crate::rounds(RUNS) {
            let mut fresh = || {
                *next += 1;
                place.join(format!("run{next}"))
            };
            ours.push(cost(&mut self.gitsync(&fresh())?)?);
            theirs.push(cost(&mut self.git(&fresh())?)?);
        }
        let (ours, theirs) = (median(ours), median(theirs));
        println!(
            "{:<22} {:>6.0}ms {:>6.0}ms {:>5.2}  {:>6.0}ms {:>6.0}ms {:>5.2}  {:>6.1}MB {:>6.1}MB {:>5.2}",
            self.name,
            ours.wall * 1e3,
            theirs.wall * 1e3,
            ours.wall / theirs.wall,
            ours.cpu * 1e3,
            theirs.cpu * 1e3,
            ours.cpu / theirs.cpu,
            ours.peak,
            theirs.peak,
            ours.peak / theirs.peak
        );
        Ok(())
    }

    fn gitsync(&self, root: &Path) -> Result<Command> {
        let mut command = Command::new(binary("gitsync")?);
        command.arg(format!("--repo={}", self.url)).arg(format!("--root={}", root.display()));
        command.args(["--one-time", "--link=link"]).arg(format!("--depth={}", self.depth));
        Ok(command)
    }

    fn git(&self, target: &Path) -> Result<Command> {
        let mut command = Command::new(program("git")?);
        command.args(["clone", "-q", "--single-branch"]);
        if self.depth > 0 {
            command.arg(format!("--depth={}", self.depth));
        }
        command
            .arg(&self.url)
            .arg(target)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        Ok(command)
    }
}

/// Runs to the end; the processor time is that of the process and all that it waited for.
fn cost(command: &mut Command) -> Result<Cost> {
    let used = || -> Result<f64> {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
    };
    let (before, start) = (used()?, Instant::now());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("starting it")?;
    let mut peak = 0;
    let status = loop {
        peak = peak.max(resident(child.id()));
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    ensure!(status.success(), "{command:?}: {status}");
    let (wall, cpu) = (start.elapsed().as_secs_f64(), used()? - before);
    Ok(Cost { wall, cpu, peak: peak as f64 / 1024.0 })
}

/// Kilobytes of a process and all below it.
fn resident(pid: u32) -> u64 {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let own = read(format!("/proc/{pid}/status"));
    let own =
        own.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children: String = tasks.map(|task| read(format!("{}/children", task.path().display()))).collect();
    let below: u64 = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(resident).sum();
    own.unwrap_or(0) + below
}

fn median(mut costs: Vec<Cost>) -> Cost {
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let wall = middle(costs.iter().map(|cost| cost.wall).collect());
    let peak = middle(costs.iter().map(|cost| cost.peak).collect());
    Cost { wall, peak, cpu: middle(costs.drain(..).map(|cost| cost.cpu).collect()) }
}

fn idle(url: &str, root: &Path) -> Result<()> {
    let mut command = Command::new(binary("gitsync")?);
    command.arg(format!("--repo={url}")).arg(format!("--root={}", root.display()));
    let process = Daemon::start(command.args(["--link=link", "--period=100ms"]))?;
    eventually("the first sync", || Ok(fs::read_link(root.join("link"))?))?;
    std::thread::sleep(Duration::from_secs(1));
    let (before, start) = (process.cpu_seconds()?, Instant::now());
    std::thread::sleep(POLLS);
    let polls = start.elapsed().as_secs_f64() / 0.1;
    let per_poll = (process.cpu_seconds()? - before) / polls;
    let name = url.rsplit('/').next().unwrap_or(url);
    let resident = process.resident_bytes()? as f64 / f64::from(1 << 20);
    println!("{name:<28} {:>11.2} ms {resident:>11.1} MB", per_poll * 1e3);
    Ok(())
}

/// As many polls as a day of the default period has, as fast as they come.
fn many_polls(url: &str, root: &Path) -> Result<()> {
    const ALL: u64 = 10_000;
    let port = free_port()?;
    let mut command = Command::new(binary("gitsync")?);
    command.arg(format!("--repo={url}")).arg(format!("--root={}", root.display()));
    command.args(["--link=link", "--period=10ms", "--http-metrics"]);
    let process = Daemon::start(command.arg(format!("--http-bind=127.0.0.1:{port}")))?;
    let polls = || -> Result<u64> {
        let page = e2e::http::page(port, "/metrics")?;
        let line = page.lines().find_map(|line| line.strip_prefix("git_sync_count_total{status=\"noop\"} "));
        Ok(line.context("no poll yet")?.parse()?)
    };
    let megabytes = || -> Result<f64> { Ok(process.resident_bytes()? as f64 / f64::from(1 << 20)) };
    let mut seen = Vec::new();
    for wanted in [ALL / 100, ALL / 10, ALL] {
        let limit = Instant::now() + Duration::from_secs(600);
        while polls().unwrap_or(0) < wanted {
            ensure!(Instant::now() < limit, "{wanted} polls never came");
            std::thread::sleep(Duration::from_millis(100));
        }
        seen.push(format!("{:.1} MB after {wanted}", megabytes()?));
    }
    println!("\npolls: {}", seen.join(", "));
    Ok(())
}

/// A bare repository of text files in 400 directories, in one pack.
fn repository(place: &Path, name: &str, files: usize, commits: usize) -> Result<PathBuf> {
    let path = place.join(format!("{name}.git"));
    let git = || -> Result<Command> { Ok(Command::new(program("git")?)) };
    e2e::process::output(git()?.args(["init", "-q", "--bare", "-b", "main"]).arg(&path))?;
    let mut import =
        git()?.arg("-C").arg(&path).args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn()?;
    let mut out = std::io::BufWriter::new(import.stdin.take().context("no stdin")?);
    let mut random = Random(1);
    writeln!(out, "reset refs/heads/main")?;
    for commit in 0..commits {
        writeln!(
            out,
            "commit refs/heads/main\ncommitter T <t@localhost> {} +0000\ndata 1\nc",
            1_700_000_000 + commit
        )?;
        let touched = if commit == 0 { files } else { 12.min(files) };
        for nth in 0..touched {
            let file = if commit == 0 { nth } else { random.below(files) };
            let text = random.text();
            writeln!(out, "M 644 inline d{}/f{file}.txt\ndata {}\n{text}", file % 400, text.len())?;
        }
    }
    drop(out);
    ensure!(import.wait()?.success(), "git fast-import failed");
    e2e::process::output(git()?.arg("-C").arg(&path).args(["repack", "-adq"]))?;
    Ok(path)
}

/// A bare repository of the size and shape of a real project's: 12,200 commits that change two or three
/// of 1,600 files, about 98,000 objects, 100 MB, each file's newest version stored whole.
fn history(place: &Path, name: &str) -> Result<PathBuf> {
    const FILES: usize = 1_600;
    const COMMITS: usize = 12_200;
    let path = place.join(format!("{name}.git"));
    let git = || -> Result<Command> { Ok(Command::new(program("git")?)) };
    e2e::process::output(git()?.args(["init", "-q", "--bare", "-b", "main"]).arg(&path))?;
    let mut import =
        git()?.arg("-C").arg(&path).args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn()?;
    let mut out = std::io::BufWriter::new(import.stdin.take().context("no stdin")?);
    let mut random = Random(7);
    let mut changes: Vec<Vec<usize>> = vec![(0..FILES).collect()];
    let mut uses = vec![vec![0]; FILES];
    for commit in 1..COMMITS {
        // Some files change much more often than others.
        let mut files: Vec<_> = (0..3).map(|_| random.below(FILES) * random.below(FILES) / FILES).collect();
        files.sort_unstable();
        files.dedup();
        files.iter().for_each(|file| uses[*file].push(commit));
        changes.push(files);
    }
    let mut marks = std::collections::HashMap::new();
    for (file, commits) in uses.iter().enumerate() {
        let length = 30 + random.below(60) * random.below(30);
        let mut lines: Vec<String> = (0..length).map(|_| random.line()).collect();
        let mut versions = Vec::new();
        for &commit in commits {
            for _ in 0..if commit == 0 { 0 } else { 1 + random.below(3) } {
                let at = random.below(lines.len());
                let (gone, new) = (random.below(60).min(lines.len() - at), random.below(110));
                lines.splice(at..at + gone, (0..new).map(|_| random.line()));
                lines.truncate(2_000);
                lines.push(random.line());
            }
            versions.push((commit, lines.join("\n")));
        }
        for (commit, text) in versions.into_iter().rev() {
            let mark = marks.len() + 1;
            marks.insert((file, commit), mark);
            write!(out, "blob\nmark :{mark}\ndata {}\n{text}\n", text.len())?;
        }
    }
    writeln!(out, "reset refs/heads/main")?;
    for (commit, files) in changes.iter().enumerate() {
        let (time, message) = (1_500_000_000 + commit * 3_600, random.line());
        writeln!(out, "commit refs/heads/main\ncommitter T <t@localhost> {time} +0000")?;
        writeln!(out, "data {}\n{message}", message.len())?;
        for file in files {
            writeln!(out, "M 644 :{} mod{}/file{file}.c", marks[&(*file, commit)], file % 60)?;
        }
    }
    drop(out);
    ensure!(import.wait()?.success(), "git fast-import failed");
    Ok(path)
}

/// The same text in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap_or(0) % limit
    }

    /// A few words.
    fn line(&mut self) -> String {
        let mut line = String::new();
        for _ in 0..3 + self.below(8) {
            let word = self.below(4_000);
            line.push_str(&format!("{:x} ", word * 7_919 % (1 << (4 * (1 + word % 7)))));
        }
        line
    }

    /// 1 to 5 KB of words.
    fn text(&mut self) -> String {
        let length = 1_000 + self.below(4_000);
        let mut text = String::with_capacity(length + 12);
        while text.len() < length {
            let word = self.below(3_000);
            text.push_str(&format!("w{:x}{:x} ", word * 7_919, word));
        }
        text.push('\n');
        text
    }
}

/// git http-backend behind nginx and fcgiwrap.
struct Server {
    _wrap: Daemon,
    _nginx: Daemon,
    port: u16,
}

impl Server {
    fn start(place: &Path) -> Result<Self> {
        let dir = place.join("server");
        fs::create_dir(&dir)?;
        let (port, socket) = (free_port()?, dir.join("wrap.sock"));
        let wrap = Daemon::start(
            Command::new(program("fcgiwrap")?).arg("-s").arg(format!("unix:{}", socket.display())),
        )?;
        let exec_path = e2e::process::output(Command::new(program("git")?).arg("--exec-path"))?;
        let config = format!(
            "daemon off; master_process off; pid {d}/pid; error_log {d}/error.log; events {{}}\n\
             http {{ access_log off; client_body_temp_path {d}/b; fastcgi_temp_path {d}/f; proxy_temp_path {d}/p;\n\
             uwsgi_temp_path {d}/u; scgi_temp_path {d}/s;\n\
             server {{ listen 127.0.0.1:{port}; location / {{ fastcgi_pass unix:{socket};\n\
             fastcgi_param SCRIPT_FILENAME {backend}/git-http-backend; fastcgi_param GIT_HTTP_EXPORT_ALL 1;\n\
             fastcgi_param GIT_PROJECT_ROOT {root}; fastcgi_param PATH_INFO $uri;\n\
             fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_METHOD $request_method;\n\
             fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length;\n\
             fastcgi_param GIT_PROTOCOL $http_git_protocol; }} }} }}\n",
            d = dir.display(),
            socket = socket.display(),
            backend = exec_path.trim(),
            root = place.display(),
        );
        // One process: it keeps the user that may reach the socket, and leaves no worker when it is killed.
        let path = dir.join("nginx.conf");
        fs::write(&path, config)?;
        let mut command = Command::new(program("nginx")?);
        let mut nginx = Daemon::start(command.arg("-c").arg(&path).arg("-e").arg(dir.join("start.log")))?;
        nginx.wait_for_port(port)?;
        Ok(Self { _wrap: wrap, _nginx: nginx, port })
    }

    fn url(&self, repository: &Path) -> Result<String> {
        let name = repository.file_name().and_then(|name| name.to_str()).context("a name")?;
        Ok(format!("http://127.0.0.1:{}/{name}", self.port))
    }
}
