//! ioredis, node-redis and redis-py see the same through redis-ambassador as on a plain Redis: each story prints one line
//! per step, and the lines are compared.

use std::process::Command;

use anyhow::{Result, ensure};
use e2e::parts::{Redis, client_stories, node, python};
use e2e::process::{Daemon, output};
use e2e::{binary, eventually, free_port, http};

/// The lines of a story against a port.
fn tell(command: Command, story: &str, port: u16) -> Result<Vec<String>> {
    let mut command = command;
    let text = output(command.arg(client_stories().join(story)).arg(port.to_string()))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn compare(interpreter: impl Fn() -> Result<Command>, story: &str) -> Result<()> {
    let plain = Redis::start()?;
    let expected = tell(interpreter()?, story, plain.port)?;
    let primary = Redis::start()?;
    let replicas = [Redis::replica_of(primary.port)?, Redis::replica_of(primary.port)?];
    let (port, admin) = (free_port()?, free_port()?);
    let mut command = Command::new(binary("redis-ambassador")?);
    command.arg(format!("--listen=127.0.0.1:{port}")).arg(format!("--admin-listen=127.0.0.1:{admin}"));
    command.arg(format!("--primary=127.0.0.1:{}", primary.port));
    command.args(replicas.iter().map(|replica| format!("--replica=127.0.0.1:{}", replica.port)));
    let mut ambassador = Daemon::start(&mut command)?;
    ambassador.wait_for_port(port)?;
    eventually("readiness", || http::page(admin, "/readyz"))?;
    let seen = tell(interpreter()?, story, port)?;
    ensure!(expected.len() > 40, "the story ended early: {expected:#?}");
    for (at, (seen, expected)) in seen.iter().zip(&expected).enumerate() {
        ensure!(
            seen == expected,
            "step {at}\nthrough the ambassador: {seen}\non a plain Redis:       {expected}"
        );
    }
    ensure!(seen.len() == expected.len(), "{} lines instead of {}", seen.len(), expected.len());
    Ok(())
}

#[test]
#[ignore = "needs redis-server, node and npm"]
fn ioredis_sees_one_plain_redis() -> Result<()> {
    compare(node, "story_ioredis.cjs")
}

#[test]
#[ignore = "needs redis-server, node and npm"]
fn node_redis_sees_one_plain_redis() -> Result<()> {
    compare(node, "story_node_redis.cjs")
}

#[test]
#[ignore = "needs redis-server and python3"]
fn redis_py_sees_one_plain_redis() -> Result<()> {
    compare(|| Ok(Command::new(python()?)), "story_redis_py.py")
}
