//! Runs one guest under QEMU: console to a callback, a deadline, the exit code from the guest's last word.
//!
//! Always emulated (TCG): it works without /dev/kvm and inside other VMs, and behaves the same everywhere.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Result, bail};

use crate::step::{self, seconds};

/// What stands before the exit code in the line by which init reports it.
pub(super) const MARKER: &str = "flowprobe-vm-exit-code: ";

/// Boots `kernel` with `initramfs`; gives the exit code that the guest reported.
pub(super) fn run(
    kernel: &Path,
    initramfs: &Path,
    limit: Duration,
    mut on_line: impl FnMut(&str),
) -> Result<u8> {
    // setpriv becomes QEMU, which then ends with us, however we end.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"])
        .args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,la57=off"])
        .args(["-smp", "2", "-m", "2048"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        // An oops ends the guest: it is a failed test, not a line in a log.
        .args(["-append", "console=ttyS0 quiet rdinit=/init panic=-1 oops=panic mitigations=off"]);
    let mut reported = None;
    let status =
        step::streamed(&mut command, Some(limit), |line| match line.trim_start().strip_prefix(MARKER) {
            Some(code) => reported = code.trim().parse::<u8>().ok(),
            None if reported.is_none() => on_line(line),
            None => {}
        })?;
    match (reported, status) {
        (Some(code), _) => Ok(code),
        (None, None) => bail!("the guest did not end within {}; it was killed", seconds(limit)),
        (None, Some(status)) => bail!(
            "the guest ended without reporting an exit code (QEMU: {status}): its last lines above say why"
        ),
    }
}
