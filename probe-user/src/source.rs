//! Where the command line gets flows from: the running daemon, or probes of its own.

use std::{ops::ControlFlow, path::Path};

use anyhow::{Context as _, Result};
use probe_common::{
    decode::{Record, decode, length, whole},
    record::{FlowRecord, kind},
};
use tokio::{runtime::Runtime, signal::unix::SignalKind};

use crate::{
    control::{Client, Question, Reply},
    flow::{
        Flow,
        cut::Cut,
        from_record::{Context as FlowContext, flow},
    },
    kernel::{
        btf::Layout,
        cgroup::{Paths, Root},
        clock,
        hooks::{self, Hook},
        privilege,
        probe::{Probe, Purpose, read_layout, try_all},
        release, ring,
    },
    stop,
};

/// How a snapshot ended.
#[derive(Clone, Debug, Default)]
pub struct SnapshotEnd {
    /// Network namespaces that hold sockets and could not be entered.
    pub unseen_namespaces: u64,
    /// Why connections may be missing.
    pub incomplete: Option<String>,
    /// A daemon gave it; otherwise probes were loaded for it.
    pub from_daemon: bool,
}

/// What a watcher is told.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// From here on no end of a connection is missed in silence.
    Ready,
    /// A connection ended, or its connect failed.
    Flow(Box<Flow>),
    /// Records were lost before they could be shown.
    Lost {
        /// How many.
        records: u64,
    },
}

/// One line of `flowprobe check`.
#[derive(Clone, Debug)]
pub struct CheckItem {
    /// Hook, field or privilege.
    pub name: String,
    /// It is there.
    pub ok: bool,
    /// Without it nothing is measured.
    pub required: bool,
    /// Why it is not there.
    pub reason: Option<String>,
    /// What is lost without it.
    pub lost_without: String,
}

/// What this machine allows.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Release of the running kernel.
    pub kernel: String,
    /// A running daemon, in words.
    pub daemon: Option<String>,
    /// Capabilities, BTF, cgroup v2.
    pub privileges: Vec<CheckItem>,
    /// Programs.
    pub hooks: Vec<CheckItem>,
    /// Kernel fields.
    pub fields: Vec<CheckItem>,
    /// Known faults of this kernel that touch the numbers.
    pub notes: Vec<String>,
}

/// Ring buffers of a watch without a daemon, at least.
const WATCH_RING_BYTES: u32 = 1 << 23;

/// How peers' addresses are to be cut where no daemon has done it: asked for only then.
pub type HowToCut<'a> = &'a dyn Fn() -> Result<Cut>;

/// Calls `each` for every live connection, in no order, until it breaks.
///
/// # Errors
/// No daemon answers and the probes cannot be loaded.
pub fn snapshot(
    run_dir: &Path,
    cut: HowToCut<'_>,
    each: &mut dyn FnMut(Flow) -> ControlFlow<()>,
) -> Result<SnapshotEnd> {
    runtime()?.block_on(async {
        match Client::ask(run_dir, Question::Flows).await? {
            Some(client) => snapshot_of_daemon(client, each).await,
            None => own_snapshot(cut()?, each),
        }
    })
}

async fn snapshot_of_daemon(
    mut client: Client,
    each: &mut dyn FnMut(Flow) -> ControlFlow<()>,
) -> Result<SnapshotEnd> {
    // All of it first: the daemon's sweeps wait for whoever reads slowly, as a pager does.
    let mut records = Vec::new();
    let end =
        |unseen_namespaces, incomplete| SnapshotEnd { unseen_namespaces, incomplete, from_daemon: true };
    let end = loop {
        match client.next().await? {
            Reply::Record(bytes) if length(bytes) == Some(bytes.len()) => records.extend_from_slice(bytes),
            Reply::End(e) => break end(e.unseen_namespaces, e.incomplete),
            Reply::Record(_) | Reply::Ready | Reply::Lost(_) => {}
            Reply::Closed => break end(0, Some("the daemon stopped".to_owned())),
        }
    };
    let mut flows = Flows::new(client.context(), Cut::default());
    for bytes in whole(&records) {
        if let Some(flow) = flows.of(bytes, kind::LIVE)
            && each(flow).is_break()
        {
            break;
        }
    }
    Ok(end)
}

fn own_snapshot(cut: Cut, each: &mut dyn FnMut(Flow) -> ControlFlow<()>) -> Result<SnapshotEnd> {
    let mut probe = Probe::load(&Purpose::look())?;
    let mut flows = Flows::new(probe.context(), cut);
    let mut going = true;
    let walk = probe.snapshot(&mut |bytes| {
        if going && let Some(flow) = flows.of(bytes, kind::LIVE) {
            going = each(flow).is_continue();
        }
    })?;
    Ok(SnapshotEnd {
        unseen_namespaces: walk.unseen_namespaces,
        incomplete: walk.incomplete,
        from_daemon: false,
    })
}

