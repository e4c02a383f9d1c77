//! Role-based access control over the cached roles and bindings.
//!
//! The decoded policy is kept until one of its four resources changes, so a request costs a scan of the
//! bindings and no decoding.

use std::collections::HashMap;
use std::sync::Arc;

use api::object::ObjectKey;
use parking_lot::RwLock;
use serde::Deserialize;

use super::{Attributes, Decision, Target};
use crate::authn::User;
use crate::cache::{Filter, ResourceCache};

/// The caches that RBAC reads.
pub struct Rbac {
    roles: Arc<ResourceCache>,
    cluster_roles: Arc<ResourceCache>,
    role_bindings: Arc<ResourceCache>,
    cluster_role_bindings: Arc<ResourceCache>,
    policy: RwLock<Arc<Policy>>,
}

#[derive(Default)]
struct Policy {
    /// The revisions of the four caches that this was made from.
    made_from: [u64; 4],
    /// By namespace and name; cluster roles have no namespace.
    roles: HashMap<ObjectKey, Vec<PolicyRule>>,
    cluster_bindings: Vec<Binding>,
    /// By namespace.
    bindings: HashMap<String, Vec<Binding>>,
}

/// A rule, as `rbac.authorization.k8s.io/v1` states it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

struct Binding {
    name: String,
    role: ObjectKey,
    role_kind: String,
    subjects: Vec<Subject>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleObject {
    #[serde(default)]
    rules: Option<Vec<PolicyRule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingObject {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
}

#[derive(Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct Subject {
    kind: String,
    name: String,
    #[serde(default)]
    namespace: String,
}

impl Rbac {
    pub fn new(
        roles: Arc<ResourceCache>,
        cluster_roles: Arc<ResourceCache>,
        role_bindings: Arc<ResourceCache>,
        cluster_role_bindings: Arc<ResourceCache>,
    ) -> Self {
        Self { roles, cluster_roles, role_bindings, cluster_role_bindings, policy: RwLock::default() }
    }

    pub fn authorize(&self, attributes: &Attributes) -> Decision {
        let namespace = match &attributes.target {
            Target::Resource { namespace, .. } => namespace.as_str(),
            Target::Path(_) => "",
        };
        let policy = self.policy();
        let granted = policy
            .bindings_of(&attributes.user, namespace)
            .find(|(_, rules)| rules.iter().any(|rule| rule.allows(attributes)));
        match granted {
            Some((binding, _)) => Decision { allowed: true, reason: binding.reason(&attributes.user) },
            None => Decision { allowed: false, reason: String::new() },
        }
    }

    /// All rules that hold for `user` in `namespace`, cluster-wide ones included.
    pub fn rules(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        self.policy().bindings_of(user, namespace).flat_map(|(_, rules)| rules.iter().cloned()).collect()
    }

    /// The rules of a role, or of a cluster role if `namespace` is empty.
    pub fn role_rules(&self, namespace: &str, name: &str) -> Option<Vec<PolicyRule>> {
        self.policy().roles.get(&ObjectKey::new(namespace, name)).cloned()
    }

    fn policy(&self) -> Arc<Policy> {
        let now = [&self.roles, &self.cluster_roles, &self.role_bindings, &self.cluster_role_bindings]
            .map(|cache| cache.revision());
        let known = self.policy.read().clone();
        if known.made_from == now && now != [0; 4] {
            return known;
        }
        let made = Arc::new(self.make_policy(now));
        *self.policy.write() = made.clone();
        made
    }

