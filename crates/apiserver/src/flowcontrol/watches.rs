//! Who sees a write: the watches that were asked for over a socket, by what they watch.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::request::{RequestInfo, ResourceRequest};

/// Group, resource, namespace and name; the last two are empty for all.
type Watched = (String, String, String, String);

#[derive(Default)]
pub(super) struct Watches(RwLock<HashMap<Watched, u32>>);

/// A watch, while this is there.
pub(crate) struct Watching {
    watches: Arc<Watches>,
    watched: Watched,
}

impl Watches {
    /// Counts a watch. One for the pods of a single node sees so few writes that it is not counted.
    pub(super) fn begin(watches: &Arc<Self>, info: &RequestInfo) -> Option<Watching> {
        let target = info.resource.as_ref().filter(|_| info.verb == "watch")?;
        let node = target.fields.split(',').find_map(|term| term.strip_prefix("spec.nodeName="));
        if target.resource == "pods" && node.is_some_and(|node| !node.trim_start_matches('=').is_empty()) {
            return None;
        }
        let watched = (target.group.clone(), target.resource.clone(), target.namespace.clone(), target.name.clone());
        *watches.0.write().entry(watched.clone()).or_default() += 1;
        Some(Watching { watches: watches.clone(), watched })
    }

    /// How many watch what a write to `target` changes.
    pub(super) fn of(&self, target: &ResourceRequest) -> u32 {
        let watches = self.0.read();
        if watches.is_empty() {
            return 0;
        }
        let count = |namespace: &str, name: &str| {
            let watched = (target.group.clone(), target.resource.clone(), namespace.to_owned(), name.to_owned());
            watches.get(&watched).copied().unwrap_or_default()
        };
        let (namespace, name) = (target.namespace.as_str(), target.name.as_str());
        let here = if namespace.is_empty() { 0 } else { count(namespace, "") };
        let itself = if name.is_empty() { 0 } else { count(namespace, name) };
        count("", "") + here + itself
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watches = self.watches.0.write();
        if let Some(count) = watches.get_mut(&self.watched) {
            *count -= 1;
            if *count == 0 {
                watches.remove(&self.watched);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn watches_are_counted_by_what_they_see() {
        let watches = Arc::new(Watches::default());
        let begin =
            |path: &str, query: &str| Watches::begin(&watches, &RequestInfo::parse(&Method::GET, path, query).unwrap());
        let of = |path: &str| watches.of(&RequestInfo::parse(&Method::PUT, path, "").unwrap().resource.unwrap());
        let all = begin("/api/v1/pods", "watch=1").unwrap();
        let here = begin("/api/v1/namespaces/a/pods", "watch=1").unwrap();
        let one = begin("/api/v1/namespaces/a/pods", "watch=1&fieldSelector=metadata.name%3Dp").unwrap();
        assert!(begin("/api/v1/pods", "watch=1&fieldSelector=spec.nodeName%3Dn").is_none());
        assert!(begin("/api/v1/pods", "").is_none());
        assert_eq!(of("/api/v1/namespaces/a/pods/p"), 3);
        assert_eq!(of("/api/v1/namespaces/a/pods/q"), 2);
        assert_eq!(of("/api/v1/namespaces/b/pods/p"), 1);
        drop((all, here, one));
        assert_eq!(of("/api/v1/namespaces/a/pods/p"), 0);
        assert!(watches.0.read().is_empty());
    }
}
