//! When is it over? Signals for verbs that run until they are told to end.
//!
//! Waited for by a thread of their own: the one that writes may be stuck in a pipe that nobody reads, and a signal that is
//! caught does not get it out of there.

use std::{
    io::{self, Write as _},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// How long it may take to end what was begun.
const PATIENCE: Duration = Duration::from_secs(1);

/// Resolves at the first of two signals. A process that is still there [`PATIENCE`] later is given to `overdue`.
///
/// # Errors
/// Signals cannot be caught.
pub(crate) fn listen(
    kinds: [SignalKind; 2],
    overdue: impl FnOnce() + Send + 'static,
) -> Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime that waits for signals")?;
    let (stop, stopped) = oneshot::channel();
    let (caught, is_caught) = mpsc::channel();
    let wait = async move {
        let signals = signal(kinds[0]).and_then(|first| Ok((first, signal(kinds[1])?)));
        let (mut first, mut second) = match signals {
            Ok(signals) => signals,
            Err(error) => {
                let _ = caught.send(Err(error));
                return false;
            }
        };
        // Who asked waits for this, so that no signal is lost; it cannot be gone.
        let _ = caught.send(Ok(()));
        tokio::select! {
            _ = first.recv() => {}
            _ = second.recv() => {}
        }
        // Who asked may have come to an end by itself, and be stuck at that.
        let _ = stop.send(());
        tokio::time::sleep(PATIENCE).await;
        true
    };
    let thread = move || {
        if runtime.block_on(wait) {
            overdue();
        }
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(thread)
        .context("cannot start the thread that waits for signals")?;
    is_caught
        .recv()
        .context("the thread that waits for signals broke down")?
        .context("cannot catch signals")?;
    Ok(stopped)
}

/// Ends the process, whatever it is stuck in.
pub(crate) fn end_anyway() {
    // Standard error may be the same full pipe: a thread of its own is stuck there instead of this one.
    let (say, said) = mpsc::channel();
    thread::spawn(move || {
        let _ = writeln!(
            io::stderr(),
            "flowprobe: ended while nobody read its output: the last of it is missing"
        );
        let _ = say.send(());
    });
    let _ = said.recv_timeout(PATIENCE / 10);
    std::process::exit(1);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn a_signal_is_told_and_what_does_not_end_by_it_is_overdue() {
        let (overdue, is_overdue) = mpsc::channel();
        let kinds = [SignalKind::user_defined1(), SignalKind::user_defined2()];
        let mut stopped = listen(kinds, move || overdue.send(Instant::now()).unwrap()).unwrap();
        assert!(stopped.try_recv().is_err(), "no signal came yet");
        let sent = Instant::now();
        kill_process(getpid(), Signal::USR2).unwrap();
        // This thread is busy, as one that writes to a full pipe is.
        let at = is_overdue.recv_timeout(PATIENCE * 30).unwrap();
        assert!(at - sent >= PATIENCE);
        assert!(stopped.try_recv().is_ok());
    }
}
