//! From a real push to the new tree, and what an update costs:
//! `cargo bench -p gitsync --bench push_latency`.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/support/pushed.rs"]
mod pushed;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use pushed::{Pushed, many};
use support::{Site, git};

fn main() {
    for (files, mode) in
        [(100, "off"), (100, "auto"), (10_000, "off"), (10_000, "hardlink"), (10_000, "auto")]
    {
        let site = Site::new();
        many(&site, files);
        let pushed = Pushed::start(site, &[&format!("--reuse={mode}")]);
        git(&pushed.site.work(), &["remote", "set-url", "origin", &pushed.http.url()]);
        let id = pushed.process.0.id();
        let (mut times, rounds) = (Vec::new(), 21);
        pushed.site.push(&[("d3/f3", "first")]);
        pushed.sync();
        let before = cpu(id);
        for round in 0..rounds {
            let hash = pushed.site.push(&[("d3/f3", &round.to_string())]);
            let start = Instant::now();
            pushed.deliver(&pushed.event());
            let begun = start.elapsed();
            while pushed.site.published() != hash {
                std::thread::sleep(Duration::from_micros(200));
            }
            times.push(start.elapsed().checked_sub(begun / 2).unwrap());
            pushed.sync();
        }
        times.sort();
        println!(
            "{files} files, --reuse={mode}: median {:?}, p90 {:?}; CPU of an update {:.1} ms",
            times[times.len() / 2],
            times[times.len() * 9 / 10],
            (cpu(id) - before) * 1e3 / f64::from(rounds)
        );
    }
}

/// Seconds of user and system time of a process.
fn cpu(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    // In hundredths of a second on every Linux there is.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
