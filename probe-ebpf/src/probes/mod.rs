//! One file a question, each a thin program over a function that may stop early.

mod account;
mod adopt;
mod connection;
mod destroy;
pub(crate) mod episode;
mod flows;
mod retransmit;
mod round_trip;
pub(crate) mod stall;
mod synack;
