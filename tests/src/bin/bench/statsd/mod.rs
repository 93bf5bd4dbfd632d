//! The adapter's StatsD path: CPU per line against a loop that only receives and against the peer's published
//! figures, loss at given rates, memory and scrape cost at 100,000 series.
//!
//! Sender, floor and adapter share the machine; the adapter's CPU time is its own process's.

mod load;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::process::Daemon;
use e2e::{binary, eventually, free_port, http, within};

use load::Lines;

/// Rules of the mapping file: globs, the last of which matches the lines.
const RULES: usize = 100;
/// Series the lines belong to.
const SERIES: usize = 1000;
/// How long each rate is held.
const SPAN: Duration = Duration::from_secs(3);

/// One kind of packets, and what statsd_exporter 0.30 does with them on this number of processors: the highest
/// rate it loses nothing at, in lines a second, and its CPU microseconds per line.
struct Load {
    per_packet: usize,
    tagged: bool,
    peer_rate: u64,
    peer_cpu: f64,
}

const LOADS: [Load; 3] = [
    Load { per_packet: 20, tagged: true, peer_rate: 323_000, peer_cpu: 2.9 },
    Load { per_packet: 1, tagged: true, peer_rate: 124_000, peer_cpu: 4.9 },
    Load { per_packet: 1, tagged: false, peer_rate: 250_000, peer_cpu: 3.7 },
];

/// Prints the figures.
///
/// # Errors
/// The adapter is not built or does not answer.
pub(crate) fn run() -> Result<()> {
    println!("UDP, {RULES} glob rules, {SERIES} series; {} s each", SPAN.as_secs());
    println!(
        "{:>9} {:>6} {:>13} {:>13} {:>8} {:>13} {:>10} {:>11} {:>9} {:>8}",
        "a packet",
        "tags",
        "asked lines/s",
        "sent lines/s",
        "us/line",
        "floor us/line",
        "floor lost",
        "x the floor",
        "x a peer",
        "lost"
    );
    for load in &LOADS {
        for rate in [load.peer_rate / 2, load.peer_rate, load.peer_rate * 3 / 2, load.peer_rate * 3] {
            datagrams(load, rate)?;
        }
    }
    for tagged in [false, true] {
        stream(tagged)?;
    }
    for labels in [false, true] {
        held(100_000, labels)?;
    }
    Ok(())
}

/// A running adapter.
struct Adapter {
    daemon: Daemon,
    web: u16,
    statsd: u16,
    _files: tempfile::TempDir,
}

impl Adapter {
    fn start() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let mapping = files.path().join("mapping.yml");
        std::fs::write(&mapping, rules())?;
        let (web, statsd) = (free_port()?, free_port()?);
        let mut daemon = Daemon::start(Command::new(binary("metrics-adapter")?).args([
            "statsd",
            &format!("--web.listen-address=127.0.0.1:{web}"),
            &format!("--statsd.listen-udp=127.0.0.1:{statsd}"),
            &format!("--statsd.listen-tcp=127.0.0.1:{statsd}"),
            &format!("--statsd.mapping-config={}", mapping.display()),
        ]))?;
        daemon.wait_for_port(web)?;
        Ok(Self { daemon, web, statsd, _files: files })
    }

    fn figure(&self, series: &str) -> Result<u64> {
        let page = http::page(self.web, "/metrics")?;
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value: f64 = line.with_context(|| format!("no {series} on the page"))?.parse()?;
        Ok(value as u64)
    }

    /// Lines taken so far, once no more come.
    fn settled(&self) -> Result<u64> {
        let mut last = self.figure("statsd_exporter_lines_total")?;
        loop {
            std::thread::sleep(Duration::from_millis(150));
            let now = self.figure("statsd_exporter_lines_total")?;
            if now == last {
                return Ok(now);
            }
            last = now;
        }
    }
}

fn rules() -> String {
    let mut text = String::from("mappings:\n");
    for rule in 0..RULES - 1 {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "- match: other{rule}.*.request.*\n  name: other_{rule}\n  labels:\n    service: $1\n"
        );
    }
    text.push_str(
        "- match: bench.*.requests.*\n  name: bench_requests\n  labels:\n    service: $1\n    route: $2\n",
    );
    text
}

