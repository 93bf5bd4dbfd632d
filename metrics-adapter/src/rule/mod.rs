//! From an attribute's value to a family and its labels, by the rules of jmx_exporter configurations; pure.
//!
//! [`leaf`] takes a value apart into numbers and texts with a path, [`set`] finds the rule for each and what
//! it makes of it, [`page`] groups the results into families. [`java_regex`] and [`template`] give patterns
//! and replacements the meaning they have in Java.

pub mod config;
pub mod java_regex;
pub mod leaf;
pub mod name;
pub mod page;
pub mod prune;
pub mod set;
mod steady;
pub mod template;
