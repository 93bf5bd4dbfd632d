//! A commit or tag of anybody, and a file of allowed signers: no panic, and nothing is signed that isn't there.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &str)| gitsync::fuzz::signature(input.0, input.1));
