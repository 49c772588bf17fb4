//! Loads the programs into the kernel, each by itself, and keeps them there as long as the value lives.

use std::{
    fs,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{Array, MapData, PerCpuArray},
    programs::{BtfTracePoint, CgroupAttachMode, Iter, Program, ProgramError, SockOps},
};
use probe_common::{
    fields::{ABSENT, Field, Places},
    loss::Loss,
};

use super::{
    btf::{KERNEL_BTF, Layout},
    cgroup::Root,
    clock,
    hooks::{self, Hook, HookSpec},
    iterate::Buffer,
    privilege, release,
    ring::{Rings, Shape},
    visits::Visits,
    walk::{Walk, walk},
};
use crate::flow::from_record::Context as FlowContext;

/// The object that the build made; aligned, for it is an ELF file.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/flowprobe-ebpf"));

/// The kernel wants room for a page at least, and a power of two.
const SMALLEST_RING: u32 = 1 << 12;

/// The programs compare times of 32 bits, µs: they come round after 71 minutes.
pub const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

/// What is to be loaded.
#[derive(Clone, Debug)]
pub struct Purpose {
    /// Programs, of [`hooks::ALL`].
    pub hooks: &'static [HookSpec],
    /// Size of all ring buffers together: a power of two.
    pub ring_bytes: u32,
    /// Let the programs log.
    pub log: bool,
    /// Shortest time between two round-trip samples of one connection, at most [`LONGEST_INTERVAL`]; 0 takes every one.
    pub rtt_interval: Duration,
    /// Of the hooks, only these by name: to measure what each costs. `None` is all.
    pub only: Option<Vec<&'static str>>,
}

impl Purpose {
    /// All programs.
    #[must_use]
    pub fn observe(ring_bytes: u32, log: bool) -> Self {
        Self { hooks: &hooks::ALL, ring_bytes, log, rtt_interval: Duration::ZERO, only: None }
    }

    /// Only a look at what is there.
    #[must_use]
    pub fn look() -> Self {
        Self { hooks: &[hooks::FLOWS], ..Self::observe(SMALLEST_RING, false) }
    }
}

/// The programs in the kernel. Dropping it takes them out.
pub struct Probe {
    ebpf: Ebpf,
    rings: Option<Rings>,
    hooks: Arc<Vec<Hook>>,
    layout: Layout,
    buffer: Buffer,
    visits: Visits,
}

/// What the programs could not do, by reason, and what they left out. Shared: the maps outlive their names in the object.
#[derive(Clone)]
pub struct Losses(Arc<Mutex<Counts>>);

struct Counts {
    losses: Array<MapData, u64>,
    left_out: PerCpuArray<MapData, u64>,
}

impl Losses {
    /// The counts so far.
    #[must_use]
    pub fn read(&self) -> Vec<(Loss, u64)> {
        let map = &self.counts().losses;
        Loss::ALL.iter().filter_map(|loss| Some((*loss, map.get(&(*loss as u32), 0).ok()?))).collect()
    }

    /// Records that never arrived; each may have been a connection's end.
    #[must_use]
    pub fn records(&self) -> u64 {
        let lost = |loss| matches!(loss, Loss::RingFullClosed | Loss::RingFullIncrement | Loss::EndUnseen);
        self.read().into_iter().filter(|(loss, _)| lost(*loss)).map(|(_, n)| n).sum()
    }

