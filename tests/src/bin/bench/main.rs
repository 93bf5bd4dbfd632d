//! `make bench`: ratios against a peer or a floor, measured in one run.

mod failover;
mod gitsync;
mod instructions;
mod jmx;
mod redis;
mod sources;
mod statsd;

/// How often each case is measured: `BENCH_ROUNDS`, or else what the benchmark thinks right.
fn rounds(usual: usize) -> usize {
    std::env::var("BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).filter(|n| *n > 0).unwrap_or(usual)
}

/// A benchmark's name and what runs it.
type Benchmark = (&'static str, fn() -> anyhow::Result<()>);

const ALL: &[Benchmark] = &[
    ("gitsync", gitsync::run),
    ("redis", redis::run),
    ("redis-instructions", instructions::run),
    ("failover", failover::run),
    ("statsd", statsd::run),
    ("jmx", jmx::run),
    ("sources", sources::run),
];

fn main() -> anyhow::Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    for name in &names {
        if !ALL.iter().any(|(known, _)| known == name) {
            anyhow::bail!(
                "no benchmark `{name}`; there are: {}",
                ALL.iter().map(|(known, _)| *known).collect::<Vec<_>>().join(", ")
            );
        }
    }
    for (name, run) in ALL {
        if names.is_empty() || names.iter().any(|wanted| wanted == *name) {
            println!("== {name}");
            run()?;
        }
    }
    Ok(())
}
