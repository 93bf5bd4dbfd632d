//! End-to-end stories; one module each.
