//! `PodSecurity`: the labels of a namespace say which Pods it takes, which it warns of and which it notes.
//!
//! Pods are refused; what makes Pods later is only warned of, since its template may never become one unchanged.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use api::object::ObjectKey;
use api::podsecurity::{Level, LevelVersion, Policy};
use api::status::{Cause, Status};
use serde::Deserialize;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request, figures};
use crate::cache::{Caches, Filter, ResourceCache};
use crate::document::Document;

/// Writes below a Pod that say nothing about what it runs.
const HARMLESS: &[&str] = &["attach", "binding", "eviction", "exec", "log", "portforward", "proxy", "status"];
/// What its labels and annotations begin with.
const PREFIX: &str = "pod-security.kubernetes.io/";
/// Of how many Pods a namespace is told that they break its new rules.
const MOST_PODS: usize = 3000;

pub struct PodSecurity {
    pub caches: Arc<Caches>,
    pub namespaces: Arc<ResourceCache>,
    pub pods: Arc<ResourceCache>,
    /// What counts for namespaces that say nothing.
    pub(super) defaults: Policy,
    pub(super) exemptions: Exemptions,
}

/// Whose Pods are not looked at.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Exemptions {
    pub(super) usernames: Vec<String>,
    pub(super) namespaces: Vec<String>,
    pub(super) runtime_classes: Vec<String>,
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

    /// What the namespace wants, and what of its labels cannot be read.
    async fn policy(&self, namespace: &str) -> Result<(Policy, Vec<Cause>), Status> {
        let key = ObjectKey::new("", namespace);
        let mut entry = self.namespaces.get(&key);
        if entry.is_none() {
            self.caches.reach_current().await;
            entry = self.namespaces.get(&key);
        }
        let why = || Status::internal(format!("failed to lookup namespace \"{namespace}\""));
        Ok(self.defaults.with_labels(&json!(entry.ok_or_else(why)?.labels)))
    }

    /// True of a write that is not looked at, by whose it is.
    fn exempts(&self, request: &Request) -> bool {
        let exempt = match () {
            () if self.exemptions.namespaces.contains(&request.namespace) => "namespace",
            () if self.exemptions.usernames.contains(&request.user.name) => "user",
            () => return false,
        };
        annotate(request, "exempt", exempt);
        figures::exempted(request);
        true
    }

    async fn pod(&self, request: &Request, pod: &Value) -> Result<(), Status> {
        if self.exempts(request) {
            return Ok(());
        }
        let (policy, unread) = self.policy(&request.namespace).await.inspect_err(|_| figures::failed(request, true))?;
        if unread.is_empty() && policy.is_unlimited() {
            annotate(request, "enforce-policy", LevelVersion::UNLIMITED.to_string());
            figures::evaluated(request, "enforce", policy.enforce, true);
            return Ok(());
        }
        if request.old.as_ref().is_some_and(|old| !is_significant(pod, old)) {
            return Ok(());
        }
        self.evaluate(request, pod, policy, &unread, true)
    }

    async fn template(&self, request: &Request, template: &Value) -> Result<(), Status> {
        if self.exempts(request) {
            return Ok(());
        }
        // Nothing is refused here, so a namespace that cannot be found is for others to tell.
        let (policy, unread) = match self.policy(&request.namespace).await {
            Ok(found) => found,
            Err(why) => {
                figures::failed(request, true);
                annotate(request, "error", why.message);
                return Ok(());
            }
        };
        let silent = policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged;
        match unread.is_empty() && silent {
            true => Ok(()),
            false => self.evaluate(request, template, policy, &unread, false),
        }
    }

    /// Looks at a Pod in each mode; `enforce` is for Pods themselves.
    fn evaluate(
        &self,
        request: &Request,
        pod: &Value,
        policy: Policy,
        unread: &[Cause],
        enforce: bool,
    ) -> Result<(), Status> {
        if self.exempts_class(&pod["spec"]) {
            annotate(request, "exempt", "runtimeClass");
            figures::exempted(request);
            return Ok(());
        }
        if !unread.is_empty() {
            let said: Vec<_> = unread.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
            annotate(request, "error", format!("Failed to parse policy: {}", said.join(", ")));
            figures::failed(request, false);
        }
        let broken = |level: LevelVersion| level.violations(&pod["metadata"], &pod["spec"]);
        let mut refusal = None;
        if enforce {
            let level = policy.enforce;
            annotate(request, "enforce-policy", level.to_string());
            let broken = broken(level);
            figures::evaluated(request, "enforce", level, broken.is_empty());
            if !broken.is_empty() {
                refusal = Some(request.forbid(&format!("violates PodSecurity \"{level}\": {}", broken.details())));
            }
        }
        let would = |mode: &str, level: LevelVersion| {
            let broken = broken(level);
            (!broken.is_empty()).then(|| {
                figures::evaluated(request, mode, level, false);
                format!("would violate PodSecurity \"{level}\": {}", broken.details())
            })
        };
        if let Some(said) = would("audit", policy.audit) {
            annotate(request, "audit-violations", said);
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        if let Some(said) = would("warn", policy.warn) {
            request.warn(said);
        }
        Ok(())
    }

    fn namespace(&self, request: &Request, namespace: &Value) -> Result<(), Status> {
        let read = |namespace: &Value| self.defaults.with_labels(&namespace["metadata"]["labels"]);
        let ((new, causes), old) = (read(namespace), request.old.as_ref().map(read));
        let known = old.as_ref().is_some_and(|(_, known)| *known == causes);
        if !causes.is_empty() && !known {
            return Err(Status::invalid("", "Namespace", &request.name, causes));
        }
        let stricter = old.is_none_or(|(old, _)| is_stricter(new.enforce, old.enforce));
        if stricter && self.exemptions.namespaces.iter().any(|exempt| exempt == namespace.name()) {
            if let Some(said) = self.ignored(namespace, &new) {
                request.warn(said);
            }
        } else if stricter && request.operation == Operation::Update {
            let filter = Filter { namespace: Some(request.name.clone()), ..Filter::default() };
            let pods: Vec<Value> = self.pods.list(&filter).entries.iter().map(|entry| entry.to_value()).collect();
            let pods = pods.into_iter().filter(|pod| !self.exempts_class(&pod["spec"])).collect();
            violations_of(&request.name, pods, new.enforce).into_iter().for_each(|text| request.warn(text));
        }
        Ok(())
    }
}

