//! `watch`: a watcher's notices with what goes around them, which are bookmarks, the end of the initial events,
//! the time limit, and the one error that ends a watch.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use api::object::Entry;
use api::status::Status;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::options::{ReadOptions, ShownTerm};
use super::read::stored;
use super::{Call, Outcome, Registry, Served, options, versions};
use crate::cache::{CacheEvent, Caches, EventKind, Lagged, Start, WatchNotice, Watcher};

/// How often a quiet watch is told how far it is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// So long before a watch ends it is told once more, so that its client goes on from there.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);
/// Longer than any watch lasts, and short enough for clocks to add.
const MOST_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// An item of a watch, not yet encoded.
pub enum Item {
    /// An object that was there when the watch began.
    Initial(Arc<Entry>),
    Event(EventKind, Arc<CacheEvent>),
    /// Everything up to this revision has been delivered.
    Bookmark {
        revision: u64,
        initial_events_end: bool,
    },
    /// The watch ends.
    Error(Status),
}

/// A running watch.
pub struct Stream {
    /// Beyond what the watcher selects by.
    pub selection: Selection,
    watcher: Option<Watcher>,
    caches: Arc<Caches>,
    /// The end of the initial events is to be told.
    announce_end: bool,
    /// The initial objects are at least as new as this.
    complete_to: u64,
    /// When the next bookmark is due, for those who want any.
    next_bookmark: Option<Instant>,
    deadline: Instant,
    /// Set to what comes first of these two.
    clock: Pin<Box<Sleep>>,
    /// Whom the clock wakes: it is not told at every event.
    wakes: Option<Waker>,
    /// The end of the definition by which the objects are read.
    retired: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Told first, then the watch ends.
    refusal: Option<Status>,
}

/// What objects must have where they are shown, for those who select by what only the shown object has.
pub struct Selection {
    served: Arc<Served>,
    terms: Vec<ShownTerm>,
}

impl Registry {
    pub(super) async fn watch(&self, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
        let cache = stored(served, "watch")?;
        let options = ReadOptions::parse(served, call)?;
        let mut refusal = None;
        let start = match (options.initial_events, options.revision) {
            (Some(true), revision) => {
                match revision {
                    None | Some(0) => {
                        self.caches.reach_current().await;
                    }
                    // That it does not come is told within the watch.
                    Some(revision) => refusal = self.reach(revision).await.err(),
                }
                Start::Objects
            }
            (Some(false), None | Some(0)) => Start::Now,
            (None, None) => {
                self.caches.reach_current().await;
                Start::Objects
            }
            (None, Some(0)) => Start::Objects,
            (_, Some(revision)) => Start::After(revision),
        };
        // Read before the watcher is made, so that its initial objects are complete up to it.
        let complete_to = self.caches.revision();
        let watcher = self.caches.watch(cache, options.filter, start).await;
        if let (None, Start::After(revision)) = (&watcher, start) {
            let oldest = cache.oldest_revision();
            refusal = Some(Status::expired(format!("too old resource version: {revision} ({oldest})")));
        }
        let asked = options.timeout_seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let life = asked.unwrap_or_else(|| random_life(self.watch_life)).min(MOST_LIFE);
        let now = Instant::now();
        let deadline = now + life;
        let next_bookmark = options.bookmarks.then(|| next_bookmark(now, deadline)).flatten();
        let retired = served.custom.as_ref().map(|custom| Box::pin(custom.retired.clone().cancelled_owned()));
        Ok(Outcome::Watch(Box::new(Stream {
            selection: Selection { served: served.clone(), terms: options.shown },
            watcher,
            caches: self.caches.clone(),
            announce_end: options.bookmarks && options.initial_events == Some(true),
            complete_to,
            next_bookmark,
            deadline,
            clock: Box::pin(sleep_until(next_bookmark.unwrap_or(deadline))),
            wakes: None,
            retired,
            refusal,
        })))
    }
}

/// Between `least` and twice that.
fn random_life(least: Duration) -> Duration {
    let mut random = [0u8; 2];
    // Without randomness all watches live equally long, which is only less even.
    let _ = getrandom::fill(&mut random);
    least.saturating_add(least.mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX)))
}

