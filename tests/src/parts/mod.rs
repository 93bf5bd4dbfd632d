//! The real parts that stories run against.

mod cassandra;
mod envoy;
mod git;
mod jvm;
mod kubectl;
mod nginx;
mod node;
mod prometheus;
mod python;
mod redis;
mod tomcat;

pub use cassandra::CqlClient;
pub use envoy::Envoy;
pub use git::{Repository, git_in};
pub use jvm::Jvm;
pub use kubectl::kustomize;
pub use nginx::Nginx;
pub use node::{client_stories, node};
pub use prometheus::{Prometheus, check_metrics};
pub use python::python;
pub use redis::{Redis, RespClient, Sentinel};
pub use tomcat::Tomcat;
