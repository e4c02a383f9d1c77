//! Committed events go out to watchers here: a bounded ring of the recent ones, and a task for each watcher.
//!
//! A watcher is a cursor. While it is inside the ring, it is fed from memory; when it has fallen behind the ring
//! it reads its database ([`History`]) until it is inside again. So a slow watcher costs the writer nothing and
//! other watchers nothing, and never sees a hole: it either gets every event in order, or [`Error::Compacted`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{BoxFuture, Error, Event, Notice, Revision};

/// Notices in a watcher's channel. Their values are shared with the ring while they are in it.
const CHANNEL: usize = 16;

/// Events in one notice.
const NOTICE_EVENTS: usize = 256;

/// Events looked at under the ring's lock at once: bounds how long a watcher of rare keys keeps the writer waiting.
const SCAN: usize = 2048;

/// What the ring holds at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    /// Older ones go with the next: watchers that are so far behind read their database.
    pub(crate) age: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { events: 4096, bytes: 4 << 20, age: Duration::from_secs(120) }
    }
}

/// Events of a stretch of history.
#[derive(Debug)]
pub(crate) struct Stretch {
    /// Those that the watcher asked for.
    pub(crate) events: Vec<Event>,
    /// The stretch ends with this revision, whether its event was asked for or not.
    pub(crate) upto: Revision,
}

/// Where events are found that have left the ring.
pub(crate) trait History: Send + Sync + 'static {
    /// The events after `after`, from a stretch at least one revision long.
    fn events<'a>(&'a self, prefix: &'a str, after: Revision) -> BoxFuture<'a, Result<Stretch, Error>>;
}

/// The one place that committed events pass.
#[derive(Debug)]
pub(crate) struct Hub {
    ring: Mutex<Ring>,
    newest: watch::Sender<Revision>,
    closed: CancellationToken,
    watchers: TaskTracker,
}

/// The most recent events. Each revision is one event, so their revisions are consecutive.
#[derive(Debug)]
struct Ring {
    events: VecDeque<(Instant, Arc<Event>)>,
    /// The revision before the first event.
    before: Revision,
    bytes: usize,
    bounds: Bounds,
    /// No watch may start before this revision, even if its events happen to be here.
    compacted: Revision,
}

impl Hub {
    /// A hub for a store that stands at `current`.
    pub(crate) fn new(current: Revision, compacted: Revision, bounds: Bounds) -> Self {
        Self {
            ring: Mutex::new(Ring { events: VecDeque::new(), before: current, bytes: 0, bounds, compacted }),
            newest: watch::Sender::new(current),
            closed: CancellationToken::new(),
            watchers: TaskTracker::new(),
        }
    }

    /// The newest published revision.
    pub(crate) fn current(&self) -> Revision {
        *self.newest.borrow()
    }

    /// Makes a commit known: its events, and what has been compacted. Only the writer calls it, in revision order.
    pub(crate) fn publish(&self, events: Vec<Event>, compacted: Revision) {
        let newest = events.last().map(|event| event.revision);
        let mut ring = self.ring.lock();
        ring.compacted = compacted;
        let now = Instant::now();
        for event in events {
            ring.push(event, now);
        }
        drop(ring);
        if let Some(newest) = newest {
            self.newest.send_replace(newest);
        }
    }

    /// Waits until `revision`, which the caller has seen in the database, has been published.
    ///
    /// A commit is readable a moment before it is published; without this wait a client could read a revision
    /// and be told, when it watches from there, that it lies in the future.
    pub(crate) async fn published(&self, revision: Revision) -> Result<(), Error> {
        let mut newest = self.newest.subscribe();
        tokio::select! {
            biased;
            seen = newest.wait_for(|newest| *newest >= revision) => seen.map(|_| ()).map_err(|_| Error::Closed),
            () = self.closed.cancelled() => Err(Error::Closed),
        }
    }

