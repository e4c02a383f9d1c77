//! What was written shortly before the server's start: watchers of a server that ended go on where they were.
//!
//! It is read from the store once for all resources. Objects are read as they are now, which is the cheapest; of those that
//! were written in that time also what they were before, and what was written is applied to them.

use std::collections::{HashMap, VecDeque};

use client::shared::EntryMap;
use futures::future::try_join_all;
use store::{Backend, Error, Event, Notice, Range, Record, Revision};

use super::{ROOT, ResourceCache, split_prefix};

/// How many revisions before its start a cache knows. Who missed more lists anew.
pub(super) const RESUMED: u64 = 1000;

/// Bytes of objects among them, at most: as much as the ring of one resource holds.
const BYTES: usize = 8 << 20;

/// Objects that are read at once: while they are made entries of, the next are read.
const PAGE: usize = 512;

/// The writes after one revision, up to another.
#[derive(Debug)]
pub(super) struct Past {
    after: Revision,
    upto: Revision,
    by_prefix: HashMap<String, Vec<Event>>,
}

/// The objects of a resource, and what happened to them since.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) objects: EntryMap,
    /// Every later write is in `since`, or comes after `upto`.
    pub(super) after: Revision,
    pub(super) since: Vec<Event>,
    pub(super) upto: Revision,
}

impl Past {
    /// What was written lately, as far as it is still known.
    pub(super) async fn read(store: &dyn Backend) -> Result<Self, Error> {
        let upto = store.current();
        let mut after = Revision::from_u64(upto.get().saturating_sub(RESUMED));
        loop {
            match read_events(store, after, upto).await {
                Err(Error::Compacted { oldest, .. }) => after = oldest,
                Ok((after, upto, events)) => {
                    let mut by_prefix: HashMap<String, Vec<Event>> = HashMap::new();
                    for event in events {
                        let Some(prefix) = split_prefix(&event.key) else { continue };
                        match by_prefix.get_mut(prefix) {
                            Some(known) => known.push(event),
                            None => drop(by_prefix.insert(prefix.to_owned(), vec![event])),
                        }
                    }
                    return Ok(Self { after, upto, by_prefix });
                }
                Err(why) => return Err(why),
            }
        }
    }

    /// What is known of one resource, once.
    pub(super) fn take(&mut self, prefix: &str) -> PastOf {
        let events = self.by_prefix.remove(prefix).unwrap_or_default();
        PastOf { after: self.after, upto: self.upto, events }
    }
}

/// What was written to one resource.
#[derive(Debug)]
pub(super) struct PastOf {
    after: Revision,
    upto: Revision,
    events: Vec<Event>,
}

impl PastOf {
    /// Reads the objects to which it happened.
    pub(super) async fn load(mut self, store: &dyn Backend, cache: &ResourceCache) -> Result<Loaded, Error> {
        loop {
            match self.objects(store, cache).await {
                Err(Error::Compacted { oldest, .. }) => self.forget(oldest),
                objects => {
                    let Self { after, upto, events: since } = self;
                    return Ok(Loaded { objects: objects?, after, since, upto });
                }
            }
        }
    }

    /// The objects as they were before all that happened.
    async fn objects(&self, store: &dyn Backend, cache: &ResourceCache) -> Result<EntryMap, Error> {
        // What the first write of each replaced.
        let mut written: HashMap<&str, Option<Revision>> = HashMap::new();
        for event in &self.events {
            written.entry(&event.key).or_insert(event.previous);
        }
        let mut objects = EntryMap::default();
        read_all(store, cache, Some(self.upto), |mut records| {
            records.retain(|record| !written.contains_key(record.key.as_str()));
            cache.resting(records).for_each(|entry| drop(objects.insert(entry)));
        })
        .await?;
        let replaced = written.iter().filter(|(_, previous)| previous.is_some());
        let former = try_join_all(replaced.map(|(key, _)| store.get(key, Some(self.after)))).await?;
        let former = former.into_iter().flatten().collect();
        cache.resting(former).for_each(|entry| drop(objects.insert(entry)));
        Ok(objects)
    }

    /// What cannot be read any more is not known: the objects are those of `oldest`.
    fn forget(&mut self, oldest: Revision) {
        self.events.retain(|event| event.revision > oldest);
        self.after = self.after.max(oldest);
        self.upto = self.upto.max(oldest);
    }
}

