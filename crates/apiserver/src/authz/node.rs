//! The Node authorizer (KEP-279, KEP-4601): a node reaches itself and what its Pods need, and no other node's.
//!
//! Objects that only some nodes have business with are told by how they hang together: a Secret by the Pods that name
//! it, a PersistentVolume by the claims of Pods that are bound to it. All else is what the ClusterRole `system:node` says.

use std::sync::Arc;

use api::object::ObjectKey;
use api::selector::field::Term;
use serde_json::Value;

use super::bound::BoundPods;
use super::rbac::Rbac;
use super::{Attributes, Target};
use crate::authn::User;
use crate::cache::ResourceCache;

const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
const ROLE: &str = "system:node";
const LEASES: &str = "kube-node-lease";

/// Sees which Pods are bound to which node, and what hangs on them.
pub struct NodeAuthorizer {
    bound: BoundPods,
    claims: Arc<ResourceCache>,
    attachments: Arc<ResourceCache>,
    slices: Arc<ResourceCache>,
}

/// What the authorizer says: yes, or nothing, perhaps with a reason.
type Verdict = Result<(), String>;

/// The node that a user is, if it is one.
pub fn node_of(user: &User) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|name| !name.is_empty() && user.is_in(GROUP))
}

/// A request of a node about an object.
struct Asked<'a> {
    node: &'a str,
    verb: &'a str,
    key: ObjectKey,
    subresource: &'a str,
    fields: &'a [Term],
}

impl NodeAuthorizer {
    pub fn new(
        pods: Arc<ResourceCache>,
        claims: Arc<ResourceCache>,
        attachments: Arc<ResourceCache>,
        slices: Arc<ResourceCache>,
    ) -> Self {
        Self { bound: BoundPods::new(pods), claims, attachments, slices }
    }

    /// Whether a node may do this; `None` for who is none.
    pub fn judge(&self, rbac: &Rbac, attributes: &Attributes) -> Option<Verdict> {
        let node = node_of(&attributes.user)?;
        let Target::Resource { group, namespace, resource, name, subresource, fields, .. } = &attributes.target else {
            return Some(by_role(rbac, attributes));
        };
        let key = ObjectKey::new(namespace.as_str(), name.as_str());
        let asked = Asked { node, verb: &attributes.verb, key, subresource, fields };
        Some(match (group.as_str(), resource.as_str()) {
            ("", "secrets") => self.read(&asked, |it| self.refers(it, SECRETS)),
            ("", "configmaps") => self.read(&asked, |it| self.refers(it, CONFIG_MAPS)),
            ("", "persistentvolumeclaims") if subresource == "status" => match asked.verb {
                "update" | "patch" => self.related(&asked, |it| self.refers(it, CLAIMS)),
                _ => no("can only get/update/patch this type"),
            },
            ("", "persistentvolumeclaims") => get(&asked, |it| self.refers(it, CLAIMS)),
            ("", "persistentvolumes") => get(&asked, |it| self.mounts(it)),
            ("resource.k8s.io", "resourceclaims") => get(&asked, |it| self.reserves(it)),
            ("storage.k8s.io", "volumeattachments") => get(&asked, |it| is_of(&self.attachments, it, "nodeName")),
            ("", "serviceaccounts") => self.account(&asked),
            ("coordination.k8s.io", "leases") => lease(&asked),
            ("storage.k8s.io", "csinodes") => csi_node(&asked),
            ("resource.k8s.io", "resourceslices") => self.slice(&asked),
            ("", "nodes") => itself(&asked),
            ("", "pods") => self.pod(&asked),
            _ => by_role(rbac, attributes),
        })
    }

