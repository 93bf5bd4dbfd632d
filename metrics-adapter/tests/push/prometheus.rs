//! A real Prometheus.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A Prometheus that takes remote write.
pub(crate) struct Prometheus {
    child: Child,
    pub(crate) port: u16,
    directory: tempfile::TempDir,
}

impl Prometheus {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_at(port, tempfile::tempdir().unwrap())
    }

    /// Goes on with what an earlier one stored.
    pub(crate) fn start_at(port: u16, directory: tempfile::TempDir) -> Self {
        let config = directory.path().join("prometheus.yml");
        std::fs::write(&config, "global: {scrape_interval: 1h}\n").unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-remote-write-receiver", "--enable-feature=native-histograms"])
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus (Debian: prometheus)");
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
