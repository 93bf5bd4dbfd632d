//! The example applications as Pods under podman, rendered by kubectl: each works with a real neighbour, and
//! what changes under a running Pod (a password, mappings, rules) takes effect without a restart.

mod jmx;
mod pod;

use anyhow::{Context, Result, bail, ensure};
use e2e::parts::{git_in, kustomize};
use e2e::{eventually, http, repository};
use serde_json::Value;

use self::pod::{Network, Pod};
use crate::manifests::objects;

fn rendered(example: &str) -> Result<Vec<Value>> {
    objects(&kustomize(&repository().join("images/kustomize/examples").join(example))?)
}

fn page_has(port: u16, path: &str, text: &str) -> Result<String> {
    let page = http::page(port, path)?;
    if page.contains(text) { Ok(page) } else { bail!("no {text:?} in:\n{page}") }
}

/// A git server in a Pod, which asks for a password if there is one.
fn git_server<'a>(network: &'a Network, login: Option<&str>) -> Result<Pod<'a>> {
    let file = repository().join("images/pods/backing/git-server.yaml");
    let mut server = Pod::of(network, &objects(&std::fs::read_to_string(file)?)?, "Pod", "git-server")?;
    server.stand_in("git", "git-server", &[])?;
    if let Some(login) = login {
        server.variable("git", "HTPASSWD", "/login/htpasswd")?;
        server.mount("git", "login", "/login", &[("htpasswd", login)])?;
    }
    server.start()?;
    Ok(server)
}

#[test]
#[ignore = "needs podman, the images and kubectl"]
fn a_push_deploys_and_the_password_rotates_under_the_running_pod() -> Result<()> {
    let network = Network::new()?;
    let server = git_server(&network, Some("deploy:{PLAIN}change-me\n"))?;
    let mut site = Pod::of(&network, &rendered("push-to-deploy")?, "Deployment", "site")?;
    site.stand_in("nginx", "nginx", &["-c", "/etc/nginx/unprivileged.conf"])?;
    site.say("https://git.example.com", &format!("http://{}:8080", server.name))?;
    site.say("10s", "300ms")?;
    site.start()?;
    let (page, admin) = (site.port("http")?, site.port("gitsync")?);
    let gitsync = site.container("gitsync");
    eventually("the first page", || page_has(page, "/", "Hello from the first commit"))
        .with_context(|| network.podman.logs(&gitsync))?;
    eventually("readiness", || http::page(admin, "/readyz"))?;
    for container in [&gitsync, &site.container("nginx")] {
        network.podman.expect_hardened(container)?;
    }

    let folder = tempfile::tempdir()?;
    let clone = folder.path().join("clone");
    let push = |password: &str, text: &str| -> Result<()> {
        let url = format!("http://deploy:{password}@127.0.0.1:{}/site.git", server.port("git")?);
        if !clone.exists() {
            git_in(folder.path(), ["clone", "-q", &url, "clone"])?;
        }
        std::fs::write(clone.join("index.html"), text)?;
        git_in(&clone, ["commit", "-q", "-a", "-m", text])?;
        git_in(&clone, ["push", "-q", &url, "HEAD:main"]).map(drop)
    };
    push("change-me", "second page")?;
    eventually("the second page", || page_has(page, "/", "second page"))
        .with_context(|| network.podman.logs(&gitsync))?;

    // The server's password changes first, so that the old one is seen to fail; then the Secret follows.
    let pid = network.podman.pid(&gitsync)?;
    server.rotate("login", &[("htpasswd", "deploy:{PLAIN}changed\n")])?;
    push("changed", "third page")?;
    eventually("a refused sync", || page_has(admin, "/metrics", "git_sync_count_total{status=\"error\"}"))?;
    ensure!(page_has(page, "/", "second page").is_ok(), "the page changed without a password");
    site.rotate("gitsync-secret", &[("password", "changed")])?;
    eventually("the third page", || page_has(page, "/", "third page"))
        .with_context(|| network.podman.logs(&gitsync))?;
    ensure!(network.podman.pid(&gitsync)? == pid, "gitsync was restarted");
    Ok(())
}

/// A DAG of two tasks; `helpers` is another file of the same commit.
const DAG: &str = "from airflow.sdk import DAG, task\nfrom helpers import SCHEDULE\n\n@task\ndef extract(): ...\n\n\
    @task\ndef load(): ...\n\nwith DAG('daily', schedule=SCHEDULE) as dag:\n    extract() >> load()\n";

