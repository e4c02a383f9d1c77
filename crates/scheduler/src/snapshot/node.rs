//! A node, and what the pods on it take.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Taint};

use super::pod::PodInfo;
use super::resources::Resources;

/// A node as the scheduler sees it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub name: String,
    /// False while only pods bound to the node are known, and not the node.
    pub known: bool,
    pub spec: NodeSpec,
    /// The sum of what the pods take.
    pub requested: Resources,
    /// The sum of what scoring takes the pods to need.
    pub scored: Resources,
    /// By uid; assumed pods included.
    pub pods: BTreeMap<String, Arc<PodInfo>>,
}

/// What the Node object says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeSpec {
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    /// Sizes of the images on the node, by each of their names.
    pub images: BTreeMap<String, i64>,
}

impl NodeSpec {
    pub fn of(node: &Node) -> Self {
        let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
        let images = status.and_then(|status| status.images.as_ref()).into_iter().flatten();
        let images = images.flat_map(|image| {
            let size = image.size_bytes.unwrap_or_default();
            image.names.iter().flatten().map(move |name| (name.clone(), size))
        });
        Self {
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints: spec.and_then(|spec| spec.taints.clone()).unwrap_or_default(),
            unschedulable: spec.and_then(|spec| spec.unschedulable).unwrap_or_default(),
            allocatable: Resources::of(status.and_then(|status| status.allocatable.as_ref())),
            images: images.collect(),
        }
    }
}

impl NodeInfo {
    pub fn add(&mut self, pod: Arc<PodInfo>) {
        self.remove(&pod.uid);
        self.requested.add(&pod.needs.requests);
        self.scored.add(&pod.needs.scored);
        self.pods.insert(pod.uid.clone(), pod);
    }

    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(uid)?;
        self.requested.subtract(&pod.needs.requests);
        self.scored.subtract(&pod.needs.scored);
        Some(pod)
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.spec.labels.get(key).map(String::as_str)
    }
}
