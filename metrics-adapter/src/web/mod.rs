//! The HTTP side: the metrics page, lifecycle, health, status.

mod metrics;
mod page;
mod server;

pub use page::Page;
pub use server::{Server, WebError};
