//! Manifests of pages and examples, run: the arguments, variables and files of our container as they are
//! written, with only addresses, ports and mount points changed to those of this machine.

use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::parts::{Envoy, Jvm, Nginx, Redis, Repository, RespClient, Tomcat, kustomize};
use e2e::process::{Daemon, run};
use e2e::{eventually, free_port, http, program, repository, within};

use super::container::{Container, ours};
use super::pages::block;
use super::{content, object, objects};

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

/// The page's manifest from before, in front of real servers, and what the page says of Envoy.
#[test]
#[ignore = "needs redis-server and Envoy"]
fn envoy_does_what_its_page_says() -> Result<()> {
    let primary = Redis::start()?;
    let replicas = [Redis::replica_of(primary.port)?, Redis::replica_of(primary.port)?];
    let page = std::fs::read_to_string(repository().join("redis-ambassador/docs/migrating-from-envoy.md"))?;
    let before = objects(block(&page, "before")?)?;
    let files = content(object(&before, "ConfigMap", "envoy")?);
    let (_, mut configuration) = files.into_iter().next().context("no envoy.yaml")?;
    let port = free_port()?;
    let servers = [&primary, &replicas[0], &replicas[1]];
    let names = (0..3).map(|number| format!("redis-{number}.redis"));
    for (name, port) in names.zip(servers.map(|server| server.port)).chain([("127.0.0.1".to_owned(), port)]) {
        let place = format!("address: {name}, port_value: 6379");
        ensure!(configuration.contains(&place), "no {place}");
        configuration = configuration.replace(&place, &format!("address: 127.0.0.1, port_value: {port}"));
    }
    let envoy = Envoy::start(&configuration, port)?;
    let mut client = RespClient::connect(port)?;
    let mut says = |words: &[&str]| client.command(words).with_context(|| envoy.daemon.log());
    ensure!(says(&["SET", "key", "value"])? == "OK");
    eventually("the value on the replicas", || match says(&["GET", "key"])? {
        value if value == "value" => Ok(()),
        other => bail!("{other}"),
    })?;
    // Not in its list of commands.
    for words in [&["COMMAND"][..], &["EVAL_RO", "return 1", "0"], &["BLPOP", "list", "1"], &["MONITOR"]] {
        let answer = says(words)?;
        ensure!(answer.contains("unknown command"), "{words:?}: {answer}");
    }
    ensure!(says(&["HELLO", "3"])?.contains("NOPROTO"));
    ensure!(says(&["CLIENT", "ID"])?.contains("not supported by the proxy"));
    // A write that is not in its list of writes.
    ensure!(says(&["GETEX", "key", "PERSIST"])?.contains("READONLY"));
    // Answered, but not done.
    ensure!(says(&["SELECT", "1"])? == "OK");
    ensure!(says(&["SET", "selected", "value"])? == "OK");
    let mut direct = primary.client()?;
    ensure!(direct.command(&["GET", "selected"])? == "value", "SELECT was obeyed");
    ensure!(says(&["WATCH", "key"])? == "OK");
    direct.command(&["SET", "key", "of another"])?;
    ensure!(says(&["MULTI"])? == "OK");
    says(&["SET", "key", "overwritten"])?;
    says(&["EXEC"])?;
    ensure!(direct.command(&["GET", "key"])? == "overwritten", "WATCH guarded");
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

#[test]
#[ignore = "needs redis-sentinel, kubectl and namespaces"]
fn the_application_survives_a_failover_in_the_example() -> Result<()> {
    let example = repository().join("images/kustomize/examples/redis-sentinel");
    let objects = objects(&kustomize(&example)?)?;
    let folder = tempfile::tempdir()?;
    for (name, script) in
        object(&objects, "ConfigMap", "redis-scripts")?["data"].as_object().context("no data")?
    {
        std::fs::write(folder.path().join(name), script.as_str().unwrap_or_default())?;
    }
    // Addresses that no other run of this story has.
    let unique = std::process::id();
    let prefix = format!("127.{}.{}.", 1 + unique % 200, 1 + unique / 200 % 250);

    let mut container = ours(&objects)?.pop().context("no ambassador")?;
    container.write(Path::new("redis-ambassador-secret/password"), "change-me")?;
    let port = another_port(&mut container, "127.0.0.1:6379")?;
    container.say(&format!("--listen={port}"), &format!("--listen=127.0.0.1:{port}"));
    let admin = another_port(&mut container, "9121")?;
    let mut namespaces = Command::new(program("unshare")?);
    namespaces.args(["--map-root-user", "--mount", "--pid", "--fork", "--kill-child"]);
    namespaces.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/manifests/sentinel.sh"));
    let daemon = container.start_by(namespaces.arg(folder.path()).arg(&prefix))?;
    ready(&daemon, admin)?;

    let redis = |number: u32, port: &str, words: &[&str]| -> Result<String> {
        let host = format!("{prefix}1{number}");
        let login: &[&str] = if port == "6379" { &["-a", "change-me", "--no-auth-warning"] } else { &[] };
        run(program("redis-cli")?, [&["-h", &host, "-p", port], login, words].concat())
    };
    within(Duration::from_secs(30), "three Sentinels that know each other", || {
        let quorum = redis(0, "26379", &["SENTINEL", "CKQUORUM", "shop"])?;
        let replicas = redis(0, "6379", &["INFO", "replication"])?;
        ensure!(
            quorum.starts_with("OK 3 usable") && replicas.contains("connected_slaves:2"),
            "{quorum}{replicas}"
        );
        Ok(())
    })?;
    let mut client = RespClient::connect(port)?;
    ensure!(client.command(&["SET", "before", "value"])? == "OK");
    ensure!(client.command(&["WAIT", "2", "5000"])? == ":2", "the replicas do not follow");
    // It ends before it answers, so there is nothing to look at.
    let _ = redis(0, "6379", &["SHUTDOWN", "NOSAVE", "NOW", "FORCE"]);
    // A pause, and after a split vote of the Sentinels a longer one; then the application goes on as before.
    within(Duration::from_secs(120), "a write to the new primary", || {
        let answer = RespClient::connect(port)?.command(&["SET", "during", "value"])?;
        if answer == "OK" { Ok(()) } else { bail!("{answer}\n{}", daemon.log()) }
    })?;
    ensure!(client.command(&["GET", "before"])? == "value", "a write was lost");
    eventually("the Sentinels to agree", || {
        let primary = redis(1, "26379", &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop"])?;
        ensure!(primary.starts_with("redis-1.redis") || primary.starts_with("redis-2.redis"), "{primary}");
        Ok(())
    })?;
    ensure!(
        http::page(admin, "/metrics")?.contains("redis_ambassador_failovers_total 1"),
        "no failover was seen"
    );
    Ok(())
}
