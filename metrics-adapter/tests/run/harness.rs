//! A running adapter, fake HTTP servers, and real servers on ports of their own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_metrics-adapter");
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never saw: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) use crate::prometheus::server_port as free_port;

/// Runs a command of the binary to its end.
pub(crate) fn command(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process that ends with its handle.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Asked first, so that a server with child processes ends these too.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) struct Adapter {
    child: Running,
    pub(crate) directory: TempDir,
    pub(crate) web: SocketAddr,
}

impl Adapter {
    pub(crate) fn start(yaml: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), yaml, &[])
    }

    pub(crate) fn start_in(directory: TempDir, yaml: &str, flags: &[&str]) -> Self {
        let path = directory.path().join("adapter.yaml");
        std::fs::write(&path, yaml).unwrap();
        let log = directory.path().join("log");
        let child = Command::new(BINARY)
            .args(["run", "--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle", "--log.format=json"])
            .args(flags)
            .arg(&path)
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut child = Running(child);
        let web = eventually("the HTTP address", || {
            let text = std::fs::read_to_string(&log).unwrap();
            assert!(child.0.try_wait().unwrap().is_none(), "the adapter ended: {text}");
            let line = text.lines().find(|line| line.contains("serving metrics"))?;
            line.split_once("\"address\":\"")?.1.split('"').next()?.parse().ok()
        });
        Self { child, directory, web }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn configure(&self, yaml: &str) {
        let new = self.path("new.yaml");
        std::fs::write(&new, yaml).unwrap();
        std::fs::rename(new, self.path("adapter.yaml")).unwrap();
    }

    pub(crate) fn get(&self, path: &str, headers: &str) -> String {
        text(&get(self.web, path, headers).1)
    }

    pub(crate) fn page(&self) -> String {
        self.get("/metrics", "")
    }

    /// The value of a series, written as on the page.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        value(&self.page(), series)
    }

    pub(crate) fn wait_for(&self, series: &str, expected: f64) {
        let mut page = String::new();
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            page = self.page();
            if value(&page, series) == Some(expected) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{series} is {:?}, not {expected}\n{page}", value(&page, series));
    }

    /// The problem of a source as the status page has it.
    pub(crate) fn problem(&self, source: &str) -> String {
        let status = self.get("/status.json", "");
        let at =
            status.find(&format!("\"text\":\"{source}\"")).unwrap_or_else(|| panic!("{source}: {status}"));
        let row = &status[at..];
        row[..row.find("]").unwrap_or(row.len())].to_owned()
    }

    pub(crate) fn wait_for_problem(&self, source: &str, expected: &str) {
        let mut problem = String::new();
        let start = Instant::now();
        while !problem.contains(expected) {
            assert!(start.elapsed() < PATIENCE, "{expected} is not in {problem}");
            problem = self.problem(source);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn resident_bytes(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.0.id())).unwrap();
        text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    /// Ends it with a signal and gives its directory back.
    pub(crate) fn stop(mut self) -> TempDir {
        let id = self.child.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let child = &mut self.child.0;
        let status = eventually("the end of the adapter", || child.try_wait().unwrap());
        assert!(status.success());
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }
}

impl Adapter {
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.0.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Waits until every series is on the page, and gives the page.
    pub(crate) fn shows(&self, series: &[&str]) -> String {
        let mut page = String::new();
        let start = Instant::now();
        loop {
            let missing = series.iter().find(|wanted| {
                !page
                    .lines()
                    .any(|line| line.strip_prefix(**wanted).is_some_and(|rest| rest.starts_with(' ')))
            });
            let Some(missing) = missing else { return page };
            let status = self.get("/status.json", "");
            assert!(start.elapsed() < PATIENCE, "{missing} is not on the page:\n{page}\n{status}");
            page = self.page();
        }
    }
}

pub(crate) fn value(page: &str, series: &str) -> Option<f64> {
    let line =
        page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line[series.len() + 1..].parse().ok()
}

/// Head and body of an answer.
pub(crate) fn get(address: SocketAddr, path: &str, headers: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    // HTTP/1.0: the body ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nhost: x\r\n{headers}\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    (text(&answer[..end]), answer.split_off(end + 4))
}

/// A fake HTTP server: gives the stream to a function after reading the request's head.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Arc<AtomicUsize>,
}

impl Fake {
    pub(crate) fn new(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (count, answer) = (Arc::clone(&count), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut head = String::new();
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while reader.read_line(&mut head).is_ok_and(|read| read > 2) {}
                    count.fetch_add(1, Ordering::SeqCst);
                    answer(&head, &mut { stream });
                });
            }
        });
        Self { address, requests }
    }

    /// Answers everything with this body.
    pub(crate) fn body(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self::new(move |_, stream| respond(stream, &body))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

pub(crate) fn respond(stream: &mut TcpStream, body: &[u8]) {
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(body);
}

/// Starts a real server and waits until its port answers.
pub(crate) fn serve(program: &str, arguments: &[&str], port: u16, directory: &Path) -> Running {
    let log_path = std::env::temp_dir().join(format!("metrics-adapter-test-{port}.log"));
    let log = File::create(&log_path).unwrap();
    let child = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut running = Running(child);
    eventually(&format!("{program} on port {port}"), || {
        if let Some(status) = running.0.try_wait().unwrap() {
            let log = std::fs::read_to_string(&log_path).unwrap();
            panic!("{program} ended with {status}: {log}");
        }
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let _ = std::fs::remove_file(log_path);
    running
}
