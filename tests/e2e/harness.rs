//! The real parts themselves: when these fail, the machine and not our code is at fault.

use e2e::parts::{Nginx, Prometheus, Redis, Repository, check_metrics, git_in};

#[test]
#[ignore = "needs redis-server"]
fn redis_replicates() -> anyhow::Result<()> {
    let primary = Redis::start()?;
    let replica = Redis::replica_of(primary.port)?;
    assert_eq!(primary.client()?.command(&["SET", "k", "v"])?, "OK");
    e2e::eventually("the value on the replica", || match replica.client()?.command(&["GET", "k"])?.as_str() {
        "v" => Ok(()),
        other => anyhow::bail!("{other}"),
    })
}

#[test]
#[ignore = "needs git and nginx"]
fn git_and_nginx_serve() -> anyhow::Result<()> {
    let repository = Repository::new()?;
    let hash = repository.push(&[("index.html", "hello")])?;
    let (_daemon, url) = repository.serve()?;
    assert!(git_in(repository.directory(), ["ls-remote", &url])?.contains(&hash));
    let nginx = Nginx::serve(&repository.work())?;
    assert_eq!(e2e::http::page(nginx.port, "/index.html")?, "hello");
    Ok(())
}

#[test]
#[ignore = "needs prometheus and promtool"]
fn prometheus_scrapes_itself() -> anyhow::Result<()> {
    let first = Prometheus::scraping(&[])?;
    let second = Prometheus::scraping(&[first.port])?;
    second.expect("up", 1.0)?;
    assert!(check_metrics("# HELP a_total Help.\n# TYPE a_total counter\na_total 1\n")?.is_empty());
    assert_eq!(check_metrics("# HELP a Help.\n# TYPE a counter\na 1\n")?.len(), 1);
    assert!(check_metrics("not metrics").is_err());
    Ok(())
}
