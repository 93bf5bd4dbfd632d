//! The three example Pods, really run by podman from their manifests: `images/pods/play.sh`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use e2e::parts::{RespClient, check_metrics, git_in};
use e2e::{eventually, http};

use super::podman::{Podman, play};

/// A pattern's Pods with the ports they are published on; removed when dropped.
struct Pods {
    pattern: &'static str,
    ports: BTreeMap<String, u16>,
    podman: Podman,
}

impl Pods {
    fn up(pattern: &'static str) -> Result<Self> {
        let mut pods = Self { pattern, ports: BTreeMap::new(), podman: Podman::new()? };
        for line in play(&["up", pattern])?.lines() {
            let (name, address) =
                line.split_once('=').with_context(|| format!("unexpected line {line:?}"))?;
            let port = address.rsplit(':').next().unwrap_or_default().parse()?;
            ensure!(address.starts_with("127.0.0.1:"), "published beyond loopback: {line}");
            pods.ports.insert(name.to_owned(), port);
        }
        Ok(pods)
    }

    fn port(&self, name: &str) -> Result<u16> {
        self.ports.get(name).copied().with_context(|| format!("no port {name} in {:?}", self.ports))
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        if let Err(error) = play(&["down", self.pattern]) {
            eprintln!("{error:#}");
        }
    }
}

fn page_contains(port: u16, path: &str, text: &str) -> Result<String> {
    let page = http::page(port, path)?;
    if page.contains(text) { Ok(page) } else { bail!("no {text:?} in:\n{page}") }
}

/// The value of a sample on a page of metrics.
fn sample(page: &str, series: &str) -> Result<f64> {
    let value =
        page.lines().find_map(|line| line.strip_prefix(series)?.trim().split(' ').next()?.parse().ok());
    value.with_context(|| format!("no {series} in:\n{page}"))
}

#[test]
#[ignore = "needs podman and the images"]
fn a_push_changes_the_page_of_the_nginx_pod() -> Result<()> {
    let pods = Pods::up("gitsync-nginx")?;
    let (page, admin) = (pods.port("http")?, pods.port("gitsync")?);
    eventually("the first page", || page_contains(page, "/", "Hello from the first commit"))
        .with_context(|| pods.podman.logs("gitsync-nginx-gitsync"))?;
    eventually("readiness", || http::page(admin, "/readyz"))?;
    for container in ["gitsync-nginx-gitsync", "gitsync-nginx-nginx"] {
        pods.podman.expect_hardened(container)?;
    }

    let folder = tempfile::tempdir()?;
    let url = format!("http://127.0.0.1:{}/site.git", pods.port("git")?);
    git_in(folder.path(), ["clone", "-q", &url, "clone"])?;
    let clone = folder.path().join("clone");
    for text in ["second page", "third page"] {
        std::fs::write(clone.join("index.html"), text)?;
        git_in(&clone, ["commit", "-q", "-a", "-m", text])?;
        git_in(&clone, ["push", "-q", "origin", "HEAD:main"])?;
        eventually(text, || page_contains(page, "/", text))
            .with_context(|| pods.podman.logs("gitsync-nginx-gitsync"))?;
    }
    // The link's target names the commit; the neighbour sees it through its own mount.
    let hash = git_in(&clone, ["rev-parse", "HEAD"])?;
    ensure!(http::get(page, "/.git")?.status == 404, "nginx serves the metadata of {hash}");
    Ok(())
}

/// How often a server has run a command, by its own count.
fn calls(port: u16, command: &str) -> Result<u64> {
    let stats = RespClient::connect(port)?.command(&["INFO", "commandstats"])?;
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    Ok(line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0))
}

