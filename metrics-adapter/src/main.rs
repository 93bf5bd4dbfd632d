//! The `metrics-adapter` binary.

fn main() {}