#[test]
#[ignore = "needs podman, the images and kubectl"]
fn dags_reach_the_running_processor_with_each_push() -> Result<()> {
    let network = Network::new()?;
    let server = git_server(&network, None)?;
    let folder = tempfile::tempdir()?;
    let (clone, url) =
        (folder.path().join("clone"), format!("http://127.0.0.1:{}/site.git", server.port("git")?));
    eventually("the git server", || git_in(folder.path(), ["clone", "-q", &url, "clone"]))?;
    std::fs::create_dir(clone.join("dags"))?;
    let push = |files: &[(&str, &str)]| -> Result<()> {
        for (name, text) in files {
            std::fs::write(clone.join("dags").join(name), text)?;
        }
        git_in(&clone, ["add", "-A"])?;
        git_in(&clone, ["commit", "-q", "-m", "DAGs"])?;
        git_in(&clone, ["push", "-q", "origin", "HEAD:main"]).map(drop)
    };
    push(&[("daily.py", DAG), ("helpers.py", "SCHEDULE = '@daily'\n")])?;

    let mut airflow = Pod::of(&network, &rendered("airflow-dags")?, "Deployment", "dag-processor")?;
    airflow.stand_in("dag-processor", "dag-app", &[])?;
    // The deploy key has no server to show it to here; SSH is in the tests of gitsync.
    airflow.say("git@git.example.com:data/dags.git", &format!("http://{}:8080/site.git", server.name))?;
    airflow.say("30s", "300ms")?;
    airflow.start()?;
    let (gitsync, processor) = (airflow.container("gitsync"), airflow.container("dag-processor"));
    let says = |text: &str| {
        let said = || -> Result<()> {
            let log = network.podman.logs(&processor);
            ensure!(log.contains(text), "no {text:?} in:\n{log}");
            Ok(())
        };
        eventually(text, said).with_context(|| network.podman.logs(&gitsync))
    };
    says("dag daily @daily: extract >> load\n")?;
    network.podman.expect_hardened(&gitsync)?;

    let pids = (network.podman.pid(&gitsync)?, network.podman.pid(&processor)?);
    push(&[("helpers.py", "SCHEDULE = '@hourly'\n"), ("weekly.py", &DAG.replace("daily", "weekly"))])?;
    says("dag daily @hourly: extract >> load\n")?;
    says("dag weekly @hourly: extract >> load\n")?;
    // A mistake is one file's; taking it back is a push like any other.
    push(&[("broken.py", "import nothing_of_this_name\n")])?;
    says("error in broken.py ModuleNotFoundError: No module named 'nothing_of_this_name'\n")?;
    git_in(&clone, ["rm", "-q", "dags/broken.py", "dags/weekly.py"])?;
    push(&[])?;
    says("error in broken.py gone\n")?;
    says("dag weekly gone\n")?;
    ensure!(!network.podman.logs(&processor).contains("dag daily gone"), "the DAGs were away for a moment");
    ensure!(
        pids == (network.podman.pid(&gitsync)?, network.podman.pid(&processor)?),
        "something was restarted"
    );
    Ok(())
}

/// What gunicorn sends with `--statsd-host`, again and again, as it would.
const GUNICORN: &str = "exec 3<> <(:); while read -r -t 0.2 -u 3 _ || true; do \
    printf 'shop.gunicorn.request.status.200:1|c|@1.0\\nshop.gunicorn.request.duration:12.5|ms\\nshop.gunicorn.workers:2|g' \
    >/dev/udp/127.0.0.1/9125; done";

