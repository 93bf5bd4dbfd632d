//! Turns StatsD, JMX and application statistics into one Prometheus page.
//!
//! The pure rooms hold no socket, clock or file: [`family`] is the data model that every source ends in,
//! [`jmx`] and [`rule`] read Java's management beans. [`source`] holds the drivers.

pub mod exposition;
pub mod family;
pub mod ingest;
pub mod jmx;
pub mod mapping;
pub mod rule;
pub mod source;
pub mod statsd;
