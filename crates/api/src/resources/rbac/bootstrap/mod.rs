//! The RBAC policy that every cluster starts with: upstream's, for 1.36 with default features.
//!
//! The API server creates what is missing and adds missing rules and subjects to what carries the autoupdate
//! annotation. Service account subjects are those of kube-system.

mod cluster;
mod controllers;
mod namespaces;

use serde_json::{Map, Value, json};

const GROUP: &str = "rbac.authorization.k8s.io";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// A ClusterRole, or with a namespace a Role.
#[derive(Clone, Copy, Debug)]
pub(super) struct Role {
    name: &'static str,
    namespace: &'static str,
    /// The aggregated role that takes up these rules.
    aggregated_to: &'static str,
    /// The controller manager fills in the rules of the roles aggregated to this name.
    aggregates: &'static str,
    rules: &'static [Rule],
}

/// A ClusterRoleBinding, or with a namespace a RoleBinding. Its role is the one of its own name, unless said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    name: &'static str,
    namespace: &'static str,
    role: &'static str,
    subjects: &'static [Subject],
}

/// Words are separated by spaces; `core` is the core group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    groups: &'static str,
    resources: &'static str,
    verbs: &'static str,
    names: &'static str,
    urls: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Subject {
    User(&'static str),
    Group(&'static str),
    Account(&'static str),
}

/// All ClusterRoles. Those that aggregate others have no rules yet.
pub fn cluster_roles() -> Vec<Value> {
    cluster::ROLES.iter().chain(controllers::ROLES).copied().map(Role::to_json).collect()
}

pub fn cluster_role_bindings() -> Vec<Value> {
    cluster::BINDINGS.iter().chain(controllers::BINDINGS).copied().map(Binding::to_json).collect()
}

/// The Roles of kube-system and kube-public.
pub fn roles() -> Vec<Value> {
    namespaces::ROLES.iter().copied().map(Role::to_json).collect()
}

/// The RoleBindings of kube-system and kube-public.
pub fn role_bindings() -> Vec<Value> {
    namespaces::BINDINGS.iter().copied().map(Binding::to_json).collect()
}

/// A rule about API objects: groups, resources, verbs.
pub(super) const fn rule(groups: &'static str, resources: &'static str, verbs: &'static str) -> Rule {
    Rule { groups, resources, verbs, names: "", urls: "" }
}

/// A rule about paths that are no objects.
pub(super) const fn urls(verbs: &'static str, urls: &'static str) -> Rule {
    Rule { groups: "", resources: "", verbs, names: "", urls }
}

pub(super) const fn user(name: &'static str) -> Subject {
    Subject::User(name)
}

pub(super) const fn group(name: &'static str) -> Subject {
    Subject::Group(name)
}

pub(super) const fn account(name: &'static str) -> Subject {
    Subject::Account(name)
}

impl Rule {
    /// Only for objects of these names.
    pub(super) const fn named(mut self, names: &'static str) -> Self {
        self.names = names;
        self
    }

    fn to_json(self) -> Value {
        let mut rule = Map::new();
        let columns = [
            ("verbs", self.verbs),
            ("apiGroups", self.groups),
            ("resources", self.resources),
            ("resourceNames", self.names),
            ("nonResourceURLs", self.urls),
        ];
        for (field, text) in columns {
            if !text.is_empty() {
                let words = text.split(' ').map(|word| if word == "core" { "" } else { word });
                rule.insert(field.to_owned(), words.collect());
            }
        }
        Value::Object(rule)
    }
}

impl Role {
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, namespace: "", aggregated_to: "", aggregates: "", rules: &[] }
    }

    pub(super) const fn in_namespace(mut self, namespace: &'static str) -> Self {
        self.namespace = namespace;
        self
    }

    pub(super) const fn aggregated_to(mut self, role: &'static str) -> Self {
        self.aggregated_to = role;
        self
    }

    pub(super) const fn aggregates(mut self, name: &'static str) -> Self {
        self.aggregates = name;
        self
    }

    pub(super) const fn rules(mut self, rules: &'static [Rule]) -> Self {
        self.rules = rules;
        self
    }

    fn to_json(self) -> Value {
        let mut role = json!({
            "apiVersion": format!("{GROUP}/v1"),
            "kind": if self.namespace.is_empty() { "ClusterRole" } else { "Role" },
            "metadata": metadata(self.name, self.namespace),
            "rules": self.rules.iter().copied().map(Rule::to_json).collect::<Value>(),
        });
        if !self.aggregated_to.is_empty() {
            role["metadata"]["labels"][format!("{AGGREGATE}{}", self.aggregated_to)] = json!("true");
        }
        if !self.aggregates.is_empty() {
            let mut labels = Map::new();
            labels.insert(format!("{AGGREGATE}{}", self.aggregates), json!("true"));
            role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
            role["rules"] = Value::Null;
        }
        role
    }
}

impl Binding {
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, namespace: "", role: name, subjects: &[] }
    }

    pub(super) const fn in_namespace(mut self, namespace: &'static str) -> Self {
        self.namespace = namespace;
        self
    }

    pub(super) const fn role(mut self, role: &'static str) -> Self {
        self.role = role;
        self
    }

    pub(super) const fn to(mut self, subjects: &'static [Subject]) -> Self {
        self.subjects = subjects;
        self
    }

    fn to_json(self) -> Value {
        let (kind, role_kind) = match self.namespace {
            "" => ("ClusterRoleBinding", "ClusterRole"),
            _ => ("RoleBinding", "Role"),
        };
        json!({
            "apiVersion": format!("{GROUP}/v1"),
            "kind": kind,
            "metadata": metadata(self.name, self.namespace),
            "roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": self.role},
            "subjects": self.subjects.iter().copied().map(Subject::to_json).collect::<Value>(),
        })
    }
}

