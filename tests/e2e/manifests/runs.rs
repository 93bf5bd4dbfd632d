//! Manifests of pages and examples, run: the arguments, variables and files of our container as they are
//! written, with only addresses, ports and mount points changed to those of this machine.

use std::net::UdpSocket;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use e2e::parts::{Jvm, Nginx, Redis, Repository, RespClient, Tomcat, kustomize};
use e2e::process::Daemon;
use e2e::{eventually, free_port, http, repository};

use super::container::{Container, ours};
use super::pages::block;
use super::{object, objects};

/// The one container of ours in the manifest that a page ends with.
fn after(page: &str) -> Result<Container> {
    let text = std::fs::read_to_string(repository().join(page))?;
    let mut containers = ours(&objects(block(&text, "after")?)?)?;
    ensure!(containers.len() == 1, "{page} has {} containers of ours", containers.len());
    containers.pop().context("none")
}

/// A port of this machine in the place of one that the manifest names.
fn another_port(container: &mut Container, port: &str) -> Result<u16> {
    let free = free_port()?;
    container.say(port, &free.to_string());
    Ok(free)
}

fn ready(daemon: &Daemon, port: u16) -> Result<()> {
    eventually("readiness", || http::page(port, "/readyz")).map(drop).with_context(|| daemon.log())
}

#[test]
#[ignore = "needs git"]
fn gitsync_takes_over_from_git_sync() -> Result<()> {
    let source = Repository::new()?;
    source.push(&[("index.html", "taken over")])?;
    let mut container = after("gitsync/docs/migrating-from-git-sync.md")?;
    container.say("https://git.example.com/site.git", &format!("file://{}", source.bare().display()));
    let admin = another_port(&mut container, "2020")?;
    let daemon = container.start()?;
    ready(&daemon, admin)?;
    ensure!(std::fs::read_to_string(container.folder("git").join("current/index.html"))? == "taken over");
    ensure!(http::page(admin, "/metrics")?.contains("git_sync_count_total"), "no metrics");
    Ok(())
}

#[test]
#[ignore = "needs git, nginx and kubectl"]
fn a_push_deploys_in_the_example() -> Result<()> {
    let source = Repository::new()?;
    source.push(&[("index.html", "first")])?;
    let example = repository().join("images/kustomize/examples/push-to-deploy");
    let mut container = ours(&objects(&kustomize(&example)?)?)?.pop().context("no gitsync")?;
    container.say("https://git.example.com/site.git", &format!("file://{}", source.bare().display()));
    container.say("10s", "100ms");
    let admin = another_port(&mut container, "2020")?;
    let daemon = container.start()?;
    ready(&daemon, admin)?;
    let nginx = Nginx::serve(&container.folder("gitsync").join("current"))?;
    for text in ["first", "second"] {
        source.push(&[("index.html", text), ("other", text)])?;
        eventually(text, || match http::page(nginx.port, "/index.html")?.as_str() {
            page if page == text => Ok(()),
            page => bail!("{page}"),
        })
        .with_context(|| daemon.log())?;
    }
    Ok(())
}

#[test]
#[ignore = "uses the built binary"]
fn the_adapter_takes_over_from_statsd_exporter() -> Result<()> {
    let mut container = after("metrics-adapter/docs/migrating-from-statsd-exporter.md")?;
    let (statsd, web) = (another_port(&mut container, "9125")?, another_port(&mut container, "9102")?);
    let daemon = container.start()?;
    ready(&daemon, web)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(b"shop.orders.eu:3|c", ("127.0.0.1", statsd))?;
    eventually("the mapped line", || match http::page(web, "/metrics")? {
        page if page.contains("shop_orders_total{region=\"eu\"} 3") => Ok(()),
        page => bail!("{page}"),
    })
}

#[test]
#[ignore = "uses the built binary and kubectl"]
fn gunicorn_lines_become_families_in_the_example() -> Result<()> {
    let example = repository().join("images/kustomize/examples/statsd-web");
    let mut container = ours(&objects(&kustomize(&example)?)?)?.pop().context("no adapter")?;
    let (statsd, web) = (another_port(&mut container, "9125")?, another_port(&mut container, "9102")?);
    let daemon = container.start()?;
    ready(&daemon, web)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let lines = b"shop.gunicorn.request.status.200:1|c|@1.0\nshop.gunicorn.request.duration:12.5|ms\nshop.gunicorn.workers:2|g";
    socket.send_to(lines, ("127.0.0.1", statsd))?;
    eventually("the families", || {
        let page = http::page(web, "/metrics")?;
        for line in [
            "gunicorn_requests_total{code=\"200\"} 1",
            "gunicorn_request_duration_seconds_bucket{le=\"0.025\"} 1",
            "gunicorn_workers 2",
        ] {
            ensure!(page.lines().any(|found| found == line), "no {line} in:\n{page}");
        }
        Ok(())
    })
}

