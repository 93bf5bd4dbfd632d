//! Keeps a shared folder equal to a git ref.

pub mod protocol;
pub mod repo;
