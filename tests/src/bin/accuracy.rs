//! Compares flowprobe's figures with the truth, one JSON line a cell, and makes docs/accuracy.md of such lines.

use std::process::ExitCode;

fn main() -> ExitCode {
    tests::accuracy::run_as_program(&std::env::args().skip(1).collect::<Vec<_>>())
}
