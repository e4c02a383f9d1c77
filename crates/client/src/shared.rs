//! The objects of one informer and those who follow them.
//!
//! [`SharedStore`] is the half of an informer that does not care where changes come from: list and watch, or a
//! test. Readers see a change in `get` and `list` no later than in their channel.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use parking_lot::RwLock;
use tokio::sync::mpsc;

use crate::informer::{Change, Informer};

/// How many changes a subscriber may be behind before it is told to look at the list anew.
const SUBSCRIBER_LAG: usize = 1024;

/// A set of objects by key, in key order; the keys live in the entries.
#[derive(Debug, Default, Clone)]
pub struct EntryMap(BTreeSet<ByKey>);

#[derive(Debug, Clone)]
struct ByKey(Arc<Entry>);

impl Borrow<ObjectKey> for ByKey {
    fn borrow(&self) -> &ObjectKey {
        &self.0.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

impl EntryMap {
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Entry>> {
        self.0.get(key).map(|entry| &entry.0)
    }

    /// Returns what was there before.
    pub fn insert(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        self.0.replace(ByKey(entry)).map(|old| old.0)
    }

    pub fn remove(&mut self, key: &ObjectKey) -> Option<Arc<Entry>> {
        self.0.take(key).map(|old| old.0)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.0.iter().map(|entry| &entry.0)
    }

    /// The objects of one namespace, or all, in key order.
    pub fn list(&self, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        match namespace {
            Some(namespace) => self.in_namespace(namespace).cloned().collect(),
            None => self.iter().cloned().collect(),
        }
    }

    /// The objects of one namespace, in key order.
    pub fn in_namespace<'a>(&'a self, namespace: &str) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        self.range(Some(namespace), None)
    }

    /// The objects of one namespace, or all, that come after `after`, in key order.
    pub fn range<'a>(
        &'a self,
        namespace: Option<&str>,
        after: Option<&ObjectKey>,
    ) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        let first = namespace.map(|namespace| ObjectKey::new(namespace, ""));
        // Keys are ordered as NAMESPACE/NAME, and a zero comes after a slash.
        let end = namespace.map(|namespace| ObjectKey::new(format!("{namespace}0"), ""));
        let after = after.filter(|after| first.as_ref().is_none_or(|first| *after > first));
        let begin = match (after, &first) {
            (Some(after), _) => Bound::Excluded(after),
            (None, Some(first)) => Bound::Included(first),
            (None, None) => Bound::Unbounded,
        };
        let end = end.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        // A range that begins behind its end is not one to ask for.
        let some = !matches!((begin, end), (Bound::Excluded(begin), Bound::Excluded(end)) if begin >= end);
        some.then(|| self.0.range::<ObjectKey, _>((begin, end))).into_iter().flatten().map(|entry| &entry.0)
    }
}

impl FromIterator<Arc<Entry>> for EntryMap {
    fn from_iter<I: IntoIterator<Item = Arc<Entry>>>(entries: I) -> Self {
        Self(entries.into_iter().map(ByKey).collect())
    }
}

/// What must be told to someone who knows `old` so that he knows `new`.
pub fn difference(old: &EntryMap, new: &EntryMap) -> Vec<Change> {
    let gone = old.iter().filter(|entry| new.get(&entry.key).is_none()).map(|entry| Change::Deleted(entry.clone()));
    let applied = new.iter().filter_map(|entry| match old.get(&entry.key) {
        Some(known) if known.revision == entry.revision && known.uid == entry.uid => None,
        known => Some(Change::Applied { old: known.cloned(), new: entry.clone() }),
    });
    gone.chain(applied).collect()
}

/// The objects of an informer, and its subscribers.
#[derive(Debug, Default)]
pub struct SharedStore {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: EntryMap,
    synced: bool,
    subscribers: Vec<mpsc::Sender<Change>>,
}

impl SharedStore {
    /// An object was created or changed. Older versions than the one held are ignored.
    pub fn apply(&self, entry: Arc<Entry>) {
        let mut inner = self.inner.write();
        if inner.objects.get(&entry.key).is_some_and(|held| held.revision >= entry.revision) {
            return;
        }
        let old = inner.objects.insert(entry.clone());
        inner.publish(&Change::Applied { old, new: entry });
    }

    /// An object is gone; `last` is its last state.
    pub fn delete(&self, last: Arc<Entry>) {
        let mut inner = self.inner.write();
        if inner.objects.remove(&last.key).is_some() {
            inner.publish(&Change::Deleted(last));
        }
    }

    /// A complete list: what differs from it is published, and the store is synced.
    pub fn replace(&self, objects: EntryMap) {
        let mut inner = self.inner.write();
        let changes = difference(&inner.objects, &objects);
        inner.objects = objects;
        for change in &changes {
            inner.publish(change);
        }
        if !inner.synced {
            inner.synced = true;
            inner.publish(&Change::Synced);
        }
    }

