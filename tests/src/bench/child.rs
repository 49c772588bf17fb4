//! A child process of the bench: it ends with its guard or with the bench, and its CPU time is known afterwards.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child as StdChild, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::kit::wait_for;
use crate::load::cpu;

/// How a child ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// The exit code; `None` when a signal ended it.
    pub(super) code: Option<i32>,
    /// CPU time of it and of its children that it waited for.
    pub(super) cpu: Duration,
    /// From its start.
    pub(super) wall: Duration,
}

/// A running child. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub(super) struct Child {
    /// Empty once it was waited for, so that nobody else is signalled by its number.
    child: Option<StdChild>,
    name: String,
    begun: Instant,
}

impl Child {
    /// Starts `command` with the kernel's tracing files where programs look for them. Where the host has not mounted
    /// them they are mounted for this child alone, and vanish with it.
    pub(super) fn start_tracing(mut command: Command) -> Result<Self> {
        let mounted = fs::read_to_string("/proc/self/mounts")?.lines().any(|line| line.contains(" tracefs "));
        if !mounted {
            // SAFETY: between fork and exec only system calls are made; the strings are constants.
            unsafe { command.pre_exec(mount_tracing) };
        }
        Self::start(command, None)
    }

    /// Starts `command`, whose outputs are as it says, in the network namespace of the process `beside`, if any.
    pub(super) fn start(mut command: Command, beside: Option<u32>) -> Result<Self> {
        let name = command.get_program().to_string_lossy().rsplit('/').next().unwrap_or("?").to_owned();
        let namespace = beside.map(|process| File::open(format!("/proc/{process}/ns/net"))).transpose();
        let namespace = namespace.context("the process whose namespace is wanted is gone")?;
        let target = namespace.as_ref().map(File::as_raw_fd);
        // SAFETY: between fork and exec only system calls are made, which touch no memory of this process and take no
        // lock; the descriptor outlives the spawn.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                match target {
                    Some(fd) if libc::setns(fd, libc::CLONE_NEWNET) != 0 => Err(io::Error::last_os_error()),
                    _ => Ok(()),
                }
            });
        }
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {name}: is it installed?"))?;
        Ok(Self { child: Some(child), name, begun })
    }

    /// The process id.
    pub(super) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, StdChild::id)
    }

    /// When it was started.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }

    /// Its standard output, if it is a pipe and nobody took it.
    pub(super) fn stdout(&mut self) -> Result<ChildStdout> {
        self.child.as_mut().and_then(|child| child.stdout.take()).context("no pipe from the child")
    }

    /// Its standard input, likewise.
    pub(super) fn stdin(&mut self) -> Result<ChildStdin> {
        self.child.as_mut().and_then(|child| child.stdin.take()).context("no pipe to the child")
    }

    /// Whether it runs still.
    pub(super) fn is_running(&mut self) -> Result<bool> {
        Ok(match &mut self.child {
            Some(child) => child.try_wait()?.is_none(),
            None => false,
        })
    }

    /// Waits for its end.
    pub(super) fn wait(mut self, deadline: Duration) -> Result<Ended> {
        let what = format!("{} has ended", self.name);
        let process = libc::pid_t::try_from(self.id())?;
        let ended = wait_for(deadline, &what, || reap(process))?;
        // It was waited for: its number may be another's from now on.
        self.child = None;
        let (code, cpu) = ended;
        Ok(Ended { code, cpu, wall: self.begun.elapsed() })
    }

    /// Sends it a signal and waits for its end.
    pub(super) fn stop(self, signal: Signal, deadline: Duration) -> Result<Ended> {
        let id = Pid::from_raw(i32::try_from(self.id())?).context("the child has ended")?;
        kill_process(id, signal).with_context(|| format!("cannot signal {}", self.name))?;
        self.wait(deadline)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Newer programs look in the one place, older ones in the other; the second mount brings the first with it.
fn mount_tracing() -> io::Result<()> {
    let check = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: plain system calls on constant strings.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNS))?;
        let none = std::ptr::null();
        check(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()))?;
        let mount = |what: &std::ffi::CStr, place: &std::ffi::CStr| {
            libc::mount(what.as_ptr(), place.as_ptr(), what.as_ptr(), 0, none.cast())
        };
        check(mount(c"tracefs", c"/sys/kernel/tracing"))?;
        // A kernel without debugfs has the other place still.
        mount(c"debugfs", c"/sys/kernel/debug");
    }
    Ok(())
}

/// Exit code and CPU time of our own child, once it has ended.
fn reap(process: libc::pid_t) -> Result<Option<(Option<i32>, Duration)>> {
    let mut status = 0;
    // SAFETY: all bytes zero are a valid `rusage`; the kernel writes one and a status, both of which live through it.
    let (result, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(process, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
    };
    match result {
        0 => Ok(None),
        _ if result == process => {
            let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            Ok(Some((code, cpu::of_usage(&usage))))
        }
        _ => Err(io::Error::last_os_error()).context("a child cannot be waited for"),
    }
}

/// What a command prints, with its CPU time; its errors go to ours.
pub(super) fn output(mut command: Command, deadline: Duration) -> Result<(String, Ended)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = Child::start(command, None)?;
    let mut out = child.stdout()?;
    let reader = std::thread::spawn(move || io::read_to_string(&mut out));
    let name = child.name.clone();
    let ended = child.wait(deadline)?;
    let text = reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
    if ended.code != Some(0) {
        bail!("{name} ended with {:?}", ended.code);
    }
    Ok((text, ended))
}

/// The resident memory of a process in KiB.
pub(super) fn resident_kib(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))
        .with_context(|| format!("process {process} is gone"))?;
    super::machine::kib_of(&status, "VmRSS")
}
