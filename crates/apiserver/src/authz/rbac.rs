//! Role-based access control over the cached roles and bindings.
//!
//! What is decoded of each role and binding is kept, and bindings are known by whom they bind. A change costs the decoding
//! of what changed, by whoever asks next; a request costs what binds its user, and not how many others there are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::warn;

use super::{Attributes, Decision, Target};
use crate::authn::User;
use crate::cache::ResourceCache;

/// The caches that RBAC reads, and what it knows of them.
pub struct Rbac {
    sources: [(Source, Arc<ResourceCache>); 4],
    policy: RwLock<Policy>,
}

/// What a cache holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Roles,
    ClusterRoles,
    Bindings,
    ClusterBindings,
}

#[derive(Default)]
struct Policy {
    /// Up to which event of each cache this is true; `None` before the first look.
    seen: [Option<u64>; 4],
    /// By namespace and name; cluster roles have no namespace.
    roles: HashMap<ObjectKey, Vec<PolicyRule>>,
    bindings: HashMap<ObjectKey, Arc<Binding>>,
    /// By namespace and by whom they bind, in the order of their names; those of the cluster have no namespace.
    by_subject: HashMap<String, HashMap<String, BTreeMap<String, Arc<Binding>>>>,
    /// How many objects have been decoded.
    decoded: u64,
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
        let sources = [
            (Source::Roles, roles),
            (Source::ClusterRoles, cluster_roles),
            (Source::Bindings, role_bindings),
            (Source::ClusterBindings, cluster_role_bindings),
        ];
        Self { sources, policy: RwLock::default() }
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
            Some((binding, _)) => Decision::allowed(binding.reason(&attributes.user)),
            None => Decision::default(),
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

    /// What is true now. Of many who find it out of date one brings it up, and the others wait for that.
    fn policy(&self) -> RwLockReadGuard<'_, Policy> {
        let policy = self.policy.read();
        let current =
            |(at, (_, cache)): (usize, &(Source, Arc<ResourceCache>))| policy.seen[at] == Some(cache.ring_end().0);
        if self.sources.iter().enumerate().all(current) {
            return policy;
        }
        drop(policy);
        let mut policy = self.policy.write();
        for (at, (source, cache)) in self.sources.iter().enumerate() {
            policy.follow(at, *source, cache);
        }
        RwLockWriteGuard::downgrade(policy)
    }
}

impl Source {
    fn is_of_cluster(self) -> bool {
        matches!(self, Self::ClusterRoles | Self::ClusterBindings)
    }
}

impl Policy {
    /// Takes in what has happened in a cache; all of it where that is not known any more.
    fn follow(&mut self, at: usize, source: Source, cache: &ResourceCache) {
        let happened = self.seen[at].and_then(|seen| Some((seen, cache.events_from(seen, usize::MAX)?)));
        let Some((seen, events)) = happened else {
            let (entries, end) = cache.entries_and_end();
            self.forget(source);
            entries.iter().for_each(|entry| self.put(source, entry));
            self.seen[at] = Some(end);
            return;
        };
        self.seen[at] = Some(seen + events.len() as u64);
        for event in events {
            match event.deleted {
                true => self.remove(source, &event.object.key),
                false => self.put(source, &event.object),
            }
        }
    }

    fn forget(&mut self, source: Source) {
        match source {
            Source::Roles | Source::ClusterRoles => {
                self.roles.retain(|key, _| key.namespace.is_empty() != source.is_of_cluster());
            }
            Source::Bindings | Source::ClusterBindings => {
                let of_source = |key: &&ObjectKey| key.namespace.is_empty() == source.is_of_cluster();
                let keys: Vec<_> = self.bindings.keys().filter(of_source).cloned().collect();
                keys.iter().for_each(|key| self.remove(source, key));
            }
        }
    }

