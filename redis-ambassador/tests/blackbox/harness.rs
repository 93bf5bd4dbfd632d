//! Real servers, the real binary, and a client that sees raw RESP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// One RESP value, shown the way tests like to compare it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Simple(String),
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    Nil,
    Array(Vec<Value>),
    /// RESP3: type byte and flattened items.
    Other(char, Vec<Value>),
}

impl Value {
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Simple(text) | Self::Error(text) => text.clone(),
            Self::Int(number) => number.to_string(),
            Self::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Nil => "(nil)".to_owned(),
            Self::Array(items) | Self::Other(_, items) => {
                items.iter().map(Self::text).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

/// A blocking client.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { stream: BufReader::with_capacity(1 << 16, stream) }
    }

    pub(crate) fn send(&mut self, line: &str) {
        let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        self.send_words(&words);
    }

    pub(crate) fn send_words(&mut self, words: &[&[u8]]) {
        self.stream.get_mut().write_all(&encode(words)).unwrap();
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    pub(crate) fn say(&mut self, line: &str) -> String {
        self.send(line);
        self.read().text()
    }

    pub(crate) fn read(&mut self) -> Value {
        self.try_read().expect("an answer")
    }

    /// `None` at the end of the stream.
    pub(crate) fn try_read(&mut self) -> Option<Value> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).ok()?;
        let line = String::from_utf8(line).unwrap();
        let text = line.strip_suffix("\r\n")?;
        let (kind, rest) = text.split_at(1);
        let count = || rest.parse::<i64>().unwrap();
        Some(match kind {
            "+" => Value::Simple(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Int(count()),
            "_" => Value::Nil,
            "$" | "=" | "!" if count() >= 0 => {
                let mut bytes = vec![0; count() as usize + 2];
                self.stream.read_exact(&mut bytes).ok()?;
                bytes.truncate(bytes.len() - 2);
                Value::Bulk(bytes)
            }
            "*" if count() >= 0 => Value::Array((0..count()).map(|_| self.read()).collect()),
            "%" | "|" => Value::Other('%', (0..count() * 2).map(|_| self.read()).collect()),
            "~" | ">" => {
                Value::Other(kind.chars().next().unwrap(), (0..count()).map(|_| self.read()).collect())
            }
            "$" | "*" => Value::Nil,
            "#" | "," | "(" => Value::Simple(rest.to_owned()),
            other => panic!("no RESP type: {other}"),
        })
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        self.try_read().is_none()
    }
}

/// Asks a server that may just be dying or cutting connections.
pub(crate) fn ask(port: u16, line: &str) -> Option<String> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut client = Client { stream: BufReader::new(stream) };
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    client.stream.get_mut().write_all(&encode(&words)).ok()?;
    let mut first = [0; 1];
    client.stream.get_mut().peek(&mut first).ok().filter(|count| *count > 0)?;
    client.try_read().map(|value| value.text())
}

