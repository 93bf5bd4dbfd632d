//! The real parts that stories run against.

mod git;
mod nginx;
mod prometheus;
mod redis;

pub use git::{Repository, git_in};
pub use nginx::Nginx;
pub use prometheus::{Prometheus, check_metrics};
pub use redis::{Redis, RespClient};
