//! `NodeRestriction`: what a node may write is itself and the Pods that are bound to it (KEP-279).
//!
//! A node's credentials lie on a host that runs other people's programs. Whoever takes them must not get further: not to
//! other nodes, nor to labels, taints or tokens that would bring other workloads or their rights to him.

use std::sync::{Arc, Weak};

use api::object::{Entry, ObjectKey};
use api::resources::core::pods::references;
use api::status::{Status, Subject};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use store::BoxFuture;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

use super::{Operation, Plugin, Request};
use crate::authz::Attributes;
use crate::authz::node::node_of;
use crate::cache::ResourceCache;
use crate::document::Document;
use crate::server::ApiServer;

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
/// Signers of certificates that are for nodes.
const NODE_SIGNERS: [&str; 2] = ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];
/// The verb of the right to tokens for audiences that a Pod does not ask for.
const AUDIENCES: &str = "request-serviceaccounts-token-audience";

/// Sees what a node's writes refer to.
pub struct NodeRestriction {
    /// Whose authorizer is asked about audiences.
    pub(crate) server: Weak<ApiServer>,
    pub(crate) pods: Arc<ResourceCache>,
    pub(crate) nodes: Arc<ResourceCache>,
    pub(crate) claims: Arc<ResourceCache>,
    pub(crate) volumes: Arc<ResourceCache>,
    pub(crate) drivers: Arc<ResourceCache>,
}

/// Why a node may not.
#[derive(Debug, PartialEq)]
enum Refusal {
    Forbidden(String),
    /// What the write is about is not there: a resource and a name.
    Missing(&'static str, String),
    /// As the first, for those who do not have this right.
    Without(Box<Attributes>, String),
}

type Verdict = Result<(), Refusal>;

fn no(why: impl Into<String>) -> Verdict {
    Err(Refusal::Forbidden(why.into()))
}

impl Plugin for NodeRestriction {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        let refusal = node_of(&request.user).and_then(|node| self.judge(node, request).err());
        Box::pin(async move {
            match refusal {
                None => Ok(()),
                Some(Refusal::Forbidden(why)) => Err(request.forbid(&why)),
                Some(Refusal::Without(right, why)) => match self.server.upgrade() {
                    Some(server) if server.authorizer.authorize(&right).await.allowed => Ok(()),
                    _ => Err(request.forbid(&why)),
                },
                Some(Refusal::Missing(resource, name)) => {
                    Err(Status::not_found(Subject { group: "", resource }, &name))
                }
            }
        })
    }
}

impl NodeRestriction {
    fn judge(&self, node: &str, request: &Request) -> Verdict {
        match (request.group.as_str(), request.resource.as_str(), request.subresource.as_str()) {
            ("", "pods", "") => self.pod(node, request),
            ("", "pods", "status") => pod_status(node, request),
            ("", "pods", "eviction") => self.eviction(node, request),
            ("", "pods", other) => {
                no(format!("unexpected pod subresource \"{other}\", only 'status' and 'eviction' are allowed"))
            }
            ("", "nodes", _) => itself(node, request),
            ("", "persistentvolumeclaims", "status") => claim(node, request),
            ("", "persistentvolumeclaims", _) => no("may only update PVC status"),
            ("", "serviceaccounts", "token") if request.operation == Operation::Create => self.token(node, request),
            ("coordination.k8s.io", "leases", _) => lease(node, request),
            ("storage.k8s.io", "csinodes", _) if name(request) != node => {
                no("can only access CSINode with the same name as the requesting node")
            }
            ("resource.k8s.io", "resourceslices", _) => slice(node, request),
            ("certificates.k8s.io", "certificatesigningrequests", _) => signing_request(node, request),
            _ => Ok(()),
        }
    }

    fn find_pod(&self, namespace: &str, name: &str) -> Result<Arc<Entry>, Refusal> {
        self.pods.get(&ObjectKey::new(namespace, name)).ok_or_else(|| Refusal::Missing("pods", name.to_owned()))
    }

