//! `NodeDeclaredFeatureValidator`: a change of a Pod that only some kubelets can carry out is taken only where the Pod's
//! node says that it can (KEP-5328).

use std::sync::Arc;

use api::object::ObjectKey;
use api::status::Status;
use serde_json::Value;
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::ResourceCache;

/// Whether a change of a Pod, from what it was, needs the feature.
type Needs = fn(&Value, &Value) -> bool;

/// The features that changes can need, by name, in upstream's order (`k8s.io/component-helpers/nodedeclaredfeatures`).
const FEATURES: [(&str, Needs); 2] = [
    ("InPlacePodLevelResourcesVerticalScaling", resizes_pod),
    ("InPlacePodVerticalScalingInitContainers", resizes_initial),
];

pub struct DeclaredFeatures {
    pub nodes: Arc<ResourceCache>,
}

impl Plugin for DeclaredFeatures {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let concerned = request.operation == Operation::Update
            && request.group.is_empty()
            && request.resource == "pods"
            && matches!(request.subresource.as_str(), "" | "resize");
        let refusal = match (&request.object, &request.old) {
            (Some(new), Some(old)) if concerned => self.refuse(new, old),
            _ => None,
        };
        Box::pin(async move { refusal.map_or(Ok(()), |why| Err(request.forbid(&why))) })
    }
}

impl DeclaredFeatures {
    fn refuse(&self, new: &Value, old: &Value) -> Option<String> {
        let name = new["spec"]["nodeName"].as_str().filter(|name| !name.is_empty())?;
        // Only a change of the spec is a new generation.
        if new["metadata"]["generation"] == old["metadata"]["generation"] {
            return None;
        }
        let needed = needed(old, new);
        if needed.is_empty() {
            return None;
        }
        let Some(node) = self.nodes.get(&ObjectKey::new("", name)) else {
            return Some(format!("node \"{name}\" not found"));
        };
        lacking(&needed, &node.to_value())
            .map(|lacking| format!("pod update requires features {lacking} which are not available on node \"{name}\""))
    }
}

fn needed(old: &Value, new: &Value) -> Vec<&'static str> {
    FEATURES.into_iter().filter(|(_, needs)| needs(old, new)).map(|(name, _)| name).collect()
}

/// Those that the node does not declare.
fn lacking(needed: &[&str], node: &Value) -> Option<String> {
    let declared = node["status"]["declaredFeatures"].as_array().map_or(&[][..], Vec::as_slice);
    let lacking: Vec<&str> =
        needed.iter().copied().filter(|name| !declared.iter().any(|declared| declared == name)).collect();
    (!lacking.is_empty()).then(|| lacking.join(", "))
}

fn resizes_pod(old: &Value, new: &Value) -> bool {
    old["spec"]["resources"] != new["spec"]["resources"]
}

/// The resources of a container that runs before others, and ends.
fn resizes_initial(old: &Value, new: &Value) -> bool {
    let containers = |pod: &Value| pod["spec"]["initContainers"].as_array().cloned().unwrap_or_default();
    let said = |container: &Value| container["resources"].as_object().cloned().unwrap_or_default();
    containers(old)
        .iter()
        .zip(&containers(new))
        .any(|(old, new)| old["restartPolicy"] != "Always" && said(old) != said(new))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(pod_level: &str, sidecar: &str, initial: &str) -> Value {
        let resources = |cpu: &str| match cpu {
            "" => json!({}),
            cpu => json!({"requests": {"cpu": cpu}}),
        };
        let mut pod = json!({"spec": {"initContainers": [
            {"name": "side", "restartPolicy": "Always", "resources": resources(sidecar)},
            {"name": "first", "resources": resources(initial)},
        ]}});
        if !pod_level.is_empty() {
            pod["spec"]["resources"] = resources(pod_level);
        }
        pod
    }

    #[test]
    fn only_some_changes_need_what_a_node_must_declare() {
        let (whole, initial) = (FEATURES[0].0, FEATURES[1].0);
        let old = pod("1", "1", "1");
        assert_eq!(needed(&old, &old), [""; 0]);
        assert_eq!(needed(&old, &pod("1", "2", "1")), [""; 0]);
        assert_eq!(needed(&old, &pod("2", "1", "1")), [whole]);
        assert_eq!(needed(&pod("", "1", "1"), &old), [whole]);
        assert_eq!(needed(&old, &pod("1", "1", "2")), [initial]);
        assert_eq!(needed(&old, &pod("2", "1", "")), [whole, initial]);
    }

    #[test]
    fn what_a_node_lacks_is_named() {
        let needed = [FEATURES[0].0, FEATURES[1].0];
        assert_eq!(lacking(&needed, &json!({"status": {}})), Some(needed.join(", ")));
        let some = json!({"status": {"declaredFeatures": ["Another", needed[0]]}});
        assert_eq!(lacking(&needed, &some).as_deref(), Some(needed[1]));
        assert_eq!(lacking(&needed, &json!({"status": {"declaredFeatures": needed}})), None);
    }
}
