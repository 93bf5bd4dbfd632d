//! The StatsD line protocol and its dialects, pure: bytes in, samples out.
//!
//! Grammar: Etsy StatsD (`name:value|type|@rate`) with the tag dialects of DogStatsD, InfluxDB, Librato and
//! SignalFX, DogStatsD's extended aggregation (`name:1:2:3|ms`), container ids and timestamps. What is rejected,
//! and under which reason, follows `prometheus/statsd_exporter`.

#[doc(hidden)]
pub mod escape;
#[doc(hidden)]
pub mod frame;
#[doc(hidden)]
pub mod line;
#[doc(hidden)]
pub mod number;
#[doc(hidden)]
pub mod shape;
#[doc(hidden)]
pub mod tag;

pub use line::{Event, Notice, Observer, Parser, Reason, Type};
pub use tag::{Styles, Tags};
