//! How the benches say what they measured: a figure a line, `ROW/COLUMN`, unit and value apart by tabs. `cargo xtask bench`
//! reads them.

use std::time::Duration;

/// Says a figure; there is no slash in a row but behind the name of its table.
pub(crate) fn figure(row: &str, column: &str, unit: &str, value: f64) {
    println!("{row}/{column}\t{unit}\t{value}");
}

/// Whether only a try is wanted: `-- --quick`.
pub(crate) fn is_quick() -> bool {
    std::env::args().any(|argument| argument == "--quick")
}

/// Of this thread: what others run on the machine counts less than in the time on the wall.
pub(crate) fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
