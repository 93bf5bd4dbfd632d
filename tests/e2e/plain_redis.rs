//! redis-ambassador in front of a real primary and two replicas: the application sees one plain Redis.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::parts::{Redis, RespClient, python};
use e2e::process::{Daemon, output};
use e2e::{binary, eventually, free_port, http, program};

struct Trio {
    primary: Redis,
    replicas: Vec<Redis>,
    ambassador: Daemon,
    port: u16,
    admin: u16,
}

impl Trio {
    fn start() -> Result<Self> {
        let primary = Redis::start()?;
        let replicas = vec![Redis::replica_of(primary.port)?, Redis::replica_of(primary.port)?];
        let (port, admin) = (free_port()?, free_port()?);
        let mut command = Command::new(binary("redis-ambassador")?);
        command
            .arg(format!("--listen=127.0.0.1:{port}"))
            .arg(format!("--primary=127.0.0.1:{}", primary.port));
        command.args(replicas.iter().map(|replica| format!("--replica=127.0.0.1:{}", replica.port)));
        command.arg(format!("--admin-listen=127.0.0.1:{admin}")).arg("--failover-wait=1s");
        let mut ambassador = Daemon::start(&mut command)?;
        ambassador.wait_for_port(port)?;
        eventually("readiness", || http::page(admin, "/readyz"))?;
        Ok(Self { primary, replicas, ambassador, port, admin })
    }

    fn client(&self) -> Result<RespClient> {
        RespClient::connect(self.port)
    }
}

/// How often a server has run a command.
fn calls(server: &Redis, command: &str) -> Result<u64> {
    let stats = server.client()?.command(&["INFO", "commandstats"])?;
    let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
    let figure = |line: &str| line.split(['=', ',']).nth(1)?.parse().ok();
    Ok(line.and_then(figure).unwrap_or(0))
}

#[test]
#[ignore = "needs redis-server"]
fn writes_go_to_the_primary_and_reads_are_spread() -> Result<()> {
    let trio = Trio::start()?;
    let mut client = trio.client()?;
    for key in 0..50 {
        ensure!(client.command(&["SET", &format!("k{key}"), &format!("v{key}")])? == "OK");
    }
    eventually("replication", || match trio.replicas[1].client()?.command(&["GET", "k49"])?.as_str() {
        "v49" => Ok(()),
        other => bail!("{other}"),
    })?;
    // Keys written a moment ago may be read from the primary; these are old for anybody by then.
    std::thread::sleep(Duration::from_millis(500));
    // The quicker replica is preferred, and on a busy machine that is one for a while.
    eventually("reads on both replicas", || {
        for key in 0..50 {
            ensure!(client.command(&["GET", &format!("k{key}")])? == format!("v{key}"));
        }
        for replica in &trio.replicas {
            let reads = calls(replica, "get")?;
            ensure!(reads >= 20, "a replica served only {reads} reads");
        }
        Ok(())
    })?;
    ensure!(calls(&trio.primary, "set")? == 50);
    ensure!(http::page(trio.admin, "/metrics")?.contains("redis_ambassador"), "no metrics");
    Ok(())
}

#[test]
#[ignore = "needs redis-server"]
fn a_pipeline_reads_what_it_wrote_and_answers_in_order() -> Result<()> {
    let trio = Trio::start()?;
    let mut client = trio.client()?;
    for round in 0..300 {
        let (key, value) = (format!("k{}", round % 7), round.to_string());
        client.send(&["SET", &key, &value])?;
        client.send(&["GET", &key])?;
        client.send(&["INCR", "n"])?;
        client.send(&["NOSUCH"])?;
    }
    for round in 0..300 {
        ensure!(client.reply()? == "OK");
        let read = client.reply()?;
        ensure!(read == round.to_string(), "round {round} read {read}");
        ensure!(client.reply()? == format!(":{}", round + 1));
        ensure!(client.reply()?.starts_with("-ERR unknown command"));
    }
    Ok(())
}

#[test]
#[ignore = "needs redis-server"]
fn a_lost_replica_is_invisible() -> Result<()> {
    let mut trio = Trio::start()?;
    let mut client = trio.client()?;
    ensure!(client.command(&["SET", "k", "v"])? == "OK");
    for round in 0..3000 {
        if round == 1000 {
            trio.replicas[0].daemon.kill();
        }
        if round == 2000 {
            trio.replicas[1].daemon.kill();
        }
        let value = client.command(&["GET", "k"])?;
        ensure!(value == "v", "round {round}: {value}");
    }
    Ok(())
}

