//! Where user names, passwords, tokens and cookies come from, and which remote gets which.
//!
//! The parsers and the matching are pure; [`askpass::ask`] and [`github_app::App::fetch`] are the only
//! functions that talk.

pub mod askpass;
pub mod cookie;
pub mod git_config;
pub mod github_app;
mod http;
pub mod store;
pub mod url;

pub use http::FetchError;
pub(crate) use http::basic;
