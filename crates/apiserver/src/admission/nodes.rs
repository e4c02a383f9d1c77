//! `NodeRestriction`: what a node may write is itself and the Pods that are bound to it (KEP-279).
//!
//! A node's credentials lie on a host that runs other people's programs. Whoever takes them must not get further: not to
//! other nodes, nor to labels, taints or tokens that would bring other workloads or their rights to him.

use std::sync::Arc;

use api::object::ObjectKey;
use api::status::Status;
use serde_json::Value;
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::authz::node::node_of;
use crate::cache::ResourceCache;
use crate::document::Document;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// Labels of Kubernetes's own domains that a kubelet sets.
const OWN_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
];
/// And whole domains in which it may set any.
const OWN_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// A domain by which administrators keep workloads to nodes that they trust.
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";

pub struct NodeRestriction {
    pub pods: Arc<ResourceCache>,
}

impl Plugin for NodeRestriction {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let refusal = node_of(&request.user).and_then(|node| self.refuse(node, request).err());
        Box::pin(async move { refusal.map_or(Ok(()), |why| Err(request.forbid(&why))) })
    }
}

impl NodeRestriction {
    fn refuse(&self, node: &str, request: &Request) -> Result<(), String> {
        match (request.group.as_str(), request.resource.as_str(), request.subresource.as_str()) {
            _ if request.operation == Operation::Connect => Ok(()),
            ("", "pods", "eviction") => self.eviction(node, request),
            ("", "pods", _) => pod(node, request),
            ("", "nodes", _) => itself(node, request),
            ("", "persistentvolumeclaims", "status") => claim(node, request),
            ("", "persistentvolumeclaims", _) => Err("may only update PVC status".to_owned()),
            ("", "serviceaccounts", "token") => self.token(node, request),
            ("coordination.k8s.io", "leases", _) => lease(node, request),
            ("storage.k8s.io", "csinodes", _) if name(request) != node => {
                Err(format!("can only access CSINode with the same name as the requesting node {node}"))
            }
            _ => Ok(()),
        }
    }

    fn eviction(&self, node: &str, request: &Request) -> Result<(), String> {
        let pod = self.pods.get(&ObjectKey::new(request.namespace.as_str(), request.name.as_str()));
        match pod.is_some_and(|pod| is_on(&pod.to_value(), node)) {
            true => Ok(()),
            false => Err(format!("node {node} can only evict pods with spec.nodeName set to itself")),
        }
    }

    /// A token must be bound to a Pod of the node, and end with it.
    fn token(&self, node: &str, request: &Request) -> Result<(), String> {
        let Some(asked) = &request.object else { return Ok(()) };
        let bound = &asked["spec"]["boundObjectRef"];
        let text = |field: &str| bound[field].as_str().unwrap_or_default();
        if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
            return Err("node requested token not bound to a pod".to_owned());
        }
        if text("uid").is_empty() {
            return Err("node requested token with a pod binding without a uid".to_owned());
        }
        let pod = self.pods.get(&ObjectKey::new(request.namespace.as_str(), text("name")));
        match pod.filter(|pod| pod.uid == text("uid")).map(|pod| pod.to_value()) {
            // Whoever binds the token tells that the Pod is not there.
            None => Ok(()),
            Some(pod) if !is_on(&pod, node) => {
                Err("node requested token bound to a pod scheduled on a different node".to_owned())
            }
            Some(pod) => audiences(&pod, &asked["spec"]["audiences"]),
        }
    }
}

/// Only those that a volume of the Pod asks for; without a name, the API server's.
fn audiences(pod: &Value, asked: &Value) -> Result<(), String> {
    let asked: Vec<&str> = asked.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let wanted = match asked[..] {
        [] => "",
        [one] => one,
        _ => return Err("node may only request 0 or 1 audiences".to_owned()),
    };
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    let sources = volumes.flat_map(|volume| volume["projected"]["sources"].as_array().into_iter().flatten());
    let mut tokens = sources.map(|source| &source["serviceAccountToken"]).filter(|token| token.is_object());
    match tokens.any(|token| token["audience"].as_str().unwrap_or_default() == wanted) {
        true => Ok(()),
        false => Err(format!("audience \"{wanted}\" not found in pod spec volume")),
    }
}

