//! `PodSecurity`: the labels of a namespace say which Pods it takes, which it warns of and which it notes.
//!
//! Pods are refused; what makes Pods later is only warned of, since its template may never become one unchanged.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use api::object::ObjectKey;
use api::podsecurity::{Level, LevelVersion, Policy};
use api::status::Status;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::{Caches, Filter, ResourceCache};

/// Writes below a Pod that say nothing about what it runs.
const HARMLESS: &[&str] = &["attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "status"];
/// Of how many Pods a namespace is told that they break its new rules.
const MOST_PODS: usize = 3000;

pub struct PodSecurity {
    pub caches: Arc<Caches>,
    pub namespaces: Arc<ResourceCache>,
    pub pods: Arc<ResourceCache>,
}

impl Plugin for PodSecurity {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.check(request))
    }
}

impl PodSecurity {
    async fn check(&self, request: &Request) -> Result<(), Status> {
        let Some(object) = &request.object else { return Ok(()) };
        if !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        match (request.group.as_str(), request.resource.as_str(), request.subresource.as_str()) {
            ("", "namespaces", "") => self.namespace(request, object),
            ("", "pods", subresource) if !HARMLESS.contains(&subresource) => self.pod(request, object).await,
            (group, resource, "") => match template(group, resource, object) {
                Some(template) => self.template(request, template).await,
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    async fn policy(&self, namespace: &str) -> Result<Policy, Status> {
        let key = ObjectKey::new("", namespace);
        let mut entry = self.namespaces.get(&key);
        if entry.is_none() {
            self.caches.reach_current().await;
            entry = self.namespaces.get(&key);
        }
        let why = || Status::internal(format!("failed to lookup namespace \"{namespace}\""));
        Ok(Policy::of_labels(&json!(entry.ok_or_else(why)?.labels)).0)
    }

    async fn pod(&self, request: &Request, pod: &Value) -> Result<(), Status> {
        if request.old.as_ref().is_some_and(|old| !is_significant(pod, old)) {
            return Ok(());
        }
        let policy = self.policy(&request.namespace).await?;
        let broken = policy.enforce.violations(&pod["metadata"], &pod["spec"]);
        if !broken.is_empty() {
            return Err(request.forbid(&format!("violates PodSecurity \"{}\": {}", policy.enforce, broken.details())));
        }
        warn(request, policy.warn, pod);
        Ok(())
    }

    async fn template(&self, request: &Request, template: &Value) -> Result<(), Status> {
        // Nothing is refused here, so a namespace that cannot be found is for others to tell.
        if let Ok(policy) = self.policy(&request.namespace).await {
            warn(request, policy.warn, template);
        }
        Ok(())
    }

    fn namespace(&self, request: &Request, namespace: &Value) -> Result<(), Status> {
        let (new, causes) = Policy::of_labels(&namespace["metadata"]["labels"]);
        let old = request.old.as_ref().map(|old| Policy::of_labels(&old["metadata"]["labels"]));
        let known = old.as_ref().is_some_and(|(_, known)| *known == causes);
        if !causes.is_empty() && !known {
            return Err(Status::invalid("", "Namespace", &request.name, causes));
        }
        if let Some((old, _)) = old
            && is_stricter(new.enforce, old.enforce)
        {
            let filter = Filter { namespace: Some(request.name.clone()), ..Filter::default() };
            let pods: Vec<Value> = self.pods.list(&filter).entries.iter().map(|entry| entry.to_value()).collect();
            violations_of(&request.name, pods, new.enforce).into_iter().for_each(|text| request.warn(text));
        }
        Ok(())
    }
}

fn warn(request: &Request, level: LevelVersion, pod: &Value) {
    let broken = level.violations(&pod["metadata"], &pod["spec"]);
    if !broken.is_empty() {
        request.warn(format!("would violate PodSecurity \"{level}\": {}", broken.details()));
    }
}

/// Whether Pods may be refused that were not before.
fn is_stricter(new: LevelVersion, old: LevelVersion) -> bool {
    let relaxed = new.version == old.version && new.level <= old.level;
    new != old && new.level != Level::Privileged && !relaxed
}

/// The template of the Pods that a workload makes.
fn template<'a>(group: &str, resource: &str, object: &'a Value) -> Option<&'a Value> {
    let template = match (group, resource) {
        ("", "podtemplates") => &object["template"],
        ("", "replicationcontrollers")
        | ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
        | ("batch", "jobs") => &object["spec"]["template"],
        ("batch", "cronjobs") => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    template.is_object().then_some(template)
}

/// Whether an update changes what a Pod runs: images, and containers to debug it.
fn is_significant(new: &Value, old: &Value) -> bool {
    fn containers<'a>(pod: &'a Value, list: &str) -> Vec<(&'a Value, &'a Value)> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers.map(|container| (&container["name"], &container["image"])).collect()
    }
    let changed = |list: &str| {
        let images = |pod| containers(pod, list).into_iter().map(|(_, image)| image).collect::<Vec<_>>();
        images(new) != images(old)
    };
    let before = containers(old, "ephemeralContainers");
    let debugged = containers(new, "ephemeralContainers").iter().any(|container| !before.contains(container));
    changed("containers") || changed("initContainers") || debugged
}

