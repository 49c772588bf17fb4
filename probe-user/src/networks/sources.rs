//! The configured files, kept fresh: what the daemon holds, and asks every few seconds whether something changed.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    Bgp, ListFile, Networks, Settings, bgp,
    fault::Fault,
    list::List,
    mmdb::Mmdb,
    watched::{Look, Watched},
};

/// All configured files, and the tables made of them.
#[derive(Debug)]
pub struct Sources {
    settings: Settings,
    lists: Vec<Watched<List>>,
    /// With what the file is for: AS numbers, countries.
    mmdb: Vec<(Use, Watched<Mmdb>)>,
    bgp: Option<Watched<Bgp>>,
    networks: Arc<Networks>,
}

/// What a MMDB file is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Use {
    asn: bool,
    country: bool,
}

/// What [`Sources::poll`] found.
#[derive(Debug, Default)]
pub struct Poll {
    /// Files that were read again; [`Sources::networks`] has them.
    pub reloaded: Vec<PathBuf>,
    /// Files that changed and cannot be used; what was read before stays in use. Each is told once.
    pub faults: Vec<Fault>,
}

/// State of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// What it is: `list`, `mmdb` or `bgp`.
    pub source: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Date of the data in use: the file's own where it has one (MMDB, MRT), else its modification time.
    pub date: Option<Timestamp>,
    /// Prefixes in use.
    pub prefixes: u64,
    /// Why the file as it is now is not in use.
    pub fault: Option<Fault>,
}

impl Sources {
    /// Reads all files of the settings, the large ones for up to a minute.
    ///
    /// # Errors
    /// What is wrong with each file that cannot be used.
    pub fn open(settings: &Settings) -> Result<Self, Vec<Fault>> {
        Self::open_after(settings, None)
    }

