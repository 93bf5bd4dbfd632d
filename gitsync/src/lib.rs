//! Keeps a shared folder equal to a git ref.

pub mod protocol;
pub mod publish;
pub mod repo;
pub mod sync;
pub mod transport;

mod redact;
