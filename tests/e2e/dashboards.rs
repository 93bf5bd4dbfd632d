//! Dashboards and rules: every query of every panel finds something in a real Prometheus that scraped our
//! binaries under a small load, and every rule is about metrics that exist.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::parts::{Jvm, Prometheus, Redis, Repository, RespClient, python};
use e2e::process::{Daemon, run};
use e2e::{binary, eventually, free_port, http, program, repository};
use serde_json::Value;
use tempfile::TempDir;

const CRATES: [&str; 3] = ["gitsync", "redis-ambassador", "metrics-adapter"];

/// How long a query may find nothing: rates need two scrapes, and a store its time to flush.
const PATIENCE: Duration = Duration::from_secs(45);

/// Something that is done again and again until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    fn start(mut step: impl FnMut(u32) -> Result<()> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            // Bounded, should nobody ever stop it. A failed step is no failure: the queries judge.
            for round in 0..600 {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                let _ = step(round);
                std::thread::sleep(Duration::from_millis(250));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn dashboards(name: &str) -> Result<Vec<(String, Value)>> {
    let folder = repository().join(name).join("dashboards");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read_to_string(&path)?;
            let json = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            found.push((path.display().to_string(), json));
        }
    }
    ensure!(!found.is_empty(), "no dashboard in {}", folder.display());
    Ok(found)
}

/// Panels with the queries that Grafana would send, for everything in the variables' place.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        let title = panel["title"].as_str().unwrap_or("?");
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((title.to_owned(), filled(target["expr"].as_str().unwrap_or_default())));
        }
    }
    for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
        let query = variable["query"]["query"].as_str().and_then(|query| query.strip_prefix("label_values("));
        if let Some((series, label)) = query.and_then(|query| query.trim_end_matches(')').rsplit_once(", ")) {
            all.push((
                format!("variable {}", variable["name"]),
                filled(&format!("count by ({label}) ({series})")),
            ));
        }
    }
    all
}

fn filled(query: &str) -> String {
    query.replace("$__rate_interval", "10s").replace("$job", ".*").replace("$instance", ".*")
}