    pub fn len(&self) -> usize {
        self.inner.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Informer for SharedStore {
    fn get(&self, key: &ObjectKey) -> Option<Arc<Entry>> {
        self.inner.read().objects.get(key).cloned()
    }

    fn list(&self, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        self.inner.read().objects.list(namespace)
    }

    fn synced(&self) -> bool {
        self.inner.read().synced
    }

    fn subscribe(&self) -> mpsc::Receiver<Change> {
        let mut inner = self.inner.write();
        let (sender, receiver) = mpsc::channel(inner.objects.len() + SUBSCRIBER_LAG);
        // The channel has room for all of these, so none can fail.
        for entry in inner.objects.iter() {
            let _ = sender.try_send(Change::Applied { old: None, new: entry.clone() });
        }
        if inner.synced {
            let _ = sender.try_send(Change::Synced);
        }
        inner.subscribers.push(sender);
        receiver
    }
}

impl Inner {
    fn publish(&mut self, change: &Change) {
        self.subscribers.retain(|subscriber| offer(subscriber, change));
    }
}

/// Sends `change`, or [`Change::Resync`] into the last free place: a full channel always ends with a resync, so
/// whatever is dropped after it is covered by it. False if the subscriber is gone.
fn offer(subscriber: &mpsc::Sender<Change>, change: &Change) -> bool {
    let sent = match subscriber.capacity() {
        0 => return !subscriber.is_closed(),
        1 => subscriber.try_send(Change::Resync),
        _ => subscriber.try_send(change.clone()),
    };
    !matches!(sent, Err(mpsc::error::TrySendError::Closed(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::entry;

    fn drain(receiver: &mut mpsc::Receiver<Change>) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv().ok()).map(|change| describe(&change)).collect()
    }

    fn describe(change: &Change) -> String {
        match change {
            Change::Applied { old, new } => {
                format!("applied {} {}->{}", new.key, old.as_ref().map_or(0, |old| old.revision), new.revision)
            }
            Change::Deleted(last) => format!("deleted {}", last.key),
            Change::Synced => "synced".to_owned(),
            Change::Resync => "resync".to_owned(),
        }
    }

    #[test]
    fn a_late_subscriber_gets_what_is_there_then_what_happens() {
        let store = SharedStore::default();
        store.replace([entry("a", "x", 1), entry("b", "y", 2)].into_iter().collect());
        let mut changes = store.subscribe();
        store.apply(entry("a", "x", 3));
        store.delete(entry("b", "y", 4));
        assert_eq!(
            drain(&mut changes),
            ["applied a/x 0->1", "applied b/y 0->2", "synced", "applied a/x 1->3", "deleted b/y"]
        );
    }

    #[test]
    fn a_second_list_publishes_only_what_differs() {
        let store = SharedStore::default();
        store.replace([entry("a", "x", 1), entry("a", "y", 2)].into_iter().collect());
        let mut changes = store.subscribe();
        drain(&mut changes);
        store.replace([entry("a", "y", 2), entry("a", "z", 5)].into_iter().collect());
        assert_eq!(drain(&mut changes), ["deleted a/x", "applied a/z 0->5"]);
    }

    #[test]
    fn one_namespace_is_listed_without_its_neighbours() {
        let store = SharedStore::default();
        store.replace([entry("a", "x", 1), entry("ab", "x", 2), entry("a-b", "x", 3)].into_iter().collect());
        let names: Vec<String> = store.list(Some("a")).iter().map(|entry| entry.key.to_string()).collect();
        assert_eq!(names, ["a/x"]);
    }

    #[test]
    fn a_range_goes_on_after_a_key() {
        let keys = [("a", "x"), ("a", "y"), ("a", "z"), ("a-b", "x"), ("a0", "x"), ("ab", "x")];
        let objects: EntryMap = keys.iter().map(|(namespace, name)| entry(namespace, name, 1)).collect();
        let check = |namespace: Option<&str>, after: Option<(&str, &str)>, expected: &[&str]| {
            let after = after.map(|(namespace, name)| ObjectKey::new(namespace, name));
            let range = objects.range(namespace, after.as_ref());
            assert_eq!(range.map(|entry| entry.key.to_string()).collect::<Vec<_>>(), expected);
        };
        check(None, None, &["a-b/x", "a/x", "a/y", "a/z", "a0/x", "ab/x"]);
        check(None, Some(("a", "y")), &["a/z", "a0/x", "ab/x"]);
        check(None, Some(("a", "yy")), &["a/z", "a0/x", "ab/x"]);
        check(Some("a"), None, &["a/x", "a/y", "a/z"]);
        check(Some("a"), Some(("a", "y")), &["a/z"]);
        check(Some("a"), Some(("a", "z")), &[]);
        check(Some("a"), Some(("b", "z")), &[]);
        check(Some("a"), Some(("A", "z")), &["a/x", "a/y", "a/z"]);
        check(Some("none"), None, &[]);
    }

    #[test]
    fn a_slow_subscriber_is_told_to_resync_last() {
        let store = SharedStore::default();
        store.replace(EntryMap::default());
        let mut changes = store.subscribe();
        for revision in 1..3000 {
            store.apply(entry("a", "x", revision));
        }
        let seen = drain(&mut changes);
        assert_eq!(seen.len(), SUBSCRIBER_LAG);
        assert_eq!(seen.last().map(String::as_str), Some("resync"));
        store.apply(entry("a", "x", 3000));
        assert_eq!(drain(&mut changes), ["applied a/x 2999->3000"]);
    }

    #[test]
    fn an_older_version_does_not_replace_a_newer_one() {
        let store = SharedStore::default();
        store.apply(entry("a", "x", 5));
        store.apply(entry("a", "x", 4));
        assert_eq!(store.get(&ObjectKey::new("a", "x")).unwrap().revision, 5);
    }
}
