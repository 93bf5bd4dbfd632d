//! What a remote's packs and trees bring: differences, packs, trees, attributes, patterns; and a damaged index.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| gitsync::fuzz::objects(input.0, input.1));
