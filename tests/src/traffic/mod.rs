//! TCP actors: sockets made inside a namespace and used from outside it, and what they do.
//!
//! A socket stays in the namespace it was made in, so only the calls that make one enter the namespace.

mod actor;
mod churn;
mod flood;
mod logbook;
mod pair;
mod socket;

pub use actor::{Behaviour, Conversation, Server, ask, drained, echo, finish, receive_all, send_all};
pub use churn::{Churn, Ends, churn};
pub use flood::flood;
pub use logbook::{Entry, Logbook};
pub use pair::{Infos, Pair, end_all, exchange_all, exchange_until, infos_of, pairs, quiet};
pub use socket::{Options, connect, connect_from, connect_with_data, listen, reconnect, start_connect};
