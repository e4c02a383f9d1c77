//! What was read from objects, kept as long as they do not change: who looks at all of them for a change of one would
//! otherwise read them all again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use parking_lot::Mutex;
use serde_json::Value;

/// One reading of each object, by its key.
pub(crate) struct Readings<T> {
    read: fn(&Value) -> T,
    /// With the revision that was read.
    kept: Mutex<HashMap<ObjectKey, (u64, Arc<T>)>>,
}

impl<T> Readings<T> {
    pub(crate) fn new(read: fn(&Value) -> T) -> Self {
        Self { read, kept: Mutex::default() }
    }

    pub(crate) fn of(&self, entry: &Entry) -> Arc<T> {
        if let Some((_, kept)) = self.kept.lock().get(&entry.key).filter(|(revision, _)| *revision == entry.revision) {
            return kept.clone();
        }
        let fresh = Arc::new((self.read)(&entry.to_value()));
        self.kept.lock().insert(entry.key.clone(), (entry.revision, fresh.clone()));
        fresh
    }

    /// Those of all objects there are; what was kept of others goes.
    pub(crate) fn of_all(&self, entries: &[Arc<Entry>]) -> Vec<Arc<T>> {
        let all = entries.iter().map(|entry| self.of(entry)).collect();
        let known: HashSet<&ObjectKey> = entries.iter().map(|entry| &entry.key).collect();
        self.kept.lock().retain(|key, _| known.contains(key));
        all
    }

    pub(crate) fn forget(&self, key: &ObjectKey) {
        self.kept.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;

    static READ: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn an_object_is_read_once_for_each_of_its_states() {
        let readings = Readings::new(|object| {
            READ.fetch_add(1, Ordering::Relaxed);
            object["a"].as_i64().unwrap()
        });
        let entry = |name: &str, a: i64, revision| {
            let object = json!({"metadata": {"name": name, "uid": "u"}, "a": a});
            Arc::new(Entry::from_value(object, revision, &[]).unwrap())
        };
        let (one, two) = (entry("one", 1, 5), entry("two", 2, 6));
        for _ in 0..2 {
            assert_eq!(readings.of_all(&[one.clone(), two.clone()]).iter().map(|it| **it).sum::<i64>(), 3);
        }
        assert_eq!(READ.load(Ordering::Relaxed), 2);
        assert_eq!(*readings.of(&entry("one", 7, 8)), 7);
        assert_eq!(READ.load(Ordering::Relaxed), 3);
        readings.of_all(&[two]);
        assert_eq!(readings.kept.lock().len(), 1);
    }
}
