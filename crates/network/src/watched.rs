//! The objects of one informer, each kept as the little that somebody here needs of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::informer::{Change, Informer, Informers, Scope};
use tokio::sync::mpsc;

/// What `read` makes of each object of an informer.
pub(crate) struct Watched<T> {
    informer: Arc<dyn Informer>,
    changes: mpsc::Receiver<Change>,
    read: fn(&Entry) -> Option<T>,
    items: BTreeMap<ObjectKey, T>,
    synced: bool,
}

impl<T: PartialEq> Watched<T> {
    pub(crate) fn new(informers: &dyn Informers, scope: Scope, read: fn(&Entry) -> Option<T>) -> Self {
        let informer = informers.informer(scope);
        let changes = informer.subscribe();
        Self { informer, changes, read, items: BTreeMap::new(), synced: false }
    }

    /// What was read so far, in key order.
    pub(crate) fn items(&self) -> &BTreeMap<ObjectKey, T> {
        &self.items
    }

    /// Whether all objects have been seen that were there at the start.
    pub(crate) fn synced(&self) -> bool {
        self.synced
    }

    /// Waits for a change, takes in all that have come, and returns whether they changed an item or completed the first
    /// list. May be dropped while it waits.
    pub(crate) async fn changed(&mut self) -> bool {
        let Some(change) = self.changes.recv().await else {
            // An informer ends with the process that holds it; whoever waits here ends with it too.
            return std::future::pending().await;
        };
        let mut changed = self.absorb(&change);
        while let Ok(change) = self.changes.try_recv() {
            changed |= self.absorb(&change);
        }
        changed
    }

    fn absorb(&mut self, change: &Change) -> bool {
        match change {
            Change::Applied { new, .. } => self.put(new),
            Change::Deleted(last) => self.items.remove(&last.key).is_some(),
            Change::Synced => !std::mem::replace(&mut self.synced, true),
            Change::Resync => self.resync(),
        }
    }

    fn put(&mut self, entry: &Entry) -> bool {
        match (self.read)(entry) {
            Some(item) if self.items.get(&entry.key) == Some(&item) => false,
            Some(item) => {
                self.items.insert(entry.key.clone(), item);
                true
            }
            None => self.items.remove(&entry.key).is_some(),
        }
    }

    fn resync(&mut self) -> bool {
        let entries = self.informer.list(None);
        let there: std::collections::BTreeSet<_> = entries.iter().map(|entry| &entry.key).collect();
        let before = self.items.len();
        self.items.retain(|key, _| there.contains(key));
        let gone = before != self.items.len();
        entries.iter().fold(gone, |changed, entry| self.put(entry) | changed)
    }
}
