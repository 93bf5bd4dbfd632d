//! The `statsd` mode as a black box: its binary, real sockets, real signals.

// The helpers of tests may fail like tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod commands;
mod harness;
mod hostile;
mod lifecycle;
mod listeners;
mod pages;
mod web_config;