    fn remove(&mut self, source: Source, key: &ObjectKey) {
        if matches!(source, Source::Roles | Source::ClusterRoles) {
            self.roles.remove(key);
            return;
        }
        let Some(binding) = self.bindings.remove(key) else { return };
        let Some(here) = self.by_subject.get_mut(&key.namespace) else { return };
        for id in binding.subjects.iter().filter_map(Subject::id) {
            let Some(named) = here.get_mut(&id) else { continue };
            named.remove(&binding.name);
            if named.is_empty() {
                here.remove(&id);
            }
        }
        if here.is_empty() {
            self.by_subject.remove(&key.namespace);
        }
    }

    /// What cannot be decoded grants nothing.
    fn put(&mut self, source: Source, entry: &Entry) {
        self.remove(source, &entry.key);
        self.decoded += 1;
        if matches!(source, Source::Roles | Source::ClusterRoles) {
            if let Some(role) = read::<RoleObject>(source, entry) {
                self.roles.insert(entry.key.clone(), role.rules.unwrap_or_default());
            }
            return;
        }
        let Some(object) = read::<BindingObject>(source, entry) else { return };
        let namespace = entry.key.namespace.as_str();
        let role_namespace = if object.role_ref.kind == "Role" { namespace } else { "" };
        let binding = Arc::new(Binding {
            name: entry.key.to_string(),
            role: ObjectKey::new(role_namespace, object.role_ref.name),
            role_kind: object.role_ref.kind,
            subjects: object.subjects.into_iter().flatten().map(|subject| subject.within(namespace)).collect(),
        });
        let here = self.by_subject.entry(namespace.to_owned()).or_default();
        for id in binding.subjects.iter().filter_map(Subject::id) {
            here.entry(id).or_default().insert(binding.name.clone(), binding.clone());
        }
        self.bindings.insert(entry.key.clone(), binding);
    }

    /// What binds a user in the cluster, then in the namespace, each in the order of names.
    fn bindings_of<'a>(
        &'a self,
        user: &User,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a Binding, &'a [PolicyRule])> + use<'a> {
        let ids: Vec<String> = [format!("User {}", user.name)]
            .into_iter()
            .chain(user.groups.iter().map(|it| format!("Group {it}")))
            .collect();
        let places = ["", namespace].into_iter().take(if namespace.is_empty() { 1 } else { 2 });
        let mut found: Vec<&Arc<Binding>> = Vec::new();
        for here in places.filter_map(|place| self.by_subject.get(place)) {
            let begin = found.len();
            found.extend(ids.iter().filter_map(|id| here.get(id)).flat_map(BTreeMap::values));
            found[begin..].sort_unstable_by(|one, other| one.name.cmp(&other.name));
        }
        // One that binds a user by several of its groups.
        found.dedup_by(|one, other| Arc::ptr_eq(one, other));
        found.into_iter().filter_map(|binding| Some((&**binding, self.roles.get(&binding.role)?.as_slice())))
    }
}

fn read<T: DeserializeOwned>(source: Source, entry: &Entry) -> Option<T> {
    let read = entry.decode();
    read.inspect_err(|why| warn!(%why, object = %entry.key, ?source, "what cannot be read grants nothing")).ok()
}

