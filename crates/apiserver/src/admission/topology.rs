//! `PodTopologyLabels`: a Pod carries the zone and region of the node that it runs on (KEP-4742).

use std::sync::Arc;

use api::object::{Labels, ObjectKey};
use api::status::Status;
use serde_json::Value;
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::ResourceCache;

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub struct PodTopology {
    pub nodes: Arc<ResourceCache>,
}

impl Plugin for PodTopology {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        let is_pod = request.operation == Operation::Create && request.group.is_empty() && request.resource == "pods";
        if is_pod && let Some(object) = &mut request.object {
            let node = match request.subresource.as_str() {
                "" => object["spec"]["nodeName"].as_str(),
                "binding" if object["target"]["kind"] == "Node" => object["target"]["name"].as_str(),
                _ => None,
            };
            let node = node.filter(|name| !name.is_empty()).and_then(|name| self.nodes.get(&ObjectKey::new("", name)));
            if let Some(node) = node {
                label(object, &node.labels);
            }
        }
        Box::pin(async { Ok(()) })
    }
}

/// Copies the node's place, over whatever the Pod says of itself.
fn label(object: &mut Value, node: &Labels) {
    for key in LABELS {
        if let Some(value) = node.get(key) {
            object["metadata"]["labels"][key] = value.into();
        }
    }
}
