//! CPU time of the machine, of a process and of its threads; pinning to CPUs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::param::clock_ticks_per_second;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long the machine's CPUs were not idle since it started, summed; waiting for disks is idle, time that the
/// hypervisor took away (steal) is not counted. `/proc/stat`, in steps of 10 ms.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn machine_busy() -> Result<Duration> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy(&text).context("/proc/stat has no line of all CPUs")
}

fn busy(text: &str) -> Option<Duration> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user already (proc_stat(5)).
    let [user, nice, system, _, _, irq, softirq, ..] = ticks[..] else { return None };
    Some(from_ticks(user + nice + system + irq + softirq))
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64)
}

/// What the scheduler counts of a process' threads that live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// On a CPU, to the nanosecond.
    pub time: Duration,
    /// How often a CPU was given to it: at least once a wake-up that the thread slept for.
    pub times: u64,
}

impl std::ops::AddAssign for Ran {
    fn add_assign(&mut self, other: Self) {
        self.time += other.time;
        self.times += other.times;
    }
}

impl Ran {
    /// What was added since `before`; nothing when a thread has ended meanwhile.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self { time: self.time.saturating_sub(before.time), times: self.times.saturating_sub(before.times) }
    }

    /// All threads of a process.
    ///
    /// # Errors
    /// When it is gone, or the kernel keeps no such account (CONFIG_SCHED_INFO).
    pub fn of_process(process: u32) -> Result<Self> {
        Self::of_threads(process, |_| true)
    }

    /// The threads of a process by this name.
    ///
    /// # Errors
    /// As [`Ran::of_process`].
    pub fn of_thread(process: u32, name: &str) -> Result<Self> {
        Self::of_threads(process, |thread| {
            fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim() == name)
        })
    }

    /// Whether a thread of a process by this name runs or waits for a CPU.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn is_runnable(process: u32, name: &str) -> Result<bool> {
        let threads = fs::read_dir(format!("/proc/{process}/task"))
            .with_context(|| format!("process {process} is gone"))?;
        let stat = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
        // The name is in parentheses and may hold any byte; the state stands behind it (proc_pid_stat(5)).
        let states = stat.filter_map(|text| {
            let (head, state) = text.rsplit_once(") ")?;
            head.ends_with(&format!("({name}")).then(|| state.starts_with('R'))
        });
        Ok(states.into_iter().any(|runnable| runnable))
    }

    fn of_threads(process: u32, wanted: impl Fn(&Path) -> bool) -> Result<Self> {
        let threads = fs::read_dir(format!("/proc/{process}/task"))
            .with_context(|| format!("process {process} is gone"))?;
        let mut sum = Self::default();
        for thread in threads {
            let thread = thread?.path();
            // A thread may end between the listing and the look.
            if wanted(&thread)
                && let Ok(text) = fs::read_to_string(thread.join("schedstat"))
            {
                sum += parse(&text).context("the kernel does not count the time of threads")?;
            }
        }
        Ok(sum)
    }
}

/// `schedstat` of a thread: time on a CPU, time waiting for one, times given one.
fn parse(text: &str) -> Option<Ran> {
    let mut words = text.split_whitespace();
    let time = Duration::from_nanos(words.next()?.parse().ok()?);
    Some(Ran { time, times: words.nth(1)?.parse().ok()? })
}

/// CPU time of this process, its ended threads included.
///
/// # Errors
/// When the kernel does not say.
pub fn own() -> Result<Duration> {
    // SAFETY: all bytes zero are a valid `rusage`, and the kernel writes no more than one.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        anyhow::ensure!(libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) == 0, "getrusage failed");
        usage
    };
    Ok(of_usage(&usage))
}

/// User and system time of a `rusage`.
#[must_use]
pub fn of_usage(usage: &libc::rusage) -> Duration {
    [usage.ru_utime, usage.ru_stime]
        .map(|time| {
            Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
                + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
        })
        .iter()
        .sum()
}

/// The CPUs that this thread may use.
///
/// # Errors
/// When the kernel does not say.
pub fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("cannot read which CPUs are allowed")?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Let this thread, and what it starts, use only these CPUs.
///
/// # Errors
/// When the machine has none of them.
pub fn pin(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).with_context(|| format!("cannot use CPUs {cpus:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_waiting_and_stolen_time_is_not_busy() {
        let tick = from_ticks(1);
        assert_eq!(busy("cpu  1 2 4 8 16 32 64 128 1 0\ncpu0 1 1"), Some(tick * (1 + 2 + 4 + 32 + 64)));
        assert_eq!(busy("intr 1"), None);
    }

    #[test]
    fn a_threads_account_is_time_and_times() {
        assert_eq!(parse("1500 20 7\n"), Some(Ran { time: Duration::from_nanos(1500), times: 7 }));
        assert_eq!(parse(""), None);
    }

    #[test]
    fn work_is_seen_in_the_account() {
        let before = Ran::of_process(std::process::id()).unwrap();
        let end = own().unwrap() + Duration::from_millis(20);
        while own().unwrap() < end {}
        let ran = Ran::of_process(std::process::id()).unwrap().since(before);
        assert!(ran.time >= Duration::from_millis(5), "{ran:?}");
    }
}
