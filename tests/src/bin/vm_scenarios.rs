//! Runs the scenarios inside a virtual machine, one line each, in the Test Anything Protocol.

use std::process::ExitCode;

fn main() -> ExitCode {
    tests::scenario::run_in_vm(&std::env::args().skip(1).collect::<Vec<_>>())
}
