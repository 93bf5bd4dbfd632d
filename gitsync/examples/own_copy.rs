//! A program that keeps a folder equal to the `HEAD` of a repository while it does its own work.
//!
//! `cargo run -p gitsync --example own_copy -- https://example.org/site.git /tmp/site`, then look at
//! `/tmp/site/current`.

use std::time::Duration;

use gitsync::{Config, Shutdown, run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(repository), Some(folder)) = (arguments.next(), arguments.next()) else {
        return Err("usage: own_copy REPOSITORY FOLDER".into());
    };
    let mut config = Config::new(repository, &folder);
    config.link = "current".into();
    config.period = Duration::from_secs(5);
    let shutdown = Shutdown::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = shutdown.clone();
        // The program's own work; when it is done, a sync that runs is broken off cleanly.
        tokio::spawn(async move {
            let _ = tokio::signal::ctrl_c().await;
            stop.trigger();
        });
        run(config, shutdown).await
    })?;
    Ok(())
}
