//! The guards and readers every scenario uses: nothing here knows what TCP is.

mod binary;
mod exposition;
mod http;
mod jsonl;
mod namespace;
mod process;
mod sandbox;
mod serial;
mod wait;

pub use binary::flowprobe;
pub use exposition::{Family, Scrape};
pub use http::{Answer, PROTOBUF, fetch, get, get_text, post};
pub use jsonl::{Line, parse_lines};
pub use namespace::Namespace;
pub use process::{Finished, Process, Stream};
pub use sandbox::Sandbox;
pub use serial::{Turn, take_turn};
pub use wait::{free_port, monotonic_ns, pause, wait_for, wait_until};
