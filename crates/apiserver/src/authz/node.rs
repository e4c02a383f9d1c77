//! The Node authorizer (KEP-279): a node reaches what its Pods need, and no other node's.
//!
//! What a node may do at all are the rules of the ClusterRole `system:node`; on top of them, an object that only some
//! nodes have business with must be one that a Pod bound to the node refers to.

use std::sync::Arc;

use api::object::ObjectKey;
use serde_json::Value;

use super::rbac::Rbac;
use super::{Attributes, Target};
use crate::authn::User;
use crate::cache::{FieldTerm, Filter, ResourceCache};

const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
const ROLE: &str = "system:node";

/// Sees which Pods are bound to which node.
pub struct NodeAuthorizer {
    pub pods: Arc<ResourceCache>,
    /// Where `spec.nodeName` stands among the Pod's selectable fields.
    pub node_name_field: usize,
}

/// The node that a user is, if it is one.
pub fn node_of(user: &User) -> Option<&str> {
    user.name.strip_prefix(PREFIX).filter(|name| !name.is_empty() && user.is_in(GROUP))
}

impl NodeAuthorizer {
    pub fn new(pods: Arc<ResourceCache>) -> Self {
        let position = pods.selectable().iter().position(|field| field.label == "spec.nodeName");
        Self { pods, node_name_field: position.unwrap_or(usize::MAX) }
    }

    /// True when the user is a node and may do this.
    pub fn allows(&self, rbac: &Rbac, attributes: &Attributes) -> bool {
        let Some(node) = node_of(&attributes.user) else { return false };
        let permitted = rbac.role_rules("", ROLE).unwrap_or_default();
        if !permitted.iter().any(|rule| rule.allows(attributes)) {
            return false;
        }
        let Target::Resource { group, namespace, resource, name, subresource, fields, .. } = &attributes.target else {
            return true;
        };
        let key = ObjectKey::new(namespace.as_str(), name.as_str());
        match (group.as_str(), resource.as_str(), subresource.as_str()) {
            ("", "secrets", _) => {
                self.refers(node, &key, &["secretName", "secretRef", "secretKeyRef", "secret", "imagePullSecrets"])
            }
            ("", "configmaps", _) => self.refers(node, &key, &["configMap", "configMapRef", "configMapKeyRef"]),
            ("", "persistentvolumeclaims", _) => self.refers(node, &key, &["persistentVolumeClaim"]),
            ("", "serviceaccounts", "token") => self.pods_of(node).iter().any(|pod| {
                pod["metadata"]["namespace"] == key.namespace.as_str()
                    && pod["spec"]["serviceAccountName"] == key.name.as_str()
            }),
            // Of Pods a node sees its own (KEP-4601); which it may write, admission decides.
            ("", "pods", _) if attributes.verb == "get" => self.runs(node, &key),
            ("", "pods", _) if matches!(attributes.verb.as_str(), "list" | "watch") => {
                selects_node(fields, node) || (!name.is_empty() && self.runs(node, &key))
            }
            ("storage.k8s.io", "csinodes", _) => name == node || (attributes.verb == "create" && name.is_empty()),
            ("", "nodes", _) if !matches!(attributes.verb.as_str(), "get" | "list" | "watch" | "create") => {
                name == node
            }
            ("coordination.k8s.io", "leases", _) => namespace == "kube-node-lease" && (name == node || name.is_empty()),
            _ => true,
        }
    }

    fn pods_of(&self, node: &str) -> Vec<Value> {
        let term = FieldTerm { position: self.node_name_field, absent: "", value: node.to_owned(), differs: false };
        let filter = Filter { fields: vec![term], ..Filter::default() };
        self.pods.list(&filter).entries.iter().map(|entry| entry.to_value()).collect()
    }

    fn runs(&self, node: &str, key: &ObjectKey) -> bool {
        self.pods.get(key).is_some_and(|pod| pod.to_value()["spec"]["nodeName"] == node)
    }

    /// True when a Pod of the node names the object below one of `fields`.
    fn refers(&self, node: &str, key: &ObjectKey, fields: &[&str]) -> bool {
        !key.name.is_empty()
            && self.pods_of(node).iter().any(|pod| {
                pod["metadata"]["namespace"] == key.namespace.as_str() && names(&pod["spec"], key.name.as_str(), fields)
            })
    }
}

/// True when a field selector asks for the Pods of `node` and no other's.
fn selects_node(fields: &str, node: &str) -> bool {
    fields.split(',').any(|term| {
        let wanted = term.trim().strip_prefix("spec.nodeName").and_then(|rest| rest.strip_prefix('='));
        wanted.is_some_and(|value| value.strip_prefix('=').unwrap_or(value) == node)
    })
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
    use serde_json::json;

    #[test]
    fn references_are_found_wherever_a_pod_may_hold_them() {
        let spec = json!({
            "imagePullSecrets": [{"name": "pull"}],
            "volumes": [
                {"name": "a", "secret": {"secretName": "tls"}},
                {"name": "b", "projected": {"sources": [{"configMap": {"name": "ca"}}]}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "data"}},
            ],
            "containers": [{"env": [{"valueFrom": {"secretKeyRef": {"name": "db", "key": "k"}}}]}],
        });
        let secrets = ["secretName", "secretRef", "secretKeyRef", "secret", "imagePullSecrets"];
        for name in ["pull", "tls", "db"] {
            assert!(names(&spec, name, &secrets), "{name}");
        }
        assert!(names(&spec, "ca", &["configMap"]) && names(&spec, "data", &["persistentVolumeClaim"]));
        assert!(!names(&spec, "ca", &secrets) && !names(&spec, "other", &secrets));
    }

    #[test]
    fn pods_are_selected_by_their_node() {
        for good in ["spec.nodeName=n1", "spec.nodeName==n1", "status.phase=Running,spec.nodeName=n1"] {
            assert!(selects_node(good, "n1"), "{good}");
        }
        for bad in ["", "spec.nodeName=n2", "spec.nodeName!=n1", "spec.nodeName=n12", "metadata.name=n1"] {
            assert!(!selects_node(bad, "n1"), "{bad}");
        }
    }

    #[test]
    fn a_node_is_one_by_name_and_group() {
        assert_eq!(node_of(&User::new("system:node:n1", &["system:nodes"])), Some("n1"));
        assert_eq!(node_of(&User::new("system:node:n1", &[])), None);
        assert_eq!(node_of(&User::new("system:node:", &["system:nodes"])), None);
    }
}