#[test]
#[ignore = "needs a JDK"]
fn the_adapter_takes_over_from_jmx_exporter() -> Result<()> {
    let jvm = Jvm::start()?;
    let mut container = after("metrics-adapter/docs/migrating-from-jmx-exporter.md")?;
    container.edit(Path::new("config/config.yaml"), "127.0.0.1:9010", &format!("127.0.0.1:{}", jvm.port))?;
    let web = another_port(&mut container, "9404")?;
    let daemon = container.start()?;
    ready(&daemon, web)?;
    eventually("the heap", || match http::page(web, "/metrics")? {
        page if page.contains("jvm_heap_used_bytes ") => Ok(()),
        page => bail!("{page}"),
    })
}

#[test]
#[ignore = "needs redis-server"]
fn the_ambassador_takes_over_from_predixy_and_envoy() -> Result<()> {
    let password = ["--requirepass", "change-me", "--masterauth", "change-me"];
    let primary = Redis::start_on(free_port()?, &password)?;
    let of = ["--replicaof", "127.0.0.1", &primary.port.to_string()];
    let replicas = [0, 1].map(|_| Redis::start_on(free_port()?, &[&password[..], &of[..]].concat()));
    for (page, listen) in [("predixy", "7617"), ("envoy", "6379")] {
        let mut container = after(&format!("redis-ambassador/docs/migrating-from-{page}.md"))?;
        let servers = std::iter::once(Ok(&primary)).chain(replicas.iter().map(Result::as_ref));
        for (number, server) in servers.enumerate() {
            let server = server.map_err(|error| anyhow::anyhow!("{error:#}"))?;
            container.say(&format!("redis-{number}.redis:6379"), &format!("127.0.0.1:{}", server.port));
        }
        let port = another_port(&mut container, &format!("127.0.0.1:{listen}"))?;
        container.say(&format!("--listen={port}"), &format!("--listen=127.0.0.1:{port}"));
        let admin = another_port(&mut container, "9121")?;
        let daemon = container.start()?;
        ready(&daemon, admin)?;
        let mut client = RespClient::connect(port)?;
        ensure!(client.command(&["SET", page, "value"])? == "OK", "{page}");
        ensure!(client.command(&["GET", page])? == "value", "{page}");
    }
    Ok(())
}

#[test]
#[ignore = "needs tomcat10 and kubectl"]
fn tomcat_shows_its_requests_in_the_example() -> Result<()> {
    let objects = objects(&kustomize(&repository().join("images/kustomize/examples/tomcat"))?)?;
    let options = object(&objects, "Deployment", "tomcat")?
        .pointer("/spec/template/spec/containers/0/env/0/value")
        .and_then(serde_json::Value::as_str)
        .context("no options for the JVM")?;
    let jmx = free_port()?.to_string();
    let tomcat = Tomcat::start(&options.replace("9010", &jmx))?;
    let mut container = ours(&objects)?.pop().context("no adapter")?;
    container.edit(Path::new("metrics-adapter-jmx/jmx.yaml"), "9010", &jmx)?;
    let web = another_port(&mut container, "9404")?;
    let daemon = container.start()?;
    ready(&daemon, web)?;
    for _ in 0..3 {
        http::get(tomcat.port, "/nothing-here")?;
    }
    let connector = format!("connector=\"http-nio-127.0.0.1-{}\"", tomcat.port);
    eventually("Tomcat's families", || {
        let page = http::page(web, "/metrics")?;
        for sample in [
            &format!("tomcat_requestcount_total{{{connector}}} 3"),
            &format!("tomcat_errorcount_total{{{connector}}} 3"),
            &format!("tomcat_processing_seconds_total{{{connector}}} "),
            &format!("tomcat_threadpool_currentthreadcount{{{connector}}} "),
            "tomcat_activesessions{context=\"/\",host=\"localhost\"} 0",
            "jvm_memory_used_bytes{area=\"Heap\"} ",
            "jvm_threads_current ",
        ] {
            ensure!(page.lines().any(|line| line.starts_with(sample)), "no {sample} in:\n{page}");
        }
        Ok(())
    })
    .with_context(|| daemon.log())
}
