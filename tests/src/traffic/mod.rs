//! TCP actors: sockets made inside a namespace and used from outside it, and what they do.
//!
//! A socket stays in the namespace it was made in, so only the calls that make one enter the namespace.

mod actor;
mod churn;
mod socket;

pub use actor::{Behaviour, Conversation, Server, drained, echo, finish, receive_all, send_all};
pub use churn::{Churn, Ends, churn};
pub use socket::{Options, connect, connect_from, listen, reconnect, start_connect};
