//! Who a pod's events are about.

use k8s_openapi::api::core::v1::{ObjectReference, Pod};

use super::spec::{self, Role};

/// A pod's container, or with an empty name the pod itself.
pub(crate) fn reference(pod: &Pod, container: &str) -> ObjectReference {
    let spec = spec::spec(pod);
    let list = match spec::find(&spec, container).map(|(role, _)| role) {
        Some(Role::Init | Role::Sidecar) => "initContainers",
        Some(Role::Ephemeral) => "ephemeralContainers",
        _ => "containers",
    };
    let field_path = (!container.is_empty()).then(|| format!("spec.{list}{{{container}}}"));
    ObjectReference { field_path, ..client::events::reference::<Pod>(&pod.metadata) }
}