    /// Reading one object of a namespace.
    fn read(&self, asked: &Asked<'_>, related: impl Fn(&Asked<'_>) -> bool) -> Verdict {
        match () {
            () if !is_read(asked.verb) => no("can only read resources of this type"),
            () if !asked.subresource.is_empty() => no("cannot read subresource"),
            () if asked.key.namespace.is_empty() => no("can only read namespaced object of this type"),
            () => self.related(asked, related),
        }
    }

    fn related(&self, asked: &Asked<'_>, related: impl Fn(&Asked<'_>) -> bool) -> Verdict {
        relation(asked, related)
    }

    fn account(&self, asked: &Asked<'_>) -> Verdict {
        let used =
            |it: &Asked<'_>| self.pods_in(it).any(|pod| pod["spec"]["serviceAccountName"] == it.key.name.as_str());
        match (asked.verb, asked.subresource) {
            ("get", "") => self.read(asked, used),
            ("create", "token") if !asked.key.name.is_empty() => relation(asked, used),
            ("create", _) if !asked.key.name.is_empty() => no("can only create token subresource of serviceaccount"),
            _ => no("can only create tokens for individual service accounts"),
        }
    }

    fn slice(&self, asked: &Asked<'_>) -> Verdict {
        match asked.verb {
            _ if !asked.subresource.is_empty() => no("cannot authorize ResourceSlice subresources"),
            // Whose node it names, admission sees.
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => relation(asked, |it| is_of(&self.slices, it, "nodeName")),
            "watch" | "list" | "deletecollection" if selects(asked.fields, "spec.nodeName", asked.node) => Ok(()),
            "watch" | "list" | "deletecollection" => {
                no("can only list/watch/deletecollection resourceslices with nodeName field selector")
            }
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                     delete, deletecollection",
            ),
        }
    }

    /// Of Pods a node sees its own; which it may write, admission decides.
    fn pod(&self, asked: &Asked<'_>) -> Verdict {
        let runs = |it: &Asked<'_>| is_of(&self.bound.pods, it, "nodeName");
        match (asked.subresource, asked.verb) {
            ("", "get") => get(asked, runs),
            ("", "list" | "watch") if selects(asked.fields, "spec.nodeName", asked.node) => Ok(()),
            ("", "list" | "watch") if !asked.key.name.is_empty() => relation(asked, runs),
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => no(""),
        }
    }

    /// The node's Pods in the namespace of what is asked for.
    fn pods_in<'a>(&self, asked: &'a Asked<'_>) -> impl Iterator<Item = Value> + 'a {
        let pods = self.bound.of(asked.node, Some(&asked.key.namespace));
        pods.into_iter().map(|pod| pod.to_value())
    }

    /// True when a Pod of the node names the object below one of `fields`.
    fn refers(&self, asked: &Asked<'_>, fields: &[&str]) -> bool {
        self.pods_in(asked).any(|pod| {
            let generic = fields == CLAIMS && owns_generic(&pod, &asked.key.name);
            generic || names(&pod["spec"], asked.key.name.as_str(), fields)
        })
    }

    /// True when a Pod of the node mounts a claim that is bound to the volume.
    fn mounts(&self, asked: &Asked<'_>) -> bool {
        self.bound.of(asked.node, None).iter().any(|pod| {
            claims_of(&pod.to_value()).iter().any(|claim| {
                let claim = self.claims.get(&ObjectKey::new(pod.key.namespace.as_str(), claim.as_str()));
                claim.is_some_and(|claim| claim.to_value()["spec"]["volumeName"] == asked.key.name.as_str())
            })
        })
    }

    /// True when a Pod of the node has the claim to devices, by name or made for it.
    fn reserves(&self, asked: &Asked<'_>) -> bool {
        self.pods_in(asked).any(|pod| {
            let stated = pod["spec"]["resourceClaims"].as_array().into_iter().flatten();
            let made = pod["status"]["resourceClaimStatuses"].as_array().into_iter().flatten();
            stated.chain(made).any(|claim| claim["resourceClaimName"] == asked.key.name.as_str())
        })
    }
}

const SECRETS: &[&str] =
    &["secretName", "secretRef", "secretKeyRef", "secret", "imagePullSecrets", "nodePublishSecretRef"];
const CONFIG_MAPS: &[&str] = &["configMap", "configMapRef", "configMapKeyRef"];
const CLAIMS: &[&str] = &["persistentVolumeClaim"];

fn no(why: &str) -> Verdict {
    Err(why.to_owned())
}

fn by_role(rbac: &Rbac, attributes: &Attributes) -> Verdict {
    let permitted = rbac.role_rules("", ROLE).unwrap_or_default();
    if permitted.iter().any(|rule| rule.allows(attributes)) { Ok(()) } else { no("") }
}

fn is_read(verb: &str) -> bool {
    matches!(verb, "get" | "list" | "watch")
}

/// Getting one object.
fn get(asked: &Asked<'_>, related: impl Fn(&Asked<'_>) -> bool) -> Verdict {
    match () {
        () if asked.verb != "get" => no("can only get individual resources of this type"),
        () if !asked.subresource.is_empty() => no("cannot get subresource"),
        () => relation(asked, related),
    }
}

fn relation(asked: &Asked<'_>, related: impl Fn(&Asked<'_>) -> bool) -> Verdict {
    if asked.key.name.is_empty() {
        return no("No Object name found");
    }
    if related(asked) {
        return Ok(());
    }
    Err(format!("no relationship found between node '{}' and this object", asked.node))
}

fn lease(asked: &Asked<'_>) -> Verdict {
    match asked.verb {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return no("can only get, create, update, patch, or delete a node lease"),
    }
    if asked.key.namespace != LEASES {
        return Err(format!("can only access leases in the \"{LEASES}\" system namespace"));
    }
    // A new one's name, admission sees.
    match asked.verb == "create" || asked.key.name == asked.node {
        true => Ok(()),
        false => no("can only access node lease with the same name as the requesting node"),
    }
}

fn csi_node(asked: &Asked<'_>) -> Verdict {
    match asked.verb {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return no("can only get, create, update, patch, or delete a CSINode"),
    }
    if !asked.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    match asked.verb == "create" || asked.key.name == asked.node {
        true => Ok(()),
        false => no("can only access CSINode with the same name as the requesting node"),
    }
}

/// Which node it writes, admission sees.
fn itself(asked: &Asked<'_>) -> Verdict {
    let Asked { node, key, .. } = asked;
    match (asked.subresource, asked.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", verb) if is_read(verb) => match key.name.as_str() {
            own if own == *node => Ok(()),
            "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
            other => Err(format!("node '{node}' cannot read '{other}', only its own Node object")),
        },
        _ => no(""),
    }
}

