//! Keeps the configuration and the files of networks fresh: a thread that reads them again when it is asked to, or when a
//! file changed, so that nobody waits for a routing table of half a minute.
//!
//! What cannot be used leaves what there is: the log says why in one line, and a metric that it is so.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tracing::{error, info, warn};

use super::ledger::Ledger;
use crate::{
    aggregate::{Grouping, PathOf},
    config::{self, Config},
    export::stats::{ConfigStats, SourceStats},
    flow::cut::Cut,
    kernel::{
        cgroup::{Paths, Root},
        clock,
    },
    networks::{SourceStatus, Sources},
};

/// Time between two looks at the files of networks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Asks for a reload, and tells how the last one went.
#[derive(Clone)]
pub(super) struct Handle {
    requests: mpsc::Sender<()>,
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug)]
struct State {
    config: ConfigStats,
    sources: Vec<SourceStats>,
}

impl Handle {
    /// Reads all again.
    pub(super) fn reload(&self) {
        // The thread lives as long as the daemon.
        let _ = self.requests.send(());
    }

    pub(super) fn stats(&self) -> (ConfigStats, Vec<SourceStats>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (state.config, state.sources)
    }
}

/// How records are grouped by this configuration.
pub(super) fn grouping(config: &Config, sources: &Sources) -> Grouping {
    let has_cgroups = config.services.iter().any(|service| !service.cgroups.is_empty());
    let path_of = || -> Option<PathOf> {
        match Root::open() {
            Ok(root) => {
                let mut paths = Paths::new(root);
                Some(Box::new(move |id| paths.path(id)))
            }
            Err(error) => {
                warn!("no service with cgroups can be told: {error:#}");
                None
            }
        }
    };
    Grouping::new(config, sources.networks(), has_cgroups.then(path_of).flatten())
}

/// Starts the thread. `file` is where `config` was read from.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(
    config: Config,
    file: Option<PathBuf>,
    sources: Sources,
    ledger: Arc<Ledger>,
) -> Result<Handle> {
    let (sender, requests) = mpsc::channel();
    let state = State {
        config: ConfigStats { is_last_good: true, last_good: clock::wall() },
        sources: stats_of(&sources),
    };
    let state = Arc::new(Mutex::new(state));
    let mut reloader = Reloader { config, file, sources, ledger, state: Arc::clone(&state) };
    thread::Builder::new()
        .name("reload".to_owned())
        .spawn(move || reloader.run(&requests))
        .context("cannot start the thread that reads the configuration again")?;
    Ok(Handle { requests: sender, state })
}

struct Reloader {
    config: Config,
    file: Option<PathBuf>,
    sources: Sources,
    ledger: Arc<Ledger>,
    state: Arc<Mutex<State>>,
}

impl Reloader {
    fn run(&mut self, requests: &mpsc::Receiver<()>) {
        loop {
            match requests.recv_timeout(LOOK_EVERY) {
                Ok(()) => self.reload(),
                Err(mpsc::RecvTimeoutError::Timeout) => self.look(),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The configuration, and of the files those that changed.
    fn reload(&mut self) {
        if self.file.is_none() {
            self.file = config::find(None);
        }
        let Some(file) = self.file.clone() else {
            info!("nothing to reload: the daemon has no configuration file; start it with --config");
            return;
        };
        let read = Config::read(&file).map_err(|faults| texts(&faults)).and_then(|config| {
            let sources = Sources::open_after(&config.networks, Some(&self.sources))
                .map_err(|faults| texts(&faults))?;
            Ok((config, sources))
        });
        let is_good = read.is_ok();
        match read {
            Ok((config, sources)) => {
                self.ledger.reconfigure(grouping(&config, &sources), Cut::new(&config.privacy));
                info!("the configuration was read again: {}", file.display());
                for key in self.config.restart_keys(&config) {
                    warn!("{key} has changed in {}: restart the daemon to use it", file.display());
                }
                // What was said of them stays true until the restart.
                self.config = self.config.until_restart(config);
                self.sources = sources;
            }
            Err(faults) => error!("the configuration stays as it was: {}", sentence(&faults)),
        }
        self.note(Some(is_good));
    }

    /// The files of networks.
    fn look(&mut self) {
        let poll = self.sources.poll();
        for fault in &poll.faults {
            warn!("what was read before stays in use: {fault}");
        }
        if !poll.reloaded.is_empty() {
            self.ledger.set_networks(self.sources.networks());
        }
        for path in &poll.reloaded {
            if let Some(source) = self.sources.status().iter().find(|source| source.path == *path) {
                info!("read again: {}", words(source));
            }
        }
        self.note(None);
    }

    fn note(&self, is_good: Option<bool>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.sources = stats_of(&self.sources);
        if let Some(is_good) = is_good {
            state.config.is_last_good = is_good;
            if is_good {
                state.config.last_good = clock::wall();
            }
        }
    }
}

fn texts<F: ToString>(faults: &[F]) -> Vec<String> {
    faults.iter().map(F::to_string).collect()
}

/// The first fault, and how many more there are.
pub(crate) fn sentence(faults: &[String]) -> String {
    match faults {
        [] => String::new(),
        [one] => one.clone(),
        [first, rest @ ..] => {
            format!("{first} (and {} more: `flowprobe daemon --check-config` shows all)", rest.len())
        }
    }
}

/// A file in words.
pub(crate) fn words(source: &SourceStatus) -> String {
    let date = source.date.map_or_else(String::new, |date| format!(", of {date:.0}"));
    format!("{} {}, {} prefixes{date}", source.source, source.path.display(), source.prefixes)
}

fn stats_of(sources: &Sources) -> Vec<SourceStats> {
    let stats = |source: SourceStatus| SourceStats {
        source: source.source,
        path: source.path.display().to_string(),
        date: source.date,
        prefixes: source.prefixes,
        is_good: source.fault.is_none(),
    };
    sources.status().into_iter().map(stats).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_faults_are_one_line() {
        let faults = |count: usize| (1..=count).map(|line| format!("f:{line}: wrong")).collect::<Vec<_>>();
        assert_eq!(sentence(&faults(1)), "f:1: wrong");
        assert!(sentence(&faults(3)).starts_with("f:1: wrong (and 2 more"));
    }
}