fn name(request: &Request) -> &str {
    match (request.name.as_str(), &request.object) {
        ("", Some(object)) => object.name(),
        (name, _) => name,
    }
}

fn is_on(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"] == node
}

fn pod(node: &str, request: &Request) -> Result<(), String> {
    let old = request.old.as_ref().unwrap_or(&Value::Null);
    let new = request.object.as_ref().unwrap_or(&Value::Null);
    match (request.subresource.as_str(), request.operation) {
        ("", Operation::Create) => mirror(node, new),
        ("", Operation::Delete) if is_on(old, node) => Ok(()),
        ("", Operation::Delete) => {
            Err(format!("node \"{node}\" can only delete pods with spec.nodeName set to itself"))
        }
        ("", _) => Err(format!("node \"{node}\" can only create and delete mirror pods")),
        ("status", Operation::Update) if !is_on(old, node) => {
            Err(format!("node \"{node}\" can only update pod status for pods with spec.nodeName set to itself"))
        }
        ("status", Operation::Update) => {
            let claims = |pod: &Value| pod["status"]["resourceClaimStatuses"].clone();
            match (old["metadata"]["labels"] == new["metadata"]["labels"], claims(old) == claims(new)) {
                (true, true) => Ok(()),
                (false, _) => Err(format!("node \"{node}\" cannot update labels through pod status")),
                (_, false) => Err(format!("node \"{node}\" cannot update resource claim statues")),
            }
        }
        (other, _) => Err(format!("unexpected pod subresource \"{other}\", only 'status' and 'eviction' are allowed")),
    }
}

/// A Pod that the node runs by itself, and only shows: it has nothing of the API's.
fn mirror(node: &str, pod: &Value) -> Result<(), String> {
    if !pod["metadata"]["annotations"][MIRROR].is_string() {
        return Err(format!("pod does not have \"{MIRROR}\" annotation, node \"{node}\" can only create mirror pods"));
    }
    if !is_on(pod, node) {
        return Err(format!("node \"{node}\" can only create pods with spec.nodeName set to itself"));
    }
    let owners = pod["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let owned = matches!(owners, [owner] if owner["apiVersion"] == "v1"
        && owner["kind"] == "Node"
        && owner["name"] == node
        && owner["controller"] == true
        && owner["blockOwnerDeletion"] != true);
    if !owned {
        return Err(format!("node \"{node}\" can only create pods with an owner reference set to itself"));
    }
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    if !account.is_empty() || refers(&pod["spec"]) {
        return Err(format!("node \"{node}\" can not create pods that reference other API objects"));
    }
    Ok(())
}

/// Whether a Pod's spec names Secrets, ConfigMaps, claims or tokens.
fn refers(spec: &Value) -> bool {
    const FIELDS: [&str; 11] = [
        "secret",
        "secretRef",
        "secretKeyRef",
        "configMap",
        "configMapRef",
        "configMapKeyRef",
        "imagePullSecrets",
        "persistentVolumeClaim",
        "serviceAccountToken",
        "nodePublishSecretRef",
        "resourceClaims",
    ];
    match spec {
        Value::Array(items) => items.iter().any(refers),
        Value::Object(map) => map.iter().any(|(field, value)| FIELDS.contains(&field.as_str()) || refers(value)),
        _ => false,
    }
}

fn itself(node: &str, request: &Request) -> Result<(), String> {
    let asked = name(request);
    if asked != node {
        return Err(format!("node \"{node}\" is not allowed to modify node \"{asked}\""));
    }
    let none = Value::Null;
    let (old, new) = match (request.operation, &request.old, &request.object) {
        (Operation::Create, _, Some(new)) => (&none, new),
        (Operation::Update, Some(old), Some(new)) => (old, new),
        _ => return Ok(()),
    };
    let forbidden = forbidden_labels(&old["metadata"]["labels"], &new["metadata"]["labels"]);
    if request.operation == Operation::Create {
        return match forbidden.is_empty() {
            true => Ok(()),
            false => {
                Err(format!("node \"{node}\" is not allowed to set the following labels: {}", forbidden.join(", ")))
            }
        };
    }
    if old["spec"]["taints"] != new["spec"]["taints"] {
        return Err(format!("node \"{node}\" is not allowed to modify taints"));
    }
    if old["metadata"]["ownerReferences"] != new["metadata"]["ownerReferences"] {
        return Err(format!("node \"{node}\" is not allowed to modify ownerReferences"));
    }
    match forbidden.is_empty() {
        true => Ok(()),
        false => Err(format!("is not allowed to modify labels: {}", forbidden.join(", "))),
    }
}

