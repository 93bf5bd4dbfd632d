//! The binary in front of real Redis servers. Needs `redis-server` on the path.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

mod cluster;
mod consistency;
mod discovery;
mod failover;
mod failure;
mod harness;
mod likeness;
mod limits;
mod nonsense;
mod policies;
mod relay;
mod seen;
mod tls;
mod transparency;
mod users;