impl Binding {
    fn reason(&self, user: &User) -> String {
        let (kind, name) = match self.name.split_once('/') {
            Some((namespace, name)) => ("RoleBinding", format!("{name}/{namespace}")),
            None => ("ClusterRoleBinding", self.name.clone()),
        };
        let subject = self.subjects.iter().find(|subject| subject.is(user));
        let subject = subject.map(Subject::described).unwrap_or_default();
        format!("RBAC: allowed by {kind} \"{name}\" of {} \"{}\" to {subject}", self.role_kind, self.role.name)
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

    /// By which the bindings of a user are found: an account is a user too. `None` for kinds that bind nobody.
    fn id(&self) -> Option<String> {
        match self.kind.as_str() {
            "User" | "Group" => Some(format!("{} {}", self.kind, self.name)),
            "ServiceAccount" => Some(format!("User system:serviceaccount:{}:{}", self.namespace, self.name)),
            _ => None,
        }
    }

    /// In the order of upstream's words: an account's name stands before its namespace.
    fn described(&self) -> String {
        match self.kind.as_str() {
            "ServiceAccount" => format!("{} \"{}/{}\"", self.kind, self.name, self.namespace),
            _ => format!("{} \"{}\"", self.kind, self.name),
        }
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
    use bytes::Bytes;
    use serde_json::{Value, json};
    use store::memory::MemoryStore;
    use store::{Backend as _, Change, Expect, Write};
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::cache::Caches;
    use crate::cache::testing::Plain;

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

    async fn write(store: &MemoryStore, plural: &str, name: &str, object: Option<Value>) -> u64 {
        let key = format!("{}{name}", crate::cache::prefix(GROUP, plural));
        let change = object.map_or(Change::Delete, |object| Change::Put(Bytes::from(object.to_string())));
        store.write(Write { key, expect: Expect::Anything, change }).await.unwrap().revision.get()
    }

    const GROUP: &str = "rbac.authorization.k8s.io";

    #[tokio::test]
    async fn a_change_of_one_binding_among_many_costs_one_decoding() {
        const BINDINGS: u64 = 5000;
        let store = Arc::new(MemoryStore::new());
        let binds = |at: u64, user: &str| {
            let subjects = json!([{"kind": "User", "name": user}, {"kind": "Group", "name": "readers"}]);
            json!({
                "metadata": {"name": format!("b{at}"), "namespace": "ns"},
                "roleRef": {"kind": "ClusterRole", "name": format!("r{}", at % 2)}, "subjects": subjects,
            })
        };
        for role in ["r0", "r1"] {
            let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": [if role == "r0" { "pods" } else { "secrets" }]});
            write(&store, "clusterroles", role, Some(json!({"metadata": {"name": role}, "rules": [rule]}))).await;
        }
        for at in 0..BINDINGS {
            let groupless = json!([{"kind": "User", "name": format!("u{at}")}]);
            let mut binding = binds(at, "");
            binding["subjects"] = groupless;
            write(&store, "rolebindings", &format!("ns/b{at}"), Some(binding)).await;
        }
        let caches = Caches::new(store.clone(), Arc::new(Plain));
        let add = async |plural| caches.add(GROUP, plural, Vec::new()).await.unwrap();
        let rbac = Rbac::new(
            add("roles").await,
            add("clusterroles").await,
            add("rolebindings").await,
            add("clusterrolebindings").await,
        );
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (follower, token, from) = (caches.clone(), stop.clone(), store.current());
        tasks.spawn(async move { follower.follow(from, token).await });

        let may = |user: &str, groups: &[&str], resource: &str| {
            let groups = groups.iter().map(|&group| group.to_owned()).collect();
            let user = User { name: user.to_owned(), groups, ..User::default() };
            rbac.authorize(&Attributes::resource(&user, "get", "", resource, "ns", "a"))
        };
        let decoded = || rbac.policy.read().decoded;
        assert!(may("u4998", &[], "pods").allowed && !may("u4998", &[], "secrets").allowed);
        assert_eq!(decoded(), BINDINGS + 2);

        caches.reach(write(&store, "rolebindings", "ns/b7", Some(binds(7, "new"))).await).await;
        let known = may("new", &["readers"], "secrets");
        let reason = "RBAC: allowed by RoleBinding \"b7/ns\" of ClusterRole \"r1\" to User \"new\"";
        assert_eq!((known.allowed, known.reason.as_str()), (true, reason));
        assert!(!may("u7", &[], "secrets").allowed && may("x", &["readers"], "secrets").allowed);
        assert_eq!(decoded(), BINDINGS + 3);

        caches.reach(write(&store, "rolebindings", "ns/b7", None).await).await;
        assert!(!may("new", &["readers"], "secrets").allowed);
        caches.reach(write(&store, "clusterroles", "r0", None).await).await;
        assert!(!may("u4998", &[], "pods").allowed);
        assert_eq!(decoded(), BINDINGS + 3);
        stop.cancel();
    }
}