#[test]
#[ignore = "needs podman and the images"]
fn the_application_of_the_redis_pod_sees_one_plain_redis() -> Result<()> {
    let pods = Pods::up("redis-ambassador")?;
    let app = |words: &[&str]| -> Result<String> {
        let mut command = vec!["exec", "redis-ambassador-app", "redis-cli", "-h", "127.0.0.1"];
        command.extend(words);
        Ok(pods.podman.run(&command)?.trim().to_owned())
    };
    let is = |words: &[&str], expected: &str| match app(words)?.as_str() {
        answer if answer == expected => Ok(()),
        answer => bail!("{words:?} gave {answer:?}"),
    };
    eventually("an answer", || is(&["PING"], "PONG"))
        .with_context(|| pods.podman.logs("redis-ambassador-ambassador"))?;
    eventually("readiness", || http::page(pods.port("admin")?, "/readyz"))?;
    for container in ["redis-ambassador-ambassador", "redis-ambassador-app", "redis-primary-redis"] {
        pods.podman.expect_hardened(container)?;
    }

    let replicas = [pods.port("redis-replica-1")?, pods.port("redis-replica-2")?];
    is(&["SET", "greeting", "hello"], "OK")?;
    for replica in replicas {
        eventually("replication", || {
            match RespClient::connect(replica)?.command(&["GET", "greeting"])?.as_str() {
                "hello" => Ok(()),
                other => bail!("{other}"),
            }
        })?;
    }
    let reads = || -> Result<u64> { Ok(calls(replicas[0], "get")? + calls(replicas[1], "get")?) };
    let before = reads()?;
    for _ in 0..20 {
        is(&["GET", "greeting"], "hello")?;
    }
    let served = reads()? - before;
    ensure!(served >= 15, "replicas served only {served} of 20 reads");
    ensure!(calls(pods.port("redis-primary")?, "set")? == 1, "the write did not go to the primary alone");
    page_contains(pods.port("admin")?, "/metrics", "redis_ambassador_")?;
    Ok(())
}

#[test]
#[ignore = "needs podman and the images"]
fn the_applications_of_the_metrics_pod_become_one_format() -> Result<()> {
    let pods = Pods::up("metrics-adapter")?;
    let (statsd, jmx) = (pods.port("statsd-metrics")?, pods.port("jmx-metrics")?);
    eventually("the StatsD families", || {
        page_contains(statsd, "/metrics", "checkout_requests{method=\"get\"}")
    })
    .with_context(|| pods.podman.logs("metrics-adapter-statsd-adapter"))?;
    for container in ["statsd-adapter", "jmx-adapter", "statsd-app", "jvm-app"] {
        pods.podman.expect_hardened(&format!("metrics-adapter-{container}"))?;
    }
    let line = "printf 'story.orders:42|c|#shop:berlin' >/dev/udp/127.0.0.1/9125";
    pods.podman.run(&["exec", "metrics-adapter-statsd-app", "/bin/bash", "-c", line])?;
    let page = eventually("the line", || {
        let page = http::page(statsd, "/metrics")?;
        match sample(&page, "story_orders{shop=\"berlin\"}")? {
            42.0 => Ok(page),
            other => bail!("it is {other}"),
        }
    })?;
    check_metrics(&page)?;

    let orders = "shop_orders_placed_total{region=\"eu\"}";
    let first = eventually("the beans", || sample(&http::page(jmx, "/metrics")?, orders))
        .with_context(|| pods.podman.logs("metrics-adapter-jmx-adapter"))?;
    eventually("more orders", || match sample(&http::page(jmx, "/metrics")?, orders)? {
        later if later > first => Ok(()),
        later => bail!("{first}, then {later}"),
    })?;
    let page = http::page(jmx, "/metrics")?;
    for family in ["shop_orders_failed_total", "shop_orders_queue_length", "jvm_heap_used_bytes"] {
        ensure!(page.contains(&format!("# TYPE {family} ")), "no {family} in:\n{page}");
    }
    check_metrics(&page)?;

    let prometheus = pods.port("prometheus")?;
    for query in ["story_orders", "shop_orders_placed_total"] {
        eventually(format!("{query} in Prometheus"), || {
            page_contains(prometheus, &format!("/api/v1/query?query={query}"), "\"value\":")
        })?;
    }
    Ok(())
}
