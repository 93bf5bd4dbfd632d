//! Keeps a shared folder equal to a git ref.

pub mod credential;
pub mod ssh;
