//! What the scheduler knows of the cluster: nodes with the pods on them, and the objects that bear on placement.
//!
//! It moves with the informers' changes, one at a time. A pod that was given a node is assumed to be on it
//! until its binding has been seen, so that the next pod finds its room taken.

mod node;
mod pod;
mod resources;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::object::{Labels, ObjectKey};
use api::selector::label::LabelSelector;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;

pub use node::{NodeInfo, NodeSpec};
pub use pod::{Disk, HostPort, Needs, PodInfo, Spread, Term};
pub use resources::Resources;

pub(crate) use pod::selector;

/// The cluster. Cloning shares the nodes.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: BTreeMap<String, Arc<NodeInfo>>,
    /// Where each pod is counted, by uid.
    placed: HashMap<String, Place>,
    /// Pods that wait for the victims of their preemption to leave, by uid.
    nominated: BTreeMap<String, (String, Arc<PodInfo>)>,
    /// Labels of namespaces.
    pub namespaces: BTreeMap<String, Labels>,
    /// Selectors of Services.
    pub services: BTreeMap<ObjectKey, BTreeMap<String, String>>,
    /// Selectors of controllers, by kind.
    pub controllers: BTreeMap<(String, ObjectKey), LabelSelector>,
    pub claims: BTreeMap<ObjectKey, PersistentVolumeClaim>,
    pub volumes: BTreeMap<String, PersistentVolume>,
    pub classes: BTreeMap<String, StorageClass>,
    pub budgets: BTreeMap<ObjectKey, PodDisruptionBudget>,
}

#[derive(Clone, Debug)]
struct Place {
    node: String,
    assumed: bool,
}

impl Snapshot {
    /// The nodes that exist, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeInfo>> {
        self.nodes.values().filter(|node| node.known)
    }

    pub fn node(&self, name: &str) -> Option<&Arc<NodeInfo>> {
        self.nodes.get(name).filter(|node| node.known)
    }

    /// Takes in a node; answers with what it said before.
    pub fn set_node(&mut self, name: &str, spec: NodeSpec) -> Option<NodeSpec> {
        let node = self.node_mut(name);
        let before = std::mem::replace(&mut node.spec, spec);
        std::mem::replace(&mut node.known, true).then_some(before)
    }

    /// The node is gone; its pods stay counted until they are gone too.
    pub fn remove_node(&mut self, name: &str) {
        self.node_mut(name).known = false;
        self.drop_if_empty(name);
    }

    /// Takes in a pod as the cluster has it. One without a node is counted only while it is assumed to have one.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) {
        match &pod.node {
            Some(_) if pod.finished => self.remove_pod(&pod.uid),
            Some(node) => {
                let node = node.clone();
                self.place(&node, pod, false);
            }
            None => {}
        }
    }

    /// The pod as it is counted on its node, if it is.
    pub fn placed(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.nodes.get(&self.placed.get(uid)?.node)?.pods.get(uid)
    }

    /// Counts the pod on the node until its binding is seen or it is forgotten.
    pub fn assume(&mut self, pod: Arc<PodInfo>, node: &str) {
        self.place(node, pod, true);
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.placed.get(uid).is_some_and(|place| place.assumed)
    }

    /// The binding failed: the assumed pod's room is free again. A pod seen bound meanwhile stays.
    pub fn forget(&mut self, uid: &str) {
        if self.is_assumed(uid) {
            self.remove_pod(uid);
        }
    }

    /// The volume is the claim's until that has been seen or undone: the next pod must not get it.
    pub fn reserve_volume(&mut self, volume: &str, claim: &ObjectKey) {
        let uid = self.claims.get(claim).and_then(|claim| claim.metadata.uid.clone());
        if let Some(spec) = self.volumes.get_mut(volume).and_then(|volume| volume.spec.as_mut()) {
            let (namespace, name) = (Some(claim.namespace.clone()), Some(claim.name.clone()));
            spec.claim_ref = Some(ObjectReference { namespace, name, uid, ..ObjectReference::default() });
        }
    }

    pub fn remove_pod(&mut self, uid: &str) {
        self.nominated.remove(uid);
        if let Some(place) = self.placed.remove(uid) {
            self.node_mut(&place.node).remove(uid);
            self.drop_if_empty(&place.node);
        }
    }

    /// Notes, or with `None` forgets, the node on which room is being made for the pod.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: Option<String>) {
        match node {
            Some(node) => self.nominated.insert(pod.uid.clone(), (node, pod.clone())),
            None => self.nominated.remove(&pod.uid),
        };
    }

    pub fn nominated_node(&self, uid: &str) -> Option<&str> {
        self.nominated.get(uid).map(|(node, _)| node.as_str())
    }

    /// Pods other than `pod` for which room is being made on the node.
    pub fn nominated_to<'a>(&'a self, node: &'a str, pod: &'a PodInfo) -> impl Iterator<Item = &'a Arc<PodInfo>> {
        let others = self.nominated.values().filter(move |(place, other)| place == node && other.uid != pod.uid);
        others.map(|(_, other)| other)
    }

    /// Whether the namespace's labels match; an unknown namespace has none.
    pub fn namespace_matches(&self, namespace: &str, selector: &LabelSelector) -> bool {
        let none = Labels::default();
        selector.matches(self.namespaces.get(namespace).unwrap_or(&none))
    }

    fn place(&mut self, node: &str, pod: Arc<PodInfo>, assumed: bool) {
        if self.placed.get(&pod.uid).is_some_and(|place| place.node != node) {
            self.remove_pod(&pod.uid);
        }
        self.nominated.remove(&pod.uid);
        self.placed.insert(pod.uid.clone(), Place { node: node.to_owned(), assumed });
        self.node_mut(node).add(pod);
    }

    fn node_mut(&mut self, name: &str) -> &mut NodeInfo {
        let node = self.nodes.entry(name.to_owned());
        let node = node.or_insert_with(|| Arc::new(NodeInfo { name: name.to_owned(), ..NodeInfo::default() }));
        Arc::make_mut(node)
    }

    fn drop_if_empty(&mut self, name: &str) {
        if self.nodes.get(name).is_some_and(|node| !node.known && node.pods.is_empty()) {
            self.nodes.remove(name);
        }
    }
}
