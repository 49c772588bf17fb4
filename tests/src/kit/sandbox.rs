//! A machine with less: a child that does not see some folders, or lacks capabilities, by system calls before exec.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Result;

/// What the child is to lack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sandbox<'a> {
    /// Folders that are empty for it.
    pub hide: &'a [&'a str],
    /// File systems of this type are not mounted for it.
    pub unmount: Option<&'a str>,
    /// It is root without a single capability.
    pub drop_capabilities: bool,
    /// It is this user, without capabilities.
    pub user: Option<u32>,
}

impl Sandbox<'_> {
    /// Let the child of this command be so.
    ///
    /// # Errors
    /// When `/proc` is not mounted or a path holds a zero byte.
    pub fn apply(&self, command: &mut Command) -> Result<()> {
        let hide = self.hide.iter().map(|path| CString::new(*path)).collect::<Result<Vec<_>, _>>()?;
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let unmount = mounts
            .lines()
            .filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
                [_, path, kind, ..] if Some(kind) == self.unmount => Some(CString::new(path)),
                _ => None,
            })
            .collect::<Result<Vec<_>, _>>()?;
        let drop_capabilities = self.drop_capabilities;
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        // SAFETY: between fork and exec only system calls are made; the strings were made before, so that nothing is
        // allocated and no lock is taken.
        unsafe {
            command.pre_exec(move || {
                if !hide.is_empty() || !unmount.is_empty() {
                    check(libc::unshare(libc::CLONE_NEWNS))?;
                    let none = std::ptr::null();
                    // A root that is no mount point (a chroot, an initramfs) refuses; then nothing propagates either.
                    libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast());
                    for path in &hide {
                        check(libc::mount(
                            c"none".as_ptr(),
                            path.as_ptr(),
                            c"tmpfs".as_ptr(),
                            0,
                            none.cast(),
                        ))?;
                    }
                    for path in &unmount {
                        check(libc::umount2(path.as_ptr(), libc::MNT_DETACH))?;
                    }
                }
                if drop_capabilities {
                    // The last capability is named by the first refusal.
                    for capability in 0..64 {
                        if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 {
                            break;
                        }
                    }
                }
                Ok(())
            });
        }
        Ok(())
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
