//! An anonymous network namespace: made on a thread of its own, held by a descriptor until this process ends.
//!
//! Costs two threads and a process to make and one thread per [`Namespace::run`]; the caller's own namespace never changes.

use std::fs::File;
use std::io::PipeWriter;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, thread};

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::link::device;

/// A network namespace with its loopback up. Cloning shares it.
#[derive(Clone, Debug)]
pub struct Namespace {
    fd: Arc<OwnedFd>,
    inode: u64,
    _inhabitant: Option<Arc<Inhabitant>>,
}

/// All namespaces of this process, to its end: the kernel gives the inode of a namespace that is gone to the next one,
/// and a scenario could not tell the flows of the two apart.
static KEPT: Mutex<Vec<Arc<OwnedFd>>> = Mutex::new(Vec::new());

impl Namespace {
    /// Make a new network namespace with `lo` up, and a process in it that does nothing: a namespace of a container has
    /// processes too, and that is how others find it.
    ///
    /// # Errors
    /// Without the right to make namespaces (run as root).
    pub fn new() -> Result<Self> {
        let empty = Self::without_process()?;
        let inhabitant = Inhabitant::start(empty.fd())?;
        Ok(Self { _inhabitant: Some(Arc::new(inhabitant)), ..empty })
    }

    /// Make a new network namespace with `lo` up that no process is in: only descriptors and sockets hold it.
    ///
    /// # Errors
    /// Without the right to make namespaces (run as root).
    pub fn without_process() -> Result<Self> {
        let fd = on_thread(|| -> Result<OwnedFd> {
            // SAFETY: only this short-lived thread leaves the network namespace; CLONE_NEWNET shares no memory or
            // descriptor table, so no other thread's assumptions are broken.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
                .context("cannot make a network namespace: run the tests as root")?;
            device::set_up("lo", true).context("cannot bring lo up in a new network namespace")?;
            Ok(OwnedFd::from(
                File::open("/proc/thread-self/ns/net").context("cannot open the new namespace")?,
            ))
        })??;
        let inode = File::from(fd.try_clone()?).metadata()?.ino();
        let fd = Arc::new(fd);
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&fd));
        Ok(Self { fd, inode, _inhabitant: None })
    }

    /// The namespace's inode: what `netns` is in a flow record.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The namespace's descriptor, for setns in a child process.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Run `work` on a new thread inside the namespace and return what it gives.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or `work` panicked.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_thread(|| -> Result<T> {
            move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter a network namespace")?;
            Ok(work())
        })?
    }

    /// Write a value to `/proc/sys/NAME` as seen from inside; `name` has slashes, such as `net/ipv4/tcp_sack`.
    ///
    /// # Errors
    /// When the kernel has no such setting in this namespace, or refuses the value.
    pub fn set_sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{name}");
        self.run(|| fs::write(&path, value).with_context(|| format!("cannot set {name} to {value}")))?
    }

    /// Spread received packets of `lo` over all CPUs (RPS), so that a softirq of one connection interrupts another.
    ///
    /// # Errors
    /// When this kernel has no RPS or sysfs cannot be mounted for the namespace.
    pub fn spread_loopback(&self) -> Result<()> {
        self.run(|| device::set_rps("lo"))?
    }
}

/// A process in a namespace that waits for its end.
#[derive(Debug)]
struct Inhabitant {
    process: libc::pid_t,
    /// Its end of the pipe closes when this process ends, however that comes.
    _alive: PipeWriter,
}

impl Inhabitant {
    fn start(namespace: BorrowedFd<'_>) -> Result<Self> {
        let (wait, alive) = std::io::pipe()?;
        let (namespace, wait_fd) = (namespace.as_raw_fd(), wait.as_raw_fd());
        // SAFETY: the child of a process with threads may only make system calls until it ends: it does nothing else.
        let process = unsafe { libc::fork() };
        if process == 0 {
            // SAFETY: as above. All descriptors but the pipe's reading end are closed, so that nobody waits for them.
            unsafe {
                if libc::setns(namespace, libc::CLONE_NEWNET) == 0 && libc::dup2(wait_fd, 0) == 0 {
                    libc::syscall(libc::SYS_close_range, 1, libc::c_uint::MAX, 0);
                    let mut byte = 0_u8;
                    while libc::read(0, (&raw mut byte).cast(), 1) > 0 {}
                }
                libc::_exit(0);
            }
        }
        ensure!(process > 0, "cannot start a process in a namespace: {}", std::io::Error::last_os_error());
        Ok(Self { process, _alive: alive })
    }
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        // SAFETY: it is our own child and was not waited for, so that its number is nobody else's.
        unsafe { libc::kill(self.process, libc::SIGKILL) };
        // SAFETY: as above; a null status is allowed.
        unsafe { libc::waitpid(self.process, std::ptr::null_mut(), 0) };
    }
}

/// Run `work` on a thread that ends with it.
fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        scope.spawn(work).join().map_err(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
                .unwrap_or_default();
            anyhow!("a thread inside a network namespace panicked: {text}")
        })
    })
}
