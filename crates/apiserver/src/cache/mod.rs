//! The watch cache: the one copy of each stored object, and the recent events of each resource.
//!
//! One task follows the store and hands every event to the [`ResourceCache`] of its key; lists, watches and
//! in-process informers read from there. All caches therefore stand at one revision, [`Caches::revision`], and a
//! read is as fresh as the revision it waited for ([`Caches::reach`]).

mod bell;
mod flights;
mod history;
mod informer;
mod pages;
mod past;
mod readings;
mod resource;
mod ring;
#[cfg(test)]
pub(crate) mod testing;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::resource::Selectable;
use bytes::Bytes;
use history::History;
use parking_lot::{Mutex, RwLock};
use store::{Backend, Event, Notice, Revision};
use tokio::sync::watch as watch_channel;
use tokio_util::sync::CancellationToken;

pub use flights::Flight;
pub use informer::LocalInformers;
pub use pages::{Page, Part};
use past::Past;
pub(crate) use readings::Readings;
pub use resource::{Listing, ResourceCache};
pub use ring::{CacheEvent, EventKind, json_line};
pub use watch::{FieldTerm, Filter, Lagged, Notice as WatchNotice, Start, Watcher};

/// Everything that is stored lives under this prefix.
pub const ROOT: &str = "/registry/";

/// How often what is too old is let go, at most: when anything is written.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// Turns stored bytes into the JSON of an object, and back: encryption at rest.
pub trait Transformer: Send + Sync + 'static {
    /// What is written for `plain` at `key`.
    fn seal(&self, key: &str, plain: Bytes) -> Result<Bytes, TransformError>;
    /// The JSON that was written at `key`.
    fn open(&self, key: &str, stored: Bytes) -> Result<Bytes, TransformError>;
    /// Whether what stands at `key` may have been sealed otherwise than it would be now.
    fn may_be_stale(&self, _key: &str) -> bool {
        false
    }
    /// Whether what was `stored` at `key` was.
    fn is_stale(&self, _key: &str, _stored: &[u8]) -> bool {
        false
    }
}

/// Stored bytes that cannot be read with the keys at hand.
#[derive(Debug, thiserror::Error)]
#[error("{key} cannot be decrypted: restore the encryption key it was written with")]
pub struct TransformError {
    pub key: String,
}

/// The caches of all resources, by key prefix.
pub struct Caches {
    store: Arc<dyn Backend>,
    transformer: Arc<dyn Transformer>,
    by_prefix: RwLock<HashMap<String, Arc<ResourceCache>>>,
    /// While the server starts.
    past: Mutex<Option<Past>>,
    progress: watch_channel::Sender<u64>,
    history: Arc<History>,
}

/// Why the caches stopped following the store.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    #[error("watch cache: {0}")]
    Store(#[from] store::Error),
    #[error("watch cache: the datastore closed its watch")]
    Ended,
}

impl Caches {
    pub fn new(store: Arc<dyn Backend>, transformer: Arc<dyn Transformer>) -> Arc<Self> {
        let (progress, _) = watch_channel::channel(store.current().get());
        let history = Arc::new(History::new(store.clone()));
        Arc::new(Self { store, transformer, by_prefix: RwLock::default(), past: Mutex::default(), progress, history })
    }

    /// Reads what was written shortly before: caches that are added until it is forgotten begin there.
    pub async fn recall(&self) -> Result<(), store::Error> {
        let past = Past::read(&*self.store).await?;
        *self.past.lock() = Some(past);
        Ok(())
    }

    /// What is cached from now on has not been watched before.
    pub fn forget_past(&self) {
        self.past.lock().take();
    }

    /// Begins to cache the resource stored under `/registry/GROUP/PLURAL/`; returns once its objects are there.
    pub async fn add(
        &self,
        group: &str,
        plural: &str,
        selectable: Vec<Selectable>,
    ) -> Result<Arc<ResourceCache>, store::Error> {
        let prefix = prefix(group, plural);
        if let Some(known) = self.by_prefix.read().get(&prefix) {
            return Ok(known.clone());
        }
        let cache = Arc::new(ResourceCache::new(prefix.clone(), selectable, self.transformer.clone()));
        self.by_prefix.write().insert(prefix.clone(), cache.clone());
        let past = self.past.lock().as_mut().map(|past| past.take(&prefix));
        let loaded = match past {
            Some(past) => past.load(&*self.store, &cache).await,
            None => past::load_now(&*self.store, &cache).await,
        };
        match loaded {
            Ok(loaded) => cache.load(loaded),
            Err(why) => {
                // A cache that was never filled must not be found by who tries again.
                self.by_prefix.write().remove(&prefix);
                return Err(why);
            }
        }
        Ok(cache)
    }

