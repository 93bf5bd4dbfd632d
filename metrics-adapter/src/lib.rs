//! Turns StatsD, JMX and application statistics into one Prometheus page.
