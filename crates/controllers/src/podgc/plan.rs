//! Which pods nobody else will end.

use std::cmp::Reverse;
use std::sync::Arc;

use api::object::Entry;
use client::view::by_node;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Remove,
    /// Its node is not known: to be removed if the node is really gone.
    Lost,
}

/// Every change of every pod is judged, so the pod is not decoded for it.
pub(super) fn judge(pod: &Entry, node_known: bool, surplus: bool) -> Verdict {
    let bound = by_node(pod).iter().any(|node| !node.is_empty());
    if bound && !node_known {
        return Verdict::Lost;
    }
    // Without a node there is no kubelet to end it.
    let deleted_unbound = !bound && pod.relations().deletion_timestamp.is_some();
    if deleted_unbound || surplus { Verdict::Remove } else { Verdict::Keep }
}

/// Files pods that have ended under one value.
pub(super) fn by_end(pod: &Entry) -> Vec<String> {
    let phase = pod.text_at("/status/phase");
    let ended = matches!(phase.as_deref(), Some("Succeeded" | "Failed"));
    ended.then(|| ENDED.to_owned()).into_iter().collect()
}

/// What [`by_end`] files them under.
pub(super) const ENDED: &str = "ended";

/// The oldest of the `ended` pods beyond `kept`.
pub(super) fn surplus(mut ended: Vec<Arc<Entry>>, kept: usize) -> Vec<Arc<Entry>> {
    ended.sort_by_cached_key(|pod| Reverse((pod.text_at("/metadata/creationTimestamp"), pod.key.clone())));
    ended.split_off(kept.min(ended.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, created: u32, phase: &str) -> Arc<Entry> {
        let metadata = json!({"name": name, "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z")});
        let pod = json!({"metadata": metadata, "status": {"phase": phase}});
        Arc::new(Entry::from_value(pod, 1, &[]).unwrap())
    }

    #[test]
    fn the_oldest_beyond_the_kept_are_too_many() {
        let pods = [pod("a", 3, "Failed"), pod("b", 1, "Succeeded"), pod("c", 2, "Failed"), pod("d", 0, "Running")];
        let ended: Vec<_> = pods.into_iter().filter(|pod| !by_end(pod).is_empty()).collect();
        let names = |kept| {
            let surplus = surplus(ended.clone(), kept);
            surplus.iter().map(|pod| pod.key.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(1), ["c", "b"]);
        assert!(names(3).is_empty());
        assert!(names(9).is_empty());
    }
}