    /// A watcher that begins where `start` says, and that the datastore's history helps on where the cache's is too
    /// short. `None`: the events it would need are gone.
    pub async fn watch(&self, cache: &Arc<ResourceCache>, filter: Filter, start: Start) -> Option<Watcher> {
        let begun = match (cache.watch(filter.clone(), start), start) {
            (None, Start::After(revision)) => cache.watch_after(filter, revision, &self.history).await,
            (begun, _) => begun,
        };
        begun.map(|watcher| watcher.with_history(self.history.clone()))
    }

    /// Stops caching a resource; its watchers end.
    pub fn remove(&self, group: &str, plural: &str) {
        if let Some(cache) = self.by_prefix.write().remove(&prefix(group, plural)) {
            cache.close();
        }
    }

    /// The revision up to which all caches are complete.
    pub fn revision(&self) -> u64 {
        *self.progress.borrow()
    }

    /// Waits until the caches are complete up to `revision`.
    pub async fn reach(&self, revision: u64) {
        if self.revision() >= revision {
            return;
        }
        let mut progress = self.progress.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        let _ = progress.wait_for(|at| *at >= revision).await;
    }

    /// Waits until the caches hold every write that was committed when this was called.
    pub async fn reach_current(&self) -> u64 {
        let current = self.store.current().get();
        self.reach(current).await;
        self.revision()
    }

    /// Follows the store until `stop`; the caches stand still when this returns.
    pub async fn follow(&self, from: Revision, stop: CancellationToken) -> Result<(), FollowError> {
        let mut notices = self.store.watch(ROOT, from);
        let mut swept = Instant::now();
        loop {
            let notice = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                notice = notices.recv() => notice.ok_or(FollowError::Ended)??,
            };
            let (reached, changed) = match notice {
                Notice::Progress(revision) => (revision.get(), Vec::new()),
                Notice::Events(events) => {
                    let reached = events.last().map_or(0, |event| event.revision.get());
                    (reached, self.apply(events))
                }
            };
            self.progress.send_if_modified(|at| std::mem::replace(at, reached.max(*at)) < reached);
            changed.iter().for_each(|cache| cache.pack());
            // A resource to which nothing is written any more is to hold nothing of its past.
            if swept.elapsed() > SWEEP_EVERY {
                swept = Instant::now();
                let all: Vec<_> = self.by_prefix.read().values().cloned().collect();
                for cache in all {
                    cache.forget(swept);
                    cache.pack();
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    /// Hands each event to its cache, and says which these were. Watchers are woken once for all that they are to see.
    fn apply(&self, events: Vec<Event>) -> Vec<Arc<ResourceCache>> {
        let by_prefix = self.by_prefix.read();
        let mut changed: Vec<Arc<ResourceCache>> = Vec::new();
        for event in events {
            let Some(cache) = split_prefix(&event.key).and_then(|prefix| by_prefix.get(prefix)) else { continue };
            cache.apply(event);
            if !changed.iter().any(|known| Arc::ptr_eq(known, cache)) {
                changed.push(cache.clone());
            }
        }
        changed.iter().for_each(|cache| cache.wake_watchers());
        changed
    }
}

/// `/registry/GROUP/PLURAL/`, under which a resource is stored.
pub fn prefix(group: &str, plural: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{ROOT}{group}/{plural}/")
}

/// The prefix part of an object's key.
fn split_prefix(key: &str) -> Option<&str> {
    let group = ROOT.len() + key.get(ROOT.len()..)?.find('/')? + 1;
    let plural = group + key[group..].find('/')? + 1;
    Some(&key[..plural])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_to_their_resource() {
        assert_eq!(split_prefix("/registry/apps/deployments/shop/web"), Some("/registry/apps/deployments/"));
        assert_eq!(split_prefix("/registry/core/nodes/n1"), Some(prefix("", "nodes").as_str()));
        assert_eq!(split_prefix("/registry/core"), None);
        assert_eq!(split_prefix("/reg"), None);
    }
}
