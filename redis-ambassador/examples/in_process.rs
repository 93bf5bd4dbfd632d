//! A program that carries its ambassador in itself: its own connections, and those of anybody else on the
//! machine, go to a port of loopback as if one plain Redis were there.
//!
//! `cargo run -p redis-ambassador --example in_process -- 127.0.0.1:7001 127.0.0.1:7002`, a primary and its
//! replicas; then `redis-cli -p 6379`.

#![allow(clippy::disallowed_methods, reason = "a program of its own, which stops as it likes")]

use redis_ambassador::{Config, Listen, ListenAddr, Shutdown, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut servers = std::env::args().skip(1);
    let primary = servers.next().ok_or("usage: in_process PRIMARY [REPLICA...]")?.parse()?;
    let mut replicas = Vec::new();
    for replica in servers {
        replicas.push(replica.parse()?);
    }
    let mut config = Config::new(primary, replicas);
    config.listen = vec![Listen::Tcp(ListenAddr::loopback(6379))];
    let shutdown = Shutdown::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = shutdown.clone();
        // The program's own work; when it is done, answers that are on their way are still delivered.
        tokio::spawn(async move {
            #[allow(clippy::disallowed_methods, reason = "the program's own signal, and not the library's")]
            let _ = tokio::signal::ctrl_c().await;
            stop.trigger();
        });
        run(config, shutdown).await
    })?;
    Ok(())
}
