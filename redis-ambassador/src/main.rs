//! The `redis-ambassador` binary.

fn main() {}