#[test]
#[ignore = "needs podman, the images and kubectl"]
fn lines_become_families_and_mappings_change_under_the_running_pod() -> Result<()> {
    let network = Network::new()?;
    let mut shop = Pod::of(&network, &rendered("statsd-web")?, "Deployment", "shop")?;
    shop.stand_in("shop", "statsd-app", &[])?;
    shop.command("shop", &["/bin/bash", "-c", GUNICORN])?;
    shop.start()?;
    let (web, adapter) = (shop.port("statsd-metrics")?, shop.container("metrics-adapter"));
    for text in [
        "gunicorn_requests_total{code=\"200\"} ",
        "gunicorn_request_duration_seconds_bucket{le=\"0.025\"} ",
        "gunicorn_workers 2",
    ] {
        eventually(text, || page_has(web, "/metrics", text))
            .with_context(|| network.podman.logs(&adapter))?;
    }
    network.podman.expect_hardened(&adapter)?;

    let pid = network.podman.pid(&adapter)?;
    let mappings = shop.file("metrics-adapter-files", "statsd.yaml")?;
    // A mistake changes nothing but a counter; what is right takes effect.
    shop.rotate("metrics-adapter-files", &[("statsd.yaml", &mappings.replacen("match:", "mtch:", 1))])?;
    let failed = "statsd_exporter_config_reloads_total{outcome=\"failure\"} ";
    eventually("a refused mapping", || page_has(web, "/metrics", failed))?;
    eventually("the old mapping", || page_has(web, "/metrics", "gunicorn_workers 2"))?;
    let renamed = mappings.replace("gunicorn_workers", "web_workers");
    shop.rotate("metrics-adapter-files", &[("statsd.yaml", &renamed)])?;
    eventually("the new mapping", || page_has(web, "/metrics", "\nweb_workers 2"))
        .with_context(|| network.podman.logs(&adapter))?;
    ensure!(network.podman.pid(&adapter)? == pid, "the adapter was restarted");
    Ok(())
}

#[test]
#[ignore = "needs podman, the images and kubectl"]
fn the_password_of_redis_rotates_under_the_running_application() -> Result<()> {
    let network = Network::new()?;
    let file = repository().join("images/pods/backing/redis-servers.yaml");
    let backing = objects(&std::fs::read_to_string(file)?)?;
    let mut servers = Vec::new();
    for name in ["redis-primary", "redis-replica-1", "redis-replica-2"] {
        let mut server = Pod::of(&network, &backing, "Pod", name)?;
        let login = [
            "--requirepass",
            "change-me",
            "--masterauth",
            "change-me",
            "--save",
            "",
            "--protected-mode",
            "no",
        ];
        let primary: &Pod<'_> = servers.first().unwrap_or(&server);
        let of = ["--replicaof".to_owned(), primary.name.clone(), "6379".to_owned()];
        let of: Vec<&str> =
            of.iter().map(String::as_str).take(if servers.is_empty() { 0 } else { 3 }).collect();
        server.stand_in("redis", "redis", &[&login[..], &of].concat())?;
        server.start()?;
        servers.push(server);
    }
    let mut shop = Pod::of(&network, &rendered("redis-sentinel")?, "Deployment", "shop")?;
    shop.stand_in("shop", "redis", &["--port", "7000", "--save", ""])?;
    for (number, server) in servers.iter().enumerate() {
        shop.say(&format!("redis-{number}.redis:"), &format!("{}:", server.name))?;
    }
    shop.start()?;
    let (admin, ambassador) = (shop.port("ambassador")?, shop.container("redis-ambassador"));
    eventually("readiness", || http::page(admin, "/readyz"))
        .with_context(|| network.podman.logs(&ambassador))?;
    network.podman.expect_hardened(&ambassador)?;
    let app = |words: &[&str]| -> Result<String> {
        let container = shop.container("shop");
        let command = [&["exec", &container, "redis-cli", "-h", "127.0.0.1"], words].concat();
        Ok(network.podman.run(&command)?.trim().to_owned())
    };
    ensure!(app(&["SET", "greeting", "hello"])? == "OK");
    ensure!(app(&["GET", "greeting"])? == "hello");

    let pid = network.podman.pid(&ambassador)?;
    for server in &servers {
        let container = server.container("redis");
        for words in [
            &["CONFIG", "SET", "masterauth", "changed", "requirepass", "changed"][..],
            &["CLIENT", "KILL", "TYPE", "normal"],
        ] {
            let login = ["exec", container.as_str(), "redis-cli", "--no-auth-warning", "-a"];
            let password = if words[0] == "CONFIG" { "change-me" } else { "changed" };
            network.podman.run(&[&login[..], &[password], words].concat())?;
        }
    }
    shop.rotate("redis-ambassador-secret", &[("password", "changed")])?;
    eventually("a write with the new password", || match app(&["SET", "greeting", "again"])?.as_str() {
        "OK" => Ok(()),
        other => bail!("{other}"),
    })
    .with_context(|| network.podman.logs(&ambassador))?;
    eventually("a read with the new password", || match app(&["GET", "greeting"])?.as_str() {
        "again" => Ok(()),
        other => bail!("{other}"),
    })?;
    ensure!(network.podman.pid(&ambassador)? == pid, "the ambassador was restarted");
    Ok(())
}
