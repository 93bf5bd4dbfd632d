//! The ambassador's processor time per command and its throughput, beside a direct connection, haproxy in TCP mode
//! (the cheapest generic forwarder), twemproxy and Envoy's `redis_proxy`, all in one run with redis-benchmark.

use anyhow::{Context, Result, bail};
use e2e::parts::{Envoy, Redis};
use e2e::process::{Daemon, cpu_seconds};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// A kind of work. The Predixy figures are its processor time per command divided by haproxy's, both measured once
/// on one machine with the same work (Predixy 1.0.5, haproxy 2.6.12); Predixy is in no distribution.
struct Row {
    name: &'static str,
    arguments: &'static [&'static str],
    requests: u32,
    predixy_to_haproxy: f64,
}

const ROWS: &[Row] = &[
    Row {
        name: "get p1 c50 64B",
        arguments: &["-t", "get", "-c", "50", "-d", "64"],
        requests: 200_000,
        predixy_to_haproxy: 9.43 / 17.57,
    },
    Row {
        name: "set p1 c50 64B",
        arguments: &["-t", "set", "-c", "50", "-d", "64"],
        requests: 200_000,
        predixy_to_haproxy: 12.05 / 16.63,
    },
    Row {
        name: "get p16 c50 64B",
        arguments: &["-t", "get", "-c", "50", "-d", "64", "-P", "16"],
        requests: 1_500_000,
        predixy_to_haproxy: 1.27 / 1.16,
    },
    Row {
        name: "set p16 c50 64B",
        arguments: &["-t", "set", "-c", "50", "-d", "64", "-P", "16"],
        requests: 1_500_000,
        predixy_to_haproxy: 1.36 / 1.43,
    },
    Row {
        name: "get p1 c1 64B",
        arguments: &["-t", "get", "-c", "1", "-d", "64"],
        requests: 40_000,
        predixy_to_haproxy: 26.82 / 40.37,
    },
    Row {
        name: "set p1 c1 64B",
        arguments: &["-t", "set", "-c", "1", "-d", "64"],
        requests: 40_000,
        predixy_to_haproxy: 26.70 / 36.29,
    },
    Row {
        name: "mget10 p1 c50 64B",
        arguments: &["-c", "50", "MGET", KEY, KEY, KEY, KEY, KEY, KEY, KEY, KEY, KEY, KEY],
        requests: 150_000,
        predixy_to_haproxy: 12.70 / 16.54,
    },
    Row {
        name: "get p1 c1000 64B",
        arguments: &["-t", "get", "-c", "1000", "-d", "64"],
        requests: 200_000,
        predixy_to_haproxy: 12.60 / 22.44,
    },
    Row {
        name: "set p1 c1000 64B",
        arguments: &["-t", "set", "-c", "1000", "-d", "64"],
        requests: 200_000,
        predixy_to_haproxy: 12.83 / 30.23,
    },
    Row {
        name: "get p1 c50 1KB",
        arguments: &["-t", "get", "-c", "50", "-d", "1024"],
        requests: 200_000,
        predixy_to_haproxy: 11.51 / 16.85,
    },
    Row {
        name: "set p1 c50 1KB",
        arguments: &["-t", "set", "-c", "50", "-d", "1024"],
        requests: 200_000,
        predixy_to_haproxy: 10.75 / 16.80,
    },
    Row {
        name: "get p16 c50 1KB",
        arguments: &["-t", "get", "-c", "50", "-d", "1024", "-P", "16"],
        requests: 1_000_000,
        predixy_to_haproxy: 1.74 / 1.79,
    },
    Row {
        name: "set p16 c50 1KB",
        arguments: &["-t", "set", "-c", "50", "-d", "1024", "-P", "16"],
        requests: 800_000,
        predixy_to_haproxy: 2.29 / 1.81,
    },
    Row {
        name: "get p1 c50 16KB",
        arguments: &["-t", "get", "-c", "50", "-d", "16384"],
        requests: 80_000,
        predixy_to_haproxy: 17.37 / 26.89,
    },
    Row {
        name: "set p1 c50 16KB",
        arguments: &["-t", "set", "-c", "50", "-d", "16384"],
        requests: 60_000,
        predixy_to_haproxy: 21.26 / 25.43,
    },
];

/// A key as redis-benchmark's own tests name it; it puts a number there.
const KEY: &str = "key:__rand_int__";

