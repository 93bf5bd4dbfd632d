//! A webhook delivery of anybody: no panic, and no signature fits a secret that its sender doesn't know.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|delivery: &[u8]| gitsync::fuzz::webhook(delivery));
