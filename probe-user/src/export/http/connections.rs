//! Who is connected, and who has to go when there is no room.
//!
//! Without a bound, silent clients would take all descriptors, and clients that never read would take the memory of as
//! many scrapes. The one that leaves is always the oldest of its kind: an honest client is done in milliseconds.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::task::AbortHandle;

/// All open connections.
#[derive(Debug)]
pub(super) struct Connections {
    most: usize,
    most_answers: usize,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    next: u64,
    /// Oldest first.
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    number: u64,
    asked: bool,
    task: AbortHandle,
}

/// The place that a connection holds; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    connections: Arc<Connections>,
}

impl Connections {
    pub(super) const fn new(most: usize, most_answers: usize) -> Self {
        Self { most, most_answers, list: Mutex::new(List { next: 0, open: VecDeque::new() }) }
    }

    /// Makes room for a connection and starts its task with the place it holds.
    pub(super) fn open(self: &Arc<Self>, start: impl FnOnce(Place) -> AbortHandle) {
        let mut list = self.lock();
        while list.open.len() >= self.most {
            let silent = list.open.iter().position(|open| !open.asked);
            list.end(silent.unwrap_or(0));
        }
        let number = list.next;
        list.next += 1;
        // The task may run at once on another thread; it finds its entry, as that waits for the lock.
        let task = start(Place { number, connections: Arc::clone(self) });
        list.open.push_back(Open { number, asked: false, task });
    }

    /// Ends the connections without a request that was allowed.
    pub(super) fn end_silent(&self) {
        let mut list = self.lock();
        while let Some(silent) = list.open.iter().position(|open| !open.asked) {
            list.end(silent);
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        // Nothing under the lock can leave the list half-changed.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn end(&mut self, index: usize) {
        if let Some(open) = self.open.remove(index) {
            open.task.abort();
        }
    }
}

impl Place {
    /// The connection's request is complete and allowed: from now on it may hold the text of a scrape.
    pub(super) fn request_arrived(&self) {
        let mut list = self.connections.lock();
        let oldest = list.open.iter().position(|open| open.asked);
        let answers = list.open.iter().filter(|open| open.asked).count();
        if answers >= self.connections.most_answers
            && let Some(oldest) = oldest
        {
            list.end(oldest);
        }
        if let Some(open) = list.open.iter_mut().find(|open| open.number == self.number) {
            open.asked = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut list = self.connections.lock();
        list.open.retain(|open| open.number != self.number);
    }
}
