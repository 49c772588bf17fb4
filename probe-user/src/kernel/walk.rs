//! Walks the TCP sockets of every network namespace with one of the iterators.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io,
};

use anyhow::{Context as _, Result};
use aya::{Ebpf, programs::Iter};
use tracing::warn;

use super::{
    hooks::HookSpec,
    iterate::{Buffer, read_records},
    netns::{self, Namespace, Traveller},
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
    /// These, those whose walk did not come to its end, and those whose own counters could not be read, by inode: they stand, and what
    /// the kernel counted in them is not known.
    pub unvisited: BTreeSet<u32>,
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
    let mut listings = Listings::default();
    let mut walk = Walk::default();
    if let Some(visits) = &mut visits {
        visits.begin_sweep();
    }
    for namespace in netns::all()? {
        let visit = visit(&traveller, &namespace, &mut listings, || -> Result<_> {
            let mut read = || match &mut visits {
                _ if !netstat::holds_tcp_sockets() => Ok((0, 0)),
                Some(visits) => visits.visit(namespace.inode, || read_all(program, buffer, each)),
                None => Ok((read_all(program, buffer, each)?, 0)),
            };
            let (records, connections) = read()?;
            Ok((records, connections, visits.is_some().then(netstat::tcp_counters).transpose()))
        });
        match visit {
            Ok(Ok((records, connections, counters))) => {
                walk.records += records;
                walk.sockets += connections;
                walk.namespaces += 1;
                match counters {
                    Ok(counters) => walk.counters.extend(counters.map(|c| (namespace.inode, c))),
                    Err(error) => {
                        walk.unvisited.insert(namespace.inode);
                        warn!(
                            "network namespace {}: its own counters cannot be read: {error}",
                            namespace.inode
                        );
                    }
                }
            }
            Ok(Err(error)) => {
                walk.unvisited.insert(namespace.inode);
                walk.incomplete = Some(format!("network namespace {}: {error:#}", namespace.inode));
            }
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                walk.unseen_namespaces += 1;
                walk.unvisited.insert(namespace.inode);
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
    let mut listings = Listings::default();
    let read = |namespace: &Namespace| {
        let counters = visit(&traveller, namespace, &mut listings, netstat::tcp_counters);
        Some((namespace.inode, counters.ok()?.ok()?))
    };
    Ok(netns::all()?.iter().filter_map(read).collect())
}

fn read_all(program: &mut Iter, buffer: &mut Buffer, each: &mut dyn FnMut(&[u8])) -> Result<u64> {
    let link = program.attach()?;
    let mut file: File = program.take_link(link)?.into_file()?;
    Ok(read_records(&mut file, buffer, each)?)
}

/// How often in a walk all processes are listed anew: whoever makes them end by the thousand would have the walk last for minutes.
const LISTINGS: u32 = 8;

/// What was listed anew in a walk.
#[derive(Default)]
struct Listings {
    made: u32,
    last: Vec<Namespace>,
}

impl Listings {
    /// A way into the namespace that is there now, if a new listing has one. `None`: it is gone.
    fn find(&mut self, inode: u32) -> io::Result<Option<&Namespace>> {
        let is_listed = |all: &[Namespace]| all.iter().any(|other| other.inode == inode);
        // What a later listing than the walk's lacks had ended by then.
        if self.made == 0 || is_listed(&self.last) {
            if self.made == LISTINGS {
                return Err(io::Error::other("too many processes ended meanwhile to look for another"));
            }
            self.last = netns::all().map_err(io::Error::other)?;
            self.made += 1;
        }
        Ok(self.last.iter().find(|other| other.inode == inode))
    }
}

/// Visits a namespace; when the process that led there has ended, by another that leads there now, as long as
/// `listings` allow. An error that [`is_gone`] then says that no process does.
fn visit<T>(
    traveller: &Traveller,
    namespace: &Namespace,
    listings: &mut Listings,
    mut look: impl FnMut() -> T,
) -> io::Result<T> {
    match traveller.visit(namespace, &mut look) {
        Err(error) if is_gone(&error) => {
            let found = listings.find(namespace.inode)?.ok_or(error)?;
            match traveller.visit(found, &mut look) {
                // Its processes come and go too fast to follow one: it stands.
                Err(error) if is_gone(&error) => {
                    Err(io::Error::other("its processes end too soon to enter it"))
                }
                visited => visited,
            }
        }
        visited => visited,
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}