/// Labels that differ and that a node has no say in, in order.
fn forbidden_labels(old: &Value, new: &Value) -> Vec<String> {
    let keys = |labels: &Value| labels.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    let (mut all, more): (Vec<String>, Vec<String>) = (keys(old), keys(new));
    all.extend(more);
    all.sort();
    all.dedup();
    all.retain(|key| old[key] != new[key] && is_forbidden(key));
    all
}

fn is_forbidden(label: &str) -> bool {
    let Some((domain, _)) = label.split_once('/') else { return false };
    let within = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    if within(RESTRICTED_DOMAIN) {
        return true;
    }
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    kubernetes && !OWN_LABELS.contains(&label) && !OWN_DOMAINS.iter().any(|own| within(own))
}

fn claim(node: &str, request: &Request) -> Result<(), String> {
    let (Some(old), Some(new)) = (&request.old, &request.object) else { return Ok(()) };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for (parent, fields) in [
            ("metadata", &["resourceVersion", "managedFields"][..]),
            ("status", &["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"]),
        ] {
            let Some(map) = claim[parent].as_object_mut() else { continue };
            map.retain(|field, _| !fields.contains(&field.as_str()));
        }
        claim
    };
    match rest(old) == rest(new) {
        true => Ok(()),
        false => Err(format!(
            "node \"{node}\" is not allowed to update fields other than status.quantity and status.conditions"
        )),
    }
}

fn lease(node: &str, request: &Request) -> Result<(), String> {
    if request.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" system namespace".to_owned());
    }
    match name(request) == node {
        true => Ok(()),
        false => Err(format!("can only access node lease with the same name as the requesting node {node}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn labels_that_steer_workloads_are_not_a_nodes_to_set() {
        for allowed in
            ["tier", "example.com/a", "kubernetes.io/hostname", "kubelet.kubernetes.io/x", "a.node.kubernetes.io/y"]
        {
            assert!(!is_forbidden(allowed), "{allowed}");
        }
        for forbidden in [
            "node-role.kubernetes.io/control-plane",
            "node-restriction.kubernetes.io/a",
            "x.node-restriction.kubernetes.io/a",
            "kubernetes.io/a",
            "app.k8s.io/b",
        ] {
            assert!(is_forbidden(forbidden), "{forbidden}");
        }
        let old = json!({"kubernetes.io/a": "1", "kubernetes.io/b": "1", "c": "1"});
        let new = json!({"kubernetes.io/a": "1", "kubernetes.io/d": "1"});
        assert_eq!(forbidden_labels(&old, &new), ["kubernetes.io/b", "kubernetes.io/d"]);
    }

    #[test]
    fn a_mirror_pod_has_nothing_of_the_apis() {
        let good = json!({
            "metadata": {
                "annotations": {MIRROR: "x"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "controller": true}],
            },
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "env": [{"name": "A", "value": "b"}]}]},
        });
        assert_eq!(mirror("n1", &good), Ok(()));
        assert!(mirror("n2", &good).is_err());
        let but = |pointer: &str, value: Value| {
            let mut pod = good.clone();
            *pod.pointer_mut(pointer).unwrap() = value;
            mirror("n1", &pod)
        };
        assert!(but("/metadata/annotations", json!({})).is_err());
        assert!(but("/metadata/ownerReferences", json!([])).is_err());
        let from_secret = json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
        assert!(but("/spec/containers/0/env", from_secret).unwrap_err().contains("reference"));
    }

    #[test]
    fn tokens_are_for_the_audiences_that_the_pod_asks_for() {
        let pod = json!({"spec": {"volumes": [{"projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}}, {"serviceAccountToken": {"audience": "vault", "path": "v"}},
        ]}}]}});
        for good in [json!(null), json!([]), json!(["vault"])] {
            assert_eq!(audiences(&pod, &good), Ok(()), "{good}");
        }
        for bad in [json!(["other"]), json!(["vault", "other"])] {
            assert!(audiences(&pod, &bad).is_err(), "{bad}");
        }
    }
}
