//! The daemon: kernel ─► aggregate ─► export, wired together.
//!
//! Four things run: a thread that walks the sockets ([`sweeper`]), a thread that reads the configuration and the files of
//! networks again ([`reload`]), a task that empties the ring buffers, and the servers. They meet in [`Ledger`], which adds up.

mod ledger;
mod lock;
mod reader;
pub(crate) mod reload;
mod scrape;
mod sweeper;

use std::{io::IsTerminal as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing::{info, level_filters::LevelFilter, warn};
use tracing_subscriber::{filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use self::{ledger::Ledger, lock::RunDir, scrape::Scrape, sweeper::Sweeper};
use crate::{
    config::{Config, Listen},
    control,
    export::{
        http::{self, Bound},
        web::Web,
    },
    flow::cut::Cut,
    kernel::{
        probe::{Probe, Purpose},
        release,
    },
    networks::Sources,
};

/// How the daemon is to run; every value was checked.
#[derive(Clone, Debug)]
pub struct DaemonConfig {
    /// Where metrics are served.
    pub listen: Listen,
    /// Who may see the metrics: the file of a web configuration.
    pub web_config: Option<PathBuf>,
    /// Lock and control socket.
    pub run_dir: PathBuf,
    /// Time between walks over the live connections.
    pub sweep_period: Duration,
    /// Shortest time between two round-trip samples of one connection; 0 takes every one.
    pub rtt_interval: Duration,
    /// Size of all ring buffers together, a power of two.
    pub ring_bytes: u32,
    /// What is said on standard error.
    pub log: LevelFilter,
    /// Pass the programs' log on.
    pub kernel_log: bool,
    /// Load only these hooks; `None` is all.
    pub hooks: Option<Vec<&'static str>>,
    /// What the configuration file says, all of it.
    pub settings: Config,
    /// The file, to be read again.
    pub file: Option<PathBuf>,
}

/// How often the programs' log is looked at.
const LOG_EVERY: Duration = Duration::from_millis(200);

/// Runs until SIGTERM or SIGINT; reads the configuration again at SIGHUP.
///
/// # Errors
/// Another daemon owns the run directory, the address is in use, a file of networks cannot be used, or the probes cannot
/// be loaded.
pub fn run(config: &DaemonConfig) -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        )
        .with_target(false)
        // A log that nobody can read is no reason to end.
        .log_internal_errors(false)
        .with_max_level(config.log)
        .finish()
        // The loader tells each relocation.
        .with(
            Targets::new()
                .with_default(config.log)
                .with_target("aya", config.log.min(LevelFilter::INFO))
                // What it says of a broken table is said again as an error, with the place.
                .with_target("bgpkit_parser", LevelFilter::OFF),
        )
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let hang_up = {
        // One that comes while files are read and programs load is not to end the daemon: it is heeded when it serves.
        let _inside = runtime.enter();
        signal(SignalKind::hangup())?
    };
    let run_dir = RunDir::lock(&config.run_dir)?;
    let web = config.web_config.as_deref().map(Web::load).transpose()?.map(Arc::new);
    let listener = Bound::new(&config.listen)?;
    let sources = open_sources(&config.settings)?;
    let all = Purpose::observe(config.ring_bytes, config.kernel_log);
    let mut probe =
        Probe::load(&Purpose { rtt_interval: config.rtt_interval, only: config.hooks.clone(), ..all })?;
    for hook in probe.hooks().iter().filter(|hook| !hook.is_up()) {
        warn!(
            "hook {} ({}) is down: {}; lost: {}",
            hook.spec.name,
            hook.spec.point,
            hook.down.as_deref().unwrap_or_default(),
            hook.spec.lost_without
        );
    }
    let hooks: Vec<_> = probe.hooks().iter().map(|hook| (hook.spec.name, hook.is_up())).collect();
    let line = start_line(config, &release::release(), &hooks, &listener.address()?);
    let rings = probe.take_rings()?;
    let log = if config.kernel_log { Some(probe.take_log()?) } else { None };
    let grouping = reload::grouping(&config.settings, &sources);
    let ledger = Arc::new(Ledger::new(&mut probe, grouping, Cut::new(&config.settings.privacy))?);
    let reload = reload::start(config.settings.clone(), config.file.clone(), sources, Arc::clone(&ledger))?;
    let (reader, requests) = reader::requests();
    let sweeper = Sweeper::start(
        probe,
        Arc::clone(&ledger),
        config.sweep_period,
        runtime.handle().clone(),
        reader.clone(),
    )?;
    let scrape =
        Arc::new(Scrape::new(Arc::clone(&ledger), sweeper.handle(), reader, reload.clone(), web.clone()));
    runtime.block_on(async {
        let rings = rings.into_async()?;
        let (stop, stopped) = watch::channel(false);
        let mut reader = tokio::spawn(reader::read(rings, Arc::clone(&ledger), requests, stopped));
        if let Some(log) = log {
            tokio::spawn(pass_on(log));
        }
        // The first walk adopts what is there, so that the first scrape is whole.
        sweeper.handle().sweep().await;
        tokio::select! {
            served = serve(&line, &run_dir, listener, web, &scrape) => served?,
            () = heed(hang_up, &reload) => {}
            () = sweeper.ended() => bail!("the sweeper broke down; restart the daemon"),
            _ = &mut reader => bail!("the reader of the ring buffers broke down; restart the daemon"),
        }
        // What live connections added until now is still counted; then what ended until now.
        sweeper.handle().last_sweep().await;
        stop.send_replace(true);
        let mut rings = reader.await.context("the reader of the ring buffers broke down")?;
        rings.drain(&mut |record| ledger.take_ended(record));
        sweeper.stop().await;
        info!("stopped; {}", ledger.summary());
        Ok(())
    })
}

