//! Which pods nobody else will end.

use k8s_openapi::api::core::v1::Pod;

use crate::common::pods;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    Remove,
    /// Its node is not known: to be removed if the node is really gone.
    Lost,
}

pub(super) fn judge(pod: &Pod, node_known: bool, surplus: bool) -> Verdict {
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|node| !node.is_empty());
    if bound && !node_known {
        return Verdict::Lost;
    }
    // Without a node there is no kubelet to end it.
    let deleted_unbound = !bound && pod.metadata.deletion_timestamp.is_some();
    if deleted_unbound || surplus { Verdict::Remove } else { Verdict::Keep }
}

/// Whether the pod is one of the oldest finished ones beyond `kept`.
pub(super) fn is_surplus(pod: &Pod, finished: &[Pod], kept: usize) -> bool {
    if !pods::is_finished(pod) {
        return false;
    }
    let key = |pod: &Pod| {
        (pod.metadata.creation_timestamp.clone(), pod.metadata.namespace.clone(), pod.metadata.name.clone())
    };
    let younger = finished.iter().filter(|other| key(other) > key(pod)).count();
    younger >= kept
}
