//! TCP load on loopback, for comparing what observers of it cost; prints JSON lines.

use std::process::ExitCode;

fn main() -> ExitCode {
    tests::load::run_as_program()
}
