//! A real Prometheus, and VictoriaMetrics, which answers the same queries.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Where `images/setup.sh` puts a newer Prometheus than the system's.
const NEWER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/prometheus-3/usr/bin/prometheus");
/// And a VictoriaMetrics.
const VICTORIA: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../target/victoria-metrics/usr/bin/victoria-metrics");

/// A port for a server that others are told of, and that may be started again: below those of outgoing connections,
/// one of which could take it in between.
pub(crate) fn server_port() -> u16 {
    static STEP: AtomicU32 = AtomicU32::new(0);
    loop {
        // Processes that run side by side start at different places.
        let step = std::process::id().wrapping_mul(101).wrapping_add(STEP.fetch_add(1, Ordering::Relaxed));
        let port = 11_000 + (step % 21_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A server that takes pushes and answers queries.
pub(crate) struct Prometheus {
    child: Child,
    pub(crate) port: u16,
    directory: tempfile::TempDir,
}

impl Prometheus {
    pub(crate) fn start() -> Self {
        Self::start_at(server_port(), tempfile::tempdir().unwrap())
    }

    /// Goes on with what an earlier one stored.
    pub(crate) fn start_at(port: u16, directory: tempfile::TempDir) -> Self {
        Self::with_configuration(Command::new("prometheus"), port, directory)
    }

    /// The newer one beside the system's, which also takes remote write 2.0.
    #[allow(dead_code, reason = "the tests of the pusher use it")]
    pub(crate) fn start_newer() -> Self {
        let mut command = Command::new(NEWER);
        command.args(
            ["prometheus.WriteRequest", "io.prometheus.write.v2.Request"]
                .map(|message| format!("--web.remote-write-receiver.accepted-protobuf-messages={message}")),
        );
        Self::with_configuration(command, server_port(), tempfile::tempdir().unwrap())
    }

    /// A VictoriaMetrics, which also takes OTLP.
    pub(crate) fn start_victoria() -> Self {
        let (port, directory) = (server_port(), tempfile::tempdir().unwrap());
        let mut command = Command::new(VICTORIA);
        command
            .arg(format!("-storageDataPath={}", directory.path().display()))
            .arg(format!("-httpListenAddr=127.0.0.1:{port}"))
            // What was written is found at once; a machine whose disk is almost full takes writes all the same.
            .args(["-search.latencyOffset=0s", "-search.disableCache", "-inmemoryDataFlushInterval=1s"])
            .args(["-storage.minFreeDiskSpaceBytes=1MB", "-memory.allowedBytes=256MB"]);
        Self::spawn(command, port, directory)
    }

    fn with_configuration(mut command: Command, port: u16, directory: tempfile::TempDir) -> Self {
        let config = directory.path().join("prometheus.yml");
        std::fs::write(&config, "global: {scrape_interval: 1h}\n").unwrap();
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-remote-write-receiver", "--enable-feature=native-histograms"]);
        Self::spawn(command, port, directory)
    }

    fn spawn(mut command: Command, port: u16, directory: tempfile::TempDir) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap_or_else(|error| {
            panic!("{}: {error} (images/setup.sh test installs it)", command.get_program().display())
        });
        Self { child, port, directory }
    }

    /// Kills it and gives back what it stored.
    #[allow(dead_code, reason = "the tests of the run mode use it")]
    pub(crate) fn stop(mut self) -> tempfile::TempDir {
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap())
    }

    pub(crate) fn query(&self, expression: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let request = format!("GET /api/v1/query?query={expression} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.contains("\"status\":\"success\"").then_some(answer)
    }

    pub(crate) fn wait_for(&self, expression: &str, value: &str) {
        let wanted = format!(",\"{value}\"]");
        crate::eventually(&format!("{expression} = {value}"), || {
            self.query(expression).is_some_and(|answer| answer.contains(&wanted))
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