/// Every row is measured this often for every way, in turns; the median counts.
const ROUNDS: usize = 3;

/// One way to the servers.
struct Way {
    name: &'static str,
    port: u16,
    pid: Option<u32>,
    _daemon: Option<Daemon>,
}

/// Runs the benchmark and prints its table.
///
/// # Errors
/// A program is missing or does not start.
pub(crate) fn run() -> Result<()> {
    let primary = Redis::start()?;
    let replicas = [Redis::replica_of(primary.port)?, Redis::replica_of(primary.port)?];
    let directory = tempfile::tempdir()?;
    let mut ways = vec![
        Way { name: "direct", port: primary.port, pid: None, _daemon: None },
        ambassador(&primary, &replicas)?,
        haproxy(&primary, directory.path())?,
        twemproxy(&primary, directory.path())?,
    ];
    // There is a binary to fetch for this architecture only.
    if cfg!(target_arch = "x86_64") {
        ways.push(envoy(&primary, &replicas, directory.path())?);
    }
    println!(
        "CPU µs per command and thousand commands a second; medians of {} interleaved rounds.",
        crate::rounds(ROUNDS)
    );
    println!(
        "\"/haproxy\", \"/envoy\" (CPU), \"thr/hap\" and \"thr/dir\" (throughput) are ratios within this run; \"goal\" is 0.8 of \
         Predixy's share of haproxy; last: median and 99th percentile of the latency in ms."
    );
    println!(
        "{:<17} {:>7} {:>14} {:>14} {:>14} {:>14} | {:>8} {:>6} {:>6} {:>8} {:>8} | {:>11} {:>11} {:>11}",
        "work",
        "direct",
        "ambassador",
        "haproxy",
        "twemproxy",
        "envoy",
        "/haproxy",
        "goal",
        "/envoy",
        "thr/hap",
        "thr/dir",
        "direct",
        "ambassador",
        "haproxy"
    );
    let resident = || ways[1].pid.map_or(Ok(0), resident_kb);
    let idle = resident()?;
    for row in ROWS {
        measure(row, &ways)?;
    }
    println!("resident memory of the ambassador: {idle} KB idle, {} KB after all that", resident()?);
    Ok(())
}

/// What one run of redis-benchmark shows.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Processor microseconds per command.
    cpu: f64,
    /// Commands a second.
    rate: f64,
    /// Latency in milliseconds: median and 99th percentile.
    latency: [f64; 2],
}

