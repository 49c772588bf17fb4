//! A child process whose output is kept, and which ends with its guard.
//!
//! Two reader threads a child; the child is ended by its own process id, never by a name.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{Namespace, wait_for};

/// Which output of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// How a child ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// All of its standard output.
    pub out: String,
    /// All of its standard error.
    pub err: String,
}

type Buffer = Arc<Mutex<Vec<u8>>>;

/// A running child. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    out: Buffer,
    err: Buffer,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Start `command` with captured output, inside `namespace` when one is given. It dies with the calling thread.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start(command: Command, namespace: Option<&Namespace>) -> Result<Self> {
        let out = Arc::default();
        Self::spawn(command, namespace, &out, keeper(&out))
    }

    /// Start `command` and give its standard output to `read` in chunks instead of keeping it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn start_reading(
        command: Command,
        namespace: Option<&Namespace>,
        read: impl FnMut(&[u8]) + Send + 'static,
    ) -> Result<Self> {
        Self::spawn(command, namespace, &Arc::default(), read)
    }

    fn spawn(
        mut command: Command,
        namespace: Option<&Namespace>,
        out: &Buffer,
        read_out: impl FnMut(&[u8]) + Send + 'static,
    ) -> Result<Self> {
        let name = Path::new(command.get_program()).file_name().unwrap_or_else(|| OsStr::new("?"));
        let name = name.to_string_lossy().into_owned();
        let target = namespace.map(|namespace| namespace.fd().as_raw_fd());
        // SAFETY: between fork and exec only two system calls are made, which touch no memory of this process and take
        // no lock. The descriptor outlives the spawn: `namespace` is borrowed for all of it.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                match target {
                    Some(fd) if libc::setns(fd, libc::CLONE_NEWNET) != 0 => {
                        Err(std::io::Error::last_os_error())
                    }
                    _ => Ok(()),
                }
            });
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}: is it installed?"))?;
        let err = Arc::default();
        let readers = [
            child.stdout.take().map(|pipe| drain(pipe, read_out)),
            child.stderr.take().map(|pipe| drain(pipe, keeper(&err))),
        ];
        Ok(Self { name, child, out: Arc::clone(out), err, readers: readers.into_iter().flatten().collect() })
    }

    /// Start `command` and wait for its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub fn run(command: Command, deadline: Duration) -> Result<Finished> {
        Self::start(command, None)?.finish(deadline)
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    #[must_use]
    pub fn output(&self, stream: Stream) -> String {
        let buffer = match stream {
            Stream::Out => &self.out,
            Stream::Err => &self.err,
        };
        String::from_utf8_lossy(&buffer.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// True until it ends.
    ///
    /// # Errors
    /// When the kernel cannot say.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Fail with its output when it has ended.
    ///
    /// # Errors
    /// When it is not running.
    pub fn expect_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended early ({status}): {}", self.name, self.output(Stream::Err)),
        }
    }

    /// Send it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Send SIGTERM and wait for the end.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn stop(self, deadline: Duration) -> Result<Finished> {
        self.signal(Signal::TERM)?;
        self.finish(deadline)
    }

    /// Wait for the end.
    ///
    /// # Errors
    /// When it does not end in time; it is killed then.
    pub fn finish(mut self, deadline: Duration) -> Result<Finished> {
        let what = format!("{} (process {}) has ended", self.name, self.child.id());
        let status = wait_for(deadline, &what, || Ok(self.child.try_wait()?))
            .with_context(|| format!("its errors so far: {}", self.output(Stream::Err)))?;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let (out, err) = (self.output(Stream::Out), self.output(Stream::Err));
        Ok(Finished { code: status.code(), signal: status.signal(), out, err })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An already ended child is not signalled: std knows that it was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Appends what is read to a buffer.
fn keeper(buffer: &Buffer) -> impl FnMut(&[u8]) + Send + 'static {
    let buffer = Arc::clone(buffer);
    move |chunk| buffer.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(chunk)
}

fn drain(
    mut pipe: impl Read + Send + 'static,
    mut take: impl FnMut(&[u8]) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(length) = pipe.read(&mut chunk) {
            if length == 0 {
                break;
            }
            take(&chunk[..length]);
        }
    })
}