    fn make_policy(&self, made_from: [u64; 4]) -> Policy {
        let mut policy = Policy { made_from, ..Policy::default() };
        for cache in [&self.roles, &self.cluster_roles] {
            for entry in cache.list(&Filter::default()).entries {
                if let Ok(role) = entry.decode::<RoleObject>() {
                    policy.roles.insert(entry.key.clone(), role.rules.unwrap_or_default());
                }
            }
        }
        for cache in [&self.role_bindings, &self.cluster_role_bindings] {
            for entry in cache.list(&Filter::default()).entries {
                let Ok(object) = entry.decode::<BindingObject>() else { continue };
                let namespace = entry.key.namespace.as_str();
                let role_namespace = if object.role_ref.kind == "Role" { namespace } else { "" };
                let binding = Binding {
                    name: entry.key.to_string(),
                    role: ObjectKey::new(role_namespace, object.role_ref.name),
                    role_kind: object.role_ref.kind,
                    subjects: object.subjects.into_iter().flatten().map(|subject| subject.within(namespace)).collect(),
                };
                match namespace {
                    "" => policy.cluster_bindings.push(binding),
                    _ => policy.bindings.entry(namespace.to_owned()).or_default().push(binding),
                }
            }
        }
        policy
    }
}

impl Policy {
    fn bindings_of<'a>(
        &'a self,
        user: &'a User,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Binding, &'a [PolicyRule])> {
        let here = self.bindings.get(namespace).into_iter().flatten();
        self.cluster_bindings
            .iter()
            .chain(here)
            .filter(|binding| binding.subjects.iter().any(|subject| subject.is(user)))
            .filter_map(|binding| Some((binding, self.roles.get(&binding.role)?.as_slice())))
    }
}

impl Binding {
    fn reason(&self, user: &User) -> String {
        let kind = if self.name.contains('/') { "RoleBinding" } else { "ClusterRoleBinding" };
        let subject = self.subjects.iter().find(|subject| subject.is(user));
        let subject = subject.map(|subject| format!("{} \"{}\"", subject.kind, subject.name)).unwrap_or_default();
        format!("RBAC: allowed by {kind} \"{}\" of {} \"{}\" to {subject}", self.name, self.role_kind, self.role.name)
    }
}

impl Subject {
    /// As a binding in this namespace means it: an account that states no namespace is one of the binding's.
    fn within(mut self, namespace: &str) -> Self {
        if self.kind == "ServiceAccount" && self.namespace.is_empty() {
            namespace.clone_into(&mut self.namespace);
        }
        self
    }

    fn is(&self, user: &User) -> bool {
        match self.kind.as_str() {
            "User" => self.name == user.name,
            "Group" => user.is_in(&self.name),
            "ServiceAccount" => {
                user.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'))
                    == Some((&self.namespace, &self.name))
            }
            _ => false,
        }
    }
}

impl PolicyRule {
    pub(super) fn allows(&self, attributes: &Attributes) -> bool {
        let has = |list: &[String], word: &str| list.iter().any(|known| known == "*" || known == word);
        if !has(&self.verbs, &attributes.verb) {
            return false;
        }
        match &attributes.target {
            Target::Path(path) => self.non_resource_urls.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => pattern == path,
            }),
            Target::Resource { group, resource, subresource, name, .. } => {
                has(&self.api_groups, group)
                    && self.resources.iter().any(|pattern| resource_matches(pattern, resource, subresource))
                    && (self.resource_names.is_empty() || self.resource_names.iter().any(|known| known == name))
            }
        }
    }

    /// True when everything that `other` (of one verb, group, resource and name each) grants, this grants too.
    pub fn covers(&self, other: &Self) -> bool {
        let has = |list: &[String], words: &[String]| {
            words.iter().all(|word| list.iter().any(|known| known == "*" || known == word))
        };
        let resource_covered = |word: &String| {
            let (resource, subresource) = word.split_once('/').unwrap_or((word, ""));
            self.resources.iter().any(|pattern| resource_matches(pattern, resource, subresource))
        };
        let path_covered = |path: &String| {
            self.non_resource_urls.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(prefix) => path.starts_with(prefix),
                None => pattern == path,
            })
        };
        let names = self.resource_names.is_empty()
            || (!other.resource_names.is_empty()
                && other.resource_names.iter().all(|name| self.resource_names.contains(name)));
        has(&self.verbs, &other.verbs)
            && has(&self.api_groups, &other.api_groups)
            && other.resources.iter().all(resource_covered)
            && other.non_resource_urls.iter().all(path_covered)
            && names
    }

    /// This rule as rules of one verb and one target each: what escalation checks compare.
    pub fn atoms(&self) -> Vec<Self> {
        let one = |word: &String| vec![word.clone()];
        let mut out = Vec::new();
        for verb in &self.verbs {
            for url in &self.non_resource_urls {
                out.push(Self { verbs: one(verb), non_resource_urls: one(url), ..Self::default() });
            }
            for group in &self.api_groups {
                for resource in &self.resources {
                    let atom =
                        Self { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Self::default() };
                    match self.resource_names.as_slice() {
                        [] => out.push(atom),
                        names => {
                            out.extend(names.iter().map(|name| Self { resource_names: one(name), ..atom.clone() }));
                        }
                    }
                }
            }
        }
        out
    }
}

