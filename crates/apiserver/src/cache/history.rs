//! A watch whose place the ring has passed goes on out of the datastore, which keeps history for minutes.
//!
//! So the ring need not hold in memory what hardly anybody asks for: who comes back after a while, or is slow while much
//! is written, reads what happened meanwhile as it is stored, and then follows the ring like others. Only what the
//! datastore has forgotten is gone.

use std::collections::VecDeque;
use std::sync::Arc;

use store::{Backend, Event, Notice, Revision};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::resource::ResourceCache;
use super::ring::CacheEvent;
use super::watch::Lagged;

/// Watches that read from the datastore at once; others are told to list anew.
const PLACES: usize = 32;

/// Where watches find what happened before the rings begin.
pub(super) struct History {
    store: Arc<dyn Backend>,
    places: Arc<Semaphore>,
}

/// What has happened to one resource since some revision.
pub(super) struct Replay {
    store: Arc<dyn Backend>,
    notices: mpsc::Receiver<Result<Notice, store::Error>>,
    /// Told by the store, and yet to be told on.
    told: VecDeque<Event>,
    /// What the store told last is of this revision.
    heard: u64,
    _place: OwnedSemaphorePermit,
}

/// One thing out of the history.
pub(super) enum Told {
    Event(Arc<CacheEvent>),
    /// Everything up to this revision has been told.
    UpTo(u64),
}

impl History {
    pub(super) fn new(store: Arc<dyn Backend>) -> Self {
        Self { store, places: Arc::new(Semaphore::new(PLACES)) }
    }

    /// What has happened under `prefix` after `revision`; `None` where too many ask.
    pub(super) fn after(&self, prefix: &str, revision: u64) -> Option<Replay> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let notices = self.store.watch(prefix, Revision::from_u64(revision));
        Some(Replay { store: self.store.clone(), notices, told: VecDeque::new(), heard: revision, _place: place })
    }
}

impl Replay {
    /// Waits until the store has told something, or that it has forgotten. Cancel safe.
    pub(super) async fn hear(&mut self) -> Result<(), Lagged> {
        match self.notices.recv().await {
            Some(Ok(Notice::Events(events))) => {
                self.heard = events.last().map_or(self.heard, |last| last.revision.get());
                self.told.extend(events);
                Ok(())
            }
            Some(Ok(Notice::Progress(revision))) => {
                self.heard = self.heard.max(revision.get());
                Ok(())
            }
            Some(Err(_)) | None => Err(Lagged),
        }
    }

    /// The next event, or how far it is without one. Cancel safe.
    pub(super) async fn next(&mut self, cache: &ResourceCache) -> Result<Told, Lagged> {
        if self.told.is_empty() {
            self.hear().await?;
        }
        while let Some(event) = self.told.front() {
            let made = self.event(cache, event).await?;
            self.told.pop_front();
            if let Some(made) = made {
                return Ok(Told::Event(Arc::new(made)));
            }
        }
        Ok(Told::UpTo(self.heard))
    }

    /// An event with the object before and after; `None` for what cannot be read, which the cache leaves out too.
    async fn event(&self, cache: &ResourceCache, event: &Event) -> Result<Option<CacheEvent>, Lagged> {
        let revision = event.revision.get();
        let old = match event.previous {
            Some(previous) => {
                let record = self.store.get(&event.key, Some(previous)).await.map_err(|_| Lagged)?.ok_or(Lagged)?;
                cache.decode(&record.key, record.value, record.revision.get()).ok().map(Arc::new)
            }
            None => None,
        };
        Ok(match &event.value {
            Some(value) => {
                let object = cache.decode(&event.key, value.clone(), revision).ok();
                object.map(|object| CacheEvent::new(revision, old, Arc::new(object), false))
            }
            None => {
                old.map(|old| CacheEvent::new(revision, Some(old.clone()), Arc::new(old.at_revision(revision)), true))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use api::selector::label::LabelSelector;
    use bytes::Bytes;
    use serde_json::json;
    use store::memory::MemoryStore;
    use store::{Change, Expect, Write};
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::super::ring::MAX_EVENTS;
    use super::super::testing::Plain;
    use super::super::{Caches, EventKind, Filter, ROOT, Start, WatchNotice};
    use super::*;

    async fn write(store: &MemoryStore, name: &str, change: Option<&str>) -> u64 {
        let change = change.map_or(Change::Delete, |value| {
            let object = json!({"metadata": {"name": name, "labels": {"is": value}}});
            Change::Put(Bytes::from(object.to_string()))
        });
        let write = Write { key: format!("{ROOT}core/nodes/{name}"), expect: Expect::Anything, change };
        store.write(write).await.unwrap().revision.get()
    }

    #[tokio::test]
    async fn what_the_ring_has_lost_is_read_from_the_store() {
        let store = Arc::new(MemoryStore::new());
        let caches = Caches::new(store.clone(), Arc::new(Plain));
        let cache = caches.add("", "nodes", Vec::new()).await.unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (follower, token, from) = (caches.clone(), stop.clone(), store.current());
        tasks.spawn(async move { follower.follow(from, token).await });

        let start = write(&store, "a", Some("old")).await;
        let left = write(&store, "a", Some("new")).await;
        write(&store, "b", Some("old")).await;
        let gone = write(&store, "b", None).await;
        let mut last = 0;
        for at in 0..MAX_EVENTS {
            last = write(&store, "c", Some(&at.to_string())).await;
        }
        caches.reach(last).await;
        assert!(cache.watch(Filter::default(), Start::After(start)).is_none());

        let labels = LabelSelector::parse("is in (old, later)").unwrap();
        let filter = Filter { labels, ..Filter::default() };
        let mut watcher = caches.watch(&cache, filter, Start::After(start)).await.unwrap();
        let mut told = Vec::new();
        let mut next = async || match watcher.next().await.unwrap().unwrap() {
            WatchNotice::Event(kind, event) => told.push((kind, event.shown(kind).revision)),
            WatchNotice::InitialDone(_) => {}
            other => panic!("{other:?}"),
        };
        for _ in 0..4 {
            next().await;
        }
        // It follows the ring now.
        let later = write(&store, "d", Some("later")).await;
        tokio::time::timeout(Duration::from_secs(10), next()).await.unwrap();
        assert_eq!(
            told,
            [
                (EventKind::Deleted, left),
                (EventKind::Added, gone - 1),
                (EventKind::Deleted, gone),
                (EventKind::Added, later)
            ]
        );
        assert_eq!(watcher.delivered(caches.revision()), later);

        store.compact(Revision::from_u64(last)).await.unwrap();
        assert!(caches.watch(&cache, Filter::default(), Start::After(start)).await.is_none());
        stop.cancel();
    }
}
