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
#[path = "../push/prometheus.rs"]
mod prometheus;
mod pushed;
#[path = "../push/receiver.rs"]
mod receiver;
mod reload;
mod servers;
mod sources;
mod tail;

/// Waits for a condition.
pub(crate) fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    harness::eventually(what, || look().then_some(()));
}
