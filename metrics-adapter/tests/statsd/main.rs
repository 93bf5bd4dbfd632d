//! The `statsd` mode as a black box: its binary, real sockets, real signals.

mod commands;
mod harness;
mod hostile;
mod lifecycle;
mod listeners;
mod pages;
mod web_config;
