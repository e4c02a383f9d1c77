//! What a pod has been given of its node's CPU and memory, which is not what it asks for while the node has not more
//! (KEP-1287; upstream: `pkg/kubelet/allocation`).
//!
//! The manager gives, to one pod after the other; the worker brings it about, and knows of nothing but what is given. It
//! is kept in the pod's folder: an agent that starts anew gives nobody more by that.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use serde::{Deserialize, Serialize};

use super::spec::{self, Role};
use crate::config::Config;

/// Why a pod has not got what it asks for.
pub(crate) const DEFERRED: &str = "Deferred";

/// What each container has, by its name. Only what can be resized is here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Allocation(BTreeMap<String, ResourceRequirements>);

/// What has become of a pod's wishes, as its worker tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Resize {
    /// Nothing of pods that nobody can resize.
    pub(crate) allocation: Option<Allocation>,
    pub(crate) pending: Option<Pending>,
    /// The generation of the pod whose wish was granted last.
    pub(crate) granted: Option<i64>,
}

/// A wish that is to wait until others have ended or become less.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    pub(crate) message: String,
    pub(crate) generation: Option<i64>,
}

impl Resize {
    /// Whether the pod asks for something else than it has.
    pub(crate) fn is_wanted(&self, pod: &Pod) -> bool {
        self.allocation.as_ref().is_some_and(|allocation| *allocation != Allocation::of(pod))
    }

    /// The pod as if it asked for what it has.
    pub(crate) fn applied(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        match &self.allocation {
            Some(allocation) if *allocation != Allocation::of(pod) => Arc::new(allocation.applied(pod)),
            _ => Arc::clone(pod),
        }
    }
}

impl Allocation {
    /// What the pod asks for.
    pub(crate) fn of(pod: &Pod) -> Self {
        let spec = spec::spec(pod);
        let all = spec::containers(&spec).into_iter();
        let resizable = all.filter(|(role, _)| matches!(role, Role::Regular | Role::Sidecar));
        Self(resizable.map(|(_, it)| (it.name.clone(), it.resources.clone().unwrap_or_default())).collect())
    }

    fn applied(&self, pod: &Pod) -> Pod {
        let mut pod = pod.clone();
        if let Some(spec) = &mut pod.spec {
            for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
                if let Some(given) = self.0.get(&container.name) {
                    container.resources = Some(given.clone());
                }
            }
        }
        pod
    }

    /// What was given by an earlier run of the agent.
    pub(crate) fn read(config: &Config, uid: &str) -> Option<Self> {
        let text = std::fs::read(Self::path(config, uid)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// A pod of the class BestEffort has nothing and can get nothing: of it nothing is kept.
    pub(crate) fn write(&self, config: &Config, uid: &str) -> std::io::Result<()> {
        if self.0.values().all(|given| given.requests.is_none() && given.limits.is_none()) {
            return Ok(());
        }
        std::fs::create_dir_all(config.pod_dir(uid))?;
        // Containers do not outlive the machine, nor need this.
        linux::files::replace(&Self::path(config, uid), &serde_json::to_vec(self)?, 0o600)
    }

    fn path(config: &Config, uid: &str) -> std::path::PathBuf {
        config.pod_dir(uid).join("allocation.json")
    }
}

/// In which order wishes are looked at: first what asks for no more, then by priority, then what is Guaranteed.
pub(crate) fn order(pod: &Pod, resize: &Resize) -> impl Ord + use<> {
    let sum = |pod: &Pod, name: &str| crate::admission::requests(&spec::spec(pod)).get(name).copied().unwrap_or(0.0);
    let given = resize.allocation.as_ref().map_or_else(|| pod.clone(), |it| it.applied(pod));
    let grows = ["cpu", "memory"].into_iter().any(|name| sum(pod, name) > sum(&given, name));
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    (grows, std::cmp::Reverse(priority), spec::qos_class(&spec::spec(pod)) != "Guaranteed")
}

/// The words of an event: what the pod is to have.
pub(crate) fn summary(what: &str, pod: &Pod, generation: Option<i64>, error: &str) -> String {
    #[derive(Serialize)]
    struct One<'a> {
        name: &'a str,
        resources: ResourceRequirements,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct All<'a> {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        init_containers: Vec<One<'a>>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        containers: Vec<One<'a>>,
        generation: i64,
        #[serde(skip_serializing_if = "str::is_empty")]
        error: &'a str,
    }
    let spec = spec::spec(pod);
    let one = |it: &'_ k8s_openapi::api::core::v1::Container| it.resources.clone().unwrap_or_default();
    let all = All {
        init_containers: spec
            .init_containers
            .iter()
            .flatten()
            .map(|it| One { name: &it.name, resources: one(it) })
            .collect(),
        containers: spec.containers.iter().map(|it| One { name: &it.name, resources: one(it) }).collect(),
        generation: generation.unwrap_or(0),
        error,
    };
    match serde_json::to_string(&all) {
        Ok(text) => format!("Pod resize {what}: {text}"),
        Err(_) => format!("Pod resize {what}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(cpu: &str, priority: i32) -> Arc<Pod> {
        let resources = json!({"requests": {"cpu": cpu}});
        let containers = json!([{"name": "c", "resources": resources}]);
        let pod = json!({"metadata": {"name": "p"}, "spec": {"priority": priority, "containers": containers}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn has(pod: &Pod) -> Resize {
        Resize { allocation: Some(Allocation::of(pod)), ..Resize::default() }
    }

    #[test]
    fn a_pod_is_what_it_has_been_given() {
        let (small, large) = (pod("1", 0), pod("2", 0));
        let resize = has(&small);
        assert!(resize.is_wanted(&large) && !resize.is_wanted(&small));
        assert_eq!(resize.applied(&large), small);
        assert!(Arc::ptr_eq(&resize.applied(&small), &small), "nothing is made anew that is the same");
        assert!(!Resize::default().is_wanted(&large), "what nobody can resize is as it says");
    }

    #[test]
    fn who_asks_for_less_is_heard_first_and_then_who_matters_more() {
        let key = |wanted: &Arc<Pod>, given: &Arc<Pod>| order(wanted, &has(given));
        assert!(key(&pod("1", 0), &pod("2", 0)) < key(&pod("2", 9), &pod("1", 9)));
        assert!(key(&pod("2", 9), &pod("1", 9)) < key(&pod("2", 0), &pod("1", 0)));
    }

    #[test]
    fn events_say_what_a_pod_is_to_have() {
        let text = summary("Deferred", &pod("2", 0), Some(3), "no room");
        let expected = r#"Pod resize Deferred: {"containers":[{"name":"c","resources":{"requests":{"cpu":"2"}}}],"generation":3,"error":"no room"}"#;
        assert_eq!(text, expected);
    }
}
