//! Makes a Redis primary and its replicas look like one plain Redis on localhost.
pub mod command;
pub mod resp;
pub mod session;
