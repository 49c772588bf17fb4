//! Measures what flowprobe and its peers cost, and makes docs/performance.md of it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tests::bench::run_as_program()
}
