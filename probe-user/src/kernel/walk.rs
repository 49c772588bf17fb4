//! Walks the TCP sockets of every network namespace with one of the iterators.

use std::{collections::HashMap, fs::File};

use anyhow::{Context as _, Result};
use aya::{Ebpf, programs::Iter};

use super::{
    hooks::HookSpec,
    iterate::{Buffer, read_records},
    netns::{self, Traveller},
    netstat,
    visits::Visits,
};

/// How a walk went.
#[derive(Clone, Debug, Default)]
pub struct Walk {
    /// Records handed out.
    pub records: u64,
    /// Connections that the daemon's sweep looked at, whether they had a record or not.
    pub sockets: u64,
    /// Namespaces walked.
    pub namespaces: u64,
    /// Namespaces that could not be entered.
    pub unseen_namespaces: u64,
    /// Why sockets may be missing.
    pub incomplete: Option<String>,
    /// TCP's own counters of each namespace, by its inode; only if asked for.
    pub counters: HashMap<u32, HashMap<String, u64>>,
}

/// Opens `hook`'s iterator in each namespace and reads it to its end. A sweep has `visits`: then the namespace's counters are
/// read after its sockets, so that what the walk saw is in them.
///
/// # Errors
/// The namespaces cannot be listed. One that fails by itself makes the walk incomplete instead.
pub(super) fn walk(
    ebpf: &mut Ebpf,
    hook: HookSpec,
    buffer: &mut Buffer,
    mut visits: Option<&mut Visits>,
    each: &mut dyn FnMut(&[u8]),
) -> Result<Walk> {
    let program: &mut Iter =
        ebpf.program_mut(hook.name).context("no such program")?.try_into().context("not an iterator")?;
    let traveller = Traveller::new()?;
    let mut walk = Walk::default();
    if let Some(visits) = &mut visits {
        visits.begin_sweep();
    }
    for namespace in netns::all()? {
        let visit = traveller.visit(&namespace, || {
            let mut read = || match &mut visits {
                _ if !netstat::holds_tcp_sockets() => Ok((0, 0)),
                Some(visits) => visits.visit(namespace.inode, || read_all(program, buffer, each)),
                None => Ok((read_all(program, buffer, each)?, 0)),
            };
            (read(), visits.is_some().then(netstat::tcp_counters))
        });
        match visit {
            Ok((Ok((records, connections)), counters)) => {
                walk.records += records;
                walk.sockets += connections;
                walk.namespaces += 1;
                walk.counters.extend(counters.map(|c| (namespace.inode, c)));
            }
            Ok((Err(error), _)) => {
                walk.incomplete = Some(format!("network namespace {}: {error:#}", namespace.inode));
            }
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                walk.unseen_namespaces += 1;
                walk.incomplete = Some(format!("network namespace {}: {error}", namespace.inode));
            }
        }
    }
    Ok(walk)
}

/// TCP's own counters of each namespace that can be entered, by its inode.
///
/// # Errors
/// The namespaces cannot be listed.
pub fn counters() -> Result<HashMap<u32, HashMap<String, u64>>> {
    let traveller = Traveller::new()?;
    let read = |namespace: &netns::Namespace| {
        Some((namespace.inode, traveller.visit(namespace, netstat::tcp_counters).ok()?))
    };
    Ok(netns::all()?.iter().filter_map(read).collect())
}

fn read_all(program: &mut Iter, buffer: &mut Buffer, each: &mut dyn FnMut(&[u8])) -> Result<u64> {
    let link = program.attach()?;
    let mut file: File = program.take_link(link)?.into_file()?;
    Ok(read_records(&mut file, buffer, each)?)
}

/// The process that led to the namespace ended meanwhile; its sockets went with it, or it is found the next time.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}
