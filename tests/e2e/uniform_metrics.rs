//! metrics-adapter between real StatsD clients, a real JVM and a real Prometheus.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::process::Command;

use anyhow::{Result, bail, ensure};
use e2e::parts::{Jvm, Prometheus, check_metrics, python};
use e2e::process::{Daemon, output};
use e2e::{binary, eventually, free_port, http};

struct Adapter {
    daemon: Daemon,
    statsd: u16,
    web: u16,
}

impl Adapter {
    fn start() -> Result<Self> {
        let (statsd, web) = (free_port()?, free_port()?);
        let mut daemon = Daemon::start(Command::new(binary("metrics-adapter")?).arg("statsd").args([
            format!("--statsd.listen-udp=127.0.0.1:{statsd}"),
            format!("--statsd.listen-tcp=127.0.0.1:{statsd}"),
            format!("--web.listen-address=127.0.0.1:{web}"),
        ]))?;
        daemon.wait_for_port(web)?;
        Ok(Self { daemon, statsd, web })
    }
}

const CLIENTS: &str = r#"
import sys, statsd, datadog
port = int(sys.argv[1])
plain = statsd.StatsClient("127.0.0.1", port)
for _ in range(5):
    plain.incr("py.plain")
plain.gauge("py.level", 3)
plain.gauge("py.level", 2, delta=True)
plain.timing("py.took", 250)
datadog.initialize(statsd_host="127.0.0.1", statsd_port=port, statsd_disable_buffering=True)
datadog.statsd.increment("py.dog", 2, tags=["env:test", "zone:a"])
datadog.statsd.histogram("py.size", 0.5, tags=["env:test"])
"#;

#[test]
#[ignore = "needs prometheus, promtool and python3"]
fn statsd_reaches_prometheus() -> Result<()> {
    let adapter = Adapter::start()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", adapter.statsd))?;
    socket.send(b"orders:1|c\norders:2|c|@0.5\nqueue:7|g\nqueue:-2|g\n")?;
    socket.send(b"latency:320|ms|#route:/pay,method:GET\nbroken line\n")?;
    let mut stream = TcpStream::connect(("127.0.0.1", adapter.statsd))?;
    stream.write_all(b"tcp.lines:1|c\ntcp.lines:4|c")?;
    drop(stream);
    output(Command::new(python()?).args(["-c", CLIENTS, &adapter.statsd.to_string()]))?;

    eventually("all families", || {
        let page = http::page(adapter.web, "/metrics")?;
        for line in [
            "orders 5",
            "queue 5",
            "tcp_lines 5",
            "py_plain 5",
            "py_level 5",
            "py_took_sum 0.25",
            "py_dog{env=\"test\",zone=\"a\"} 2",
            "py_size_count{env=\"test\"} 1",
            "latency_sum{method=\"GET\",route=\"/pay\"} 0.32",
            "statsd_exporter_sample_errors_total{reason=\"malformed_line\"} 1",
        ] {
            if !page.lines().any(|found| found == line) {
                bail!("no `{line}` in:\n{page}");
            }
        }
        Ok(())
    })?;
    let prometheus = Prometheus::scraping(&[adapter.web])?;
    prometheus.expect("orders", 5.0)?;
    prometheus.expect("sum(py_dog{env=\"test\"})", 2.0)?;
    prometheus.expect("latency_count", 1.0)?;
    Ok(())
}

#[test]
#[ignore = "needs promtool"]
fn promtool_accepts_the_page() -> Result<()> {
    let adapter = Adapter::start()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", adapter.statsd))?;
    socket
        .send(b"requests_total:1|c|#code:200\nqueue_depth:7|g\nlatency_seconds:320|ms\nsize_bytes:12|h\n")?;
    let page = eventually("the families", || match http::page(adapter.web, "/metrics")? {
        page if page.contains("size_bytes_count 1") => Ok(page),
        page => bail!("{page}"),
    })?;
    // The peer's own gauge has a counter's name; a drop-in keeps it.
    let advice = check_metrics(&page)?;
    ensure!(advice.iter().all(|line| line.starts_with("statsd_exporter_metrics_total ")), "{advice:#?}");
    Ok(())
}

#[test]
#[ignore = "needs a JDK and prometheus"]
fn a_jvm_reaches_prometheus() -> Result<()> {
    let jvm = Jvm::start()?;
    let web = free_port()?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, format!("hostPort: 127.0.0.1:{}\nrules:\n- pattern: '.*'\n", jvm.port))?;
    let mut adapter = Daemon::start(
        Command::new(binary("metrics-adapter")?).arg("jmx").arg(format!("127.0.0.1:{web}")).arg(&file),
    )?;
    adapter.wait_for_port(web)?;
    let page = eventually("the bean", || {
        let page = http::page(web, "/metrics")?;
        for line in [
            "shop_Shop_QueueSize{name=\"main\"} 7.0",
            "shop_Shop_Open{name=\"main\"} 1.0",
            "jmx_scrape_error 0.0",
        ] {
            if !page.lines().any(|found| found == line) {
                bail!("no `{line}` in:\n{page}");
            }
        }
        Ok(page)
    })?;
    ensure!(page.contains("java_lang_Memory_HeapMemoryUsage_used"), "{page}");
    let prometheus = Prometheus::scraping(&[web])?;
    prometheus.expect("shop_Shop_QueueSize{name=\"main\"}", 7.0)?;

    drop(jvm);
    eventually("an error, not an empty page", || {
        let page = http::page(web, "/metrics")?;
        if page.contains("jmx_scrape_error 1.0") { Ok(()) } else { bail!("{page}") }
    })
}

#[test]
#[ignore = "uses the built binary"]
fn bad_input_is_named() -> Result<()> {
    let said = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = Command::new(binary("metrics-adapter")?).args(arguments).output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (code, text) = said(&["statsd", "--statsd.lisen-udp=:1"])?;
    ensure!(
        code == Some(2) && text.contains("statsd.lisen-udp") && text.contains("statsd.listen-udp"),
        "{text}"
    );
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("mapping.yaml");
    std::fs::write(&file, "mappings:\n- match: a.*\n  nme: b\n")?;
    let (code, text) =
        said(&["statsd", &format!("--statsd.mapping-config={}", file.display()), "--check-config"])?;
    ensure!(
        code != Some(0) && text.contains("mapping.yaml") && text.contains('3') && text.contains("nme"),
        "{text}"
    );
    Ok(())
}

#[test]
#[ignore = "uses the built binary"]
fn it_leaves_when_asked() -> Result<()> {
    let mut adapter = Adapter::start()?;
    adapter.daemon.signal("TERM")?;
    let status = adapter.daemon.wait(std::time::Duration::from_secs(10))?;
    ensure!(status.success(), "{status}: {}", adapter.daemon.log());
    Ok(())
}
