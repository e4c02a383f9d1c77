//! The Pods of each node, kept up to date by reading the cache's events: what a node may read hangs on its own Pods, and
//! it asks often.

use std::collections::HashMap;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use parking_lot::Mutex;

use crate::cache::{CacheEvent, ResourceCache};

/// Events read at once.
const BATCH: usize = 256;

/// Which Pods are bound to which node.
pub(super) struct BoundPods {
    pub(super) pods: Arc<ResourceCache>,
    /// Where `spec.nodeName` stands among the Pod's selectable fields.
    field: usize,
    index: Mutex<Index>,
}

#[derive(Default)]
struct Index {
    /// The place in the cache's events up to which they are in here; `None` before the first look.
    position: Option<u64>,
    by_node: HashMap<String, HashMap<ObjectKey, Arc<Entry>>>,
}

impl BoundPods {
    pub(super) fn new(pods: Arc<ResourceCache>) -> Self {
        let field = pods.selectable().iter().position(|field| field.label == "spec.nodeName");
        Self { pods, field: field.unwrap_or(usize::MAX), index: Mutex::default() }
    }

    /// The Pods of a node, of one namespace or of all.
    pub(super) fn of(&self, node: &str, namespace: Option<&str>) -> Vec<Arc<Entry>> {
        let mut index = self.index.lock();
        self.catch_up(&mut index);
        let own = index.by_node.get(node).into_iter().flat_map(HashMap::values);
        own.filter(|pod| namespace.is_none_or(|namespace| namespace == pod.key.namespace)).cloned().collect()
    }

    /// Takes in what has happened since the last look.
    fn catch_up(&self, index: &mut Index) {
        loop {
            let events = index.position.and_then(|position| Some((position, self.pods.events_from(position, BATCH)?)));
            let Some((position, events)) = events else {
                let (entries, position) = self.pods.entries_and_end();
                *index = Index { position: Some(position), ..Index::default() };
                entries.iter().for_each(|entry| index.put(self.node(entry), entry));
                return;
            };
            if events.is_empty() {
                return;
            }
            index.position = Some(position + events.len() as u64);
            events.iter().for_each(|event| self.apply(index, event));
        }
    }

    fn apply(&self, index: &mut Index, event: &CacheEvent) {
        if let Some(old) = &event.old {
            index.forget(self.node(old), &old.key);
        }
        if !event.deleted {
            index.put(self.node(&event.object), &event.object);
        }
    }

    fn node<'e>(&self, pod: &'e Entry) -> &'e str {
        pod.fields.get(self.field).unwrap_or_default()
    }
}

impl Index {
    fn put(&mut self, node: &str, pod: &Arc<Entry>) {
        if !node.is_empty() {
            self.by_node.entry(node.to_owned()).or_default().insert(pod.key.clone(), pod.clone());
        }
    }

    fn forget(&mut self, node: &str, pod: &ObjectKey) {
        if let Some(pods) = self.by_node.get_mut(node) {
            pods.remove(pod);
            if pods.is_empty() {
                self.by_node.remove(node);
            }
        }
    }
}