    fn pod(&self, node: &str, request: &Request) -> Verdict {
        match request.operation {
            Operation::Create => self.mirror(node, request.object.as_ref().unwrap_or(&Value::Null)),
            Operation::Delete => {
                let on = match &request.old {
                    Some(pod) => is_on(pod, node),
                    None => is_on(&self.find_pod(&request.namespace, &request.name)?.to_value(), node),
                };
                match on {
                    true => Ok(()),
                    false => no(format!("node \"{node}\" can only delete pods with spec.nodeName set to itself")),
                }
            }
            other => no(format!(
                "unexpected operation \"{}\", node \"{node}\" can only create and delete mirror pods",
                other.name()
            )),
        }
    }

    /// A Pod that the node runs by itself, and only shows: it has nothing of the API's.
    fn mirror(&self, node: &str, pod: &Value) -> Verdict {
        if !pod["metadata"]["annotations"][MIRROR].is_string() {
            return no(format!(
                "pod does not have \"{MIRROR}\" annotation, node \"{node}\" can only create mirror pods"
            ));
        }
        if !is_on(pod, node) {
            return no(format!("node \"{node}\" can only create pods with spec.nodeName set to itself"));
        }
        let itself = self.nodes.get(&ObjectKey::new("", node));
        let uid = itself.map(|node| node.uid.clone());
        owned(node, pod["metadata"]["ownerReferences"].as_array().map_or(&[], Vec::as_slice), uid.as_deref())?;
        match references::api_object(&pod["spec"]) {
            Ok(None) => Ok(()),
            Ok(Some(what)) => no(format!("node \"{node}\" can not create pods that reference {what}")),
            Err(why) => no(format!("error checking mirror pod for API references: {why}")),
        }
    }

    fn eviction(&self, node: &str, request: &Request) -> Verdict {
        if request.operation != Operation::Create {
            return no(format!("unexpected operation {}", request.operation.name()));
        }
        match name(request) {
            "" => no("could not determine pod from request data"),
            name if is_on(&self.find_pod(&request.namespace, name)?.to_value(), node) => Ok(()),
            _ => no(format!("node {node} can only evict pods with spec.nodeName set to itself")),
        }
    }

    /// A token must be bound to a Pod of the node, and end with it.
    fn token(&self, node: &str, request: &Request) -> Verdict {
        let Some(asked) = &request.object else { return Ok(()) };
        let bound = &asked["spec"]["boundObjectRef"];
        let text = |field: &str| bound[field].as_str().unwrap_or_default();
        if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
            return no("node requested token not bound to a pod");
        }
        let uid = text("uid");
        if uid.is_empty() {
            return no("node requested token with a pod binding without a uid");
        }
        let entry = self.find_pod(&request.namespace, text("name"))?;
        if entry.uid != uid {
            return no(format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            ));
        }
        let pod = entry.to_value();
        if !is_on(&pod, node) {
            return no("node requested token bound to a pod scheduled on a different node");
        }
        self.audience(&pod, &asked["spec"]["audiences"], request)
    }

    /// Only one that a volume of the Pod asks for (without a name the API server's), or that the node has a right to.
    fn audience(&self, pod: &Value, asked: &Value, request: &Request) -> Verdict {
        let wanted = match asked.as_array().map_or(&[][..], Vec::as_slice) {
            [] => "",
            [one] => one.as_str().unwrap_or_default(),
            _ => return no("node may only request 0 or 1 audiences"),
        };
        match self.wants_audience(pod, wanted) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let (user, namespace) = (&request.user, &request.namespace);
                let right = Attributes::resource(user, AUDIENCES, "", wanted, namespace, &request.name);
                let why = format!(
                    "audience \"{wanted}\" not found in pod spec volume, {} is not authorized to request tokens for this \
                     audience",
                    user.name
                );
                Err(Refusal::Without(Box::new(right), why))
            }
            Err(why) => no(format!("error validating audience \"{wanted}\": {why}")),
        }
    }

    /// Whether a volume of the Pod, or the driver of one, asks for tokens for an audience; what cannot be found out is
    /// told unless another volume does.
    fn wants_audience(&self, pod: &Value, audience: &str) -> Result<bool, String> {
        let is_it = |token: &Value| token.is_object() && token["audience"].as_str().unwrap_or_default() == audience;
        let mut wrong = Vec::new();
        for volume in items(&pod["spec"], "volumes") {
            if items(&volume["projected"], "sources").iter().any(|source| is_it(&source["serviceAccountToken"])) {
                return Ok(true);
            }
            match self.driver(pod, volume) {
                Ok(None) => {}
                Ok(Some(driver)) => match self.drivers.get(&ObjectKey::new("", driver.as_str())) {
                    Some(found) if items(&found.to_value()["spec"], "tokenRequests").iter().any(is_it) => {
                        return Ok(true);
                    }
                    Some(_) => {}
                    None => wrong.push(format!("csidriver.storage.k8s.io \"{driver}\" not found")),
                },
                Err(why) => wrong.push(why),
            }
        }
        match wrong.as_slice() {
            [] => Ok(false),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }

    /// The driver behind a volume, also by a claim.
    fn driver(&self, pod: &Value, volume: &Value) -> Result<Option<String>, String> {
        let own = volume["csi"]["driver"].as_str();
        let stated = volume["persistentVolumeClaim"]["claimName"].as_str().map(str::to_owned);
        let made = || {
            let template = volume["ephemeral"]["volumeClaimTemplate"].is_object();
            template.then(|| format!("{}-{}", pod.name(), volume["name"].as_str().unwrap_or_default()))
        };
        let Some(name) = stated.or_else(made) else { return Ok(own.map(str::to_owned)) };
        let claim = self.claims.get(&ObjectKey::new(pod.namespace(), name.as_str()));
        let claim = claim.ok_or_else(|| format!("persistentvolumeclaim \"{name}\" not found"))?.to_value();
        let name = claim["spec"]["volumeName"].as_str().unwrap_or_default();
        let found = self.volumes.get(&ObjectKey::new("", name));
        let found = found.ok_or_else(|| format!("persistentvolume \"{name}\" not found"))?.to_value();
        Ok(found["spec"]["csi"]["driver"].as_str().map(str::to_owned))
    }
}

