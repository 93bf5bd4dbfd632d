//! Makes a Redis primary and its replicas look like one plain Redis on localhost.
