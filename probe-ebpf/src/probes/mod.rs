//! One file a question, each a thin program over a function that may stop early.

mod account;
mod connection;
mod destroy;
mod flows;
mod retransmit;
mod round_trip;
mod synack;