    /// The same, but takes over what `previous` has of files that did not change.
    ///
    /// # Errors
    /// What is wrong with each file that cannot be used; the previous sources are untouched.
    pub fn open_after(settings: &Settings, previous: Option<&Self>) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let lists = settings
            .lists
            .iter()
            .filter_map(|list| {
                let known = previous.and_then(|p| p.list(list));
                keep(&mut faults, known, &list.path, |file| read_list(list, file))
            })
            .collect();
        let mmdb = mmdb_files(settings)
            .into_iter()
            .filter_map(|(path, r#use)| {
                let known = previous.and_then(|p| p.mmdb(path, r#use));
                keep(&mut faults, known, path, |file| r#use.read(path, file)).map(|file| (r#use, file))
            })
            .collect();
        let bgp = settings.bgp.as_deref().and_then(|path| {
            let known = previous.and_then(|p| p.bgp.as_ref()).filter(|bgp| bgp.path() == path);
            keep(&mut faults, known, path, |file| bgp::read_file(path, file))
        });
        if !faults.is_empty() {
            return Err(faults);
        }
        let mut sources = Self { settings: settings.clone(), lists, mmdb, bgp, networks: Arc::default() };
        sources.networks = Arc::new(sources.assemble());
        Ok(sources)
    }

    /// The tables as they are now; they do not change, so that the next poll's are fetched anew.
    #[must_use]
    pub fn networks(&self) -> Arc<Networks> {
        Arc::clone(&self.networks)
    }

    /// Looks at all files, and reads those that changed since the last but one look.
    ///
    /// Costs a stat a file, and the reading of what changed: do not call it where something waits.
    pub fn poll(&mut self) -> Poll {
        let mut poll = Poll::default();
        for (list, watched) in self.settings.lists.iter().zip(&mut self.lists) {
            let look = watched.look(|file| read_list(list, file));
            poll.note(watched.path(), look);
        }
        for (r#use, watched) in &mut self.mmdb {
            let path = watched.path().to_owned();
            let look = watched.look(|file| r#use.read(&path, file));
            poll.note(&path, look);
        }
        if let Some(watched) = &mut self.bgp {
            let path = watched.path().to_owned();
            let look = watched.look(|file| bgp::read_file(&path, file));
            poll.note(&path, look);
        }
        if !poll.reloaded.is_empty() {
            self.networks = Arc::new(self.assemble());
        }
        poll
    }

    /// State of each file, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<SourceStatus> {
        let lists = self
            .lists
            .iter()
            .map(|list| status("list", list, list.modified_at(), list.data().table().lengths().totals()));
        let mmdb = self.mmdb.iter().map(|(_, file)| {
            let date = file.data().built_at().or_else(|| file.modified_at());
            status("mmdb", file, date, file.data().lengths().totals())
        });
        let bgp = self.bgp.iter().map(|file| {
            let date = file.data().written_at().or_else(|| file.modified_at());
            status("bgp", file, date, file.data().lengths().totals())
        });
        lists.chain(mmdb).chain(bgp).collect()
    }

    fn assemble(&self) -> Networks {
        let mmdb = |wanted: fn(&Use) -> bool| {
            self.mmdb.iter().find(|(r#use, _)| wanted(r#use)).map(|(_, file)| Arc::clone(file.data()))
        };
        Networks {
            settings: self.settings.clone(),
            lists: self.lists.iter().map(|list| Arc::clone(list.data())).collect(),
            asn: mmdb(|r#use| r#use.asn),
            country: mmdb(|r#use| r#use.country),
            bgp: self.bgp.as_ref().map(|bgp| Arc::clone(bgp.data())),
        }
    }

    fn list(&self, wanted: &ListFile) -> Option<&Watched<List>> {
        self.settings.lists.iter().position(|list| list == wanted).and_then(|index| self.lists.get(index))
    }

    fn mmdb(&self, path: &Path, wanted: Use) -> Option<&Watched<Mmdb>> {
        self.mmdb.iter().find(|(r#use, file)| *r#use == wanted && file.path() == path).map(|(_, file)| file)
    }
}

impl Poll {
    fn note(&mut self, path: &Path, look: Look) {
        match look {
            Look::Same => {}
            Look::New => self.reloaded.push(path.to_owned()),
            Look::Broken(fault) => self.faults.push(fault),
        }
    }
}

impl Use {
    fn read(self, path: &Path, file: File) -> Result<Mmdb, Fault> {
        let mut mmdb = Mmdb::read(path, file)?;
        if self.asn {
            mmdb = mmdb.with_asn(path)?;
        }
        if self.country {
            mmdb = mmdb.with_country(path)?;
        }
        Ok(mmdb)
    }
}

/// Each MMDB file once.
fn mmdb_files(settings: &Settings) -> Vec<(&Path, Use)> {
    match (settings.mmdb_asn.as_deref(), settings.mmdb_country.as_deref()) {
        (Some(asn), Some(country)) if asn == country => vec![(asn, Use { asn: true, country: true })],
        (asn, country) => {
            let asn = asn.map(|path| (path, Use { asn: true, country: false }));
            let country = country.map(|path| (path, Use { asn: false, country: true }));
            asn.into_iter().chain(country).collect()
        }
    }
}

fn read_list(list: &ListFile, file: File) -> Result<List, Fault> {
    List::read(&list.path, file, list.name.as_ref())
}

/// What is known of the file if that is fresh, else what is read; a fault is put to the others.
fn keep<T>(
    faults: &mut Vec<Fault>,
    known: Option<&Watched<T>>,
    path: &Path,
    read: impl FnOnce(File) -> Result<T, Fault>,
) -> Option<Watched<T>> {
    if let Some(known) = known.filter(|known| known.is_fresh()) {
        return Some(known.again());
    }
    Watched::open(path, read).map_err(|fault| faults.push(fault)).ok()
}

fn status<T>(
    source: &'static str,
    file: &Watched<T>,
    date: Option<Timestamp>,
    (v4, v6): (u64, u64),
) -> SourceStatus {
    SourceStatus {
        source,
        path: file.path().to_owned(),
        date,
        prefixes: v4 + v6,
        fault: file.fault().cloned(),
    }
}
