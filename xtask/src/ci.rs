//! `cargo xtask ci`: what CI runs, on a machine with nothing installed beforehand: lint, documents, every test.
//! Each stage's time is in the table at the end.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    dashboards, docs, lint,
    setup::{self, Purpose},
    stage::Stages,
    test, workspace,
};

/// The verb.
pub(crate) fn main() -> Result<ExitCode> {
    test::require_root("ci")?;
    let mut stages = Stages::default();
    if stages.check("set-up", || setup::prepare(Purpose::Lint)) {
        lint::stages_of_lint(&mut stages);
        stages.check("dashboards", dashboards::check);
        test::stages_of_tests(&mut stages, false, None);
        // After the tests, which built the program.
        stages.check("documents", || docs::check(&workspace::portable_flowprobe()));
    }
    Ok(stages.finish())
}