impl PodSecurity {
    fn exempts_class(&self, spec: &Value) -> bool {
        let class = spec["runtimeClassName"].as_str();
        class.is_some_and(|class| self.exemptions.runtime_classes.iter().any(|exempt| exempt == class))
    }

    /// What is said to whoever labels a namespace that is exempt.
    fn ignored(&self, namespace: &Value, policy: &Policy) -> Option<String> {
        if policy.is_unlimited() || *policy == self.defaults {
            return None;
        }
        let labels = &namespace["metadata"]["labels"];
        let modes = [("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn)].into_iter();
        let said = modes.filter(|(mode, level)| {
            let labelled = [(*mode).to_owned(), format!("{mode}-version")];
            let labelled = labelled.iter().any(|label| !labels[format!("{PREFIX}{label}")].is_null());
            level.level != Level::Privileged && labelled
        });
        let said: Vec<String> = said.map(|(mode, level)| format!("{mode}={level}")).collect();
        let (name, said) = (namespace.name(), said.join(", "));
        Some(format!("namespace \"{name}\" is exempt from Pod Security, and the policy ({said}) will be ignored"))
    }
}

/// Tells the audit log.
fn annotate(request: &Request, key: &str, value: impl Into<String>) {
    request.annotate(format!("{PREFIX}{key}"), value);
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