/// All objects of a resource as they are now, of which no past is known.
pub(super) async fn load_now(store: &dyn Backend, cache: &ResourceCache) -> Result<Loaded, Error> {
    loop {
        let mut objects = EntryMap::default();
        let read = read_all(store, cache, None, |records| {
            cache.resting(records).for_each(|entry| drop(objects.insert(entry)));
        });
        match read.await {
            // While they were read: others are there now.
            Err(Error::Compacted { .. }) => {}
            at => {
                let at = at?;
                return Ok(Loaded { objects, after: at, since: Vec::new(), upto: at });
            }
        }
    }
}

/// Reads the objects of a resource at `at` or now, in key order and in parts, so that never all of them are there beside
/// what is made of them; returns their revision.
async fn read_all(
    store: &dyn Backend,
    cache: &ResourceCache,
    at: Option<Revision>,
    mut take: impl FnMut(Vec<Record>),
) -> Result<Revision, Error> {
    let mut range = Range { prefix: cache.store_prefix(None), start: None, limit: PAGE };
    let mut page = store.range(range.clone(), at).await?;
    while page.more {
        range.start = page.records.last().map(|last| format!("{}\0", last.key));
        let next = store.range(range.clone(), Some(page.revision));
        let (next, ()) = futures::join!(next, async { take(page.records) });
        page = next?;
    }
    take(page.records);
    Ok(page.revision)
}

