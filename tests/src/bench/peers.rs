//! Other tools that follow TCP connections, as Debian packages them.

use std::path::PathBuf;
use std::process::Command;

/// A tool that observes until it is stopped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its name in the tables.
    pub(super) name: &'static str,
    /// What to run.
    program: &'static str,
    arguments: &'static [&'static str],
    /// Debian's package.
    package: &'static str,
    /// What it tells of a connection.
    pub(super) gives: &'static str,
    /// Left out of the quick form.
    pub(super) full_only: bool,
}

/// The peers that are measured.
pub(super) const ALL: [Peer; 5] = [
    Peer {
        name: "tcplife",
        program: "tcplife",
        arguments: &[],
        package: "libbpf-tools",
        gives: "pid, ports, bytes, duration",
        full_only: false,
    },
    Peer {
        name: "tcpstates",
        program: "tcpstates",
        arguments: &[],
        package: "libbpf-tools",
        gives: "time in each state",
        full_only: false,
    },
    Peer {
        name: "bpftrace-count",
        program: "bpftrace",
        arguments: &["-e", "tracepoint:sock:inet_sock_set_state { @[args->newstate] = count(); }"],
        package: "bpftrace",
        gives: "nothing: a count by state",
        full_only: false,
    },
    Peer {
        name: "bpftrace-printf",
        program: "bpftrace",
        arguments: &[
            "-e",
            "tracepoint:sock:inet_sock_set_state { printf(\"%d %d %d\\n\", args->sport, args->oldstate, args->newstate); }",
        ],
        package: "bpftrace",
        gives: "a line a state",
        full_only: true,
    },
    Peer {
        name: "bpftrace-map",
        program: "bpftrace",
        arguments: &["-e", "tracepoint:tcp:tcp_probe { @[args->sport, args->dport] = max(args->srtt); }"],
        package: "bpftrace",
        gives: "the largest srtt by ports",
        full_only: true,
    },
];

/// System directories that a user's PATH may lack.
const ALSO: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// The file of a program, if it is installed.
pub(super) fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(ALSO.iter().map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

impl Peer {
    /// The command, or how to install it.
    pub(super) fn command(&self) -> Result<Command, String> {
        let file = installed(self.program).ok_or_else(|| self.missing())?;
        let mut command = Command::new(file);
        command.args(self.arguments);
        Ok(command)
    }

    fn missing(&self) -> String {
        format!("{} is not installed: apt-get install -y {}", self.program, self.package)
    }
}

/// One line for people when some peers are missing.
pub(super) fn how_to_install() -> Option<String> {
    let missing: Vec<&Peer> = ALL.iter().filter(|peer| peer.command().is_err()).collect();
    let names: Vec<_> = missing.iter().map(|peer| peer.name).collect();
    let mut packages: Vec<_> = missing.iter().map(|peer| peer.package).collect();
    packages.dedup();
    (!names.is_empty()).then(|| {
        format!(
            "not installed, so not measured: {}; to measure them too: apt-get install -y {}",
            names.join(", "),
            packages.join(" ")
        )
    })
}
