//! Static pods: manifests in a folder of the node, and the mirror pods by which the API server shows them.

use k8s_openapi::api::core::v1::Pod;

use crate::names;

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// Whether a pod comes from a manifest of the node.
pub(crate) fn is_static(pod: &Pod) -> bool {
    annotation(pod, names::CONFIG_SOURCE) == Some("file")
}

/// Whether a pod of the API only shows a static pod.
pub(crate) fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, names::CONFIG_MIRROR).is_some()
}