/// The events after `after` up to `upto` at least, the last ones if they are large; and what they are after and up to.
async fn read_events(
    store: &dyn Backend,
    mut after: Revision,
    upto: Revision,
) -> Result<(Revision, Revision, VecDeque<Event>), Error> {
    let size = |event: &Event| event.value.as_ref().map_or(0, |value| value.len());
    let (mut events, mut bytes) = (VecDeque::new(), 0);
    let mut notices = store.watch(ROOT, after);
    let reached = loop {
        match notices.recv().await.ok_or(Error::Closed)?? {
            Notice::Events(more) => {
                bytes += more.iter().map(size).sum::<usize>();
                events.extend(more);
            }
            Notice::Progress(reached) if reached >= upto => break reached,
            Notice::Progress(_) => {}
        }
        while bytes > BYTES {
            let Some(oldest) = events.pop_front() else { break };
            bytes -= size(&oldest);
            after = oldest.revision;
        }
    };
    Ok((after, reached, events))
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Arc;

    use bytes::Bytes;
    use futures::FutureExt as _;
    use parking_lot::Mutex;
    use serde_json::json;
    use store::memory::MemoryStore;
    use store::{BoxFuture, Change, Expect, Page, Write, Written};
    use tokio::sync::mpsc;

    use super::super::testing::Plain;
    use super::super::{Caches, EventKind, Filter, Start, WatchNotice};

    /// A store that is compacted up to a revision just before it is asked the n-th time.
    #[derive(Default)]
    struct Compacting {
        store: MemoryStore,
        /// Which get, range or watch from now, and the revision.
        when: Mutex<Option<(usize, Revision)>>,
        ranges: Mutex<Vec<Option<Revision>>>,
    }

    impl Compacting {
        fn is_asked(&self) {
            let mut when = self.when.lock();
            match when.take() {
                Some((0, before)) => self.store.compact(before).now_or_never().unwrap().unwrap(),
                Some((left, before)) => *when = Some((left - 1, before)),
                None => {}
            }
        }
    }

    impl Backend for Compacting {
        fn current(&self) -> Revision {
            self.store.current()
        }
        fn get(&self, key: &str, at: Option<Revision>) -> BoxFuture<'_, Result<Option<Record>, Error>> {
            self.is_asked();
            self.store.get(key, at)
        }
        fn range(&self, range: Range, at: Option<Revision>) -> BoxFuture<'_, Result<Page, Error>> {
            self.is_asked();
            self.ranges.lock().push(at);
            self.store.range(range, at)
        }
        fn write(&self, write: Write) -> BoxFuture<'_, Result<Written, Error>> {
            self.store.write(write)
        }
        fn watch(&self, prefix: &str, after: Revision) -> mpsc::Receiver<Result<Notice, Error>> {
            self.is_asked();
            self.store.watch(prefix, after)
        }
        fn compact(&self, before: Revision) -> BoxFuture<'_, Result<(), Error>> {
            self.store.compact(before)
        }
    }

    async fn write(store: &dyn Backend, name: &str, change: Change) -> u64 {
        let write = Write { key: format!("{ROOT}core/{name}"), expect: Expect::Anything, change };
        store.write(write).await.unwrap().revision.get()
    }

    /// Writes `core/PLURAL/NAMESPACE/NAME` with a label that tells writes apart.
    async fn put(store: &dyn Backend, at: &str, label: &str) -> u64 {
        let [_, namespace, name] = at.split('/').collect::<Vec<_>>()[..] else { panic!("{at}") };
        let object = json!({"metadata": {"namespace": namespace, "name": name, "labels": {"is": label}}});
        write(store, at, Change::Put(Bytes::from(object.to_string()))).await
    }

    /// What a watch of the resource tells that begins after a revision; None: it has to list anew.
    async fn told(caches: &Caches, plural: &str, after: u64) -> Option<Vec<String>> {
        let cache = caches.add("", plural, Vec::new()).await.unwrap();
        let mut watcher = cache.watch(Filter::default(), Start::After(after))?;
        let mut told = Vec::new();
        loop {
            match watcher.next().now_or_never() {
                None => return Some(told),
                Some(Ok(Some(WatchNotice::Event(kind, event)))) => {
                    let object = event.shown(kind).to_value();
                    let label = object["metadata"]["labels"]["is"].as_str().unwrap().to_owned();
                    told.push(format!("{} {} {label}", event.revision, kind.as_str()));
                    assert_eq!(kind == EventKind::Added, event.old.is_none());
                }
                Some(Ok(Some(_))) => {}
                Some(other) => panic!("{other:?}"),
            }
        }
    }

    async fn names(caches: &Caches, plural: &str) -> Vec<String> {
        let cache = caches.add("", plural, Vec::new()).await.unwrap();
        cache.list(&Filter::default()).entries.iter().map(|entry| entry.key.name.clone()).collect()
    }

    /// Caches of a server that starts now.
    async fn started(store: &Arc<Compacting>) -> Arc<Caches> {
        store.ranges.lock().clear();
        let caches = Caches::new(store.clone(), Arc::new(Plain));
        caches.recall().await.unwrap();
        caches
    }

    /// Things 1 to 4 of which something happens to each; nothing happens to the pods beside them.
    async fn written() -> Arc<Compacting> {
        let store = Arc::new(Compacting::default());
        put(&*store, "things/a/kept", "1").await;
        put(&*store, "things/a/gone", "2").await;
        put(&*store, "pods/a/still", "3").await;
        put(&*store, "things/a/kept", "4").await;
        write(&*store, "things/a/gone", Change::Delete).await;
        put(&*store, "things/a/new", "6").await;
        store
    }

    #[tokio::test]
    async fn watchers_go_on_after_a_restart() {
        let store = written().await;
        let caches = started(&store).await;
        assert_eq!(told(&caches, "things", 6).await.unwrap(), [""; 0]);
        assert_eq!(told(&caches, "things", 4).await.unwrap(), ["5 DELETED 2", "6 ADDED 6"]);
        assert_eq!(told(&caches, "things", 2).await.unwrap(), ["4 MODIFIED 4", "5 DELETED 2", "6 ADDED 6"]);
        assert_eq!(names(&caches, "things").await, ["kept", "new"]);
        assert_eq!(told(&caches, "things", 0).await.unwrap().len(), 5);
    }

    #[tokio::test]
    async fn what_is_too_long_ago_is_not_known() {
        let store = written().await;
        for at in 7..=4 + RESUMED {
            put(&*store, "pods/a/still", &at.to_string()).await;
        }
        let caches = started(&store).await;
        // The first event within reach is the deletion: what it deleted was there before.
        assert_eq!(told(&caches, "things", 3).await, None);
        assert_eq!(told(&caches, "things", 4).await.unwrap(), ["5 DELETED 2", "6 ADDED 6"]);
        assert_eq!(names(&caches, "things").await, ["kept", "new"]);
        assert_eq!(told(&caches, "pods", 4).await.unwrap().len(), usize::try_from(RESUMED).unwrap() - 2);
    }

    #[tokio::test]
    async fn who_was_not_written_to_is_read_as_it_is_and_known_all_the_same() {
        let store = written().await;
        for at in 7..=3 + RESUMED {
            put(&*store, "things/a/kept", &at.to_string()).await;
        }
        let caches = started(&store).await;
        assert_eq!((told(&caches, "pods", 2).await, told(&caches, "pods", 3).await), (None, Some(Vec::new())));
        assert_eq!(names(&caches, "pods").await, ["still"]);
        assert_eq!(*store.ranges.lock(), [Some(store.current())]);
    }

    #[tokio::test]
    async fn what_is_compacted_before_it_is_read_is_not_known() {
        // Before an event and behind all.
        for (asked, oldest) in [(0, 4), (0, 6)] {
            let store = written().await;
            *store.when.lock() = Some((asked, Revision::from_u64(oldest)));
            let caches = started(&store).await;
            assert_eq!(names(&caches, "things").await, ["kept", "new"], "{asked} {oldest}");
            assert_eq!(told(&caches, "things", oldest - 1).await, None, "{asked} {oldest}");
            let after: &[&str] = if oldest == 4 { &["5 DELETED 2", "6 ADDED 6"] } else { &[] };
            assert_eq!(told(&caches, "things", oldest).await.unwrap(), after, "{asked} {oldest}");
        }
    }

    /// The writes are known then, but not what they replaced.
    #[tokio::test]
    async fn what_is_compacted_while_objects_are_read_is_not_known() {
        // Before the objects are read, and before each of what two of them were.
        for asked in 1..=3 {
            let store = written().await;
            for at in 7..=3 + RESUMED {
                put(&*store, "pods/a/still", &at.to_string()).await;
            }
            *store.when.lock() = Some((asked, Revision::from_u64(5)));
            let caches = started(&store).await;
            assert_eq!(names(&caches, "things").await, ["kept", "new"], "{asked}");
            assert_eq!(told(&caches, "things", 4).await, None, "{asked}");
            assert_eq!(told(&caches, "things", 5).await.unwrap(), ["6 ADDED 6"], "{asked}");
            let pods = told(&caches, "pods", 5).await.unwrap();
            assert_eq!(pods.len(), usize::try_from(RESUMED).unwrap() - 3, "{asked}");
        }
    }

    /// More than are read at once, of which some are written, made and deleted, while others go on.
    #[tokio::test]
    async fn objects_are_read_in_parts() {
        let store = Arc::new(Compacting::default());
        let count = 3 * PAGE + 7;
        // The last of them first, so that nothing is known of those in the last part.
        for number in (0..count).rev() {
            put(&*store, &format!("things/a/{number:05}"), "1").await;
        }
        let before = store.current().get();
        for number in (0..count).step_by(PAGE - 1) {
            put(&*store, &format!("things/a/{number:05}"), "2").await;
            write(&*store, &format!("things/a/{:05}", number + 1), Change::Delete).await;
        }
        let all: Vec<String> = (0..count).map(|number| format!("{number:05}")).collect();
        let left: Vec<String> =
            all.iter().enumerate().filter(|(at, _)| at % (PAGE - 1) != 1).map(|it| it.1.clone()).collect();
        let caches = started(&store).await;
        assert_eq!(names(&caches, "things").await, left);
        assert_eq!(store.ranges.lock().len(), 4);
        let told = told(&caches, "things", before).await.unwrap();
        assert_eq!(told.len(), 2 * 4);
        assert!(told[0].contains("MODIFIED") && told[1].ends_with("DELETED 1"), "{told:?}");

        caches.forget_past();
        caches.remove("", "things");
        assert_eq!(names(&caches, "things").await, left, "of which no past is known");
    }

    #[tokio::test]
    async fn large_objects_are_known_for_a_shorter_time() {
        let store = Arc::new(Compacting::default());
        let large = "x".repeat(BYTES / 4);
        for _ in 0..6 {
            put(&*store, "things/a/large", &large).await;
        }
        let Past { after, upto, by_prefix } = Past::read(&*store).await.unwrap();
        assert_eq!((after.get(), upto.get()), (3, 6));
        assert_eq!(by_prefix[&format!("{ROOT}core/things/")].len(), 3);
    }

    #[tokio::test]
    async fn who_is_cached_later_has_no_past() {
        let store = written().await;
        let caches = started(&store).await;
        caches.forget_past();
        assert_eq!(told(&caches, "things", 5).await, None);
        assert_eq!(names(&caches, "things").await, ["kept", "new"]);
    }
}
