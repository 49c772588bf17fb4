//! `cargo xtask vm`: boots Debian's kernels under QEMU and runs the scenarios, or any command, inside.
//!
//! Kernels and busybox are Debian's packages, unpacked under `target/debs`; nothing of them is installed. The
//! guest is an initramfs made by hand: busybox, the modules that the scenarios need, and our programs, linked
//! statically. It has no disk and no network. QEMU emulates (TCG), so what runs inside may count and order
//! events, and may not time them. A boot takes about six seconds.

mod cpio;
mod guest;
mod kernel;
mod modules;
mod qemu;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

pub(crate) use self::kernel::Series;
use self::{guest::Put, kernel::Kernel};
use crate::{
    build::{self, SCENARIOS},
    setup::{self, Purpose},
    stage::Counts,
    step::{say, seconds},
    workspace,
};

/// Less of what takes long in an emulated machine: connections of the churn, and starts amid one.
const AMOUNTS: &str = "FLOWPROBE_CHURN=5000 FLOWPROBE_STARTS=2";
const SCENARIOS_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Arguments of `cargo xtask vm`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which of Debian's kernels: 6.1, 6.12 or all
    #[arg(long, default_value = "all", value_parser = kernel::parse_choice)]
    kernel: kernel::Choice,
    /// A file for the guest, as SRC:DST; a program must be linked statically
    #[arg(long, value_name = "SRC:DST", value_parser = guest::parse_put)]
    put: Vec<Put>,
    /// Leave our programs out (and do not build them): busybox and the files put in only
    #[arg(long, requires = "command")]
    bare: bool,
    /// Seconds until the guest is given up
    #[arg(long, default_value_t = SCENARIOS_LIMIT.as_secs())]
    timeout: u64,
    /// What to run in the guest instead of the scenarios, after `--`
    #[arg(last = true)]
    command: Vec<String>,
}

/// The verb. Exits with the guest's code; of several, the first that is not 0.
pub(crate) fn main(arguments: &Arguments) -> Result<ExitCode> {
    let mut files = arguments.put.clone();
    if arguments.bare {
        setup::prepare_vm()?;
    } else {
        setup::prepare(Purpose::Build)?;
        setup::prepare_vm()?;
        build::portable()?;
        files.extend(our_programs());
    }
    let scenarios = [format!("/bin/{SCENARIOS}")];
    let command = if arguments.command.is_empty() { &scenarios[..] } else { &arguments.command };
    let limit = Duration::from_secs(arguments.timeout);
    let mut first_failure = 0;
    for &series in arguments.kernel.series() {
        let code = boot(series, &files, command, limit, |line| println!("{line}"))?;
        if first_failure == 0 {
            first_failure = code;
        }
    }
    Ok(ExitCode::from(first_failure))
}

/// Runs the scenarios inside one kernel; [`build::portable`] must have run.
pub(crate) fn scenarios(series: Series, filter: Option<&str>, counts: &mut Counts) -> Result<()> {
    let mut command: Vec<String> =
        ["/bin/sh", "-c", &format!("{AMOUNTS} exec /bin/{SCENARIOS} \"$@\""), SCENARIOS]
            .map(str::to_owned)
            .into();
    command.extend(filter.map(str::to_owned));
    let mut reported = false;
    let code = boot(series, &our_programs(), &command, SCENARIOS_LIMIT, |line| {
        println!("{line}");
        reported |= counts.add_line(line);
    })?;
    match code {
        0 if reported => Ok(()),
        // Silence is no success.
        0 => bail!("the scenarios in the VM reported no `N passed, N failed`"),
        code => bail!("the scenarios in the VM ended with exit code {code}"),
    }
}

fn our_programs() -> Vec<Put> {
    let programs = workspace::portable_programs();
    ["flowprobe", SCENARIOS]
        .map(|name| Put { from: programs.join(name), to: format!("/bin/{name}") })
        .to_vec()
}

/// Boots one kernel, hands each line of its console to `on_line`, and gives the command's exit code.
fn boot(
    series: Series,
    files: &[Put],
    command: &[String],
    limit: Duration,
    on_line: impl FnMut(&str),
) -> Result<u8> {
    let kernel = Kernel::prepare(series)?;
    let image = guest::initramfs(&kernel, files, command)?;
    let initramfs = workspace::target().join("vm").join(format!("initramfs-{series}.cpio"));
    workspace::make_dir(&workspace::target().join("vm"))?;
    std::fs::write(&initramfs, image).with_context(|| format!("cannot write {}", initramfs.display()))?;
    say(&format!("booting {} ({})", kernel.release, kernel.version));
    let begun = Instant::now();
    let code = qemu::run(&kernel.image, &initramfs, limit, on_line)?;
    say(&format!("{} ended after {} with exit code {code}", kernel.release, seconds(begun.elapsed())));
    Ok(code)
}
