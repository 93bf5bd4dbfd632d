//! JVMs, adapters and relays that end with their test.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A port nobody listens on right now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Directory with the compiled fixture.
fn classes() -> &'static Path {
    static CLASSES: OnceLock<PathBuf> = OnceLock::new();
    CLASSES.get_or_init(|| {
        let directory =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-classes", env!("CARGO_CRATE_NAME")));
        std::fs::create_dir_all(&directory).unwrap();
        let sources = ["Fixture", "Named"].map(|name| java(&format!("{name}.java")));
        // For the oldest Java that this is tested with.
        let mut command = Command::new("javac");
        command.args(["--release", "8", "-Xlint:-options", "-d"]).arg(&directory).args(sources);
        let status = command.status();
        assert!(status.expect("javac of a JDK").success());
        directory
    })
}

fn java(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/java").join(name)
}

/// A JVM with the fixture's beans.
pub(crate) struct Jvm {
    child: Child,
    pub(crate) port: u16,
}

impl Jvm {
    /// Registry and server on one port, without password or TLS.
    pub(crate) fn plain(arguments: &[&str]) -> Self {
        Self::start(free_port(), &["authenticate=false", "ssl=false"], &[], arguments)
    }

    /// `management` are `com.sun.management.jmxremote.` properties.
    pub(crate) fn start(port: u16, management: &[&str], options: &[String], arguments: &[&str]) -> Self {
        Self::on(Command::new("java"), port, management, options, arguments)
    }

    /// The same with a Java of one's choice.
    pub(crate) fn on(
        java: Command,
        port: u16,
        management: &[&str],
        options: &[String],
        arguments: &[&str],
    ) -> Self {
        let main = ["-cp".to_owned(), classes().display().to_string(), "Fixture".to_owned()];
        let main = options.iter().cloned().chain(main).chain(arguments.iter().map(|word| (*word).to_owned()));
        Self::start_main(java, port, management, &main.collect::<Vec<_>>())
    }

    /// Beans of any names and values; see `Named.java`.
    #[allow(dead_code, reason = "the tests of the run mode use it")]
    pub(crate) fn named(beans: &[&str]) -> Self {
        let main = ["-cp".to_owned(), classes().display().to_string(), "Named".to_owned()];
        let main = main.into_iter().chain(beans.iter().map(|word| (*word).to_owned()));
        let open = ["authenticate=false", "ssl=false"];
        Self::start_main(Command::new("java"), free_port(), &open, &main.collect::<Vec<_>>())
    }

    /// A JVM that no client can reach over a port.
    pub(crate) fn without_port(arguments: &[&str]) -> Self {
        let main = ["-cp".to_owned(), classes().display().to_string(), "Fixture".to_owned()];
        let main = main.into_iter().chain(arguments.iter().map(|word| (*word).to_owned()));
        Self::start_main(Command::new("java"), 0, &[], &main.collect::<Vec<_>>())
    }

    /// `main` is everything from the options on; port 0 leaves the management agent out.
    fn start_main(mut command: Command, port: u16, management: &[&str], main: &[String]) -> Self {
        command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg("-Djava.rmi.server.hostname=unreachable.invalid");
        if port != 0 {
            for property in [format!("port={port}"), format!("rmi.port={port}"), "host=127.0.0.1".to_owned()]
            {
                command.arg(format!("-Dcom.sun.management.jmxremote.{property}"));
            }
        }
        command.args(management.iter().map(|property| format!("-Dcom.sun.management.jmxremote.{property}")));
        command.args(main);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("java");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready", "the fixture did not start");
        Self { child, port }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Jvm {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The adapter's binary in `jmx` mode.
pub(crate) struct Adapter {
    child: Child,
    pub(crate) address: String,
    log: Arc<Mutex<String>>,
    pub(crate) config: tempfile::NamedTempFile,
}

impl Adapter {
    pub(crate) fn start(config: &str) -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(config.as_bytes()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_metrics-adapter"))
            .args(["jmx", "--log-format", "json", "127.0.0.1:0"])
            .arg(file.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let mut line = String::new();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "no address: {}", log.lock().unwrap());
            log.lock().unwrap().push_str(&line);
            if let Some((_, rest)) = line.split_once("\"address\":\"") {
                break rest.split('"').next().unwrap().to_owned();
            }
        };
        let copy = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = writeln!(copy.lock().unwrap(), "{line}");
            }
        });
        Self { child, address, log, config: file }
    }

    /// For one JVM, with more keys behind.
    pub(crate) fn of(port: u16, more: &str) -> Self {
        Self::start(&format!("hostPort: 127.0.0.1:{port}\n{more}"))
    }

    /// Waits for a text in the log, and returns all of it.
    pub(crate) fn logged(&self, text: &str) -> String {
        let start = Instant::now();
        while !self.log().contains(text) {
            assert!(start.elapsed() < Duration::from_secs(5), "no `{text}` in {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        self.log()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Status, head and body.
    pub(crate) fn request(&self, path: &str, headers: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_owned(), body.to_owned())
    }

    pub(crate) fn scrape(&self) -> String {
        let (status, _, body) = self.request("/metrics", "");
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Adapter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sample line that starts with `series`, as a number.
pub(crate) fn value(page: &str, series: &str) -> Option<f64> {
    let line =
        page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Waits for a condition, up to 20 seconds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Answers every connection with the function, on a thread of its own.
pub(crate) fn server(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = Arc::clone(&answer);
            std::thread::spawn(move || answer(stream));
        }
    });
    port
}

/// Relays to `port`, and closes a connection once the server has sent `limit` bytes over it.
pub(crate) fn cutting_relay(port: u16, limit: Arc<Mutex<usize>>) -> u16 {
    server(move |client| {
        let Ok(upstream) = TcpStream::connect(("127.0.0.1", port)) else { return };
        let (mut from_client, mut to_upstream) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_client, &mut to_upstream);
        });
        let limit = *limit.lock().unwrap();
        let mut to_client = client.try_clone().unwrap();
        let _ = std::io::copy(&mut (&upstream).take(limit as u64), &mut to_client);
        let _ = client.shutdown(std::net::Shutdown::Both);
        let _ = upstream.shutdown(std::net::Shutdown::Both);
    })
}

/// A JVM with the fixture's beans behind a Jolokia agent, and its RMI port for comparison.
pub(crate) fn agent(user: &str) -> (Jvm, u16) {
    static JARS: &str = "/usr/share/java/jolokia-core.jar:/usr/share/java/json-simple.jar";
    static BUILT: OnceLock<()> = OnceLock::new();
    let classes = classes().display().to_string();
    BUILT.get_or_init(|| {
        let source = java("Agent.java");
        let mut command = Command::new("javac");
        command.args(["-cp", &format!("{classes}:{JARS}"), "-d", &classes]).arg(source);
        assert!(command.status().expect("javac of a JDK").success(), "libjolokia-core-java is needed");
    });
    let port = free_port();
    let main = ["-cp".to_owned(), format!("{classes}:{JARS}"), "Agent".to_owned(), port.to_string()];
    let main: Vec<String> = main.into_iter().chain([user.to_owned()]).collect();
    let open = ["authenticate=false", "ssl=false"];
    let jvm = Jvm::start_main(Command::new("java"), free_port(), &open, &main);
    (jvm, port)
}
