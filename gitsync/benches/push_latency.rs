//! From a real push to the new tree, and what an update costs:
//! `cargo bench -p gitsync --bench push_latency`.
//!
//! Two sizes of files: as small as they get, so that all there is to see is the cost of a file as such, and
//! as large as those of ordinary repositories are in the mean.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/support/pushed.rs"]
mod pushed;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use pushed::{Pushed, many_of};
use support::{Site, git};

/// Updates that are measured.
const ROUNDS: u32 = 21;

fn main() {
    for (files, bytes, modes) in [
        (100, 250, &["off", "auto"][..]),
        (10_000, 250, &["off", "hardlink", "auto"]),
        (10_000, 3_000, &["off", "auto"]),
    ] {
        let mut whole = None;
        for mode in modes {
            let cost = measure(files, bytes, mode);
            let whole = *whole.get_or_insert(cost.cpu);
            println!(
                "{files} files of {bytes} bytes, --reuse={mode}: median {:?}, p90 {:?}; an update takes {:.1} ms of \
                 CPU ({:.1} times less than all) and writes {:.0} kB",
                cost.median,
                cost.p90,
                cost.cpu,
                whole / cost.cpu,
                cost.written
            );
        }
    }
}

struct Cost {
    median: Duration,
    p90: Duration,
    /// Milliseconds of an update.
    cpu: f64,
    /// Kilobytes handed to `write` in an update, indexes and packs among them.
    written: f64,
}

fn measure(files: usize, bytes: usize, mode: &str) -> Cost {
    let site = Site::new();
    many_of(&site, files, |at| words(at, bytes));
    let pushed = Pushed::start(site, &[&format!("--reuse={mode}")]);
    git(&pushed.site.work(), &["remote", "set-url", "origin", &pushed.http.url()]);
    let id = pushed.process.0.id();
    let mut times = Vec::new();
    // The first update finds no spare yet.
    pushed.site.push(&[("d3/f3", "first")]);
    pushed.sync();
    let before = (cpu(id), written(id));
    for round in 0..ROUNDS {
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
    Cost {
        median: times[times.len() / 2],
        p90: times[times.len() * 9 / 10],
        cpu: (cpu(id) - before.0) * 1e3 / f64::from(ROUNDS),
        written: (written(id) - before.1) / 1e3 / f64::from(ROUNDS),
    }
}

/// Text that a pack makes half as large, as it does source code.
fn words(seed: usize, bytes: usize) -> String {
    let (mut state, mut text) = (seed as u64 * 2 + 1, String::with_capacity(bytes + 16));
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = state % 3_000;
        text.push_str(&format!("{:x} ", word * word * 7_919));
    }
    text.truncate(bytes);
    text
}

/// Seconds of user and system time of a process.
fn cpu(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    // In hundredths of a second on every Linux there is.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Bytes that a process wrote, whereto ever.
fn written(id: u32) -> f64 {
    let io = fs::read_to_string(format!("/proc/{id}/io")).unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}
