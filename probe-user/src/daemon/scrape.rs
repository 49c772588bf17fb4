//! Answers Prometheus and the command line out of the ledger.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use probe_common::fields::FIELDS;
use tokio::sync::{Mutex, mpsc};

use super::{
    ledger::{LastSweep, Ledger},
    reader, reload, sweeper,
};
use crate::{
    control::{End, Hello, Requests, Watchers},
    export::{
        http::{MetricsSource, Pieces, Rendered},
        negotiation::Format,
        prometheus::Exposition,
        stats::{HookStats, SelfStats, SweepStats},
        web::Web,
    },
};

/// A scrape wants sums no older than this.
const FRESH: Duration = Duration::from_secs(1);

/// … or than the least time between two sweeps, where that is more, and waits for a sweep no longer than this.
const PATIENCE: Duration = Duration::from_millis(200);

/// Sums that are older than this and three periods say that sweeps do not come to their end.
const OLD: Duration = Duration::from_secs(60);

pub(super) struct Scrape {
    ledger: Arc<Ledger>,
    sweeper: sweeper::Handle,
    reader: reader::Handle,
    reload: reload::Handle,
    exposition: Exposition,
    web: Option<Arc<Web>>,
    /// Whose scrape sees to it that the sums are fresh.
    turn: Mutex<()>,
}

impl Scrape {
    pub(super) fn new(
        ledger: Arc<Ledger>,
        sweeper: sweeper::Handle,
        reader: reader::Handle,
        reload: reload::Handle,
        web: Option<Arc<Web>>,
    ) -> Self {
        Self {
            ledger,
            sweeper,
            reader,
            reload,
            exposition: Exposition::default(),
            web,
            turn: Mutex::default(),
        }
    }

    /// Sweeps if the sums are stale, once for all scrapes that wait together, and adds up what ended.
    async fn freshen(&self) {
        let _turn = self.turn.lock().await;
        let stale = |sweep: LastSweep| sweep.ended.elapsed() > FRESH.max(sweep.timing.rest);
        if self.ledger.last_sweep().is_none_or(stale) {
            // One that takes longer serves the next scrape.
            let _ = tokio::time::timeout(PATIENCE, self.sweeper.sweep()).await;
        }
        self.reader.drain().await;
    }

    fn own(&self) -> SelfStats {
        let context = &self.ledger.context;
        let (config, sources) = self.reload.stats();
        SelfStats {
            config: Some(config),
            sources,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hooks: self.hooks(),
            losses: self.ledger.losses(),
            rtt_samples_left_out: self.ledger.round_trips_left_out(),
            sweep: self.ledger.last_sweep().map(|s| SweepStats {
                ended: s.ended_wall,
                duration: s.timing.took,
                period: s.timing.period,
                sockets: s.sockets,
            }),
            reconciliation: self.ledger.ratios(),
            jiffies_per_second: Some(context.hz),
            web_config: self.web.as_ref().map(|web| web.last_reload_successful()),
            absent_fields: FIELDS.iter().map(|(field, _)| *field).filter(|f| !context.has(*f)).collect(),
        }
    }

    fn hooks(&self) -> Vec<HookStats> {
        let stats = |hook: &crate::kernel::hooks::Hook| {
            let stats = hook.stats();
            HookStats {
                name: hook.spec.name.to_owned(),
                up: hook.is_up(),
                missed: stats.missed,
                runs: stats.runs,
                run_time: stats.run_time,
            }
        };
        self.ledger.hooks.iter().map(stats).collect()
    }
}

impl MetricsSource for Scrape {
    fn ready(&self) -> Result<(), String> {
        let Some(sweep) = self.ledger.last_sweep() else {
            return Err("Not ready: the first sweep over the sockets is under way.".to_owned());
        };
        let age = sweep.ended.elapsed();
        if age > OLD + sweep.timing.period * 3 {
            return Err(format!(
                "Not ready: no sweep over the sockets has ended for {} s, and the sums of live connections are as old.",
                age.as_secs()
            ));
        }
        Ok(())
    }

    fn render(&self, format: Format) -> Rendered<'_> {
        Box::pin(async move {
            self.freshen().await;
            Box::new(self.exposition.pieces(format, self.ledger.show(), self.own())) as Pieces
        })
    }
}

impl Requests for Scrape {
    fn hello(&self) -> Hello {
        let context = &self.ledger.context;
        Hello {
            abi: probe_common::ABI_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            places: context.places.to_vec(),
            hz: context.hz,
            wall_offset_ns: crate::kernel::clock::wall_offset_ns(),
        }
    }

    fn watchers(&self) -> &Watchers {
        &self.ledger.watchers
    }

    fn snapshot(&self, pieces: mpsc::Sender<Result<Bytes, End>>) {
        self.sweeper.snapshot(pieces);
    }
}
