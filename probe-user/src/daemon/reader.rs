//! The task that empties the ring buffers into the ledger: every 50 ms, and before a scrape.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::ledger::Ledger;
use crate::kernel::ring::AsyncRings;

/// Scrapes that may wait at a time; the server allows fewer.
const WAITING: usize = 64;

/// What others may ask of the reader.
#[derive(Clone)]
pub(super) struct Handle(mpsc::Sender<oneshot::Sender<()>>);

impl Handle {
    /// Waits until all that is in the rings by now was added up.
    pub(super) async fn drain(&self) {
        let (done, wait) = oneshot::channel();
        if self.0.send(done).await.is_ok() {
            // An error says that the reader has ended, which it does with empty rings.
            let _ = wait.await;
        }
    }
}

/// A reader's requests, and the way to make them.
pub(super) fn requests() -> (Handle, mpsc::Receiver<oneshot::Sender<()>>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Handle(sender), receiver)
}

/// Reads until `stopped`, and once more; gives the rings back.
pub(super) async fn read(
    mut rings: AsyncRings,
    ledger: Arc<Ledger>,
    mut requests: mpsc::Receiver<oneshot::Sender<()>>,
    mut stopped: watch::Receiver<bool>,
) -> AsyncRings {
    // What was lost before anybody watched is nothing to a watcher.
    let mut lost_before = None;
    while !*stopped.borrow() {
        let request = tokio::select! {
            () = rings.wait() => None,
            request = requests.recv() => request,
            _ = stopped.changed() => None,
        };
        rings.drain(&mut |record| ledger.take_ended(record));
        let lost = ledger.watchers.any().then(|| ledger.records_lost());
        if let (Some(before), Some(now)) = (lost_before, lost)
            && now > before
        {
            ledger.watchers.lost(now - before);
        }
        lost_before = lost;
        if let Some(done) = request {
            // Whoever asked may be gone.
            let _ = done.send(());
        }
    }
    rings
}