fn name(request: &Request) -> &str {
    match (request.name.as_str(), &request.object) {
        ("", Some(object)) => object.name(),
        (name, _) => name,
    }
}

fn items<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn is_on(pod: &Value, node: &str) -> bool {
    pod["spec"]["nodeName"] == node
}

/// The same, where nothing and an empty list or map are.
fn same(one: &Value, other: &Value) -> bool {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    one == other || (is_empty(one) && is_empty(other))
}

/// A mirror Pod belongs to its node alone. `uid` is the node's, if there is one.
fn owned(node: &str, owners: &[Value], uid: Option<&str>) -> Verdict {
    let owner = match owners {
        [] => return no(format!("node \"{node}\" can only create pods with an owner reference set to itself")),
        [owner] => owner,
        _ => return no(format!("node \"{node}\" can only create pods with a single owner reference set to itself")),
    };
    if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
        return no(format!("node \"{node}\" can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return no(format!("node \"{node}\" can only create pods with a controller owner reference set to itself"));
    }
    if owner["blockOwnerDeletion"] == true {
        return no(format!("node \"{node}\" must not set blockOwnerDeletion on an owner reference"));
    }
    let stated = owner["uid"].as_str().unwrap_or_default();
    match uid {
        None => Err(Refusal::Missing("nodes", node.to_owned())),
        Some(uid) if uid == stated => Ok(()),
        Some(uid) => no(format!("node {node} UID mismatch: expected {stated} got {uid}")),
    }
}

fn pod_status(node: &str, request: &Request) -> Verdict {
    let (Operation::Update, Some(old), Some(new)) = (request.operation, &request.old, &request.object) else {
        return no(format!("unexpected operation \"{}\"", request.operation.name()));
    };
    if !is_on(old, node) {
        return no(format!("node \"{node}\" can only update pod status for pods with spec.nodeName set to itself"));
    }
    if !same(&old["metadata"]["labels"], &new["metadata"]["labels"]) {
        return no(format!("node \"{node}\" cannot update labels through pod status"));
    }
    let of = |field: &str| same(&old["status"][field], &new["status"][field]);
    match (of("resourceClaimStatuses"), of("extendedResourceClaimStatus")) {
        (true, true) => Ok(()),
        (false, _) => no(format!("node \"{node}\" cannot update resource claim statues")),
        (_, false) => no(format!("node \"{node}\" cannot update extended resource claim status")),
    }
}

