//! `flowprobe daemon`: command line, then environment, then configuration file, then defaults make one configuration.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::bail;
use tracing::level_filters::LevelFilter;

use super::args::DaemonArgs;
use crate::{
    config::{self, Config, Fault, Listen},
    daemon::{self, DaemonConfig, reload},
    export::web::Web,
    flow::{cut::Cut, field::Unit, filter::quantity},
    kernel::{hooks, probe::LONGEST_INTERVAL, ring},
};

pub(super) fn run(args: &DaemonArgs, run_dir: PathBuf, named: Option<&Path>) -> anyhow::Result<ExitCode> {
    let file = config::find(named);
    let read = Config::load(file.as_deref());
    if args.check_config {
        return Ok(check(args, file.as_deref(), read));
    }
    let settings = read.map_err(|faults| anyhow::Error::msg(reload::sentence(&texts(&faults))))?;
    daemon::run(&config(args, settings, file, run_dir)?)?;
    Ok(ExitCode::SUCCESS)
}

/// How peers' addresses are cut where no daemon does it.
pub(super) fn cut(named: Option<&Path>) -> anyhow::Result<Cut> {
    match Config::load(config::find(named).as_deref()) {
        Ok(config) => Ok(Cut::new(&config.privacy)),
        Err(faults) => bail!(reload::sentence(&texts(&faults))),
    }
}

fn texts(faults: &[Fault]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

/// Says what a configuration and the options beside it amount to, or all that is wrong with them; the files of networks and of the
/// web configuration are read too.
fn check(args: &DaemonArgs, file: Option<&Path>, read: Result<Config, Vec<Fault>>) -> ExitCode {
    let name = file.map_or_else(|| "the default configuration".into(), |file| file.display().to_string());
    let networks = read.map_err(|faults| texts(&faults)).and_then(|config| {
        let sources = daemon::open_sources_of(&config)?;
        let files = sources.status();
        let files = files.iter().map(|source| format!("file      {}\n", reload::words(source)));
        Ok(format!("{name} is good\n{}{}", with_options(args, config).check(), files.collect::<String>()))
    });
    let web = args.web_config.as_deref().map(|path| {
        Web::load(path).map_err(|fault| fault.to_string())?;
        Ok(format!("web       {} is good\n", path.display()))
    });
    let said = match (networks, web.transpose()) {
        (Ok(networks), Ok(web)) => Ok(networks + &web.unwrap_or_default()),
        (networks, web) => {
            Err(networks.err().into_iter().flatten().chain(web.err()).collect::<Vec<String>>())
        }
    };
    // Nobody may be left to read it; the exit code tells as much.
    match said {
        Ok(text) => {
            let _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(faults) => {
            for fault in faults {
                let _ = writeln!(io::stderr(), "flowprobe: {}", super::one_line(&fault));
            }
            ExitCode::FAILURE
        }
    }
}

/// The file's settings, where the command line says nothing else.
fn with_options(args: &DaemonArgs, settings: Config) -> Config {
    Config {
        listen: args.listen.clone().unwrap_or_else(|| settings.listen.clone()),
        sweep_period: args.sweep_period.unwrap_or(settings.sweep_period),
        rtt_interval: args.rtt_interval.unwrap_or(settings.rtt_interval),
        ring_bytes: args.ring_size.or(settings.ring_bytes),
        log: args.log.or(settings.log),
        kernel_log: args.kernel_log || settings.kernel_log,
        ..settings
    }
}

fn config(
    args: &DaemonArgs,
    settings: Config,
    file: Option<PathBuf>,
    run_dir: PathBuf,
) -> anyhow::Result<DaemonConfig> {
    let merged = with_options(args, settings.clone());
    // The programs log at this level.
    let usual = if merged.kernel_log { LevelFilter::DEBUG } else { LevelFilter::INFO };
    Ok(DaemonConfig {
        listen: merged.listen,
        web_config: args.web_config.clone(),
        run_dir,
        sweep_period: merged.sweep_period,
        rtt_interval: merged.rtt_interval,
        ring_bytes: merged.ring_bytes.unwrap_or_else(ring::usual_bytes),
        log: merged.log.unwrap_or(usual),
        kernel_log: merged.kernel_log,
        hooks: args.hooks.clone(),
        settings,
        file,
    })
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
    let range = Duration::from_millis(100)..=Duration::from_secs(600);
    config::duration(text, range, "from 100ms to 10m, such as 5s,")
}

pub(super) fn rtt_interval(text: &str) -> Result<Duration, String> {
    config::duration(text, Duration::ZERO..=LONGEST_INTERVAL, "from 0s to 1m, such as 100ms,")
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

    fn merged(args: &DaemonArgs, settings: Config) -> DaemonConfig {
        config(args, settings, None, PathBuf::from("/run/x")).unwrap()
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_the_defaults() {
        let address = |port| Listen::Tcp(([127, 0, 0, 1], port).into());
        let args = DaemonArgs { listen: Some(address(1)), ..DaemonArgs::default() };
        let settings =
            Config { listen: address(2), sweep_period: Duration::from_secs(9), ..Config::default() };
        let config = merged(&args, settings);
        assert_eq!(config.listen, address(1));
        assert_eq!(config.sweep_period, Duration::from_secs(9));
        assert_eq!(config.ring_bytes, ring::usual_bytes());
        assert!(!config.kernel_log);
        assert_eq!(config.log, LevelFilter::INFO);
    }

    #[test]
    fn the_programs_log_is_shown_unless_another_level_is_asked_for() {
        let level = |log, kernel_log| {
            let args = DaemonArgs { log, kernel_log, ..DaemonArgs::default() };
            merged(&args, Config { log: Some(LevelFilter::WARN), ..Config::default() }).log
        };
        assert_eq!(level(None, true), LevelFilter::WARN);
        assert_eq!(level(Some(LevelFilter::TRACE), true), LevelFilter::TRACE);
        let args = DaemonArgs { kernel_log: true, ..DaemonArgs::default() };
        assert_eq!(merged(&args, Config::default()).log, LevelFilter::DEBUG);
    }

    #[test]
    fn a_broken_file_shows_no_more_than_is_allowed() {
        assert!(
            cut(Some(Path::new("/nonexistent/flowprobe.toml")))
                .unwrap_err()
                .to_string()
                .contains("cannot be read")
        );
    }

    #[test]
    fn values_are_checked() {
        assert_eq!(sweep_period("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(sweep_period("1m 30s"), Ok(Duration::from_secs(90)));
        for text in ["5", "0s", "-5s", "11m", "", "soon"] {
            let wanted = "a time from 100ms to 10m, such as 5s, is wanted".to_owned();
            assert_eq!(sweep_period(text), Err(wanted), "{text}");
        }
        assert_eq!(rtt_interval("0s"), Ok(Duration::ZERO));
        assert_eq!(rtt_interval("1m"), Ok(Duration::from_secs(60)));
        for text in ["-1ms", "61s", "100", ""] {
            assert!(rtt_interval(text).is_err(), "{text}");
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
