//! All TCP sockets of a namespace shown to an `iter/tcp` program that does nothing: what every program pays that is called
//! so, flowprobe's sweep among them, before it looks at anything.

use anyhow::Result;

use super::look::Looked;
use super::place;
use crate::truth::{Point, RunStatistics, Tiny};

/// Walks over the sockets of the namespace of `process`. They are counted in a second walk, by the kernel's run statistics,
/// which would cost something in the first.
pub(super) fn run(process: Option<u32>) -> Result<Looked> {
    place::enter_namespace(process)?;
    let nothing = Tiny::empty(Point::Sockets, "empty_walk")?;
    let looked = Looked::measured(|| nothing.walk().map(|()| 0))?;
    let _statistics = RunStatistics::enable()?;
    nothing.walk()?;
    // The last run is at the end, without a socket.
    let sockets = nothing.runs()?.saturating_sub(1);
    Ok(Looked { sockets, ..looked })
}