/// What a reader of the log wants to know of this run; `hooks` are names and whether they are up.
fn start_line(config: &DaemonConfig, kernel: &str, hooks: &[(&str, bool)], address: &Listen) -> String {
    let place = match address {
        Listen::Tcp(address) => format!("http://{address}/metrics"),
        Listen::Unix(_) => address.to_string(),
    };
    let web = config.web_config.as_ref().map(|path| format!(", as {} says", path.display()));
    let up: Vec<_> = hooks.iter().filter(|(_, up)| *up).map(|(name, _)| *name).collect();
    format!(
        "flowprobe {} observes Linux {kernel}; hooks up: {} of {} ({}); ring {} KiB, sweep every {:?}; metrics on \
         {place}{}",
        env!("CARGO_PKG_VERSION"),
        up.len(),
        hooks.len(),
        up.join(", "),
        config.ring_bytes / 1024,
        config.sweep_period,
        web.unwrap_or_default(),
    )
}

/// Reads the files of networks.
///
/// # Errors
/// What is wrong with each file that cannot be used.
pub(crate) fn open_sources_of(config: &Config) -> Result<Sources, Vec<String>> {
    Sources::open(&config.networks).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

/// The same with one sentence for all that is wrong.
pub(crate) fn open_sources(config: &Config) -> Result<Sources> {
    open_sources_of(config).map_err(|faults| anyhow::Error::msg(reload::sentence(&faults)))
}

/// Says `line`, then answers scrapes and the command line until a signal ends it.
async fn serve(
    line: &str,
    run_dir: &RunDir,
    listener: Bound,
    web: Option<Arc<Web>>,
    scrape: &Arc<Scrape>,
) -> Result<()> {
    let listener = listener.into_listener()?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = control::Server::bind(run_dir.path())?;
    let (end, mut ended) = watch::channel(false);
    let until_end = async move {
        // An error says that the sender is gone, which is the end as well.
        let _ = ended.wait_for(|ended| *ended).await;
    };
    let mut web = tokio::spawn(http::serve(listener, web, Arc::clone(scrape) as _, until_end));
    info!("{line}");
    tokio::select! {
        broken = &mut web => {
            broken.context("the web server broke down")?.context("the web server failed")?;
        }
        () = server.serve(Arc::clone(scrape)) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    end.send_replace(true);
    if web.is_finished() {
        return Ok(());
    }
    web.await.context("the web server broke down")?.context("the web server failed")
}

/// Has the configuration read again at each SIGHUP.
async fn heed(mut hang_up: Signal, reload: &reload::Handle) {
    while hang_up.recv().await.is_some() {
        reload.reload();
    }
}

async fn pass_on(mut log: Box<dyn FnMut() + Send>) {
    let mut tick = tokio::time::interval(LOG_EVERY);
    loop {
        tick.tick().await;
        log();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_what_runs_where_and_how() {
        let config = DaemonConfig {
            listen: Listen::Tcp(([127, 0, 0, 1], 0).into()),
            web_config: None,
            run_dir: PathBuf::new(),
            sweep_period: Duration::from_millis(2_500),
            rtt_interval: Duration::ZERO,
            ring_bytes: 4 << 20,
            log: LevelFilter::INFO,
            kernel_log: false,
            hooks: None,
            settings: Config::default(),
            file: None,
        };
        let hooks = [("connection", true), ("synack", false)];
        let line = start_line(&config, "6.1.0-56", &hooks, &Listen::Tcp(([127, 0, 0, 1], 10179).into()));
        for part in
            ["Linux 6.1.0-56;", "1 of 2 (connection);", "ring 4096 KiB,", "every 2.5s;", "127.0.0.1:10179/"]
        {
            assert!(line.contains(part), "{part}: {line}");
        }
        assert!(line.contains(env!("CARGO_PKG_VERSION")));
    }
}
