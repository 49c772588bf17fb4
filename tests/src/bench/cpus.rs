//! How rates grow with the CPUs that load and daemon may use: one, two, four, up to all of this machine.

use anyhow::Result;

use super::daemon::{Daemon, Setting};
use super::driver::{self, Load};
use super::parts::Context;
use super::sheet::Samples;
use crate::load::cpu;

/// Growth is looked at up to so many at least.
const WANTED: usize = 4;

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    let all = cpu::allowed()?;
    if all.len() < WANTED {
        samples.absent(format!("{WANTED} CPUs"), format!("this machine has {}", all.len()));
    }
    for round in 1..=context.plan.long_rounds {
        context.say(&format!("round {round} of {}", context.plan.long_rounds));
        for cpus in counts(all.len()).map(|count| &all[..count]) {
            for load in [Load::Crr, Load::Rr] {
                let run = || -> Result<f64> {
                    driver::settle(context.plan)?;
                    let outcome = driver::run(load, context.plan.period, context.plan, cpus, &[])?;
                    Ok(outcome.operations as f64 / outcome.seconds)
                };
                let row = |condition| format!("{}/CPUs {}: {condition}/rate", load.name(), cpus.len());
                let before = run()?;
                let daemon = Daemon::start(&Setting { cpus: cpus.to_vec(), ..Setting::default() })?;
                let with = run()?;
                daemon.stop()?;
                let after = run()?;
                let bare = f64::midpoint(before, after);
                samples.add(row("nothing"), "1/s", bare);
                samples.add(row("flowprobe"), "1/s", with);
                let ratio = format!("{}/CPUs {}: flowprobe/ratio", load.name(), cpus.len());
                samples.add(ratio, "", with / bare);
            }
        }
    }
    Ok(())
}

/// 1, 2, 4 … and all.
pub(super) fn counts(all: usize) -> impl Iterator<Item = usize> {
    let powers =
        std::iter::successors(Some(1), |count| Some(count * 2)).take_while(move |count| *count < all);
    powers.chain([all])
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_double_and_end_with_all() {
        assert_eq!(super::counts(1).collect::<Vec<_>>(), [1]);
        assert_eq!(super::counts(6).collect::<Vec<_>>(), [1, 2, 4, 6]);
        assert_eq!(super::counts(8).collect::<Vec<_>>(), [1, 2, 4, 8]);
    }
}