/// When a watch that ends at `deadline` is told next how far it is, as upstream does (`cacher/cache_watcher.go`).
fn next_bookmark(now: Instant, deadline: Instant) -> Option<Instant> {
    let last = deadline.checked_sub(LAST_BOOKMARK)?;
    (last > now).then(|| last.min(now + BOOKMARK_EVERY))
}

impl Selection {
    /// Whether it lets everything through.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// What an item is to a client that selects by fields of shown objects.
    pub async fn select(&self, item: Item) -> Result<Option<Item>, Status> {
        let (kind, event) = match item {
            Item::Initial(entry) => return Ok(self.shows(&entry).await?.then_some(Item::Initial(entry))),
            Item::Event(kind, event) => (kind, event),
            other => return Ok(Some(other)),
        };
        let before = match &event.old {
            Some(old) if kind != EventKind::Added => self.shows(old).await?,
            _ => false,
        };
        let after = kind != EventKind::Deleted && self.shows(&event.object).await?;
        let kind = match (before, after) {
            (false, true) => EventKind::Added,
            (true, true) => EventKind::Modified,
            (true, false) => EventKind::Deleted,
            (false, false) => return Ok(None),
        };
        Ok(Some(Item::Event(kind, event)))
    }

    async fn shows(&self, entry: &Arc<Entry>) -> Result<bool, Status> {
        let object = versions::shown_entry(&self.served, entry).await?.to_value();
        Ok(options::matches(&self.terms, &self.served, &object))
    }
}

impl Stream {
    /// Nothing more is told.
    pub fn end(&mut self) {
        self.watcher = None;
    }

    /// The next thing that the watcher or the clock tells; `None` when the watch is over.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if let Some(refusal) = self.refusal.take() {
            self.watcher = None;
            return Poll::Ready(Some(Item::Error(refusal)));
        }
        loop {
            let Some(watcher) = &mut self.watcher else { return Poll::Ready(None) };
            match watcher.poll_next(cx) {
                Poll::Pending => return self.poll_clocks(cx),
                Poll::Ready(Ok(Some(WatchNotice::Initial(entry)))) => return Poll::Ready(Some(Item::Initial(entry))),
                Poll::Ready(Ok(Some(WatchNotice::Event(kind, event)))) => {
                    return Poll::Ready(Some(Item::Event(kind, event)));
                }
                Poll::Ready(Ok(Some(WatchNotice::InitialDone(revision)))) => {
                    if std::mem::take(&mut self.announce_end) {
                        let revision = revision.max(self.complete_to);
                        return Poll::Ready(Some(Item::Bookmark { revision, initial_events_end: true }));
                    }
                }
                Poll::Ready(Ok(None)) => return Poll::Ready(None),
                Poll::Ready(Err(Lagged)) => {
                    self.watcher = None;
                    return Poll::Ready(Some(Item::Error(Status::expired(Lagged.to_string()))));
                }
            }
        }
    }

    /// What time tells: that it is over, or how far the watch is.
    fn poll_clocks(&mut self, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        if let Some(retired) = &mut self.retired
            && retired.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(None);
        }
        let is_set = self.wakes.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        if is_set && !self.clock.is_elapsed() {
            return Poll::Pending;
        }
        self.wakes = Some(cx.waker().clone());
        ready!(self.clock.as_mut().poll(cx));
        self.wakes = None;
        let (now, Some(watcher)) = (Instant::now(), &self.watcher) else { return Poll::Ready(None) };
        if self.next_bookmark.take_if(|due| *due <= now).is_none() {
            return Poll::Ready(None);
        }
        self.next_bookmark = next_bookmark(now, self.deadline);
        self.clock.as_mut().reset(self.next_bookmark.unwrap_or(self.deadline));
        let revision = watcher.delivered(self.caches.revision());
        Poll::Ready(Some(Item::Bookmark { revision, initial_events_end: false }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_bookmark_comes_before_the_end() {
        let now = Instant::now();
        let check = |life: u64, next: Option<u64>| {
            let told = next_bookmark(now, now + Duration::from_secs(life)).map(|at| (at - now).as_secs());
            assert_eq!(told, next, "{life}");
        };
        check(1800, Some(60));
        check(62, Some(60));
        check(30, Some(28));
        check(2, None);
        check(1, None);
    }
}