fn itself(node: &str, request: &Request) -> Verdict {
    let asked = name(request);
    if asked != node {
        return no(format!("node \"{node}\" is not allowed to modify node \"{asked}\""));
    }
    let none = Value::Null;
    let (old, new) = match (request.operation, &request.old, &request.object) {
        (Operation::Create, _, Some(new)) => (&none, new),
        (Operation::Update, Some(old), Some(new)) => (old, new),
        _ => return Ok(()),
    };
    let (source, before) = (&new["spec"]["configSource"], &old["spec"]["configSource"]);
    let forbidden = forbidden_labels(&old["metadata"]["labels"], &new["metadata"]["labels"]);
    if request.operation == Operation::Create {
        if !source.is_null() {
            return no(format!("node \"{node}\" is not allowed to create pods with a non-nil configSource"));
        }
        return match forbidden.is_empty() {
            true => Ok(()),
            false => {
                no(format!("node \"{node}\" is not allowed to set the following labels: {}", forbidden.join(", ")))
            }
        };
    }
    if !source.is_null() && source != before {
        return no(format!("node \"{node}\" is not allowed to update configSource to a new non-nil configSource"));
    }
    if !same(&old["spec"]["taints"], &new["spec"]["taints"]) {
        return no(format!("node \"{node}\" is not allowed to modify taints"));
    }
    if !same(&old["metadata"]["ownerReferences"], &new["metadata"]["ownerReferences"]) {
        return no(format!("node \"{node}\" is not allowed to modify ownerReferences"));
    }
    match forbidden.is_empty() {
        true => Ok(()),
        false => no(format!("is not allowed to modify labels: {}", forbidden.join(", "))),
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

fn claim(node: &str, request: &Request) -> Verdict {
    let (Operation::Update, Some(old), Some(new)) = (request.operation, &request.old, &request.object) else {
        return no(format!("unexpected operation \"{}\"", request.operation.name()));
    };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for (parent, fields) in [
            ("metadata", &["resourceVersion", "managedFields"][..]),
            ("status", &["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"]),
        ] {
            let Some(map) = claim.get_mut(parent).and_then(Value::as_object_mut) else { continue };
            map.retain(|field, _| !fields.contains(&field.as_str()));
        }
        claim
    };
    match rest(old) == rest(new) {
        true => Ok(()),
        false => no(format!(
            "node \"{node}\" is not allowed to update fields other than status.quantity and status.conditions"
        )),
    }
}

fn lease(node: &str, request: &Request) -> Verdict {
    if request.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    match name(request) == node {
        true => Ok(()),
        false => no("can only access node lease with the same name as the requesting node"),
    }
}

/// The authorizer does not know what is to be made, nor each of what is to be deleted together.
fn slice(node: &str, request: &Request) -> Verdict {
    let (slice, verb) = match request.operation {
        Operation::Create => (&request.object, "create"),
        Operation::Delete => (&request.old, "delete"),
        _ => return Ok(()),
    };
    match slice.as_ref().is_some_and(|slice| slice["spec"]["nodeName"] == node) {
        true => Ok(()),
        false => no(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node")),
    }
}

/// A certificate as a node must be for itself.
fn signing_request(node: &str, request: &Request) -> Verdict {
    let (Operation::Create, Some(object)) = (request.operation, &request.object) else { return Ok(()) };
    if !object["spec"]["signerName"].as_str().is_some_and(|signer| NODE_SIGNERS.contains(&signer)) {
        return Ok(());
    }
    let name = format!("system:node:{node}");
    match common_name(object["spec"]["request"].as_str().unwrap_or_default()) {
        Err(why) => no(format!("unable to parse csr: {why}")),
        Ok(asked) if asked == name => Ok(()),
        Ok(_) => no(format!("can only create a node CSR with CN={name}")),
    }
}

/// The name that a request (PEM in base64) asks for; of several the last, as Go reads them.
fn common_name(request: &str) -> Result<String, String> {
    let pem = STANDARD.decode(request).map_err(|why| why.to_string())?;
    let (_, block) = parse_x509_pem(&pem)
        .ok()
        .filter(|(_, block)| block.label == "CERTIFICATE REQUEST")
        .ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (_, parsed) = X509CertificationRequest::from_der(&block.contents).map_err(|why| why.to_string())?;
    let subject = &parsed.certification_request_info.subject;
    let name = subject.iter_common_name().last().and_then(|name| name.as_str().ok());
    Ok(name.unwrap_or_default().to_owned())
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
    fn a_mirror_pod_belongs_to_its_node() {
        let good = json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1", "controller": true});
        let check = |owners: &[Value], uid: Option<&str>, expected: &str| {
            let said = match owned("n1", owners, uid) {
                Ok(()) => String::new(),
                Err(Refusal::Forbidden(why) | Refusal::Without(_, why)) => why,
                Err(Refusal::Missing(resource, name)) => format!("no {resource} {name}"),
            };
            assert_eq!(said, expected, "{owners:?}");
        };
        let but = |field: &str, value: Value| {
            let mut owner = good.clone();
            owner[field] = value;
            [owner]
        };
        let itself = "node \"n1\" can only create pods with an owner reference set to itself";
        check(std::slice::from_ref(&good), Some("u1"), "");
        check(&but("blockOwnerDeletion", json!(false)), Some("u1"), "");
        check(&[], Some("u1"), itself);
        check(&but("name", json!("n2")), Some("u1"), itself);
        check(&but("kind", json!("Pod")), Some("u1"), itself);
        check(
            &[good.clone(), good.clone()],
            Some("u1"),
            "node \"n1\" can only create pods with a single owner reference set to itself",
        );
        check(
            &but("controller", json!(false)),
            Some("u1"),
            "node \"n1\" can only create pods with a controller owner reference set to itself",
        );
        check(
            &but("blockOwnerDeletion", json!(true)),
            Some("u1"),
            "node \"n1\" must not set blockOwnerDeletion on an owner reference",
        );
        check(std::slice::from_ref(&good), Some("u2"), "node n1 UID mismatch: expected u1 got u2");
        check(std::slice::from_ref(&good), None, "no nodes n1");
    }

    #[test]
    fn a_mirror_pod_has_nothing_of_the_apis() {
        let check = |spec: Value, expected: Result<Option<&'static str>, &str>| {
            assert_eq!(references::api_object(&spec), expected.map_err(str::to_owned), "{spec}");
        };
        let volume = |kind: &str, value: Value| json!({"volumes": [{"name": "v", kind: value}]});
        let projected = |kind: &str, value: Value| volume("projected", json!({"sources": [{kind: value}]}));
        check(json!({"containers": [{"name": "c", "env": [{"name": "A", "value": "b"}]}]}), Ok(None));
        check(json!({"serviceAccountName": "a"}), Ok(Some("serviceaccounts")));
        check(json!({"imagePullSecrets": [{"name": "a"}]}), Ok(Some("secrets")));
        check(json!({"resourceClaims": [{"name": "a"}]}), Ok(Some("resourceclaims")));
        let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}}]);
        check(json!({"containers": [{"name": "c", "env": env}]}), Ok(Some("configmaps")));
        check(volume("hostPath", json!({"path": "/a"})), Ok(None));
        check(volume("emptyDir", json!({})), Ok(None));
        check(volume("secret", json!({"secretName": "a"})), Ok(Some("secrets")));
        check(volume("secret", json!({})), Ok(Some("secrets (via secret volumes)")));
        check(volume("csi", json!({"driver": "d"})), Ok(Some("csidrivers (via CSI volumes)")));
        check(volume("persistentVolumeClaim", json!({"claimName": "a"})), Ok(Some("persistentvolumeclaims")));
        check(volume("ephemeral", json!({})), Ok(Some("persistentvolumeclaims (via ephemeral volumes)")));
        check(volume("newest", json!({})), Err("unknown volume type for volume  \"v\""));
        check(projected("downwardAPI", json!({})), Ok(None));
        let token = json!({"path": "t"});
        check(projected("serviceAccountToken", token), Ok(Some("serviceaccounts (via projected volumes)")));
        check(projected("clusterTrustBundle", json!({})), Ok(Some("clustertrustbundles")));
        check(projected("newest", json!({})), Err("unknown source for projected volume \"v\""));
    }
}
