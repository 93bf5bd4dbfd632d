//! Any packet, taken twice: never a panic, and the line cache never changes what a line means.
#![no_main]

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use metrics_adapter::exposition::{Format, page};
use metrics_adapter::family::store::{Index, Limits, Store, StoreWalk};
use metrics_adapter::ingest::{Counts, Ingest, Options};
use metrics_adapter::mapping::Mapping;

static MAPPING: LazyLock<Arc<Mapping>> = LazyLock::new(|| {
    let text = "mappings:\n- match: a.*\n  name: a_$1\n  labels:\n    kk: $1\n- match: d.*\n  name: d\n  action: drop\n\
                - match: h.*\n  name: h\n  observer_type: histogram\n  scale: 0.5\n- match: (x+)y\n  match_type: regex\n  name: r\n";
    Arc::new(Mapping::parse(text).unwrap())
});

fn run(packet: &[u8], cached: bool) -> (Vec<u8>, String) {
    let store = Arc::new(Mutex::new(Store::new(Limits { series: 100, bytes: 1 << 24 }, &[])));
    let mut ingest = Ingest::new(Options::default(), Arc::clone(&MAPPING));
    for _ in 0..2 {
        for line in packet.split(|byte| *byte == b'\n') {
            let mut store = store.lock().unwrap();
            ingest.line(&mut store, line, 0);
            if !cached {
                store.lines().clear();
            }
        }
    }
    let entries = Index::default().refresh(&store);
    let mut walk = StoreWalk::new(store, entries, 0, Arc::new(AtomicUsize::new(0)));
    let counts = Counts { cache_gets: 0, cache_hits: 0, conflicts: Default::default(), ..ingest.counts.clone() };
    (page(&mut walk, Format::Text), format!("{counts:?}"))
}

fuzz_target!(|packet: &[u8]| {
    assert_eq!(run(packet, true), run(packet, false));
});
