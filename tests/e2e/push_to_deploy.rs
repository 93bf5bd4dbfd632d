//! gitsync beside a real nginx: a push changes the page, and no reader ever sees half a change.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use e2e::parts::{Nginx, Repository, git_in};
use e2e::process::{Daemon, output};
use e2e::{binary, eventually, free_port, http};

fn gitsync(url: &str, root: &Path, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("gitsync")?);
    command
        .arg(format!("--repo={url}"))
        .arg(format!("--root={}", root.display()))
        .arg("--link=site")
        .args(arguments);
    Ok(command)
}

#[test]
#[ignore = "needs git and nginx"]
fn a_push_becomes_the_page() -> Result<()> {
    let (repository, root) = (Repository::new()?, tempfile::tempdir()?);
    repository.push(&[("index.html", "first")])?;
    let (_server, url) = repository.serve()?;
    let admin = free_port()?;
    let bind = format!("--http-bind=127.0.0.1:{admin}");
    let mut sidecar = Daemon::start(&mut gitsync(
        &url,
        root.path(),
        &["--ref=main", "--period=100ms", &bind, "--http-metrics"],
    )?)?;
    sidecar.wait_for_port(admin)?;
    let nginx = Nginx::serve(&root.path().join("site"))?;
    eventually("the first page", || match http::page(nginx.port, "/index.html")?.as_str() {
        "first" => Ok(()),
        other => bail!("{other}"),
    })?;
    eventually("readiness", || http::page(admin, "/readyz"))?;

    let hash = repository.push(&[("index.html", "second")])?;
    eventually("the second page", || match http::page(nginx.port, "/index.html")?.as_str() {
        "second" => Ok(()),
        other => bail!("{other}"),
    })?;
    let target = std::fs::read_link(root.path().join("site"))?;
    ensure!(target == PathBuf::from(".worktrees").join(&hash), "{}", target.display());
    let metrics = http::page(admin, "/metrics")?;
    ensure!(metrics.contains("git_sync_count_total{status=\"success\"}"), "{metrics}");
    ensure!(
        http::page(admin, "/status.json").is_ok() || http::get(admin, "/")?.status == 200,
        "no status page"
    );

    sidecar.signal("TERM")?;
    let status = sidecar.wait(Duration::from_secs(2))?;
    ensure!(status.success(), "SIGTERM: {status}");
    Ok(())
}

#[test]
#[ignore = "needs git"]
fn readers_never_see_half_a_change() -> Result<()> {
    let (repository, root) = (Repository::new()?, tempfile::tempdir()?);
    let push = |round: u64| {
        let text = round.to_string();
        repository.push(&[("a.txt", &text), ("deep/b.txt", &text), ("deep/er/c.txt", &text)])
    };
    push(0)?;
    let url = format!("file://{}", repository.bare().display());
    let arguments = ["--ref=main", "--period=20ms", "--stale-worktree-timeout=2s", "--max-failures=-1"];
    let _sidecar = Daemon::start(&mut gitsync(&url, root.path(), &arguments)?)?;
    let link = root.path().join("site");
    eventually("the first tree", || Ok(std::fs::read_link(&link)?))?;

    let (stop, looks) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| -> Result<()> {
            while !stop.load(Ordering::Relaxed) {
                // One resolution of the link, then all files of that tree: what nginx or an importer does.
                let tree = link.canonicalize()?;
                let read = |name: &str| std::fs::read_to_string(tree.join(name));
                let seen = [read("a.txt")?, read("deep/b.txt")?, read("deep/er/c.txt")?];
                ensure!(seen[0] == seen[1] && seen[1] == seen[2], "a mix of commits: {seen:?}");
                looks.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let pushed = (1..=25).try_for_each(|round| push(round).map(|_| ()));
        let last =
            eventually("the last commit", || match std::fs::read_to_string(link.join("a.txt"))?.as_str() {
                "25" => Ok(()),
                other => bail!("{other}"),
            });
        stop.store(true, Ordering::Relaxed);
        reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        pushed.and(last)
    })?;
    ensure!(looks.load(Ordering::Relaxed) > 100, "the reader hardly ran");
    Ok(())
}

#[test]
#[ignore = "needs git"]
fn a_real_git_works_in_the_published_tree() -> Result<()> {
    let (repository, root) = (Repository::new()?, tempfile::tempdir()?);
    repository.push(&[("old.txt", "x")])?;
    let hash = repository.push(&[("index.html", "hello"), ("bin/run.sh", "#!/bin/sh\n")])?;
    let (_server, git_url) = repository.serve()?;
    for url in
        [git_url, format!("file://{}", repository.bare().display()), repository.bare().display().to_string()]
    {
        let volume = root.path().join(url.replace(['/', ':'], "_"));
        output(&mut gitsync(&url, &volume, &["--one-time"])?)?;
        let tree = volume.join("site");
        ensure!(git_in(&tree, ["rev-parse", "HEAD"])?.trim() == hash);
        ensure!(git_in(&tree, ["status", "--porcelain"])?.is_empty(), "{url}");
        ensure!(
            git_in(&tree, ["rev-list", "--count", "HEAD"])?.trim() == "1",
            "{url}: depth is 1 by default"
        );
        git_in(&tree, ["fsck", "--connectivity-only"])?;
        git_in(&tree, ["archive", "-o", "/dev/null", "HEAD"])?;

        output(&mut gitsync(&url, &volume, &["--one-time", "--depth=0"])?)?;
        ensure!(
            git_in(&tree, ["rev-list", "--count", "HEAD"])?.trim() == "2",
            "{url}: depth 0 is everything"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs git"]
fn bad_input_is_named() -> Result<()> {
    let (repository, root) = (Repository::new()?, tempfile::tempdir()?);
    repository.push(&[("a", "b")])?;
    let url = format!("file://{}", repository.bare().display());
    let said = |arguments: &[&str]| -> Result<(Option<i32>, String)> {
        let output = gitsync(&url, root.path(), arguments)?.output()?;
        Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (code, text) = said(&["--one-time", "--perod=1s"])?;
    ensure!(code == Some(2) && text.contains("--perod") && text.contains("--period"), "{code:?} {text}");
    let (code, text) = said(&["--one-time", "--period=5"])?;
    ensure!(code == Some(2) && text.contains("period"), "{code:?} {text}");
    let (code, text) = said(&["--one-time", "--ref=nonesuch"])?;
    ensure!(code == Some(1) && text.contains("nonesuch"), "{code:?} {text}");
    let port = free_port()?;
    let mut refused = gitsync(&format!("http://127.0.0.1:{port}/x.git"), root.path(), &["--one-time"])?;
    let refused = refused.output()?;
    let text = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(1) && text.contains(&port.to_string()), "{text}");
    ensure!(!root.path().join("site").exists(), "nothing may be published");
    Ok(())
}
