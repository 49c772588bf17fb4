//! How rates fare beside many open sockets: the loads beside connections of another namespace that are open and idle, without
//! flowprobe and with it.

use std::collections::BTreeMap;

use anyhow::Result;

use super::daemon::{Daemon, Setting};
use super::driver::{self, Holding, Load};
use super::parts::Context;
use super::sheet::Samples;

const LOADS: [Load; 2] = [Load::Crr, Load::Rr];

pub(super) fn measure(context: &Context<'_>, samples: &mut Samples) -> Result<()> {
    // A round takes minutes, most of them at the largest size.
    let (_, rounds) = context.plan.sweeps;
    for round in 1..=rounds {
        for &sockets in &context.plan.sizes {
            context.say(&format!("round {round} of {rounds}: {sockets} sockets"));
            if let Err(error) = at(context, sockets, samples) {
                samples.absent(format!("{sockets} sockets"), format!("{error:#}"));
            }
        }
    }
    Ok(())
}

fn at(context: &Context<'_>, sockets: u64, samples: &mut Samples) -> Result<()> {
    let _holding = Holding::start(sockets, 0.0, 0)?;
    let before = rates(context)?;
    let daemon = Daemon::start(&Setting::default())?;
    let with = rates(context)?;
    daemon.stop()?;
    let after = rates(context)?;
    for load in LOADS.map(Load::name) {
        let bare = f64::midpoint(before[load], after[load]);
        samples.add(format!("{load}/{sockets} sockets: nothing/rate"), "1/s", bare);
        samples.add(format!("{load}/{sockets} sockets: flowprobe/rate"), "1/s", with[load]);
        samples.add(format!("{load}/{sockets} sockets: flowprobe/ratio"), "", with[load] / bare);
    }
    Ok(())
}

/// Operations a second.
fn rates(context: &Context<'_>) -> Result<BTreeMap<&'static str, f64>> {
    let one = |load: Load| {
        driver::settle(context.plan)?;
        let outcome = driver::run(load, context.plan.period, context.plan, &[], &[])?;
        Ok((load.name(), outcome.operations as f64 / outcome.seconds))
    };
    LOADS.into_iter().map(one).collect()
}