impl Subject {
    fn to_json(self) -> Value {
        match self {
            Self::User(name) => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
            Self::Group(name) => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
            Self::Account(name) => json!({"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}),
        }
    }
}

fn metadata(name: &str, namespace: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use expect_test::expect;

    fn named<'a>(objects: &'a [Value], name: &str) -> &'a Value {
        objects.iter().find(|object| object["metadata"]["name"] == name).unwrap()
    }

    #[test]
    fn every_binding_names_a_role_that_is_there() {
        let cluster: HashSet<_> = cluster_roles().into_iter().map(|role| role["metadata"]["name"].clone()).collect();
        for binding in cluster_role_bindings() {
            assert!(cluster.contains(&binding["roleRef"]["name"]), "{binding}");
        }
        let local: HashSet<_> = roles()
            .into_iter()
            .map(|role| (role["metadata"]["namespace"].clone(), role["metadata"]["name"].clone()))
            .collect();
        for binding in role_bindings() {
            let role = (binding["metadata"]["namespace"].clone(), binding["roleRef"]["name"].clone());
            assert!(local.contains(&role), "{binding}");
        }
    }

    #[test]
    fn the_policy_has_upstreams_extent() {
        let counts = [cluster_roles(), cluster_role_bindings(), roles(), role_bindings()].map(|list| list.len());
        assert_eq!(counts, [69, 50, 7, 7]);
    }

    #[test]
    fn roles_read_as_upstream_writes_them() {
        let roles = cluster_roles();
        expect![[r#"
            {
              "aggregationRule": {
                "clusterRoleSelectors": [
                  {
                    "matchLabels": {
                      "rbac.authorization.k8s.io/aggregate-to-edit": "true"
                    }
                  }
                ]
              },
              "apiVersion": "rbac.authorization.k8s.io/v1",
              "kind": "ClusterRole",
              "metadata": {
                "annotations": {
                  "rbac.authorization.kubernetes.io/autoupdate": "true"
                },
                "labels": {
                  "kubernetes.io/bootstrapping": "rbac-defaults",
                  "rbac.authorization.k8s.io/aggregate-to-admin": "true"
                },
                "name": "edit"
              },
              "rules": null
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(named(&roles, "edit")).unwrap());
        expect![[r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"annotations":{"rbac.authorization.kubernetes.io/autoupdate":"true"},"labels":{"kubernetes.io/bootstrapping":"rbac-defaults"},"name":"cluster-admin"},"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]},{"nonResourceURLs":["*"],"verbs":["*"]}]}"#]].assert_eq(&serde_json::to_string(named(&roles, "cluster-admin")).unwrap());
        let bindings = cluster_role_bindings();
        expect![[r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"annotations":{"rbac.authorization.kubernetes.io/autoupdate":"true"},"labels":{"kubernetes.io/bootstrapping":"rbac-defaults"},"name":"system:controller:job-controller"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"system:controller:job-controller"},"subjects":[{"kind":"ServiceAccount","name":"job-controller","namespace":"kube-system"}]}"#]].assert_eq(&serde_json::to_string(named(&bindings, "system:controller:job-controller")).unwrap());
        expect![[r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"annotations":{"rbac.authorization.kubernetes.io/autoupdate":"true"},"labels":{"kubernetes.io/bootstrapping":"rbac-defaults"},"name":"system:basic-user"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"system:basic-user"},"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"Group","name":"system:authenticated"}]}"#]].assert_eq(&serde_json::to_string(named(&bindings, "system:basic-user")).unwrap());
    }
}
