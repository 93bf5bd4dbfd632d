//! The binary in front of real Redis servers. Needs `redis-server` on the path.

mod failure;
mod harness;
mod limits;
mod transparency;
