//! Hands the sums out: Prometheus' text, the HTTP server that serves it, and the reference of what it means.

pub mod families;
pub mod http;
pub mod prometheus;
pub mod reference;
pub mod stats;
