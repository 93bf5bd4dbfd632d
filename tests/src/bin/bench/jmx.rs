//! The adapter's JMX path against one JVM with 1,000 beans of 5 attributes: time, CPU on both sides, memory,
//! and the time from start to the first page.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::process::{self, Daemon};
use e2e::{binary, free_port, http, program, repository};

/// Beans in the JVM, each with five numbers.
const BEANS: usize = 1000;
/// JVMs that are asked for their first page: how soon it is there differs from one to the next.
const FRESH: usize = 5;
/// Scrapes before the JVM's compiler has done its work.
const WARM_UP: usize = 150;
/// Scrapes that count.
const SCRAPES: usize = 200;

/// The peer's figures on the machine the targets were set on (jmx_exporter, standalone).
const PEER: &str = "peer, on another day: wall 201 ms, CPU 113 ms, JVM CPU 90 ms, RSS 400 MB, start 4.2 s";

/// Prints the figures.
///
/// # Errors
/// No JDK, the adapter is not built, or a scrape fails.
pub(crate) fn run() -> Result<()> {
    let classes = compiled()?;
    println!("{BEANS} beans of 5 attributes, no rules; {PEER}");
    let files = tempfile::tempdir()?;
    let config = files.path().join("jmx.yaml");
    for (arguments, of) in [(&[][..], "with values that break connections"), (&["even"], "of numbers")] {
        let mut times = Vec::new();
        for _ in 0..super::rounds(FRESH) {
            let (_jvm, port) = jvm(classes.path(), arguments)?;
            std::fs::write(&config, format!("hostPort: 127.0.0.1:{port}\n"))?;
            times.push(first_page(&config)?.3);
        }
        times.sort();
        let (least, median, most) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        println!(
            "start to first page {:>6.0} ms, median of {} ({:.0} to {:.0}), of JVMs {of} that nobody has asked before",
            milliseconds(median),
            times.len(),
            milliseconds(least),
            milliseconds(most)
        );
    }
    let (jvm, port) = jvm(classes.path(), &["even"])?;
    std::fs::write(&config, format!("hostPort: 127.0.0.1:{port}\n"))?;
    let (adapter, web, first, _) = first_page(&config)?;
    let samples = first.lines().filter(|line| line.starts_with("bench_app_")).count();
    ensure!(samples == BEANS * 5, "{samples} samples of {}:\n{}", BEANS * 5, adapter.log());
    for _ in 0..WARM_UP {
        http::page(web, "/metrics")?;
    }
    let before = (adapter.cpu_seconds()?, process::cpu_seconds(jvm.pid())?);
    let mut times = Vec::with_capacity(SCRAPES);
    for _ in 0..SCRAPES {
        let start = Instant::now();
        http::page(web, "/metrics")?;
        times.push(start.elapsed());
    }
    times.sort();
    let per_scrape = |before: f64, after: f64| (after - before) * 1000.0 / SCRAPES as f64;
    println!("scrape, median      {:>6.1} ms", milliseconds(times[SCRAPES / 2]));
    println!("scrape, 99 %        {:>6.1} ms", milliseconds(times[SCRAPES * 99 / 100]));
    println!("CPU per scrape      {:>6.1} ms", per_scrape(before.0, adapter.cpu_seconds()?));
    println!("CPU in the JVM      {:>6.1} ms", per_scrape(before.1, process::cpu_seconds(jvm.pid())?));
    println!("resident memory     {:>6.1} MB", adapter.resident_bytes()? as f64 / 1e6);
    println!("page                {:>6.0} kB", first.len() as f64 / 1e3);
    drop(adapter);
    let mut times = (0..5).map(|_| Ok(first_page(&config)?.3)).collect::<Result<Vec<_>>>()?;
    times.sort();
    println!("start to first page {:>6.0} ms, median of 5, of the same JVM now", milliseconds(times[2]));
    Ok(())
}

/// Starts the adapter and asks for a page at once; the adapter, its port, the page, and how long that took.
fn first_page(config: &Path) -> Result<(Daemon, u16, String, Duration)> {
    let web = free_port()?;
    let start = Instant::now();
    let mut adapter = Daemon::start(
        Command::new(binary("metrics-adapter")?).args(["jmx", &format!("127.0.0.1:{web}")]).arg(config),
    )?;
    adapter.wait_for_port(web)?;
    let page = http::page(web, "/metrics")?;
    Ok((adapter, web, page, start.elapsed()))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The class files of the adapter's own test fixture.
fn compiled() -> Result<tempfile::TempDir> {
    let classes = tempfile::tempdir()?;
    let source = repository().join("metrics-adapter/tests/java/Fixture.java");
    process::run(program("javac")?, ["-d".as_ref(), classes.path().as_os_str(), source.as_os_str()])
        .context("compiling the fixture")?;
    Ok(classes)
}

/// A JVM with the fixture and its port.
fn jvm(classes: &Path, arguments: &[&str]) -> Result<(Daemon, u16)> {
    let port = free_port()?;
    let mut command = Command::new(program("java")?);
    command.arg("-Xmx128m");
    let properties = ["port=", "rmi.port="].map(|key| format!("{key}{port}"));
    let fixed = ["host=127.0.0.1", "authenticate=false", "ssl=false"].map(str::to_owned);
    command.args(properties.iter().chain(&fixed).map(|p| format!("-Dcom.sun.management.jmxremote.{p}")));
    command.arg("-Djava.rmi.server.hostname=127.0.0.1").arg("-cp").arg(classes);
    command.args(["Fixture", "beans", &BEANS.to_string()]).args(arguments);
    let mut jvm = Daemon::start(&mut command)?;
    jvm.wait_for_port(port)?;
    // The port opens before the beans are there.
    jvm.wait_for_line("ready")?;
    Ok((jvm, port))
}
