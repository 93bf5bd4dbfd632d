//! Harness: processes, ports, eventually().
