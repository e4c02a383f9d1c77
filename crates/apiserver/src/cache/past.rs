//! What was written shortly before the server's start: watchers of a server that ended go on where they were.
//!
//! It is read from the store once for all resources. A resource that nobody wrote to in that time, as most, is read as
//! it is now; the others are read as they were then, and what was written is applied to them.

use std::collections::{HashMap, VecDeque};

use store::{Backend, Error, Event, Notice, Page, Range, Revision};

use super::{ROOT, split_prefix};

/// How many revisions before its start a cache knows. Who missed more lists anew.
pub(super) const RESUMED: u64 = 1000;

/// Bytes of objects among them, at most: as much as the ring of one resource holds.
const BYTES: usize = 8 << 20;

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
    pub(super) page: Page,
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
    pub(super) async fn load(mut self, store: &dyn Backend, prefix: &str) -> Result<Loaded, Error> {
        loop {
            // The newest state is the cheapest to read.
            let at = if self.events.is_empty() { self.upto } else { self.after };
            match store.range(whole(prefix), Some(at)).await {
                Err(Error::Compacted { oldest, .. }) => self.forget(oldest),
                page => return Ok(Loaded { page: page?, after: self.after, since: self.events, upto: self.upto }),
            }
        }
    }

    /// What cannot be read any more is not known: the objects are those of `oldest`.
    fn forget(&mut self, oldest: Revision) {
        self.events.retain(|event| event.revision > oldest);
        self.after = self.after.max(oldest);
        self.upto = self.upto.max(oldest);
    }
}

/// All objects of a resource as they are now, of which no past is known.
pub(super) async fn load_now(store: &dyn Backend, prefix: &str) -> Result<Loaded, Error> {
    let page = store.range(whole(prefix), None).await?;
    let at = page.revision;
    Ok(Loaded { page, after: at, since: Vec::new(), upto: at })
}

fn whole(prefix: &str) -> Range {
    Range { prefix: prefix.to_owned(), ..Range::default() }
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
    use store::{BoxFuture, Change, Expect, Record, Write, Written};
    use tokio::sync::mpsc;

    use super::super::testing::Plain;
    use super::super::{Caches, EventKind, Filter, Start, WatchNotice};

    /// A store that is compacted up to a revision just before it is asked the n-th time.
    #[derive(Default)]
    struct Compacting {
        store: MemoryStore,
        /// Which range or watch from now, and the revision.
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
    async fn what_is_compacted_meanwhile_is_not_known() {
        // Before the writes are read, before the objects are, and both before an event and behind all.
        for (asked, oldest) in [(0, 4), (1, 4), (0, 6), (1, 6)] {
            let store = written().await;
            *store.when.lock() = Some((asked, Revision::from_u64(oldest)));
            let caches = started(&store).await;
            assert_eq!(names(&caches, "things").await, ["kept", "new"], "{asked} {oldest}");
            assert_eq!(told(&caches, "things", oldest - 1).await, None, "{asked} {oldest}");
            let after: &[&str] = if oldest == 4 { &["5 DELETED 2", "6 ADDED 6"] } else { &[] };
            assert_eq!(told(&caches, "things", oldest).await.unwrap(), after, "{asked} {oldest}");
        }
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