    /// Ends all watches and refuses new ones.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        self.watchers.close();
    }

    /// Starts a watcher, which lives until its receiver is dropped or the hub is closed.
    pub(crate) fn watch(
        self: &Arc<Self>,
        history: Arc<dyn History>,
        prefix: &str,
        after: Revision,
    ) -> mpsc::Receiver<Result<Notice, Error>> {
        let (notices, receiver) = mpsc::channel(CHANNEL);
        if let Err(error) = self.check_start(after) {
            // There is room: nothing has been sent yet.
            drop(notices.try_send(Err(error)));
            return receiver;
        }
        let watcher = Watcher { hub: Arc::clone(self), history, prefix: prefix.to_owned(), cursor: after, notices };
        let closed = self.closed.clone();
        self.watchers.spawn(async move {
            closed.run_until_cancelled(watcher.run()).await;
        });
        receiver
    }

    fn check_start(&self, asked: Revision) -> Result<(), Error> {
        let current = self.current();
        if asked > current {
            return Err(Error::Future { asked, current });
        }
        let oldest = self.ring.lock().compacted;
        if asked < oldest {
            return Err(Error::Compacted { asked, oldest });
        }
        Ok(())
    }
}

impl Ring {
    fn push(&mut self, event: Event, now: Instant) {
        self.bytes += size(&event);
        self.events.push_back((now, Arc::new(event)));
        let age = self.bounds.age;
        let old = |(since, _): &(Instant, Arc<Event>)| now.saturating_duration_since(*since) > age;
        while self.events.len() > self.bounds.events
            || self.bytes > self.bounds.bytes
            || self.events.front().is_some_and(old)
        {
            let Some((_, oldest)) = self.events.pop_front() else { break };
            self.bytes -= size(&oldest);
            self.before = oldest.revision;
        }
    }

    /// The events under `prefix` after `after`; `None` when the ring has passed `after`.
    fn after(&self, prefix: &str, after: Revision) -> Option<(Vec<Arc<Event>>, Revision)> {
        let passed = usize::try_from(after.0.checked_sub(self.before.0)?).ok()?;
        let mut upto = after;
        let mut found = Vec::new();
        for (_, event) in self.events.iter().skip(passed).take(SCAN) {
            upto = event.revision;
            if event.key.starts_with(prefix) {
                found.push(Arc::clone(event));
                if found.len() == NOTICE_EVENTS {
                    break;
                }
            }
        }
        Some((found, upto))
    }
}

/// What an event costs in memory, roughly.
fn size(event: &Event) -> usize {
    let value = event.value.as_ref().map_or(0, |value| value.len());
    size_of::<Event>() + event.key.len() + value
}

struct Watcher {
    hub: Arc<Hub>,
    history: Arc<dyn History>,
    prefix: String,
    /// Everything up to here has been delivered.
    cursor: Revision,
    notices: mpsc::Sender<Result<Notice, Error>>,
}

/// The receiver has been dropped.
struct Gone;

impl Watcher {
    async fn run(mut self) {
        let mut newest = self.hub.newest.subscribe();
        let mut caught_up = false;
        loop {
            let current = *newest.borrow_and_update();
            // Its error needs no further word: the receiver is gone, or has been told why.
            let Ok(told) = self.deliver(current).await else { return };
            if !caught_up || told < self.cursor {
                caught_up = true;
                if self.send(Notice::Progress(self.cursor)).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return },
                () = self.notices.closed() => return,
            }
        }
    }

    /// Delivers every event up to `current` at least; returns the last revision that the receiver knows of.
    async fn deliver(&mut self, current: Revision) -> Result<Revision, Gone> {
        let mut told = self.cursor;
        while self.cursor < current {
            let stretch = match self.next().await {
                Ok(stretch) => stretch,
                Err(error) => {
                    self.notices.send(Err(error)).await.ok();
                    return Err(Gone);
                }
            };
            self.cursor = stretch.upto;
            if let Some(last) = stretch.events.last() {
                told = last.revision;
                self.send(Notice::Events(stretch.events)).await?;
            }
        }
        Ok(told)
    }

    async fn next(&self) -> Result<Stretch, Error> {
        let recent = self.hub.ring.lock().after(&self.prefix, self.cursor);
        match recent {
            Some((events, upto)) => {
                Ok(Stretch { events: events.iter().map(|event| Event::clone(event)).collect(), upto })
            }
            None => self.history.events(&self.prefix, self.cursor).await,
        }
    }

    async fn send(&self, notice: Notice) -> Result<(), Gone> {
        self.notices.send(Ok(notice)).await.map_err(|_| Gone)
    }
}