/// `*`, `pods`, `pods/log` or `*/scale`.
fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    match pattern.split_once('/') {
        _ if pattern == "*" => true,
        None => subresource.is_empty() && pattern == resource,
        Some(("*", sub)) => sub == subresource,
        Some((known, sub)) => known == resource && sub == subresource,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> PolicyRule {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        PolicyRule {
            verbs: words(verbs),
            api_groups: groups.split(',').map(str::to_owned).collect(),
            resources: words(resources),
            resource_names: words(names),
            non_resource_urls: Vec::new(),
        }
    }

    fn asks(verb: &str, group: &str, resource: &str, name: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let mut attributes = Attributes::resource(&User::default(), verb, group, resource, "ns", name);
        if let Target::Resource { subresource: sub, .. } = &mut attributes.target {
            subresource.clone_into(sub);
        }
        attributes
    }

    #[test]
    fn rules_allow_what_they_name_and_no_more() {
        let pods = rule("get list", "", "pods pods/log", "");
        assert!(pods.allows(&asks("get", "", "pods", "a")));
        assert!(pods.allows(&asks("get", "", "pods/log", "a")));
        assert!(!pods.allows(&asks("get", "", "pods/exec", "a")));
        assert!(!pods.allows(&asks("delete", "", "pods", "a")));
        assert!(!pods.allows(&asks("get", "apps", "pods", "a")));

        let scale = rule("*", "*", "*/scale", "");
        assert!(scale.allows(&asks("update", "apps", "deployments/scale", "a")));
        assert!(!scale.allows(&asks("update", "apps", "deployments", "a")));

        let one = rule("get", "", "secrets", "mine");
        assert!(one.allows(&asks("get", "", "secrets", "mine")));
        assert!(!one.allows(&asks("get", "", "secrets", "yours")));
        assert!(!one.allows(&asks("list", "", "secrets", "")));
    }

    #[test]
    fn subjects_are_whom_they_name() {
        let subject =
            |kind: &str, name: &str| Subject { kind: kind.to_owned(), name: name.to_owned(), namespace: String::new() };
        let reader = User::service_account("shop", "reader");
        assert!(subject("ServiceAccount", "reader").within("shop").is(&reader));
        assert!(!subject("ServiceAccount", "reader").within("bank").is(&reader));
        assert!(!subject("ServiceAccount", "reader").within("").is(&reader));
        assert!(!subject("User", "*").is(&reader));
        assert!(subject("Group", "system:serviceaccounts:shop").is(&reader));
    }

    #[test]
    fn a_rule_covers_only_what_it_grants_itself() {
        let mine = rule("get list", "", "pods", "");
        assert!(rule("get", "", "pods", "").atoms().iter().all(|atom| mine.covers(atom)));
        assert!(rule("get", "", "pods", "a b").atoms().iter().all(|atom| mine.covers(atom)));
        assert!(!rule("get delete", "", "pods", "").atoms().iter().all(|atom| mine.covers(atom)));
        assert!(!rule("get", "", "*", "").atoms().iter().all(|atom| mine.covers(atom)));
        assert!(!mine_named().covers(&rule("get", "", "pods", "")));
    }

    fn mine_named() -> PolicyRule {
        rule("get", "", "pods", "a")
    }
}
