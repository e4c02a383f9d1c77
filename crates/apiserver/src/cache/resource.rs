//! The objects of one resource, in key order, with the events that led to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use api::object::{Entry, ObjectKey, Reader};
use api::packing::Patterns;
use api::resource::Selectable;
use client::shared::EntryMap;
use parking_lot::{Mutex, RwLock};
use store::{Event, Record};
use tracing::error;

use super::Transformer;
use super::bell::Bell;
use super::flights::{Flight, Flights};
use super::history::{History, Replay};
use super::pages::{Page, Part};
use super::past::Loaded;
use super::ring::{CacheEvent, Ring};
use super::watch::{Filter, Start, Watcher};

/// The cache of one resource.
pub struct ResourceCache {
    prefix: String,
    reader: Reader,
    transformer: Arc<dyn Transformer>,
    state: RwLock<State>,
    flights: Flights,
    /// What objects at rest are like.
    patterns: Mutex<Patterns>,
    /// Watchers wait for it. Rung when the ring's end has moved.
    bell: Arc<Bell>,
}

struct State {
    objects: EntryMap,
    ring: Ring,
    /// Events that arrived before the first load finished; `None` afterwards.
    early: Option<Vec<Event>>,
    /// The last event applied, or the revision of the load.
    revision: u64,
    /// What the load brought already: the follower of a resource that is cached later may be behind it.
    loaded: u64,
}

/// A consistent set of objects.
#[derive(Debug)]
pub struct Listing {
    pub entries: Vec<Arc<Entry>>,
    /// The last revision that changed the resource, at most the caches' revision.
    pub revision: u64,
}

impl ResourceCache {
    pub(super) fn new(prefix: String, selectable: Vec<Selectable>, transformer: Arc<dyn Transformer>) -> Self {
        let (objects, ring) = (EntryMap::default(), Ring::new(0));
        let state = State { objects, ring, early: Some(Vec::new()), revision: 0, loaded: 0 };
        let (flights, patterns, bell) = (Flights::default(), Mutex::default(), Arc::default());
        Self {
            prefix,
            reader: Reader::new(selectable),
            transformer,
            state: RwLock::new(state),
            flights,
            patterns,
            bell,
        }
    }

    /// The key under which the store holds an object.
    pub fn store_key(&self, key: &ObjectKey) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The keys under which the store holds one namespace's objects, or all.
    pub fn store_prefix(&self, namespace: Option<&str>) -> String {
        match namespace {
            Some(namespace) => format!("{}{namespace}/", self.prefix),
            None => self.prefix.clone(),
        }
    }

    /// Watches from before this revision can no longer be served.
    pub fn oldest_revision(&self) -> u64 {
        self.state.read().ring.complete_since()
    }

    /// The fields whose values [`Entry::fields`] holds.
    pub fn selectable(&self) -> &[Selectable] {
        self.reader.selectable()
    }

    /// The objects that the store holds as `records`, at rest.
    pub(super) fn resting(&self, records: Vec<Record>) -> impl Iterator<Item = Arc<Entry>> {
        let mut patterns = self.patterns.lock();
        records.into_iter().filter_map(move |record| {
            let entry = self.entry(&record.key, record.value, record.revision.get())?;
            entry.rest(&mut patterns);
            Some(entry)
        })
    }

    /// Takes in what was there, and what has happened since.
    pub(super) fn load(&self, loaded: Loaded) {
        let Loaded { objects, after, since, upto } = loaded;
        let mut state = self.state.write();
        state.objects = objects;
        state.ring = Ring::new(after.get());
        state.revision = after.get();
        state.loaded = after.get();
        for event in since {
            self.apply_to(&mut state, event);
        }
        state.revision = state.revision.max(upto.get());
        state.loaded = upto.get();
        for event in state.early.take().unwrap_or_default() {
            self.apply_to(&mut state, event);
        }
        drop(state);
        self.wake_watchers();
    }

    pub(super) fn apply(&self, event: Event) {
        let mut state = self.state.write();
        match &mut state.early {
            Some(early) => early.push(event),
            None => self.apply_to(&mut state, event),
        }
    }

    /// Packs the objects that nothing has happened to for so long that the ring has let go of it.
    pub(super) fn pack(&self) {
        let mut state = self.state.write();
        let mut left = state.ring.take_left();
        left.retain(|entry| state.objects.get(&entry.key).is_some_and(|now| Arc::ptr_eq(now, entry)));
        drop(state);
        let mut patterns = self.patterns.lock();
        left.iter().for_each(|entry| entry.rest(&mut patterns));
    }

    /// Lets watchers see what was applied.
    pub(super) fn wake_watchers(&self) {
        let end = self.state.read().ring.end();
        self.bell.ring(end);
    }

