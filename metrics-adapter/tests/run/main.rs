//! The `run` mode as a black box: its binary, real servers, hostile peers.

// The helpers of tests may fail like tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod commands;
mod harness;
mod hostile;
#[path = "../jmx/harness.rs"]
#[allow(dead_code)]
mod java;
mod jvm;
mod servers;
mod sources;
mod tail;
