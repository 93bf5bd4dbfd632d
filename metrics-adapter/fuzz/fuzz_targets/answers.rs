//! What agents and JVMs leave for others to read, and what applications answer: Jolokia's JSON, counter files, JSON,
//! and pages of other exporters. No panic, and every interpretation ends.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metrics_adapter::reader::json::Json;
use metrics_adapter::reader::{Builder, prometheus};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        metrics_adapter::jmx::jolokia::fuzz(text);
    }
    let mut counters = b"\xca\xfe\xc0\xc0\x01\x02\x00\x01".to_vec();
    counters.extend_from_slice(bytes);
    metrics_adapter::jmx::local::fuzz(&counters);
    let _ = Json::parse(bytes);
    let _ = prometheus::read(bytes, &mut Builder::new(1000));
});