    fn apply_to(&self, state: &mut State, event: Event) {
        let revision = event.revision.get();
        if revision <= state.loaded {
            // Whoever wrote it is not to wait for the cache.
            if let Some(value) = &event.value {
                self.flights.arrive(value, revision);
            }
            return;
        }
        let event = match event.value {
            Some(value) => {
                let known = self.flights.arrive(&value, revision);
                let Some(object) = known.or_else(|| self.entry(&event.key, value, revision)) else { return };
                let old = state.objects.insert(object.clone());
                CacheEvent::new(revision, old, object, false)
            }
            None => {
                let gone = self.object_key(&event.key).and_then(|key| state.objects.remove(&key));
                let Some(old) = gone else { return };
                let object = Arc::new(old.at_revision(revision));
                CacheEvent::new(revision, Some(old), object, true)
            }
        };
        state.revision = revision;
        state.ring.push(Arc::new(event));
    }

    /// Decodes what the store holds; what cannot be read is logged and left out, never served half.
    fn entry(&self, key: &str, value: bytes::Bytes, revision: u64) -> Option<Arc<Entry>> {
        match self.decode(key, value, revision) {
            Ok(entry) => Some(Arc::new(entry)),
            Err(why) => {
                error!(key, revision, %why, "stored object is unreadable");
                None
            }
        }
    }

    /// The object that the store holds at `key`.
    pub fn decode(&self, key: &str, value: bytes::Bytes, revision: u64) -> Result<Entry, UnreadableObject> {
        let plain = self.transformer.open(key, value)?;
        Ok(self.reader.read(plain, revision)?)
    }

    /// How objects are sealed.
    pub(crate) fn transformer(&self) -> &dyn Transformer {
        &*self.transformer
    }

    /// What is to be stored at `key` for `object`, which this cache waits for.
    pub fn seal(&self, key: &str, object: Entry) -> Result<(bytes::Bytes, Flight<'_>), UnreadableObject> {
        let sealed = self.transformer.seal(key, object.stored_json())?;
        Ok((sealed.clone(), self.flights.begin(sealed, object)))
    }

    fn object_key(&self, key: &str) -> Option<ObjectKey> {
        let rest = key.strip_prefix(&self.prefix)?;
        Some(match rest.split_once('/') {
            Some((namespace, name)) => ObjectKey::new(namespace, name),
            None => ObjectKey::new("", rest),
        })
    }

