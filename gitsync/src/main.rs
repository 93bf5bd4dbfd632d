//! The `gitsync` binary.

fn main() {}
