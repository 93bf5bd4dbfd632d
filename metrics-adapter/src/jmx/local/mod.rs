//! JVMs in the same process namespace, without any port of theirs: found in `/proc`, read through the files
//! and the socket that HotSpot keeps in its temporary directory.

pub mod attach;
mod perf_data;
mod process;

pub use perf_data::{Content, Counter, PerfDataError, read as read_perf_data};
pub use process::{Jvm, LocalError, Selector, find};

/// Reads any file of counters, for the fuzz target.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let _ = perf_data::parse(bytes);
}