    /// The last revision that changed the resource.
    pub fn revision(&self) -> u64 {
        self.state.read().revision
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Entry>> {
        self.state.read().objects.get(key).cloned()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// What an object has in bytes, by a look at a few.
    pub fn typical_size(&self) -> usize {
        let state = self.state.read();
        let (count, size) =
            state.objects.iter().take(8).fold((0, 0), |(count, size), it| (count + 1, size + it.stored_length()));
        size.checked_div(count).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects that `filter` lets through, in key order.
    pub fn list(&self, filter: &Filter) -> Listing {
        let state = self.state.read();
        Listing { entries: matching(&state.objects, filter), revision: state.revision }
    }

    /// A part of the objects, as of `at` or now. Everything up to `at` must have been applied. `None`: what they were then
    /// is not known any more.
    pub fn page(&self, part: &Part<'_>, at: Option<u64>) -> Option<Page> {
        let state = self.state.read();
        let former = match at {
            Some(at) if at < state.revision => state.ring.before(at)?,
            _ => BTreeMap::new(),
        };
        Some(Page { revision: state.revision, ..part.cut(&state.objects, &former) })
    }

    /// A watcher that begins where `start` says. `None`: the events it would need are gone.
    pub fn watch(self: &Arc<Self>, filter: Filter, start: Start) -> Option<Watcher> {
        let seat = self.bell.seat()?;
        let state = self.state.read();
        let (position, initial) = match start {
            Start::After(revision) => (state.ring.position_after(revision)?, Vec::new()),
            Start::Now => (state.ring.end(), Vec::new()),
            Start::Objects => (state.ring.end(), matching(&state.objects, &filter)),
        };
        let revision = match start {
            Start::After(revision) => revision,
            Start::Now | Start::Objects => state.revision,
        };
        Some(Watcher::new(self.clone(), filter, initial, position, revision, seat))
    }

    /// A watcher of what happened after `revision`, as far as the ring does not have it out of `history`. `None`: it is
    /// gone from there too.
    pub(super) async fn watch_after(
        self: &Arc<Self>,
        filter: Filter,
        revision: u64,
        history: &History,
    ) -> Option<Watcher> {
        let mut replay = history.after(&self.prefix, revision)?;
        replay.hear().await.ok()?;
        let seat = self.bell.seat()?;
        let watcher = Watcher::new(self.clone(), filter, Vec::new(), 0, revision, seat);
        Some(watcher.replaying(replay))
    }

    /// Lets go of events that are too old at `now`.
    pub(super) fn forget(&self, now: Instant) {
        self.state.write().ring.forget(now);
    }

    /// The sequence number of the first event after `revision`; `None` when some of those are gone.
    pub(super) fn position_after(&self, revision: u64) -> Option<u64> {
        self.state.read().ring.position_after(revision)
    }

    /// What has happened after `revision`, out of `history`.
    pub(super) fn replay(&self, revision: u64, history: &History) -> Option<Replay> {
        history.after(&self.prefix, revision)
    }

    /// Up to `limit` events from the sequence number `position` on; `None` when they are gone.
    pub fn events_from(&self, position: u64, limit: usize) -> Option<Vec<Arc<CacheEvent>>> {
        self.state.read().ring.read(position, limit)
    }

    /// What `seen` makes of the first event that it makes anything of, of up to `limit` from the sequence number `position`
    /// on, and the number of the next one to look at. `None` when they are gone.
    pub(super) fn find_event<T>(
        &self,
        position: u64,
        limit: usize,
        seen: impl FnMut(&Arc<CacheEvent>) -> Option<T>,
    ) -> Option<(u64, Option<T>)> {
        self.state.read().ring.find(position, limit, seen)
    }

    /// All objects, and the sequence number of the first event that is not in them.
    pub fn entries_and_end(&self) -> (Vec<Arc<Entry>>, u64) {
        let state = self.state.read();
        (state.objects.list(None), state.ring.end())
    }

    /// The position behind the last event, and the revision of that event.
    pub fn ring_end(&self) -> (u64, u64) {
        let state = self.state.read();
        (state.ring.end(), state.revision)
    }

    /// True once the resource is no longer served.
    pub fn is_closed(&self) -> bool {
        self.bell.is_closed()
    }

    /// Ends all watchers: the resource is no longer served.
    pub(super) fn close(&self) {
        self.bell.close();
    }
}

/// Why a stored object cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableObject {
    #[error(transparent)]
    Transform(#[from] super::TransformError),
    #[error(transparent)]
    Entry(#[from] api::object::EntryError),
}

fn matching(objects: &EntryMap, filter: &Filter) -> Vec<Arc<Entry>> {
    match &filter.namespace {
        None => objects.iter().filter(|entry| filter.selects(entry)).cloned().collect(),
        Some(namespace) => objects.in_namespace(namespace).filter(|entry| filter.selects(entry)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use api::resource::Selectable;
    use bytes::Bytes;
    use serde_json::json;
    use store::memory::MemoryStore;
    use store::{Backend as _, Change, Expect, Write};
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::super::ring::MAX_EVENTS;
    use super::super::testing::Plain;
    use super::super::{Caches, ROOT};
    use super::*;

    fn pod(name: &str, number: usize) -> Bytes {
        let annotations = json!({"number": number.to_string(), "note": "as long as a template ".repeat(100)});
        Bytes::from(json!({"metadata": {"name": name, "namespace": "shop", "annotations": annotations}}).to_string())
    }

    async fn put(store: &MemoryStore, name: &str, number: usize) -> u64 {
        let key = format!("{ROOT}core/pods/shop/{name}");
        let write = Write { key, expect: Expect::Anything, change: Change::Put(pod(name, number)) };
        store.write(write).await.unwrap().revision.get()
    }

    /// An object that nothing happens to is packed once the ring has let go of its last event, and so are those that were
    /// there at the start; they are read as before. One that changes all the time is not.
    #[tokio::test]
    async fn objects_at_rest_are_packed() {
        let store = Arc::new(MemoryStore::new());
        for number in 0..10 {
            put(&store, &format!("early-{number}"), number).await;
        }
        let caches = Caches::new(store.clone(), Arc::new(Plain));
        let cache = caches.add("", "pods", vec![Selectable::new("metadata.name")]).await.unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (follower, token, from) = (caches.clone(), stop.clone(), store.current());
        tasks.spawn(async move { follower.follow(from, token).await });

        for number in 0..10 {
            put(&store, &format!("late-{number}"), number).await;
        }
        let mut last = 0;
        for number in 0..MAX_EVENTS {
            last = put(&store, "busy", number).await;
        }
        caches.reach(last).await;
        put(&store, "busy", 0).await;
        caches.reach_current().await;
        // What is plain is shown as it is, what is packed is unpacked for each reader.
        let is_packed = |name: &str| {
            let entry = cache.get(&ObjectKey::new("shop", name)).unwrap();
            let (one, other) = (entry.stored_json(), entry.stored_json());
            one.as_ptr() != other.as_ptr()
        };
        assert!(!is_packed("busy"));
        for number in 1..10 {
            for name in [format!("early-{number}"), format!("late-{number}")] {
                assert!(is_packed(&name), "{name}");
                let entry = cache.get(&ObjectKey::new("shop", &name)).unwrap();
                assert_eq!(entry.stored_json(), pod(&name, number));
                assert_eq!(entry.fields.iter().collect::<Vec<_>>(), [name]);
            }
        }
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