impl Sample {
    /// The median of each figure.
    fn median(samples: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| {
            let mut all: Vec<f64> = samples.iter().map(figure).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        Self {
            cpu: of(|sample| sample.cpu),
            rate: of(|sample| sample.rate),
            latency: [of(|sample| sample.latency[0]), of(|sample| sample.latency[1])],
        }
    }

    fn latency(self) -> String {
        format!("{:.2}/{:.2}", self.latency[0], self.latency[1])
    }
}

fn measure(row: &Row, ways: &[Way]) -> Result<()> {
    let mut samples: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
    for _ in 0..crate::rounds(ROUNDS) {
        for way in ways {
            samples.entry(way.name).or_default().push(benchmark(row, way)?);
        }
    }
    let median = |name: &str| Sample::median(&samples[name]);
    let cell = |sample: Sample| format!("{:.2} {:>5.0}k", sample.cpu, sample.rate / 1e3);
    let (direct, own, haproxy, twemproxy) =
        (median("direct"), median("ambassador"), median("haproxy"), median("twemproxy"));
    let envoy = samples.get("envoy").map(|samples| Sample::median(samples));
    println!(
        "{:<17} {:>6.0}k {:>14} {:>14} {:>14} {:>14} | {:>8.2} {:>6.2} {:>6} {:>8.2} {:>8.2} | {:>11} {:>11} {:>11}",
        row.name,
        direct.rate / 1e3,
        cell(own),
        cell(haproxy),
        cell(twemproxy),
        envoy.map_or("-".to_owned(), cell),
        own.cpu / haproxy.cpu,
        0.8 * row.predixy_to_haproxy,
        envoy.map_or("-".to_owned(), |envoy| format!("{:.2}", own.cpu / envoy.cpu)),
        own.rate / haproxy.rate,
        own.rate / direct.rate,
        direct.latency(),
        own.latency(),
        haproxy.latency(),
    );
    Ok(())
}

fn benchmark(row: &Row, way: &Way) -> Result<Sample> {
    let cpu = || way.pid.map_or(Ok(0.0), cpu_seconds);
    let before = cpu()?;
    let mut command = Command::new(e2e::program("redis-benchmark")?);
    command.args(["-h", "127.0.0.1", "-p", &way.port.to_string(), "--csv", "-r", "100000"]);
    command.args(["-n", &row.requests.to_string()]).args(row.arguments);
    let output = command.output().context("redis-benchmark")?;
    let spent = cpu()? - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Name, commands a second, latencies: mean, least, median, 95th and 99th percentile, most.
    let line = text.lines().last().unwrap_or_default();
    let figures: Vec<f64> =
        line.split("\",\"").skip(1).filter_map(|figure| figure.trim_matches('"').parse().ok()).collect();
    let [rate, _, _, median, _, late, _] = figures[..] else {
        bail!("redis-benchmark through {} says: {text}{}", way.name, String::from_utf8_lossy(&output.stderr));
    };
    Ok(Sample { cpu: spent * 1e6 / f64::from(row.requests), rate, latency: [median, late] })
}

fn ambassador(primary: &Redis, replicas: &[Redis]) -> Result<Way> {
    let port = e2e::free_port()?;
    let mut command = Command::new(e2e::binary("redis-ambassador")?);
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--admin-listen", ""]);
    command.args(["--primary", &format!("127.0.0.1:{}", primary.port)]);
    for replica in replicas {
        command.args(["--replica", &format!("127.0.0.1:{}", replica.port)]);
    }
    way("ambassador", port, &mut command)
}

fn haproxy(primary: &Redis, directory: &Path) -> Result<Way> {
    let port = e2e::free_port()?;
    let file = directory.join("haproxy.cfg");
    let text = format!(
        "global\n maxconn 4000\n nbthread 1\ndefaults\n mode tcp\n timeout connect 1s\n timeout client 60s\n \
         timeout server 60s\nlisten redis\n bind 127.0.0.1:{port}\n server primary 127.0.0.1:{}\n",
        primary.port
    );
    std::fs::write(&file, text)?;
    way("haproxy", port, Command::new(e2e::program("haproxy")?).arg("-f").arg(&file))
}

fn twemproxy(primary: &Redis, directory: &Path) -> Result<Way> {
    let (port, stats) = (e2e::free_port()?, e2e::free_port()?);
    let file = directory.join("nutcracker.yml");
    let text = format!(
        "pool:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: modula\n  redis: true\n  servers:\n   \
         - 127.0.0.1:{}:1\n",
        primary.port
    );
    std::fs::write(&file, text)?;
    let mut command = Command::new(e2e::program("nutcracker")?);
    command.arg("-c").arg(&file).args(["-s", &stats.to_string(), "-a", "127.0.0.1"]);
    way("twemproxy", port, &mut command)
}

/// As the ambassador: writes to the primary, reads to the replicas.
fn envoy(primary: &Redis, replicas: &[Redis], directory: &Path) -> Result<Way> {
    let port = e2e::free_port()?;
    let mut clusters = String::new();
    for (name, servers) in [("primary", std::slice::from_ref(primary)), ("replicas", replicas)] {
        write!(
            clusters,
            "  - name: {name}\n    type: STATIC\n    load_assignment:\n      cluster_name: {name}\n      \
             endpoints:\n      - lb_endpoints:\n"
        )?;
        for server in servers {
            writeln!(
                clusters,
                "        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}",
                server.port
            )?;
        }
    }
    let text = format!(
        "static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.redis_proxy
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
          stat_prefix: redis
          settings: {{op_timeout: 5s}}
          prefix_routes:
            catch_all_route: {{cluster: primary, read_command_policy: {{cluster: replicas}}}}
  clusters:
{clusters}"
    );
    let file = directory.join("envoy.yaml");
    std::fs::write(&file, text)?;
    way("envoy", port, &mut Envoy::command(&file)?)
}

fn way(name: &'static str, port: u16, command: &mut Command) -> Result<Way> {
    let mut daemon = Daemon::start(command)?;
    daemon.wait_for_port(port)?;
    Ok(Way { name, port, pid: Some(daemon.pid()), _daemon: Some(daemon) })
}

fn resident_kb(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
}
