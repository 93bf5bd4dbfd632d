//! The HTTP side: the metrics page, lifecycle, health, status.

mod auth;
mod clients;
mod config;
mod metrics;
mod page;
mod san;
mod server;

pub use config::WebConfigError;
pub use page::Page;
pub use server::{Server, WebError, check};