    /// Round trips that came sooner after their connection's last sample than [`Purpose::rtt_interval`]; `None` when the
    /// kernel does not say.
    #[must_use]
    pub fn round_trips_left_out(&self) -> Option<u64> {
        Some(self.counts().left_out.get(&0, 0).ok()?.iter().sum())
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probe {
    /// Loads and attaches.
    ///
    /// # Errors
    /// A required capability, field or program is missing. Nothing stays loaded then.
    pub fn load(purpose: &Purpose) -> Result<Self> {
        privilege::require(privilege::effective())?;
        let layout = read_layout()?;
        layout.complete()?;
        let (mut ebpf, rings, hooks) = attach_all(purpose, &layout)?;
        if let Some(hook) = hooks.iter().find(|hook| hook.spec.required && !hook.is_up()) {
            let why = hook.down.as_deref().unwrap_or_default();
            bail!(
                "{} cannot be used: {why}; `flowprobe check` tells what this kernel allows",
                hook.spec.point
            );
        }
        give_back_memory();
        let visits = Visits::new(&mut ebpf)?;
        Ok(Self {
            ebpf,
            rings: Some(rings),
            hooks: Arc::new(hooks),
            layout,
            buffer: Buffer::default(),
            visits,
        })
    }

    /// The hooks and how they are.
    #[must_use]
    pub fn hooks(&self) -> Arc<Vec<Hook>> {
        Arc::clone(&self.hooks)
    }

    /// What records mean here.
    #[must_use]
    pub fn context(&self) -> FlowContext {
        let mut places = self.layout.places;
        if !self.hooks.iter().any(|hook| hook.spec == hooks::EPISODE && hook.is_up()) {
            // A field that no program reads gives no value.
            places[Field::UndoMarker as usize] = ABSENT;
        }
        FlowContext { places, hz: clock::jiffies_per_second(), wall_offset_ns: clock::wall_offset_ns() }
    }

    /// The reading ends of the ring buffers; there is one of each.
    ///
    /// # Errors
    /// They were taken before.
    pub fn take_rings(&mut self) -> Result<Rings> {
        self.rings.take().context("the ring buffers were taken before")
    }

    /// The loss counters; there is one value, which can be cloned.
    ///
    /// # Errors
    /// It was taken before.
    pub fn take_losses(&mut self) -> Result<Losses> {
        let losses = self.ebpf.take_map("LOSSES").context("the loss counters were taken before")?;
        let left_out =
            self.ebpf.take_map("LEFT_OUT").context("the counter of what is left out was taken before")?;
        Ok(Losses(Arc::new(Mutex::new(Counts {
            losses: Array::try_from(losses).context("cannot use the loss counters")?,
            left_out: PerCpuArray::try_from(left_out)
                .context("cannot use the counter of what is left out")?,
        }))))
    }

    /// The programs' log, for [`Purpose::log`]: a call passes on what has come.
    ///
    /// # Errors
    /// It was taken before.
    pub fn take_log(&mut self) -> Result<Box<dyn FnMut() + Send>> {
        let mut logger = aya_log::EbpfLogger::init(&mut self.ebpf)?;
        Ok(Box::new(move || logger.flush()))
    }

    /// A snapshot of live connections; changes no count.
    ///
    /// # Errors
    /// As [`walk`].
    pub fn snapshot(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<Walk> {
        walk(&mut self.ebpf, hooks::FLOWS, &mut self.buffer, None, each)
    }

    /// What live connections added since the last time; adopts those that are older than the probe.
    ///
    /// # Errors
    /// As [`walk`].
    pub fn account(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<Walk> {
        walk(&mut self.ebpf, hooks::ACCOUNT, &mut self.buffer, Some(&mut self.visits), each)
    }
}

/// Tries to load every program and says how it went; they are gone when this returns.
///
/// # Errors
/// The object as a whole cannot be loaded.
pub fn try_all(layout: &Layout) -> Result<Vec<Hook>> {
    Ok(attach_all(&Purpose::observe(SMALLEST_RING, false), layout)?.2)
}

/// Finds this kernel's fields and tracepoints.
///
/// # Errors
/// The kernel has no BTF.
pub fn read_layout() -> Result<Layout> {
    let bytes = fs::read(KERNEL_BTF).with_context(|| {
        format!("cannot read {KERNEL_BTF}; a kernel built with CONFIG_DEBUG_INFO_BTF=y is needed")
    })?;
    let tracepoints: Vec<_> = hooks::ALL.iter().filter_map(|hook| tracepoint(hook)).collect();
    Layout::from_btf(&bytes, &tracepoints)
}

fn tracepoint(hook: &HookSpec) -> Option<&'static str> {
    hook.point.strip_prefix("tp_btf/")
}

fn attach_all(purpose: &Purpose, layout: &Layout) -> Result<(Ebpf, Rings, Vec<Hook>)> {
    let btf = Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
    let places: &Places = &layout.places;
    let rings = Shape::of(purpose.ring_bytes)?;
    // Woken when a quarter is unread: the rest is room for the time that the reader needs to come.
    let wake_at_bytes = rings.bytes / 4;
    let hz = clock::jiffies_per_second();
    let rtt_interval_us =
        u32::try_from(purpose.rtt_interval.min(LONGEST_INTERVAL).as_nanos().div_ceil(1000))?;
    let log_level = if purpose.log { u8::MAX } else { 0 };
    let mut ebpf = EbpfLoader::new()
        .btf(Some(&btf))
        .override_global("PLACES", &places[..], true)
        .override_global("WAKE_AT_BYTES", &wake_at_bytes, true)
        .override_global("RINGS_MASK", &(rings.rings - 1), true)
        .override_global("JIFFIES_PER_SECOND", &hz, true)
        .override_global("RTT_INTERVAL_US", &rtt_interval_us, true)
        .override_global(aya_log::LEVEL, &log_level, false)
        .map_max_entries("RECORDS", rings.rings)
        .load(OBJECT)
        .map_err(|e| anyhow!("the kernel refused the programs' maps: {}", causes(&e)))?;
    let rings = Rings::new(&mut ebpf, rings)?;
    let mut hooks = Vec::new();
    let release = release::version(&release::release());
    for spec in purpose.hooks.iter().filter(|spec| spec.is_wanted(release)) {
        let is_left_out = purpose.only.as_ref().is_some_and(|only| !only.contains(&spec.name));
        let attached = if is_left_out {
            Err(anyhow!("it was left out by FLOWPROBE_HOOKS"))
        } else {
            attach(&mut ebpf, *spec, &btf, layout)
        };
        let program = attached
            .is_ok()
            .then(|| ebpf.program(spec.name)?.fd().ok()?.as_fd().try_clone_to_owned().ok())
            .flatten();
        hooks.push(Hook { spec: *spec, down: attached.err().map(|e| format!("{e:#}")), program });
    }
    Ok((ebpf, rings, hooks))
}

fn attach(ebpf: &mut Ebpf, spec: HookSpec, btf: &Btf, layout: &Layout) -> Result<()> {
    let program = ebpf.program_mut(spec.name).with_context(|| format!("the object has no {}", spec.name))?;
    if let Some(name) = tracepoint(&spec)
        && !layout.tracepoints.iter().any(|t| t == name)
    {
        bail!("this kernel has no tracepoint {name}");
    }
    match program {
        Program::SockOps(program) => attach_sock_ops(program),
        Program::BtfTracePoint(program) => attach_tracepoint(program, tracepoint(&spec), btf),
        // An iterator is attached when it is opened.
        Program::Iter(program) => load_iterator(program, btf),
        _ => bail!("{} is of an unexpected kind", spec.name),
    }
}

fn attach_sock_ops(program: &mut SockOps) -> Result<()> {
    program.load().map_err(|e| refusal(&e))?;
    let root = Root::open()?;
    // Links always stand beside other programs; the mode is for the older way of attaching.
    program.attach(root.dir(), CgroupAttachMode::Single).map_err(|e| refusal(&e))?;
    Ok(())
}

fn attach_tracepoint(program: &mut BtfTracePoint, name: Option<&str>, btf: &Btf) -> Result<()> {
    program.load(name.context("no tracepoint")?, btf).map_err(|e| refusal(&e))?;
    program.attach().map_err(|e| refusal(&e))?;
    Ok(())
}

fn load_iterator(program: &mut Iter, btf: &Btf) -> Result<()> {
    program.load("tcp", btf).map_err(|e| refusal(&e))
}

/// The kernel's refusal in one line; of the verifier's words the last ones, which name the fault.
fn refusal(error: &ProgramError) -> anyhow::Error {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let statistics = ["processed", "verification time", "stack depth"];
        let is_said = |line: &&str| !line.is_empty() && !statistics.iter().any(|s| line.starts_with(s));
        let last: Vec<_> = log.lines().rev().filter(is_said).take(2).collect();
        let said = last.into_iter().rev().collect::<Vec<_>>().join("; ");
        return anyhow!("the kernel refused the program: {io_error} ({said})");
    }
    anyhow!("{}", causes(error))
}

/// Loading takes tens of megabytes for a moment, for aya's view of the kernel's types; the allocator keeps them unless asked.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: frees what the allocator does not use; no argument is wrong.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
