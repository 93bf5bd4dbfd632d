//! Time and allocations of the hot path: lines whose series is known.
//!
//! Prints one line per shape, and fails when one of them allocates.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use metrics_adapter::family::store::{Limits, Store};
use metrics_adapter::ingest::{Ingest, Options};
use metrics_adapter::mapping::Mapping;

const SERIES: usize = 1000;
const ROUNDS: usize = 200;

fn main() {
    type Shape = (&'static str, fn(usize) -> String);
    let shapes: [Shape; 6] = [
        ("counter", |n| format!("bench.requests.number{n}:1|c")),
        ("counter, rate, tags", |n| format!("bench.requests:3|c|@0.5|#env:prod,zone:eu-west-1a,path:p{n}")),
        ("gauge, relative", |n| format!("bench.load.number{n}:+0.25|g")),
        ("histogram", |n| format!("bench.size.number{n}:{}.5|h", n % 10)),
        ("summary", |n| format!("bench.time.number{n}:320.25|ms|#path:p{n}")),
        ("aggregated, container", |n| format!("bench.many:1:2:3|ms|#path:p{n}|c:in-0123456789abcdef")),
    ];
    let mut failed = false;
    for (name, line) in shapes {
        let lines: Vec<String> = (0..SERIES).map(line).collect();
        let packets: Vec<String> = lines.chunks(20).map(|lines| lines.join("\n")).collect();
        let mut store = Store::new(Limits { series: usize::MAX, bytes: usize::MAX }, &[]);
        let mapping = Mapping::parse(
            "mappings:\n- match: bench.size.*\n  name: size\n  observer_type: histogram\n  labels:\n    part: $1\n",
        );
        let mut ingest = Ingest::new(Options::default(), Arc::new(mapping.expect("a constant mapping")));
        let mut round =
            || packets.iter().for_each(|packet| ingest.packet(&mut store, black_box(packet.as_bytes()), 0));
        // Twice for the cache, and often enough that no buffer grows any more.
        (0..ROUNDS * 3).for_each(|_| round());
        let start = Instant::now();
        (0..ROUNDS).for_each(|_| round());
        let each = start.elapsed().as_nanos() as f64 / (ROUNDS * SERIES) as f64;
        // A summary merges a full buffer now and then, which needs room; a line by itself does not.
        let allocated = allocation_counter::measure(&mut round).count_total;
        println!("{name:<24} {each:>7.1} ns/line {allocated:>6} allocations in {SERIES} lines");
        failed |= allocated > 0;
    }
    assert!(!failed, "the hot path allocates");
}
