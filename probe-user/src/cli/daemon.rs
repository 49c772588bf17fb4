//! `flowprobe daemon`: command line, then configuration file, then defaults make one checked configuration.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use jiff::SignedDuration;
use tracing::level_filters::LevelFilter;

use super::{args::DaemonArgs, config_file::File};
use crate::{
    config::Listen,
    daemon::{self, DaemonConfig},
    flow::{field::Unit, filter::quantity},
    kernel::hooks,
};

/// The port is the contract's.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10179);
const SWEEP_PERIOD: Duration = Duration::from_secs(5);
const RING_BYTES: u32 = 4 << 20;

pub(super) fn run(args: &DaemonArgs, run_dir: PathBuf) -> anyhow::Result<()> {
    let file = args.config.as_deref().map(File::read).transpose()?.unwrap_or_default();
    daemon::run(&config(args, &file, run_dir))
}

fn config(args: &DaemonArgs, file: &File, run_dir: PathBuf) -> DaemonConfig {
    let kernel_log = args.kernel_log || file.kernel_log.unwrap_or_default();
    // The programs log at this level.
    let usual = if kernel_log { LevelFilter::DEBUG } else { LevelFilter::INFO };
    DaemonConfig {
        listen: args.listen.clone().or(file.listen.clone()).unwrap_or(Listen::Tcp(LISTEN)),
        web_config: args.web_config.clone(),
        run_dir,
        sweep_period: args.sweep_period.or(file.sweep_period).unwrap_or(SWEEP_PERIOD),
        ring_bytes: args.ring_size.or(file.ring_size).unwrap_or(RING_BYTES),
        log: args.log.or(file.log).unwrap_or(usual),
        kernel_log,
        hooks: args.hooks.clone(),
    }
}

pub(super) fn hook(text: &str) -> Result<&'static str, String> {
    let names = hooks::ALL.map(|hook| hook.name);
    names
        .into_iter()
        .find(|name| *name == text)
        .ok_or_else(|| format!("one of {} is wanted, here or in FLOWPROBE_HOOKS", names.join(", ")))
}

pub(super) fn listen(text: &str) -> Result<Listen, String> {
    match text.strip_prefix("unix:") {
        // sockaddr_un has 108 bytes with the one that ends it.
        Some(path) if path.starts_with('/') && path.len() < 108 => Ok(Listen::Unix(path.into())),
        Some(_) => Err("an absolute path of at most 107 bytes is wanted after unix:".to_owned()),
        None => text.parse().map(Listen::Tcp).map_err(|_| {
            "an address and a port are wanted, in numbers, or a unix socket: 127.0.0.1:10179, [::1]:10179 or \
             unix:/run/flowprobe.sock"
                .to_owned()
        }),
    }
}

pub(super) fn sweep_period(text: &str) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|period| Duration::try_from(period).ok())
        .filter(|period| (Duration::from_millis(100)..=Duration::from_secs(600)).contains(period))
        .ok_or_else(|| "a time from 100ms to 10m is wanted, such as 5s".to_owned())
}

pub(super) fn log_level(text: &str) -> Result<LevelFilter, String> {
    [LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO, LevelFilter::DEBUG, LevelFilter::TRACE]
        .into_iter()
        .find(|level| level.to_string() == text.to_ascii_lowercase())
        .ok_or_else(|| {
            "one of error, warn, info, debug and trace is wanted, here or in FLOWPROBE_LOG".to_owned()
        })
}

/// The kernel takes powers of two of at least a page (ringbuf_map_alloc).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be whole and in range"
)]
pub(super) fn ring_size(text: &str) -> Result<u32, String> {
    let bytes = quantity::parse(text, Unit::Bytes, true)?;
    Some(bytes)
        .filter(|bytes| bytes.fract() == 0.0 && (65_536.0..=1_073_741_824.0).contains(bytes))
        .map(|bytes| bytes as u32)
        .filter(|bytes| bytes.is_power_of_two())
        .ok_or_else(|| "a power of two from 64Ki to 1Gi is wanted, such as 16Mi".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_the_defaults() {
        let args =
            DaemonArgs { listen: Some(Listen::Tcp(([127, 0, 0, 1], 1).into())), ..DaemonArgs::default() };
        let file = File {
            listen: Some(Listen::Tcp(([127, 0, 0, 1], 2).into())),
            sweep_period: Some(Duration::from_secs(9)),
            ..File::default()
        };
        let config = config(&args, &file, PathBuf::from("/run/x"));
        assert_eq!(config.listen, Listen::Tcp(([127, 0, 0, 1], 1).into()));
        assert_eq!(config.sweep_period, Duration::from_secs(9));
        assert_eq!(config.ring_bytes, RING_BYTES);
        assert!(!config.kernel_log);
        assert_eq!(config.log, LevelFilter::INFO);
    }

    #[test]
    fn the_programs_log_is_shown_unless_another_level_is_asked_for() {
        let level = |log, kernel_log| {
            let args = DaemonArgs { log, kernel_log, ..DaemonArgs::default() };
            config(&args, &File { log: Some(LevelFilter::WARN), ..File::default() }, PathBuf::new()).log
        };
        assert_eq!(level(None, true), LevelFilter::WARN);
        assert_eq!(level(Some(LevelFilter::TRACE), true), LevelFilter::TRACE);
        let args = DaemonArgs { kernel_log: true, ..DaemonArgs::default() };
        assert_eq!(config(&args, &File::default(), PathBuf::new()).log, LevelFilter::DEBUG);
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(sweep_period("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(sweep_period("1m 30s"), Ok(Duration::from_secs(90)));
        for text in ["5", "0s", "-5s", "11m", "", "soon"] {
            assert!(sweep_period(text).is_err(), "{text}");
        }
        assert_eq!(ring_size("16Mi"), Ok(16 << 20));
        assert_eq!(ring_size("65536"), Ok(65_536));
        for text in ["16M", "4096", "2Gi", "-1", "", "1e9", "65536.5"] {
            assert!(ring_size(text).is_err(), "{text}");
        }
        assert_eq!(log_level("Warn"), Ok(LevelFilter::WARN));
        for text in ["", "verbose", "off", "3", "flowprobe=debug"] {
            assert!(log_level(text).is_err(), "{text}");
        }
        assert_eq!(hook("synack"), Ok("synack"));
        assert!(hook("all").unwrap_err().contains("connection, destroy"));
        assert!(listen("[::1]:80").is_ok());
        assert_eq!(listen("unix:/run/f.sock"), Ok(Listen::Unix("/run/f.sock".into())));
        assert!(listen("unix:f.sock").unwrap_err().contains("absolute"));
        assert!(listen("localhost:80").unwrap_err().contains("in numbers"));
    }
}
