//! The data path: clients, the connections that answer them, and the turn of the loop that ties them together.
//!
//! One worker is one thread with a current-thread runtime; nothing on the data path is shared between workers. All
//! state is reached through [`Hub`], and no borrow of it is held across an await. In one turn every readable client
//! appends its requests to the output of a server's connection; the flusher then writes each such output once. A
//! batch of replies goes from a server's connection straight into the outputs of the clients that wait for it, and
//! each of those is written once.

mod client;
mod clustered;
mod clustered_own;
mod consistency;
mod cursors;
mod deliver;
mod dispatch;
mod hub;
mod keys;
mod limbo;
mod link_task;
mod notes;
mod process;
mod profile;
mod reads;
mod register;
mod spare;
mod stall;
mod stock;
mod stream;
mod tracking;
mod worker;

pub(crate) use client::Client;
pub(crate) use register::Listed;
pub(crate) use worker::{Tuning, Worker, WorkerSettings, Workload};
