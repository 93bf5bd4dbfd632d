//! Any mapping file, and any name under it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use metrics_adapter::mapping::{Mapping, MetricType, lint};

fuzz_target!(|input: (&str, &str)| {
    let (text, name) = input;
    if let Ok(mapping) = Mapping::parse(text) {
        for kind in MetricType::ALL {
            let _ = mapping.find(name, kind);
        }
        let _ = lint(&mapping);
        let _ = mapping.to_dot();
    }
});
