//! A running adapter on ports of its own, and clients for it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
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

/// Runs a command of the mode to its end.
pub(crate) fn command(arguments: &[&str]) -> Output {
    Command::new(BINARY).arg("statsd").args(arguments).output().unwrap()
}

pub(crate) struct Adapter {
    child: Child,
    pub(crate) directory: TempDir,
    pub(crate) web: SocketAddr,
    pub(crate) udp: Option<SocketAddr>,
    pub(crate) tcp: Option<SocketAddr>,
}

impl Adapter {
    /// Starts with UDP and TCP on free ports and any further flags.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags)
    }

    pub(crate) fn with_mapping(mapping: &str, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mapping.yml");
        std::fs::write(&path, mapping).unwrap();
        let flag = format!("--statsd.mapping-config={}", path.display());
        Self::start_in(directory, &[&[&*flag], flags].concat())
    }

    pub(crate) fn start_in(directory: TempDir, flags: &[&str]) -> Self {
        let log = directory.path().join("log");
        let local = [
            "--web.listen-address=127.0.0.1:0",
            "--statsd.listen-udp=127.0.0.1:0",
            "--statsd.listen-tcp=127.0.0.1:0",
        ];
        let child = Command::new(BINARY)
            .arg("statsd")
            .args(local)
            .args(["--log.format=json", "--log.level=debug"])
            .args(flags)
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let address = |message: &str| address_in(&log, message);
        let web = eventually("the HTTP address", || address("serving metrics"));
        let (udp, tcp) = (address("over UDP"), address("over TCP"));
        Self { child, directory, web, udp, tcp }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn mapping(&self) -> std::path::PathBuf {
        self.directory.path().join("mapping.yml")
    }

    pub(crate) fn send(&self, packet: &str) {
        self.send_bytes(packet.as_bytes());
    }

    pub(crate) fn send_bytes(&self, packet: &[u8]) {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(packet, self.udp.unwrap()).unwrap();
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.tcp.unwrap()).unwrap()
    }

    /// Sends a request and returns head and body.
    pub(crate) fn request(&self, method: &str, path: &str, headers: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(self.web).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        let body = answer.split_off(end + 4);
        let body = if head.contains("transfer-encoding: chunked") { unchunked(&body) } else { body };
        (head, body)
    }

    pub(crate) fn status(&self, method: &str, path: &str) -> u16 {
        self.request(method, path, "").0[9..12].parse().unwrap()
    }

    pub(crate) fn page(&self) -> String {
        String::from_utf8(self.request("GET", "/metrics", "").1).unwrap()
    }

    /// The value of a series, written as on the page.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        let page = self.page();
        let line =
            page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        line.map(|line| line[series.len() + 1..].parse().unwrap())
    }

    /// Waits until a series has a value.
    pub(crate) fn wait_for(&self, series: &str, value: f64) {
        let mut last = None;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            last = self.value(series);
            if last == Some(value) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{series} is {last:?}, not {value}\n{}", self.log());
    }

    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the end of the adapter", || child.try_wait().unwrap())
    }

    pub(crate) fn resident_bytes(&self) -> usize {
        self.pages()[1] * 4096
    }

    /// Resident memory without the pages of files, the program's own above all.
    pub(crate) fn private_bytes(&self) -> usize {
        let pages = self.pages();
        (pages[1] - pages[2]) * 4096
    }

    fn pages(&self) -> Vec<usize> {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        text.split_ascii_whitespace().map(|number| number.parse().unwrap()).collect()
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_in(log: &Path, message: &str) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(log).ok()?;
    let line = text.lines().find(|line| line.contains(message))?;
    let (_, rest) = line.split_once("\"address\":\"")?;
    rest.split('"').next()?.parse().ok()
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..][..size]);
        body = &body[end + 2 + size + 2..];
    }
}