fn datagrams(load: &Load, rate: u64) -> Result<()> {
    let Load { per_packet, tagged, .. } = *load;
    let lines = Lines::new(SERIES, tagged);
    let floor = load::floor(&lines, per_packet, rate, SPAN)?;
    let adapter = Adapter::start()?;
    // Every series once, so that only the steady state is measured.
    load::send(adapter.statsd, &lines, per_packet, 20_000, Duration::from_secs(1))?;
    let (lines_before, cpu_before) = (adapter.settled()?, adapter.daemon.cpu_seconds()?);
    let sent = load::send(adapter.statsd, &lines, per_packet, rate, SPAN)?;
    let taken = adapter.settled()? - lines_before;
    let cpu = (adapter.daemon.cpu_seconds()? - cpu_before) * 1e6 / taken.max(1) as f64;
    let lost = sent.lines.saturating_sub(taken);
    println!(
        "{per_packet:>9} {:>6} {rate:>13} {:>13.0} {cpu:>8.3} {:>13.3} {:>9.3}% {:>11.2} {:>9.2} {:>7.3}%",
        if tagged { "yes" } else { "no" },
        sent.rate(),
        floor.cpu,
        floor.lost * 100.0,
        cpu / floor.cpu,
        cpu / load.peer_cpu,
        lost as f64 * 100.0 / sent.lines as f64,
    );
    Ok(())
}

/// Floods one TCP connection.
fn stream(tagged: bool) -> Result<()> {
    // Lines a second, CPU microseconds per line and peak megabytes of the peer.
    let peer = if tagged { (570_000.0, 2.9, 652.0) } else { (280_000.0, 5.0, 521.0) };
    let adapter = Adapter::start()?;
    let lines = Lines::new(SERIES, tagged);
    let mut connection = TcpStream::connect(("127.0.0.1", adapter.statsd))?;
    let block = lines.block(1000);
    let (start, cpu_before) = (Instant::now(), adapter.daemon.cpu_seconds()?);
    let mut sent = 0_u64;
    while start.elapsed() < SPAN {
        connection.write_all(&block)?;
        sent += 1000;
    }
    let elapsed = start.elapsed();
    drop(connection);
    eventually("every line over TCP", || {
        let taken = adapter.figure("statsd_exporter_lines_total")?;
        anyhow::ensure!(taken == sent, "{taken} of {sent}");
        Ok(())
    })?;
    let cpu = (adapter.daemon.cpu_seconds()? - cpu_before) * 1e6 / sent as f64;
    let rate = sent as f64 / elapsed.as_secs_f64();
    let peak = adapter.daemon.peak_bytes()? as f64 / 1e6;
    println!(
        "TCP flood, {}: {rate:.0} lines/s ({:.1} x a peer), {cpu:.3} us CPU per line ({:.2} x), peak RSS {peak:.1} MB \
         ({:.2} x)",
        if tagged { "tags" } else { "plain" },
        rate / peer.0,
        cpu / peer.1,
        peak / peer.2,
    );
    Ok(())
}

/// Holds many series, each a family or all one family with labels, and scrapes them.
fn held(series: usize, labels: bool) -> Result<()> {
    let adapter = Adapter::start()?;
    let mut connection = TcpStream::connect(("127.0.0.1", adapter.statsd))?;
    for start in (0..series).step_by(1000) {
        let line = |n| match labels {
            true => format!("held.requests:1|c|#path:p{n},code:200\n"),
            false => format!("held.number{n}.requests:1|c\n"),
        };
        let block: String = (start..start + 1000).map(line).collect();
        connection.write_all(block.as_bytes())?;
    }
    within(Duration::from_secs(60), "all series", || {
        let held = adapter.figure("statsd_exporter_series")? as usize;
        anyhow::ensure!(held == series, "{held}");
        Ok(())
    })?;
    let loaded = adapter.daemon.resident_bytes()?;
    let measure = |headers: &[(&str, &str)]| -> Result<(f64, f64, usize)> {
        const TIMES: u32 = 5;
        let (start, cpu) = (Instant::now(), adapter.daemon.cpu_seconds()?);
        let mut size = 0;
        for _ in 0..TIMES {
            size = http::request(adapter.web, "GET", "/metrics", headers, b"")?.body.len();
        }
        let each = f64::from(TIMES);
        Ok((
            (adapter.daemon.cpu_seconds()? - cpu) * 1e3 / each,
            start.elapsed().as_secs_f64() * 1e3 / each,
            size,
        ))
    };
    let plain = measure(&[])?;
    let gzip = measure(&[("Accept-Encoding", "gzip")])?;
    println!(
        "{series} counters in {}: RSS {:.1} MB loaded, {:.1} MB after scrapes; scrape {:.0} ms CPU, {:.0} ms wall, \
         {:.1} MB; gzip {:.0} ms CPU, {:.0} ms wall, {:.2} MB",
        if labels { "one family" } else { "as many families" },
        loaded as f64 / 1e6,
        adapter.daemon.resident_bytes()? as f64 / 1e6,
        plain.0,
        plain.1,
        plain.2 as f64 / 1e6,
        gzip.0,
        gzip.1,
        gzip.2 as f64 / 1e6,
    );
    Ok(())
}