/// True when the object says at `spec.FIELD` that it is the node's.
fn is_of(cache: &ResourceCache, asked: &Asked<'_>, field: &str) -> bool {
    cache.get(&asked.key).is_some_and(|entry| entry.to_value()["spec"][field] == asked.node)
}

/// The claims that a Pod mounts, also those that are made for it.
fn claims_of(pod: &Value) -> Vec<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes
        .filter_map(|volume| match volume["persistentVolumeClaim"]["claimName"].as_str() {
            Some(claim) => Some(claim.to_owned()),
            None if volume["ephemeral"].is_object() => Some(format!("{name}-{}", volume["name"].as_str()?)),
            None => None,
        })
        .collect()
}

fn owns_generic(pod: &Value, claim: &str) -> bool {
    claims_of(pod).iter().any(|own| own == claim)
}

/// True when a field selector asks for what is `node`'s and no other's.
fn selects(fields: &[Term], field: &str, node: &str) -> bool {
    fields.iter().any(|term| term.field == field && !term.negated && term.value == node)
}

/// True when `name` stands in `value` as the text of one of `fields`, or as the name in it.
fn names(value: &Value, name: &str, fields: &[&str]) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| names(item, name, fields)),
        Value::Object(map) => map.iter().any(|(key, value)| {
            let refers = fields.contains(&key.as_str()) && is_name(value, name);
            refers || names(value, name, fields)
        }),
        _ => false,
    }
}

fn is_name(value: &Value, name: &str) -> bool {
    match value {
        Value::String(text) => text == name,
        Value::Object(map) => {
            ["name", "secretName", "claimName"].iter().any(|field| map.get(*field).is_some_and(|value| value == name))
        }
        Value::Array(items) => items.iter().any(|item| is_name(item, name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::terms;
    use serde_json::json;

    #[test]
    fn references_are_found_wherever_a_pod_may_hold_them() {
        let spec = json!({
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "tls"}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "ca"}}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "d", "ephemeral": {}},
            ],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}}]}],
        });
        for name in ["pull", "tls", "db"] {
            assert!(names(&spec, name, SECRETS), "{name}");
        }
        assert!(names(&spec, "ca", CONFIG_MAPS) && names(&spec, "data", CLAIMS));
        assert!(!names(&spec, "ca", SECRETS) && !names(&spec, "other", SECRETS));
        assert_eq!(claims_of(&json!({"metadata": {"name": "web"}, "spec": spec})), ["data", "web-d"]);
    }

    #[test]
    fn pods_are_selected_by_their_node() {
        for good in ["spec.nodeName=n1", "spec.nodeName==n1", "status.phase=Running,spec.nodeName=n1"] {
            assert!(selects(&terms(good), "spec.nodeName", "n1"), "{good}");
        }
        for bad in [
            "",
            "spec.nodeName=n1,nonsense",
            "spec.nodeName=n2",
            "spec.nodeName!=n1",
            "spec.nodeName=n12",
            "metadata.name=n1",
        ] {
            assert!(!selects(&terms(bad), "spec.nodeName", "n1"), "{bad}");
        }
    }

    #[test]
    fn verdicts_are_upstreams() {
        let check = |verdict: Verdict, expected: Result<(), &str>| assert_eq!(verdict, expected.map_err(str::to_owned));
        let asked = |verb, namespace, name, subresource| Asked {
            node: "n1",
            verb,
            key: ObjectKey::new(namespace, name),
            subresource,
            fields: &[],
        };
        check(itself(&asked("get", "", "n1", "")), Ok(()));
        check(itself(&asked("get", "", "n2", "")), Err("node 'n1' cannot read 'n2', only its own Node object"));
        check(itself(&asked("list", "", "", "")), Err("node 'n1' cannot read all nodes, only its own Node object"));
        check(itself(&asked("patch", "", "n1", "status")), Ok(()));
        check(itself(&asked("delete", "", "n1", "")), Err(""));
        check(lease(&asked("update", LEASES, "n1", "")), Ok(()));
        check(lease(&asked("create", LEASES, "", "")), Ok(()));
        check(
            lease(&asked("update", LEASES, "n2", "")),
            Err("can only access node lease with the same name as the requesting node"),
        );
        check(
            lease(&asked("list", LEASES, "", "")),
            Err("can only get, create, update, patch, or delete a node lease"),
        );
        check(csi_node(&asked("get", "", "n1", "")), Ok(()));
        check(get(&asked("list", "", "", ""), |_| true), Err("can only get individual resources of this type"));
        check(
            get(&asked("get", "", "v", ""), |_| false),
            Err("no relationship found between node 'n1' and this object"),
        );
    }

    #[test]
    fn a_node_is_one_by_name_and_group() {
        assert_eq!(node_of(&User::new("system:node:n1", &["system:nodes"])), Some("n1"));
        assert_eq!(node_of(&User::new("system:node:n1", &[])), None);
        assert_eq!(node_of(&User::new("system:node:", &["system:nodes"])), None);
    }
}