#[test]
#[ignore = "needs redis-server"]
fn a_lost_primary_is_a_clear_error_and_then_recovers() -> Result<()> {
    let mut trio = Trio::start()?;
    let mut client = trio.client()?;
    ensure!(client.command(&["SET", "k", "v"])? == "OK");
    let port = trio.primary.port;
    trio.primary.daemon.kill();
    let answer = client.command(&["SET", "k", "w"])?;
    ensure!(answer.starts_with('-') && answer.to_lowercase().contains("primary"), "{answer}");
    trio.primary = Redis::start_on(port, &[])?;
    eventually("writes again", || match trio.client()?.command(&["SET", "k", "x"])?.as_str() {
        "OK" => Ok(()),
        other => bail!("{other}"),
    })?;
    trio.ambassador.signal("TERM")?;
    ensure!(trio.ambassador.wait(Duration::from_secs(12))?.success());
    Ok(())
}

#[test]
#[ignore = "needs redis-cli and redis-benchmark"]
fn redis_cli_and_redis_benchmark_work() -> Result<()> {
    let trio = Trio::start()?;
    let port = trio.port.to_string();
    let cli = |words: &[&str]| output(Command::new(program("redis-cli")?).args(["-p", &port]).args(words));
    ensure!(cli(&["SET", "greeting", "hello"])?.trim() == "OK");
    ensure!(cli(&["GET", "greeting"])?.trim() == "hello");
    ensure!(cli(&["-3", "--no-raw", "HGETALL", "nothing"])?.contains("empty hash"), "RESP3");
    for pipeline in ["1", "16"] {
        let benchmark =
            ["-p", &port, "-P", pipeline, "-n", "20000", "-c", "20", "-q", "-t", "set,get,incr,lpush,mset"];
        let said = output(Command::new(program("redis-benchmark")?).args(benchmark))?;
        ensure!(said.contains("GET:") && !said.to_lowercase().contains("error"), "{said}");
    }
    Ok(())
}

const REDIS_PY: &str = r#"
import sys, threading, redis
port = int(sys.argv[1])
for protocol in (2, 3):
    r = redis.Redis(port=port, decode_responses=True, protocol=protocol)
    assert r.ping() and r.set("py", "1") and r.get("py") == "1"
    r.flushall()
    with r.pipeline(transaction=True) as p:
        assert p.set("a", 1).incr("a").get("a").execute() == [True, 2, "2"]
    with r.pipeline() as p:
        p.watch("a")
        r.set("a", 10)
        p.multi()
        p.set("a", 3)
        try:
            p.execute()
            raise SystemExit("WATCH did not guard")
        except redis.WatchError:
            pass
    s = r.pubsub()
    s.subscribe("news")
    assert s.get_message(timeout=5)["type"] == "subscribe"
    assert r.publish("news", "hi") == 1
    assert s.get_message(timeout=5)["data"] == "hi"
    s.close()
    got = []
    t = threading.Thread(target=lambda: got.append(redis.Redis(port=port, decode_responses=True).blpop("queue", 5)))
    t.start()
    assert r.get("a") == "10"
    r.rpush("queue", "job")
    t.join()
    assert got == [("queue", "job")], got
    big = "x" * (8 << 20)
    assert r.set("big", big) and r.get("big") == big
    for i in range(2000):
        r.hset("h", f"f{i}", i)
    assert len(dict(r.hscan_iter("h", count=50))) == 2000
    other = redis.Redis(port=port, db=1, decode_responses=True, protocol=protocol)
    other.set("only-here", "1")
    assert r.get("only-here") is None and other.get("only-here") == "1"
    add = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert add(keys=["n"], args=[5]) == 5
    with r.monitor() as m:
        r.set("seen", "1")
        assert "seen" in m.next_command()["command"]
print("fine")
"#;

#[test]
#[ignore = "needs redis-server and redis-py"]
fn redis_py_works_unchanged() -> Result<()> {
    let trio = Trio::start()?;
    let said = output(Command::new(python()?).args(["-c", REDIS_PY, &trio.port.to_string()]))
        .with_context(|| trio.ambassador.log())?;
    ensure!(said.trim() == "fine", "{said}");
    Ok(())
}

#[test]
#[ignore = "uses the built binary"]
fn a_wrong_flag_is_named() -> Result<()> {
    let refused = Command::new(binary("redis-ambassador")?).args(["--replcia", "x:1"]).output()?;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        refused.status.code() == Some(2) && text.contains("--replcia") && text.contains("--replica"),
        "{text}"
    );
    Ok(())
}
