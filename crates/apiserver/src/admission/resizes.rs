//! `PersistentVolumeClaimResize` and `PodResizeValidator`: what is in use grows only where that can be done.

use std::sync::Arc;

use api::object::ObjectKey;
use api::quantity::Quantity;
use api::quota::storage_class;
use api::quota::sums::{self, Source};
use api::status::{Cause, Status};
use serde_json::Value;
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::ResourceCache;

pub struct ClaimResizes {
    pub classes: Arc<ResourceCache>,
}

pub struct PodResizes {
    pub nodes: Arc<ResourceCache>,
}

impl Plugin for ClaimResizes {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let refusal = match (&request.object, &request.old) {
            (Some(new), Some(old)) if request.is("", "persistentvolumeclaims") => self.refuse(new, old),
            _ => None,
        };
        Box::pin(async move { refusal.map_or(Ok(()), |why| Err(request.forbid(why))) })
    }
}

impl ClaimResizes {
    fn refuse(&self, new: &Value, old: &Value) -> Option<&'static str> {
        let size = |claim: &Value| Quantity::from_json(&claim["spec"]["resources"]["requests"]["storage"]);
        let size = |claim: &Value| size(claim).unwrap_or(Quantity::ZERO);
        if size(new) <= size(old) {
            return None;
        }
        if old["status"]["phase"] != "Bound" {
            return Some("Only bound persistent volume claims can be expanded");
        }
        let class = storage_class(new);
        let allows = |class: &str| {
            let class = self.classes.get(&ObjectKey::new("", class));
            class.is_some_and(|class| class.to_value()["allowVolumeExpansion"] == true)
        };
        if class.is_empty() || class != storage_class(old) || !allows(class) {
            return Some(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                 support resize",
            );
        }
        None
    }
}

impl Plugin for PodResizes {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let resizes = request.operation == Operation::Update
            && request.group.is_empty()
            && request.resource == "pods"
            && request.subresource == "resize";
        let refusal = match (&request.object, &request.old) {
            (Some(new), Some(old)) if resizes => self.refuse(new, old),
            _ => None,
        };
        Box::pin(async move {
            let Some((why, kind)) = refusal else { return Ok(()) };
            let mut status = request.forbid(&why);
            if let Some(reason) = kind {
                let cause = Cause::new(reason, "", "");
                status.details.get_or_insert_default().causes.push(cause);
            }
            Err(status)
        })
    }
}

impl PodResizes {
    /// Why, and which kind of why.
    fn refuse(&self, new: &Value, old: &Value) -> Option<(String, Option<&'static str>)> {
        let node = new["spec"]["nodeName"].as_str().filter(|node| !node.is_empty())?;
        // Only a change of the spec is a new generation.
        if new["metadata"]["generation"] == old["metadata"]["generation"] {
            return None;
        }
        let Some(entry) = self.nodes.get(&ObjectKey::new("", node)) else {
            return Some((format!("node \"{node}\" not found"), None));
        };
        let value = entry.to_value();
        if let Some(os) = value["metadata"]["labels"]["kubernetes.io/os"].as_str().filter(|os| *os != "linux") {
            let why = format!("pod resize is only supported on linux nodes, node \"{node}\" is \"{os}\"");
            return Some((why, Some("UnsupportedPlatform")));
        }
        too_much(new, &value["status"]["allocatable"]).map(|why| (why, Some("NodeCapacity")))
    }
}

/// More than the node could give if it had nothing else to run.
fn too_much(pod: &Value, allocatable: &Value) -> Option<String> {
    let requests = sums::requests(pod, Source::Spec);
    let amounts = |name: &str| {
        let asked = requests.get(name).cloned().unwrap_or(Quantity::ZERO);
        (asked, Quantity::from_json(&allocatable[name]).unwrap_or(Quantity::ZERO))
    };
    let mut over = Vec::new();
    let (asked, has) = amounts("cpu");
    if asked > has {
        over.push(format!("cpu, requested: {}, allocatable: {}", asked.milli_value(), has.milli_value()));
    }
    let (asked, has) = amounts("memory");
    if asked > has {
        over.push(format!("memory, requested: {}, allocatable: {}", asked.value(), has.value()));
    }
    let why = || format!("node didn't have enough allocatable resources: {}", over.join("; "));
    (!over.is_empty()).then(why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_cannot_grow_beyond_its_node() {
        let pod = |cpu: &str, memory: &str| json!({"spec": {"containers": [{"resources": {"requests": {"cpu": cpu, "memory": memory}}}]}});
        let node = json!({"cpu": "2", "memory": "1Ki"});
        assert_eq!(too_much(&pod("2", "1Ki"), &node), None);
        let said = "node didn't have enough allocatable resources: cpu, requested: 2001, allocatable: 2000; \
                    memory, requested: 2048, allocatable: 1024";
        assert_eq!(too_much(&pod("2001m", "2Ki"), &node).as_deref(), Some(said));
    }
}
