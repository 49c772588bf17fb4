//! The command line of the program `load`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use super::bulk::Bulk;
use super::crr::ConnectRequestResponse;
use super::pairs::{self, Pair};
use super::rr::RequestResponse;
use super::window::Window;
use super::{cpu, dump, hold, hold_part, place, walk};

/// TCP load on loopback in a network namespace of its own; prints JSON lines. Run it as root.
#[derive(Parser)]
#[command(name = "load", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    load: Load,
}

#[derive(Subcommand)]
enum Load {
    /// Connect, one request, one response, close
    Crr(Measured),
    /// Request and response on open connections
    Rr {
        #[command(flatten)]
        measured: Measured,
        /// Open connections of each CPU, taken in turn
        #[arg(long, default_value_t = 1)]
        connections: usize,
    },
    /// A stream on each CPU; operations are bytes
    Bulk(Measured),
    /// Hold connections open until standard input ends; `t` there makes an exchange on each active one
    Hold {
        /// Connections, of two sockets each
        #[arg(long)]
        connections: u64,
        /// Share of them that is active, 0 to 1
        #[arg(long, default_value_t = 0.0)]
        active: f64,
        /// Make that exchange every so many milliseconds
        #[arg(long, default_value_t = 0)]
        every: u64,
    },
    /// One process of `hold`
    #[command(hide = true)]
    HoldPart(hold_part::Part),
    /// Count all TCP sockets of a namespace by inet_diag
    Dump {
        /// The namespace of this process; without, the caller's
        #[arg(long, value_name = "PID")]
        of: Option<u32>,
        /// Ask for TCP_INFO of each
        #[arg(long)]
        info: bool,
    },
    /// Show all TCP sockets of a namespace to a program that does nothing
    Walk {
        /// The namespace of this process; without, the caller's
        #[arg(long, value_name = "PID")]
        of: Option<u32>,
    },
}

/// Of loads that are measured over a time.
#[derive(Args)]
struct Measured {
    /// How long to measure
    #[arg(long, default_value_t = 2.0, conflicts_with = "by_command")]
    seconds: f64,
    /// Measure from `o` to `c` on standard input, each answered by a line; the last such time counts, when the input ends
    #[arg(long)]
    by_command: bool,
    /// How long to run before
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// CPUs, each of which gets a client and a server thread [default: all]
    #[arg(long, value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Processes whose CPU time is to be told too
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    watch: Vec<u32>,
}

/// The program: exit code 0 when the load ran to its end.
#[must_use]
pub fn run_as_program() -> ExitCode {
    match run(Arguments::parse().load) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(load: Load) -> Result<()> {
    match load {
        Load::Crr(measured) => run_pairs(&ConnectRequestResponse, measured),
        Load::Rr { measured, connections } => run_pairs(&RequestResponse { connections }, measured),
        Load::Bulk(measured) => run_pairs(&Bulk, measured),
        Load::Hold { connections, active, every } => {
            place::new_namespace()?;
            hold::run(connections, active, every)
        }
        Load::HoldPart(part) => hold_part::run(part),
        Load::Dump { of, info } => {
            println!("{}", serde_json::to_string(&dump::run(of, info)?)?);
            Ok(())
        }
        Load::Walk { of } => {
            println!("{}", serde_json::to_string(&walk::run(of)?)?);
            Ok(())
        }
    }
}

fn run_pairs(pair: &impl Pair, measured: Measured) -> Result<()> {
    place::new_namespace()?;
    let cpus = if measured.cpus.is_empty() { cpu::allowed()? } else { measured.cpus };
    let window = Window {
        warm_up: Duration::try_from_secs_f64(measured.warm_up)?,
        length: (!measured.by_command).then(|| Duration::try_from_secs_f64(measured.seconds)).transpose()?,
        watch: measured.watch,
    };
    println!("{}", serde_json::to_string(&pairs::run(pair, &cpus, &window)?)?);
    Ok(())
}
