//! How far is the verifier from giving up? It processes at most a million instructions a program, and a small change of the
//! source may multiply them.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::Daemon;
use crate::truth::Objects;

/// Instructions processed at load, by series of kernels and program, as last recorded. The kernel keeps 15 bytes of a name.
/// To record anew after a wanted change: run the scenario on each kernel, and take what it prints.
const RECORDED: [(&str, &[(&str, u32)]); 3] = [
    (
        "6.18",
        &[
            ("account", 5_662),
            ("connection", 15_821),
            ("destroy", 9_189),
            ("episode", 610),
            ("flows", 4_088),
            ("synack", 251),
        ],
    ),
    (
        "6.12",
        &[
            ("account", 5_714),
            ("connection", 14_267),
            ("destroy", 7_903),
            ("episode", 605),
            ("flows", 4_142),
            ("synack", 249),
        ],
    ),
    (
        "6.1",
        &[
            ("account", 6_131),
            ("connection", 32_742),
            ("destroy", 8_056),
            ("destroy_nested", 8_056),
            ("episode", 633),
            ("flows", 4_142),
            ("synack", 249),
        ],
    ),
];

/// So many times what is recorded may be processed.
pub(crate) const MARGIN: f64 = 1.2;

/// The verifier processes no more instructions than it did when they were last recorded, and a fifth.
///
/// # Errors
/// When a program takes more, or is not recorded for this kernel.
pub fn instructions_are_as_recorded() -> Result<()> {
    let before = Objects::now()?;
    let daemon = Daemon::start()?;
    let programs = Objects::now()?.added_since(&before).runs()?;
    let is: BTreeMap<&str, u32> =
        programs.values().map(|program| (program.name.as_str(), program.verified_instructions)).collect();
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("# {}: {is:?}", release.trim());
    ensure!(is.len() >= 6, "{} programs are loaded: {is:?}", is.len());
    // Of other kernels nothing is recorded.
    if let Some(recorded) = recorded(&release) {
        for (name, count) in &is {
            let known = recorded.iter().find(|(known, _)| known == name);
            ensure!(
                known.is_some_and(|(_, known)| f64::from(*count) <= f64::from(*known) * MARGIN),
                "the verifier processed {count} instructions of {name}, recorded are {known:?}"
            );
        }
    }
    daemon.stop().map(drop)
}

/// What is recorded of a kernel of this release, by program.
pub(crate) fn recorded(release: &str) -> Option<&'static [(&'static str, u32)]> {
    let series = release.split(['.', '-']).take(2).collect::<Vec<_>>().join(".");
    RECORDED.iter().find(|(known, _)| *known == series).map(|(_, programs)| *programs)
}
