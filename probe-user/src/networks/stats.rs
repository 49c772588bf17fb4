//! What is in a file of networks, for `flowprobe networks stats FILE`.

use std::{
    fmt, fs,
    io::{BufRead as _, Read as _, Seek as _, SeekFrom},
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    bgp::{self, Bgp},
    fault::Fault,
    list::List,
    mmdb::Mmdb,
    table::Lengths,
    watched::Watched,
};

/// What a file has and costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStats {
    /// Kind of file, for people.
    pub kind: String,
    /// The file's own date, or that of its last change.
    pub date: Option<Timestamp>,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Time to read it and make the table.
    pub load: Duration,
    /// Growth of the process's resident memory by it.
    pub memory_bytes: Option<u64>,
    /// Prefixes by length.
    pub lengths: Lengths,
    /// Other counts, with their names.
    pub counts: Vec<(&'static str, u64)>,
}

/// Reads a file of any kind: MMDB, MRT RIB dump, prefix-to-AS text, or a CIDR list (with or without names).
///
/// `resident` gives the process's resident memory in bytes, to be read before and after.
///
/// # Errors
/// The file is of none of these kinds, or broken.
pub fn file_stats(path: &Path, resident: impl Fn() -> Option<u64>) -> Result<FileStats, Fault> {
    let file_bytes = fs::metadata(path).map_err(|error| Fault::unreadable(path, &error))?.len();
    let before = resident();
    let begun = Instant::now();
    let read = Read::open(path)?;
    let load = begun.elapsed();
    let memory_bytes = before.zip(resident()).map(|(before, after)| after.saturating_sub(before));
    let lengths = read.lengths().clone();
    Ok(FileStats {
        kind: read.kind(),
        date: read.date(),
        file_bytes,
        load,
        memory_bytes,
        lengths,
        counts: read.counts(),
    })
}

/// A file that was read.
enum Read {
    Mmdb(Watched<Mmdb>),
    Bgp(Watched<Bgp>),
    List(Watched<List>),
}

impl Read {
    /// Tries the kinds in turn; a text is what its first line looks like.
    fn open(path: &Path) -> Result<Self, Fault> {
        if path.extension().is_some_and(|ending| ending == "mmdb") || has_mmdb_mark(path) {
            return Watched::open(path, |file| Mmdb::read(path, file)).map(Self::Mmdb);
        }
        let fault = match Watched::open(path, |file| bgp::read_file(path, file)) {
            Ok(table) => return Ok(Self::Bgp(table)),
            Err(fault) => fault,
        };
        match first_line(path) {
            Some(line) if !bgp::is_entry(&line) => {
                let has_names =
                    line.split_whitespace().nth(1).is_some_and(|word| !word.starts_with(['#', ';']));
                let name = if has_names { None } else { Some("unnamed".into()) };
                Watched::open(path, |file| List::read(path, file, name.as_ref())).map(Self::List)
            }
            _ => Err(fault),
        }
    }

    fn kind(&self) -> String {
        match self {
            Self::Mmdb(file) => format!("MMDB ({})", file.data().database_type()),
            Self::Bgp(file) => file.data().kind().to_owned(),
            Self::List(_) => "CIDR list".to_owned(),
        }
    }

    fn date(&self) -> Option<Timestamp> {
        match self {
            Self::Mmdb(file) => file.data().built_at().or_else(|| file.modified_at()),
            Self::Bgp(file) => file.data().written_at().or_else(|| file.modified_at()),
            Self::List(file) => file.modified_at(),
        }
    }

    fn lengths(&self) -> &Lengths {
        match self {
            Self::Mmdb(file) => file.data().lengths(),
            Self::Bgp(file) => file.data().lengths(),
            Self::List(file) => file.data().table().lengths(),
        }
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        match self {
            Self::Mmdb(file) => vec![("different records", file.data().records() as u64)],
            Self::Bgp(file) => vec![
                ("prefixes with several origins or no single one", file.data().remarked() as u64),
                (
                    "entries left out (default routes, single hosts, repetitions, no unicast)",
                    file.data().skipped(),
                ),
            ],
            Self::List(file) => vec![("names", file.data().names() as u64)],
        }
    }
}

/// The first line of a text that says something; `None` if it is no text.
fn first_line(path: &Path) -> Option<String> {
    let lines = std::io::BufReader::new(fs::File::open(path).ok()?.take(1 << 16)).lines();
    for line in lines {
        let line = line.ok()?;
        let said = line.trim().trim_start_matches('\u{feff}');
        if !said.is_empty() && !said.starts_with(['#', ';']) {
            return Some(said.to_owned());
        }
    }
    None
}

/// Whether the mark of an MMDB file's metadata is in its last 128 KiB.
fn has_mmdb_mark(path: &Path) -> bool {
    let tail = || -> std::io::Result<Vec<u8>> {
        let mut file = fs::File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(128 << 10);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
        && tail().is_ok_and(|bytes| bytes.windows(14).any(|window| window == b"\xab\xcd\xefMaxMind.com"))
}

impl fmt::Display for FileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (v4, v6) = self.lengths.totals();
        writeln!(f, "kind      {}", self.kind)?;
        if let Some(date) = self.date {
            writeln!(f, "date      {date:.0}")?;
        }
        writeln!(f, "file      {:.1} MB", self.file_bytes as f64 / 1e6)?;
        writeln!(f, "load      {:.2} s", self.load.as_secs_f64())?;
        if let Some(bytes) = self.memory_bytes {
            writeln!(f, "memory    {:.1} MB resident", bytes as f64 / 1e6)?;
        }
        writeln!(f, "prefixes  {v4} IPv4, {v6} IPv6")?;
        for (name, count) in &self.counts {
            writeln!(f, "{count:>9} {name}")?;
        }
        for (family, counts) in [("IPv4", &self.lengths.v4[..]), ("IPv6", &self.lengths.v6[..])] {
            for (len, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                writeln!(f, "{count:>9} {family} /{len}")?;
            }
        }
        Ok(())
    }
}