pub(crate) fn encode(words: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Waits for a condition, at most 15 seconds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 15 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A child that is killed when it goes out of scope.
pub(crate) struct Process {
    pub(crate) child: Child,
}

impl Process {
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port for a server that others are told of, and that may be started again: below those of outgoing connections, one
/// of which could take it meanwhile.
pub(crate) fn server_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(101));
        let port = 11_000 + (step % 21_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A redis-server.
pub(crate) struct Server {
    pub(crate) port: u16,
    arguments: Vec<String>,
    process: Option<Process>,
    directory: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        for _ in 0..5 {
            let mut server = Self {
                port: server_port(),
                arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
                process: None,
                directory: tempfile::tempdir().unwrap(),
            };
            if server.try_start() {
                return server;
            }
        }
        panic!("redis-server does not start; is it installed?");
    }

    fn try_start(&mut self) -> bool {
        let child = Command::new("redis-server")
            .args([
                "--port",
                &self.port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .args(["--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes"])
            .args(["--repl-ping-replica-period", "1"])
            .args(self.arguments.iter().map(|text| text.replace("{port}", &self.port.to_string())))
            .current_dir(self.directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.process = Some(Process { child });
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    pub(crate) fn replica_of(primary: &Server, more: &[&str]) -> Self {
        let port = primary.port.to_string();
        let mut arguments = vec!["--replicaof", "127.0.0.1", &port];
        arguments.extend_from_slice(more);
        Self::start(&arguments)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port)
    }

    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    pub(crate) fn restart(&mut self) {
        assert!(self.try_start());
    }

    pub(crate) fn signal(&self, signal: &str) {
        self.process.as_ref().unwrap().signal(signal);
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// A redis-sentinel that watches a primary as `mymaster`, with a quorum of 2.
pub(crate) struct Sentinel {
    pub(crate) port: u16,
    _process: Process,
    _directory: tempfile::TempDir,
}

impl Sentinel {
    pub(crate) fn start(primary: &Server) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = server_port();
        let file = directory.path().join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor mymaster 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds mymaster 1000\nsentinel failover-timeout mymaster 5000\n",
            directory.path().display(),
            primary.port
        );
        std::fs::write(&file, text).unwrap();
        let child = Command::new("redis-sentinel").arg(&file).stdout(Stdio::null()).spawn().unwrap();
        let sentinel = Self { port, _process: Process { child }, _directory: directory };
        eventually("the Sentinel knows both replicas", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
                && sentinel.client().say("SENTINEL MASTER mymaster").contains("num-slaves 2")
        });
        sentinel
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port)
    }
}

/// The binary under test.
pub(crate) struct Ambassador {
    pub(crate) port: u16,
    pub(crate) admin: u16,
    pub(crate) process: Process,
}

impl Ambassador {
    pub(crate) fn start(primary: &Server, replicas: &[&Server], more: &[&str]) -> Self {
        let mut arguments = vec!["--primary".to_owned(), primary.address()];
        for replica in replicas {
            arguments.extend(["--replica".to_owned(), replica.address()]);
        }
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        Self::with_arguments(&arguments)
    }

    pub(crate) fn with_arguments(arguments: &[String]) -> Self {
        Self::start_with(arguments, 1).0
    }

    /// With one more listener; both ports are returned, the plain one first.
    pub(crate) fn with_ports(arguments: &[String]) -> (Self, Vec<u16>) {
        Self::start_with(arguments, 2)
    }

    fn start_with(arguments: &[String], listeners: usize) -> (Self, Vec<u16>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_redis-ambassador"));
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--log-format", "json", "--log-level", "debug", "--probe-interval", "50ms"]);
        let mut child = command.args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (lines, found) = mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if std::env::var_os("SHOW_LOG").is_some() {
                    eprintln!("{line}");
                }
                let _ = lines.send(line);
            }
        });
        let port = |what: &str| {
            let line = found.iter().find(|line| line.contains(what)).expect("the log tells the port");
            let address = line.split("\"address\":\"").nth(1).unwrap().split('"').next().unwrap();
            address.rsplit(':').next().unwrap().parse().unwrap()
        };
        let clients: Vec<u16> = (0..listeners).map(|_| port("listening for clients")).collect();
        let ambassador = Self { port: clients[0], admin: port("admin port"), process: Process { child } };
        eventually("the ambassador is ready", || ambassador.get("/readyz").starts_with("HTTP/1.1 200"));
        (ambassador, clients)
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.port)
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The sum of a metric's samples that have these labels, and perhaps others; 0 when there are none.
    pub(crate) fn metric(&self, sample: &str) -> f64 {
        let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
        let wanted: Vec<&str> =
            labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
        let page = self.get("/metrics");
        let matching = page.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, labels) = series.split_once('{').unwrap_or((series, ""));
            let fits = found == name && wanted.iter().all(|label| labels.contains(label));
            fits.then(|| value.parse::<f64>().unwrap())
        });
        matching.sum()
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        self.metric("process_resident_memory_bytes") as u64
    }
}

/// A primary, two replicas in sync with it, and an ambassador in front.
pub(crate) struct Trio {
    pub(crate) primary: Server,
    pub(crate) replicas: Vec<Server>,
    pub(crate) ambassador: Ambassador,
}

impl Trio {
    pub(crate) fn start(more: &[&str]) -> Self {
        Self::with_servers(&[], more)
    }

    pub(crate) fn with_servers(server: &[&str], more: &[&str]) -> Self {
        let primary = Server::start(server);
        let replicas = vec![Server::replica_of(&primary, server), Server::replica_of(&primary, server)];
        for replica in &replicas {
            let mut client = replica.client();
            eventually("the replica is in sync", || client.say("ROLE").contains(" connected "));
        }
        let ambassador = Ambassador::start(&primary, &replicas.iter().collect::<Vec<_>>(), more);
        eventually("replicas are known", || {
            (0..2).all(|index| {
                let server = replicas[index].address();
                let sample = format!("redis_ambassador_server_role{{role=\"replica\",server=\"{server}\"}}");
                ambassador.metric(&sample) == 1.0
            })
        });
        Self { primary, replicas, ambassador }
    }

    pub(crate) fn client(&self) -> Client {
        self.ambassador.client()
    }
}