/// Calls `each` for every connection that ends, until it breaks or SIGINT or SIGTERM comes.
///
/// # Errors
/// No daemon answers and the probes cannot be loaded.
pub fn watch(
    run_dir: &Path,
    cut: HowToCut<'_>,
    each: &mut dyn FnMut(WatchEvent) -> ControlFlow<()>,
) -> Result<()> {
    let stopped = stop::listen([SignalKind::terminate(), SignalKind::interrupt()], stop::end_anyway)?;
    runtime()?.block_on(async {
        let watching = async {
            match Client::ask(run_dir, Question::Watch).await? {
                Some(client) => watch_daemon(client, each).await,
                None => own_watch(cut()?, each).await,
            }
        };
        tokio::select! {
            result = watching => result,
            // An error says that the listener broke down, which is no reason to go on without it.
            _ = stopped => Ok(()),
        }
    })
}

async fn watch_daemon(mut client: Client, each: &mut dyn FnMut(WatchEvent) -> ControlFlow<()>) -> Result<()> {
    let mut flows = Flows::new(client.context(), Cut::default());
    loop {
        let event = match client.next().await? {
            Reply::Ready => Some(WatchEvent::Ready),
            Reply::Record(bytes) => {
                flows.set_clock(clock::wall_offset_ns());
                flows.of(bytes, kind::CLOSED).map(|f| WatchEvent::Flow(Box::new(f)))
            }
            Reply::Lost(records) => Some(WatchEvent::Lost { records }),
            Reply::End(_) => None,
            Reply::Closed => anyhow::bail!("the daemon stopped; start it again, or watch without it"),
        };
        if event.is_some_and(|event| each(event).is_break()) {
            return Ok(());
        }
    }
}

