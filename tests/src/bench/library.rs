//! What costs no system call is measured in the daemon's own library, by the benches of the package `probe-user`.

use std::env;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::parts::Context;
use super::sheet::Samples;

/// Networks by routing table (load, memory, look-up, beside other libraries), services, and what adding a record costs.
pub(super) fn networks(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    bench("networks", context, samples)?;
    bench("aggregation", context, samples)
}

/// Runs one some times; each line that it prints is a figure: name, unit and value, apart by tabs.
pub(super) fn bench(name: &str, context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    for _ in 0..context.plan.long_rounds {
        context.say(&format!("bench {name} of the library"));
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["bench", "--quiet", "--package", "probe-user", "--bench", name]);
        if context.plan.quick {
            command.args(["--", "--quick"]);
        }
        // What `cargo run` set for this program would have some build scripts run anew, here and at the next build elsewhere.
        for (name, _) in env::vars_os() {
            let own = name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
            if own {
                command.env_remove(name);
            }
        }
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cargo")?;
        ensure!(output.status.success(), "`cargo bench -p probe-user --bench {name}` failed");
        let mut figures = 0;
        for line in String::from_utf8(output.stdout)?.lines() {
            let [figure, unit, value] = line.splitn(3, '\t').collect::<Vec<_>>()[..] else {
                continue;
            };
            figures += 1;
            samples.add(
                figure,
                known(unit)?,
                value.parse().with_context(|| format!("{line:?} is no figure"))?,
            );
        }
        ensure!(figures > 0, "`cargo bench -p probe-user --bench {name}` printed no figure");
    }
    Ok(())
}

/// Units are words of the program.
fn known(unit: &str) -> Result<&'static str> {
    let units = ["", "s", "ms", "ns", "MB", "KiB"];
    units.into_iter().find(|known| *known == unit).with_context(|| format!("a figure in {unit:?}"))
}