/// What the Pods of a namespace break of its new rules, Pods alike together.
fn violations_of(namespace: &str, pods: Vec<Value>, level: LevelVersion) -> Vec<String> {
    let total = pods.len();
    let pods = varied(pods);
    let mut broken: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in pods.iter().take(MOST_PODS) {
        let violations = level.violations(&pod["metadata"], &pod["spec"]);
        if violations.is_empty() {
            continue;
        }
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let (first, count) = broken.entry(violations.reasons()).or_insert_with(|| (name.to_owned(), 0));
        *count += 1;
        if name < first.as_str() {
            name.clone_into(first);
        }
    }
    let mut said = Vec::new();
    if total > MOST_PODS {
        said.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {total} existing pods"
        ));
    }
    if !broken.is_empty() {
        said.push(format!(
            "existing pods in namespace \"{namespace}\" violate the new PodSecurity enforce level \"{level}\""
        ));
    }
    let mut lines: Vec<String> = broken
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            count => format!("{name} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    lines.sort();
    said.extend(lines);
    said
}

/// The Pods in an order that has one of each controller before the second of any.
fn varied(pods: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::new();
    let (mut first, more): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| {
        let mut owners = pod["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let controller = owners.find(|owner| owner["controller"] == true);
        controller.is_none_or(|owner| seen.insert(owner["uid"].as_str().unwrap_or_default().to_owned()))
    });
    first.extend(more);
    first
}

#[cfg(test)]
mod tests {
    use api::podsecurity::Version;
    use serde_json::json;

    use super::*;

    const BASELINE: LevelVersion = LevelVersion { level: Level::Baseline, version: Version::Latest };

    #[test]
    fn pods_alike_are_told_of_together() {
        let pod = |name: &str, uid: &str| {
            let owner = json!([{"uid": uid, "controller": true}]);
            json!({"metadata": {"name": name, "ownerReferences": owner}, "spec": {"hostPID": true}})
        };
        let mut other = pod("z", "3");
        other["spec"] =
            json!({"hostPID": true, "containers": [{"name": "c", "securityContext": {"privileged": true}}]});
        let pods = vec![pod("b", "1"), pod("c", "1"), pod("a", "2"), other, json!({"metadata": {"name": "fine"}})];
        let said = violations_of("shop", pods.clone(), BASELINE);
        assert_eq!(
            said,
            [
                "existing pods in namespace \"shop\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "a (and 2 other pods): host namespaces",
                "z: host namespaces, privileged",
            ]
        );
        let order: Vec<_> = varied(pods).iter().map(|pod| pod["metadata"]["name"].clone()).collect();
        assert_eq!(order, ["b", "a", "z", "fine", "c"]);
    }

    #[test]
    fn only_images_and_debuggers_matter_to_a_pod_that_is_there() {
        let pod = json!({"spec": {"containers": [{"name": "a", "image": "one"}]}});
        let mut labelled = pod.clone();
        labelled["metadata"] = json!({"labels": {"a": "b"}});
        assert!(!is_significant(&labelled, &pod));
        let mut changed = pod.clone();
        changed["spec"]["containers"][0]["image"] = json!("two");
        assert!(is_significant(&changed, &pod));
        let mut debugged = pod.clone();
        debugged["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "shell"}]);
        assert!(is_significant(&debugged, &pod));
        assert!(!is_significant(&debugged, &debugged));
    }

    #[test]
    fn namespaces_hear_of_stricter_rules_only() {
        let at = |level, version| LevelVersion { level, version };
        let privileged = at(Level::Privileged, Version::Latest);
        assert!(is_stricter(BASELINE, privileged));
        assert!(!is_stricter(privileged, BASELINE));
        assert!(!is_stricter(BASELINE, at(Level::Restricted, Version::Latest)));
        assert!(is_stricter(BASELINE, at(Level::Restricted, Version::Minor(20))));
    }
}
