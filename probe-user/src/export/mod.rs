//! Hands the sums out: Prometheus' text and protobuf, the HTTP server that serves it, and the reference of what it means.

pub mod families;
pub mod http;
pub mod native;
pub mod negotiation;
pub mod prometheus;
pub mod protobuf;
pub mod reference;
pub mod stats;
mod text;
pub mod web;

#[cfg(test)]
mod protobuf_tests;
