//! How a process lives.
