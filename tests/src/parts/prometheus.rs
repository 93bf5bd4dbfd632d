//! A real Prometheus that scrapes one target every second, and promtool.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Daemon;
use crate::{eventually, free_port, http, program, within};

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    /// Its port on loopback.
    pub port: u16,
    _daemon: Daemon,
    _data: TempDir,
}

impl Prometheus {
    /// Scrapes the given ports of loopback at `/metrics`.
    ///
    /// # Errors
    /// Prometheus is missing or does not start.
    pub fn scraping(ports: &[u16]) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let targets: Vec<String> = ports.iter().map(|port| format!("'127.0.0.1:{port}'")).collect();
        let configuration = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: test\n  static_configs:\n  - targets: [{}]\n",
            targets.join(", ")
        );
        let file = data.path().join("prometheus.yml");
        std::fs::write(&file, configuration)?;
        let port = free_port()?;
        let mut daemon = Daemon::start(
            Command::new(program("prometheus")?)
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", data.path().join("data").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}")),
        )?;
        daemon.wait_for_port(port)?;
        // It listens before its storage is open.
        eventually("Prometheus", || http::page(port, "/-/ready"))?;
        Ok(Self { port, _daemon: daemon, _data: data })
    }

    /// The value of a query's first sample.
    ///
    /// # Errors
    /// The query is wrong or finds nothing yet.
    pub fn query(&self, query: &str) -> Result<f64> {
        self.values(query)?.first().copied().with_context(|| format!("{query} finds nothing"))
    }

    /// The values of all samples that a query finds.
    ///
    /// # Errors
    /// The query is wrong.
    pub fn values(&self, query: &str) -> Result<Vec<f64>> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = http::get(self.port, &format!("/api/v1/query?query={escaped}"))?.text();
        let parsed: Value = serde_json::from_str(&answer)?;
        let samples = parsed.pointer("/data/result").and_then(Value::as_array);
        let samples = samples.with_context(|| format!("{query}: {answer}"))?;
        let value = |sample: &Value| sample.pointer("/value/1")?.as_str()?.parse().ok();
        Ok(samples.iter().filter_map(value).collect())
    }

    /// Waits until a query's first sample is `expected`.
    ///
    /// # Errors
    /// It never was.
    pub fn expect(&self, query: &str, expected: f64) -> Result<()> {
        within(Duration::from_secs(30), format!("{query} = {expected}"), || match self.query(query)? {
            value if value == expected => Ok(()),
            value => bail!("it is {value}"),
        })
    }
}

/// What `promtool check metrics` finds in a page: nothing, or a line of advice for each family.
///
/// # Errors
/// promtool is missing, or cannot read the page at all.
pub fn check_metrics(page: &str) -> Result<Vec<String>> {
    let mut child = Command::new(program("promtool")?)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("no standard input")?.write_all(page.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    match output.status.code() {
        // 3 means: readable, with advice.
        Some(0 | 3) => Ok(said.lines().map(str::to_owned).collect()),
        _ => bail!("promtool: {said}"),
    }
}
