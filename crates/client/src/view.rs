//! What one component has seen of an informer, with indexes.
//!
//! The informer itself may be ahead of the changes that a component has handled. A [`View`] moves only with them, so
//! that whoever was woken by a change finds exactly that change, and its indexes never disagree with its objects.

use std::collections::HashMap;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
pub use api::object::{Owner, Relations};
use parking_lot::RwLock;
use tokio::sync::mpsc;

use crate::informer::{Change, Informer, Informers, Scope};
use crate::shared::{EntryMap, difference};

/// The values under which an object is found in an index.
pub type IndexFn = fn(&Entry) -> Vec<String>;

/// A component's own picture of an informer's objects. It advances by [`View::absorb`] only.
pub struct View {
    informer: Arc<dyn Informer>,
    indexers: Vec<IndexFn>,
    seen: RwLock<Seen>,
}

#[derive(Default)]
struct Seen {
    objects: EntryMap,
    revision: u64,
    synced: bool,
    indexes: Vec<HashMap<String, EntryMap>>,
}

impl View {
    pub fn new(informers: &dyn Informers, scope: Scope) -> Self {
        Self { informer: informers.informer(scope), indexers: Vec::new(), seen: RwLock::default() }
    }

    /// Adds an index; its number is how many were added before it.
    pub fn index(mut self, index: IndexFn) -> Self {
        self.indexers.push(index);
        self.seen.get_mut().indexes.push(HashMap::new());
        self
    }

    /// The objects that index number `index` files under `value`, in key order.
    pub fn find(&self, index: usize, value: &str) -> Vec<Arc<Entry>> {
        let seen = self.seen.read();
        seen.indexes[index].get(value).map(|found| found.list(None)).unwrap_or_default()
    }

    /// The highest revision among the changes seen.
    pub fn revision(&self) -> u64 {
        self.seen.read().revision
    }

    pub fn len(&self) -> usize {
        self.seen.read().objects.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in a change of the informer. Returns the changes that it amounts to: itself, or after a
    /// [`Change::Resync`] whatever was missed.
    pub fn absorb(&self, change: Change) -> Vec<Change> {
        let changes = match change {
            Change::Resync => difference(&self.seen.read().objects, &self.informer.list(None).into_iter().collect()),
            change => vec![change],
        };
        let mut seen = self.seen.write();
        for change in &changes {
            seen.take(change, &self.indexers);
        }
        changes
    }
}

impl Seen {
    fn take(&mut self, change: &Change, indexers: &[IndexFn]) {
        match change {
            Change::Applied { new, .. } => {
                self.revision = self.revision.max(new.revision);
                let old = self.objects.insert(new.clone());
                self.unfile(old.as_ref(), indexers);
                for (index, values) in self.indexes.iter_mut().zip(indexers) {
                    for value in values(new) {
                        index.entry(value).or_default().insert(new.clone());
                    }
                }
            }
            Change::Deleted(last) => {
                self.revision = self.revision.max(last.revision);
                let old = self.objects.remove(&last.key);
                self.unfile(old.as_ref(), indexers);
            }
            Change::Synced => self.synced = true,
            Change::Resync => {}
        }
    }

    fn unfile(&mut self, old: Option<&Arc<Entry>>, indexers: &[IndexFn]) {
        let Some(old) = old else { return };
        for (index, values) in self.indexes.iter_mut().zip(indexers) {
            for value in values(old) {
                if let Some(found) = index.get_mut(&value) {
                    found.remove(&old.key);
                    if found.is_empty() {
                        index.remove(&value);
                    }
                }
            }
        }
    }
}

impl Informer for View {
    fn get(&self, key: &ObjectKey) -> Option<Arc<Entry>> {
        self.seen.read().objects.get(key).cloned()
    }

    fn list(&self, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        self.seen.read().objects.list(namespace)
    }

    fn synced(&self) -> bool {
        self.seen.read().synced
    }

    fn subscribe(&self) -> mpsc::Receiver<Change> {
        self.informer.subscribe()
    }
}

/// Files objects under the uid of their controller, and those without one under `""`.
pub fn by_controller_uid(entry: &Entry) -> Vec<String> {
    vec![Relations::of(entry).controller().map(|owner| owner.uid.clone()).unwrap_or_default()]
}

/// Files objects under their namespace.
pub fn by_namespace(entry: &Entry) -> Vec<String> {
    vec![entry.key.namespace.clone()]
}

/// Files objects under the value of a field, for index functions that name its JSON pointer.
pub fn by_field(entry: &Entry, pointer: &str) -> Vec<String> {
    entry.text_at(pointer).into_iter().collect()
}

/// Files pods under the node that they are bound to.
pub fn by_node(entry: &Entry) -> Vec<String> {
    by_field(entry, "/spec/nodeName")
}
