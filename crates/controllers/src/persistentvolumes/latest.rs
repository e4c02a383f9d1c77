//! A view, with what this controller has written since: a claim that was given a volume a moment ago must not be given
//! another because the news is still on its way.

use std::collections::HashMap;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::informer::Informer as _;
use client::view::View;
use parking_lot::Mutex;
use serde_json::Value;

pub(super) struct Latest {
    view: Arc<View>,
    written: Mutex<HashMap<ObjectKey, Arc<Entry>>>,
}

impl Latest {
    pub(super) fn new(view: Arc<View>) -> Self {
        Self { view, written: Mutex::default() }
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<Arc<Entry>> {
        match self.view.get(key) {
            Some(seen) => Some(self.newer(seen)),
            None => {
                self.written.lock().remove(key);
                None
            }
        }
    }

    /// What the view's index files under `place`. An object that was written since may belong elsewhere by now.
    pub(super) fn find(&self, place: &str) -> Vec<Arc<Entry>> {
        self.view.find(0, place).into_iter().map(|seen| self.newer(seen)).collect()
    }

    /// Notes what the server answered to a write.
    pub(super) fn wrote(&self, object: Value) {
        let revision = object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
        if let Some(revision) = revision
            && let Ok(entry) = Entry::from_value(object, revision, &[])
        {
            self.written.lock().insert(entry.key.clone(), Arc::new(entry));
        }
    }

    fn newer(&self, seen: Arc<Entry>) -> Arc<Entry> {
        let mut written = self.written.lock();
        match written.get(&seen.key) {
            Some(own) if own.revision > seen.revision && own.uid == seen.uid => own.clone(),
            Some(_) => {
                written.remove(&seen.key);
                seen
            }
            None => seen,
        }
    }
}
