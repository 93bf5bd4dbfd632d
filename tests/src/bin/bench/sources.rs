//! The adapter's run mode: ten sources, 5,000 series on one page; CPU and memory.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};
use e2e::process::Daemon;
use e2e::{binary, free_port, http};

/// Series of each of the ten sources.
const SERIES: usize = 500;
/// Pages before those that count.
const WARM_UP: usize = 50;
const PAGES: usize = 300;

/// What the separate programs weigh, by their published images (compressed, linux/amd64).
const PEERS: &str = "separate exporters, published images: json 9 MB, nginx 6, apache 8, haproxy 9, memcached 9, \
    redis 9, php-fpm 8, statsd 9; each a process of 10 to 25 MB";

/// Prints the figures.
///
/// # Errors
/// The adapter is not built, or a page is not whole.
pub(crate) fn run() -> Result<()> {
    println!("10 sources of {SERIES} series over HTTP; {PEERS}");
    let port = serve(documents)?;
    // Once with sources that are gathered for every page, and once with what they gave at the start.
    let whole = measure(&configuration(port, ""))?;
    let render = measure(&configuration(port, "interval: 1h\n"))?;
    println!("start to first page {:>6.0} ms", whole.start);
    println!("page, mean          {:>6.1} ms", whole.wall);
    println!("CPU, rendering      {:>6.2} ms a page (at most 5)", render.cpu);
    println!("CPU, with gathering {:>6.2} ms a page", whole.cpu);
    println!("resident memory     {:>6.1} MB (at most 15)", whole.resident.max(render.resident));
    println!("page                {:>6.0} kB", whole.kilobytes);
    Ok(())
}

/// Milliseconds a page, megabytes, and the size of a page.
struct Figures {
    start: f64,
    wall: f64,
    cpu: f64,
    resident: f64,
    kilobytes: f64,
}

fn configuration(port: u16, head: &str) -> String {
    let mut yaml = format!("{head}sources:\n");
    for at in 0..10 {
        let (path, rest) = match at {
            0..4 => (
                "0",
                "type: http_json\n  metrics: [{name: app_requests_total, path: '$.routes[*]', value: '@.n', labels: {route: '@.route', method: '@.method'}}]",
            ),
            4..8 => ("1", "type: prometheus"),
            8 => (
                "2",
                "type: http_text\n  format: csv\n  metrics: [{name: app_rows, column: n, labels: {route: '${route}'}}]",
            ),
            _ => (
                "3",
                "type: http_text\n  format: key_value\n  metrics: [{name: app_keys, key: 'route_*', labels: {route: $1}}]",
            ),
        };
        let _ = writeln!(
            yaml,
            "- name: s{at}\n  labels: {{source: s{at}}}\n  url: http://127.0.0.1:{port}/{path}\n  {rest}"
        );
    }
    yaml
}

fn measure(yaml: &str) -> Result<Figures> {
    let files = tempfile::tempdir()?;
    let config = files.path().join("adapter.yaml");
    std::fs::write(&config, yaml)?;
    let web = free_port()?;
    let begun = Instant::now();
    let listen = format!("--web.listen-address=127.0.0.1:{web}");
    let mut adapter =
        Daemon::start(Command::new(binary("metrics-adapter")?).args(["run", &listen]).arg(&config))?;
    adapter.wait_for_port(web)?;
    let first = http::page(web, "/metrics")?;
    let start = begun.elapsed();
    let samples = first.lines().filter(|line| line.starts_with("app_")).count();
    ensure!(samples == 10 * SERIES, "{samples} samples of {}:\n{}", 10 * SERIES, adapter.log());
    for _ in 0..WARM_UP {
        http::page(web, "/metrics")?;
    }
    let before = adapter.cpu_seconds()?;
    let begun = Instant::now();
    for _ in 0..PAGES {
        http::page(web, "/metrics")?;
    }
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), adapter.cpu_seconds()? - before);
    let each = |seconds: f64| seconds * 1000.0 / PAGES as f64;
    Ok(Figures {
        start: start.as_secs_f64() * 1000.0,
        wall: each(wall),
        cpu: each(cpu),
        resident: adapter.resident_bytes()? as f64 / 1e6,
        kilobytes: first.len() as f64 / 1e3,
    })
}

/// What the applications say; the numbers are others every time.
fn documents(round: usize) -> [String; 4] {
    [json(round), prometheus(round), csv(round), keys(round)]
}

fn json(round: usize) -> String {
    let route = |n: usize| format!("{{\"route\":\"/api/{n}\",\"method\":\"GET\",\"n\":{}.5}}", n + round);
    let routes: Vec<String> = (0..SERIES).map(route).collect();
    format!("{{\"routes\":[{}]}}", routes.join(","))
}

fn prometheus(round: usize) -> String {
    let mut page = "# HELP app_requests_total Requests.\n# TYPE app_requests_total counter\n".to_owned();
    for n in 0..SERIES {
        let _ = writeln!(page, "app_requests_total{{route=\"/api/{n}\",method=\"GET\"}} {}", n + round);
    }
    page
}

fn csv(round: usize) -> String {
    (0..SERIES).fold("route,n\n".to_owned(), |page, n| page + &format!("/api/{n},{}\n", n + round))
}

fn keys(round: usize) -> String {
    (0..SERIES).fold(String::new(), |page, n| page + &format!("route_{n}: {}\n", n + round))
}

/// Serves the documents as `/0`, `/1` and so on, on connections that stay open.
fn serve(documents: fn(usize) -> [String; 4]) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut writer = stream.try_clone()?;
                let mut reader = BufReader::new(stream);
                for round in 0.. {
                    let (mut first, mut line) = (String::new(), String::new());
                    if reader.read_line(&mut first)? == 0 {
                        return Ok(());
                    }
                    while reader.read_line(&mut line)? > 2 {
                        line.clear();
                    }
                    let at: usize = first.get(5..6).and_then(|digit| digit.parse().ok()).unwrap_or(0);
                    let body = &documents(round)[at.min(3)];
                    write!(writer, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
                }
                Ok(())
            });
        }
    });
    Ok(port)
}