/// Waits until every query finds at least one number; names all that never do.
fn expect_all(prometheus: &Prometheus, mut pending: Vec<(String, String)>) -> Result<()> {
    let start = Instant::now();
    loop {
        let mut errors = Vec::new();
        pending.retain(|(panel, query)| match prometheus.values(query) {
            Ok(values) => !values.iter().any(|value| value.is_finite()),
            Err(error) => {
                errors.push(format!("{panel}: {error:#}"));
                false
            }
        });
        ensure!(errors.is_empty(), "wrong queries:\n{}", errors.join("\n"));
        if pending.is_empty() {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            let empty: Vec<String> =
                pending.iter().map(|(panel, query)| format!("{panel}: {query}")).collect();
            bail!("empty panels:\n{}", empty.join("\n"));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The names of metrics in an expression: what is left without strings, selectors, groupings and functions.
fn metric_names(expression: &str) -> BTreeSet<String> {
    let mut bare = String::new();
    let mut depth = 0;
    let mut quoted = false;
    for letter in expression.chars() {
        match letter {
            '"' => quoted = !quoted,
            '{' | '[' if !quoted => depth += 1,
            '}' | ']' if !quoted => depth -= 1,
            _ if depth == 0 && !quoted => bare.push(letter),
            _ => {}
        }
    }
    for grouping in ["by", "on", "without", "group_left", "group_right"] {
        while let Some(start) = bare.find(&format!("{grouping} (")) {
            let end = bare[start..].find(')').map_or(bare.len(), |length| start + length + 1);
            bare.replace_range(start..end, " ");
        }
    }
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let mut names = BTreeSet::new();
    for (start, _) in bare.match_indices(is_name) {
        let begins =
            !bare[..start].ends_with(is_name) && bare[start..].starts_with(|c: char| c.is_ascii_alphabetic());
        let name: String = bare[start..].chars().take_while(|letter| is_name(*letter)).collect();
        let called = bare[start + name.len()..].trim_start().starts_with('(');
        if begins && !called && name.contains('_') {
            names.insert(name);
        }
    }
    names
}

/// A query for each metric that a crate's rules are about; what the rules record themselves is left out.
fn rule_queries(name: &str) -> Result<Vec<(String, String)>> {
    let rules = rules(name)?;
    let recorded: BTreeSet<&str> = rules.iter().filter_map(|rule| rule["record"].as_str()).collect();
    let mut queries = BTreeSet::new();
    for rule in &rules {
        let title = rule["alert"].as_str().or(rule["record"].as_str()).unwrap_or("?");
        for metric in metric_names(rule["expr"].as_str().unwrap_or_default()) {
            if !recorded.contains(metric.as_str()) {
                queries.insert((title.to_owned(), format!("count({metric})")));
            }
        }
    }
    ensure!(queries.len() > 5, "{name}: only {queries:?}");
    Ok(queries.into_iter().collect())
}

fn rules(name: &str) -> Result<Vec<Value>> {
    let manifests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("e2e/manifests/judge.py");
    let file = repository().join(name).join("dashboards/rules.yaml");
    let json: Value =
        serde_json::from_str(&run(python()?, [manifests.as_os_str(), "json".as_ref(), file.as_os_str()])?)?;
    let groups = json[0]["groups"].as_array().context("no groups")?;
    Ok(groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect())
}

fn check(name: &str, dashboard: &str, ports: &[u16]) -> Result<()> {
    for port in ports {
        // The probes of every manifest.
        for path in ["/livez", "/readyz"] {
            eventually(path, || http::page(*port, path))?;
        }
    }
    let prometheus = Prometheus::scraping(ports)?;
    let mut all = Vec::new();
    for (path, json) in dashboards(name)? {
        if path.ends_with(dashboard) {
            all.extend(queries(&json));
        }
    }
    ensure!(all.len() > 10, "{dashboard} has only {} queries", all.len());
    expect_all(&prometheus, all).context(dashboard.to_owned())
}

#[test]
#[ignore = "needs promtool"]
fn rules_are_right_and_tested() -> Result<()> {
    for name in CRATES {
        let folder = repository().join(name).join("dashboards");
        let promtool = program("promtool")?;
        run(&promtool, ["check".as_ref(), "rules".as_ref(), folder.join("rules.yaml").as_os_str()])?;
        run(&promtool, ["test".as_ref(), "rules".as_ref(), folder.join("rules.test.yaml").as_os_str()])?;
        // Every alert has a unit test that makes it fire.
        let tests = std::fs::read_to_string(folder.join("rules.test.yaml"))?;
        for rule in rules(name)? {
            let Some(alert) = rule["alert"].as_str() else { continue };
            let fires = tests.split("alertname: ").any(|test| {
                test.starts_with(alert)
                    && test[alert.len()..].trim_start().starts_with("eval_time: ")
                    && test.contains("exp_labels")
            });
            ensure!(fires, "{name}: no test makes {alert} fire");
            for field in ["summary", "description"] {
                ensure!(rule["annotations"][field].is_string(), "{alert} has no {field}");
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs python3"]
fn dashboards_are_complete() -> Result<()> {
    let mut identifiers = BTreeSet::new();
    for name in CRATES {
        for (path, dashboard) in dashboards(name)? {
            ensure!(identifiers.insert(dashboard["uid"].to_string()), "{path}: its uid is taken");
            let mut numbers = BTreeSet::new();
            for panel in dashboard["panels"].as_array().context("no panels")? {
                let title = &panel["title"];
                ensure!(numbers.insert(panel["id"].to_string()), "{path}: {title}: its id is taken");
                if panel["type"] == "row" {
                    continue;
                }
                ensure!(panel["description"].is_string(), "{path}: {title} does not say what it shows");
                ensure!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{path}: {title} has no unit");
                ensure!(panel["datasource"]["uid"] == "${datasource}", "{path}: {title} names a data source");
                for target in panel["targets"].as_array().context("no targets")? {
                    let query = target["expr"].as_str().unwrap_or_default();
                    ensure!(
                        query.contains("$instance"),
                        "{path}: {title} ignores the chosen instance: {query}"
                    );
                }
            }
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs git, prometheus and python3"]
fn no_panel_of_gitsync_is_empty() -> Result<()> {
    let (source, root) = (Repository::new()?, tempfile::tempdir()?);
    source.push(&[("index.html", "0")])?;
    let admin = free_port()?;
    let mut sidecar = Daemon::start(
        Command::new(binary("gitsync")?)
            .arg(format!("--repo=file://{}", source.bare().display()))
            .arg(format!("--root={}", root.path().display()))
            .args(["--ref=main", "--link=site", "--period=200ms", "--http-metrics"])
            .arg(format!("--exechook-command={}", program("true")?.display()))
            .arg(format!("--http-bind=127.0.0.1:{admin}")),
    )?;
    sidecar.wait_for_port(admin)?;
    let load = Load::start(move |round| {
        source.push(&[("index.html", &round.to_string())])?;
        Ok(())
    });
    check("gitsync", "gitsync.json", &[admin])?;
    expect_all(&Prometheus::scraping(&[admin])?, rule_queries("gitsync")?)?;
    drop(load);
    Ok(())
}

#[test]
#[ignore = "needs redis-server, prometheus and python3"]
fn no_panel_of_redis_ambassador_is_empty() -> Result<()> {
    let primary = Redis::start()?;
    let replicas = [Redis::replica_of(primary.port)?, Redis::replica_of(primary.port)?];
    let (port, admin) = (free_port()?, free_port()?);
    let mut command = Command::new(binary("redis-ambassador")?);
    command.args([
        format!("--listen=127.0.0.1:{port}"),
        format!("--primary=127.0.0.1:{}", primary.port),
        format!("--replica=127.0.0.1:{}", replicas[0].port),
        format!("--replica=127.0.0.1:{}", replicas[1].port),
        format!("--admin-listen=127.0.0.1:{admin}"),
    ]);
    let mut ambassador = Daemon::start(&mut command)?;
    ambassador.wait_for_port(admin)?;
    eventually("readiness", || http::page(admin, "/readyz"))?;
    let mut client = RespClient::connect(port)?;
    let load = Load::start(move |round| {
        let key = format!("key{round}");
        client.command(&["SET", &key, "value"])?;
        for old in round.saturating_sub(20)..=round {
            client.command(&["GET", &format!("key{old}")])?;
        }
        client.command(&["LPUSH", &key, "wrong type"])?;
        Ok(())
    });
    check("redis-ambassador", "redis-ambassador.json", &[admin])?;
    expect_all(&Prometheus::scraping(&[admin])?, rule_queries("redis-ambassador")?)?;
    drop(load);
    Ok(())
}

/// A StatsD adapter with mappings, and a sender of all kinds of lines, right and wrong.
fn statsd() -> Result<(Daemon, u16, TempDir, Load)> {
    let directory = tempfile::tempdir()?;
    let mapping = directory.path().join("mapping.yaml");
    std::fs::write(&mapping, "mappings:\n- match: orders.*\n  name: orders_total\n  labels: {region: $1}\n")?;
    let (port, web) = (free_port()?, free_port()?);
    let mut daemon = Daemon::start(Command::new(binary("metrics-adapter")?).arg("statsd").args([
        format!("--statsd.listen-udp=127.0.0.1:{port}"),
        format!("--statsd.listen-tcp=127.0.0.1:{port}"),
        format!("--statsd.mapping-config={}", mapping.display()),
        format!("--web.listen-address=127.0.0.1:{web}"),
    ]))?;
    daemon.wait_for_port(web)?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(("127.0.0.1", port))?;
    let load = Load::start(move |round| {
        socket.send(b"orders.eu:1|c\norders.us:2|c|@0.5\nqueue:7|g\nlatency:320|ms|#route:/pay\n")?;
        socket.send(format!("broken line\nqueue:1|c\nunmapped{}:1|c\n", round % 5).as_bytes())?;
        // The mapping is loaded again whenever its file changes, once wrong and once right.
        if round % 8 == 4 {
            let right = "mappings:\n- match: orders.*\n  name: orders_total\n  labels: {region: $1}\n";
            let text = if round % 16 == 4 { "mappings: [{" } else { right };
            std::fs::write(&mapping, text)?;
        }
        Ok(())
    });
    Ok((daemon, web, directory, load))
}

/// An adapter of sources: one that is well, one that has a series of the first, one without a number, one that is gone.
fn sources() -> Result<(Daemon, u16, TempDir)> {
    let directory = tempfile::tempdir()?;
    let file = |name: &str, text: &str| std::fs::write(directory.path().join(name), text);
    file("first.prom", "# TYPE orders counter\norders{region=\"eu\"} 7\norders{region=\"us\"} 9\n")?;
    file("second.prom", "# TYPE orders counter\norders{region=\"us\"} 1\n")?;
    file("words.json", "{\"state\": \"many\"}")?;
    file(
        "adapter.yaml",
        "sources:\n\
         - {name: first, type: file, path: first.prom}\n\
         - {name: second, type: file, path: second.prom}\n\
         - {name: words, type: file, path: words.json, metrics: [{name: state, path: $.state}]}\n\
         - {name: gone, type: file, path: gone.prom}\n",
    )?;
    let web = free_port()?;
    let mut daemon = Daemon::start(
        Command::new(binary("metrics-adapter")?)
            .arg("run")
            .arg(directory.path().join("adapter.yaml"))
            .arg(format!("--web.listen-address=127.0.0.1:{web}")),
    )?;
    daemon.wait_for_port(web)?;
    Ok((daemon, web, directory))
}

#[test]
#[ignore = "needs prometheus, a JDK and python3"]
fn no_panel_of_metrics_adapter_is_empty() -> Result<()> {
    let (_statsd, statsd_web, _directory, load) = statsd()?;
    check("metrics-adapter", "statsd.json", &[statsd_web])?;

    let jvm = Jvm::start()?;
    let web = free_port()?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, format!("hostPort: 127.0.0.1:{}\nrules:\n- pattern: '.*'\n", jvm.port))?;
    let mut adapter = Daemon::start(
        Command::new(binary("metrics-adapter")?).arg("jmx").arg(format!("127.0.0.1:{web}")).arg(&file),
    )?;
    adapter.wait_for_port(web)?;
    check("metrics-adapter", "jmx.json", &[web])?;
    let (_sources, sources_web, _files) = sources()?;
    check("metrics-adapter", "run.json", &[sources_web])?;
    expect_all(&Prometheus::scraping(&[statsd_web, web, sources_web])?, rule_queries("metrics-adapter")?)?;
    drop(load);
    Ok(())
}

#[test]
fn names_in_expressions_are_found() {
    let found = metric_names(
        "sum by (job, le_x) (rate(a_total{x=\"b_c\"}[5m])) / on (job) group_left () (d_e offset 10m) > bool 10e6 and f:g_h",
    );
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["a_total", "d_e", "f:g_h"]);
}