async fn own_watch(cut: Cut, each: &mut dyn FnMut(WatchEvent) -> ControlFlow<()>) -> Result<()> {
    let mut probe = Probe::load(&Purpose::observe(ring::usual_bytes().max(WATCH_RING_BYTES), false))?;
    let losses = probe.take_losses()?;
    let mut rings = probe.take_rings()?.into_async()?;
    let mut flows = Flows::new(probe.context(), cut);
    // Adopts connections that are there, so that their ends are seen.
    probe.account(&mut |_| {})?;
    let mut going = each(WatchEvent::Ready).is_continue();
    let mut lost = 0;
    while going {
        rings.wait().await;
        flows.set_clock(clock::wall_offset_ns());
        rings.drain(&mut |bytes| {
            if going && let Some(flow) = flows.of(bytes, kind::CLOSED) {
                going = each(WatchEvent::Flow(Box::new(flow))).is_continue();
            }
        });
        let now = losses.records();
        if now > lost && going {
            going = each(WatchEvent::Lost { records: now - lost }).is_continue();
            lost = now;
        }
    }
    Ok(())
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

/// Makes flows of records, with the paths of their cgroups.
struct Flows {
    context: FlowContext,
    /// The context's wall offset less this process's own, which is not 0 in another time namespace than the daemon's.
    skew_ns: i64,
    paths: Option<Paths>,
    /// The daemon has cut its own.
    cut: Cut,
}

impl Flows {
    fn new(context: FlowContext, cut: Cut) -> Self {
        // Without cgroup v2 the paths are null.
        let skew_ns = context.wall_offset_ns.wrapping_sub(clock::wall_offset_ns());
        Self { context, skew_ns, paths: Root::open().ok().map(Paths::new), cut }
    }

    /// From now on times are shown by the wall clock as it is: over days it is slewed, or set.
    fn set_clock(&mut self, wall_offset_ns: i64) {
        self.context.wall_offset_ns = wall_offset_ns.wrapping_add(self.skew_ns);
    }

    /// The flow, if the record is of this kind.
    fn of(&mut self, bytes: &[u8], kind: u8) -> Option<Flow> {
        // Bytes from a socket lie anywhere; a record wants its boundary.
        let mut aligned = [0_u64; size_of::<FlowRecord>() / 8];
        let into: &mut [u8] = bytemuck::cast_slice_mut(&mut aligned);
        let into = into.get_mut(..bytes.len())?;
        into.copy_from_slice(bytes);
        self.cut.apply(into);
        let Ok(Record::Flow(record)) = decode(into) else { return None };
        if record.kind != kind {
            return None;
        }
        let path = self.paths.as_mut().and_then(|paths| paths.path(record.cgroup_id));
        Some(flow(&record, &self.context, path))
    }
}

/// Tries every hook and field of this kernel and says what is there.
///
/// # Errors
/// The runtime cannot be started. What is missing is an item of the report.
pub fn check(run_dir: &Path) -> Result<CheckReport> {
    let kernel = release::release();
    let layout = read_layout();
    let mut report = CheckReport { notes: release::notes(&kernel), kernel, ..CheckReport::default() };
    report.daemon = match runtime()?.block_on(Client::ask(run_dir, Question::Watch)) {
        Ok(Some(c)) => Some(format!("running, version {}, process {}", c.hello.version, c.hello.pid)),
        Ok(None) => None,
        Err(error) => Some(format!("{error:#}")),
    };
    report.privileges = privileges(&layout);
    match &layout {
        Ok(layout) => {
            report.hooks = try_hooks(layout);
            report.fields = fields(layout);
        }
        Err(_) => report.hooks = all_down("the kernel's BTF cannot be read"),
    }
    Ok(report)
}

fn privileges(layout: &Result<Layout>) -> Vec<CheckItem> {
    let effective = privilege::effective();
    let mut items: Vec<_> = privilege::CAPABILITIES
        .iter()
        .map(|c| CheckItem {
            name: c.name.to_owned(),
            ok: c.held(effective),
            required: c.required,
            reason: (!c.held(effective)).then(|| "this process does not have it; run as root".to_owned()),
            lost_without: c.lost_without.to_owned(),
        })
        .collect();
    items.push(CheckItem {
        name: "BTF".to_owned(),
        ok: layout.is_ok(),
        required: true,
        reason: layout.as_ref().err().map(|e| format!("{e:#}")),
        lost_without: "everything: the kernel's fields cannot be found".to_owned(),
    });
    let root = Root::open();
    items.push(CheckItem {
        name: "cgroup v2".to_owned(),
        ok: root.is_ok(),
        required: true,
        reason: match &root {
            Ok(root) => Some(root.how.clone()),
            Err(error) => Some(format!("{error:#}")),
        },
        lost_without: "everything: the spine is attached to its root".to_owned(),
    });
    items
}

fn try_hooks(layout: &Layout) -> Vec<CheckItem> {
    if let Err(error) = privilege::require(privilege::effective()) {
        return all_down(&format!("not tried: {error:#}"));
    }
    if let Err(error) = layout.complete() {
        return all_down(&format!("not tried: {error:#}"));
    }
    match try_all(layout) {
        Ok(hooks) => hooks.iter().map(hook_item).collect(),
        Err(error) => all_down(&format!("{error:#}")),
    }
}

fn hook_item(hook: &Hook) -> CheckItem {
    CheckItem {
        name: format!("{} ({})", hook.spec.name, hook.spec.point),
        ok: hook.is_up(),
        required: hook.spec.required,
        reason: hook.down.clone(),
        lost_without: hook.spec.lost_without.to_owned(),
    }
}

fn all_down(why: &str) -> Vec<CheckItem> {
    let item = |spec: &hooks::HookSpec| CheckItem {
        name: format!("{} ({})", spec.name, spec.point),
        ok: false,
        required: spec.required,
        reason: Some(why.to_owned()),
        lost_without: spec.lost_without.to_owned(),
    };
    let release = release::version(&release::release());
    hooks::ALL.iter().filter(|spec| spec.is_wanted(release)).map(item).collect()
}

fn fields(layout: &Layout) -> Vec<CheckItem> {
    let item = |f: &crate::kernel::btf::FieldStatus| CheckItem {
        name: f.name.clone(),
        ok: f.absent.is_none(),
        required: f.required,
        reason: f.absent.clone(),
        lost_without: if f.required { "everything" } else { "the flow's fields that are made of it" }
            .to_owned(),
    };
    layout.fields.iter().map(item).collect()
}

#[cfg(test)]
mod tests {
    use probe_common::{
        fields::FIELD_COUNT,
        record::{flag::ESTABLISHED, role::CLIENT},
    };

    use super::*;
    use crate::aggregate::testing::record;

    #[test]
    fn a_watch_follows_the_wall_clock() {
        const HOUR_NS: i64 = 3_600_000_000_000;
        let mut end = record(kind::CLOSED, CLIENT, ESTABLISHED);
        end.now_ns = 5_000_000_000;
        let closed_at = |flows: &mut Flows| {
            let flow = flows.of(bytemuck::bytes_of(&end.head), kind::CLOSED).unwrap();
            flow.closed_at.unwrap().as_second()
        };
        let context = FlowContext { places: [0; FIELD_COUNT], hz: 250, wall_offset_ns: 0 };
        let mut flows = Flows { context, skew_ns: HOUR_NS, paths: None, cut: Cut::default() };
        flows.set_clock(0);
        assert_eq!(closed_at(&mut flows), 3_605);
        flows.set_clock(20_000_000_000);
        assert_eq!(closed_at(&mut flows), 3_625);
    }
}
