//! End-to-end stories against real parts; one module each.
//!
//! They need outside programs, so they are ignored by a plain `cargo test`; `make test` installs
//! what they need and runs them all.

mod dashboards;
mod examples;
mod harness;
mod manifests;
mod plain_redis;
mod podman;
mod pods;
mod push_to_deploy;
mod real_clients;
mod uniform_metrics;
