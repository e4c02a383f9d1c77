//! What a Pod asks for and may use altogether (`k8s.io/component-helpers/resource`).
//!
//! Containers run beside each other and beside the sidecars; init containers run one after another, each beside the
//! sidecars that were started before it. A Pod needs whichever is more, resource by resource, or what it states itself.

use serde_json::Value;

use super::amounts::Amounts;

/// Which word counts for a container that is being resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// What is asked for.
    Spec,
    /// The most of what is asked for, what was promised and what is in force: none of it is free yet.
    Status,
}

/// What a Pod asks for, its overhead included.
pub fn requests(pod: &Value, source: Source) -> Amounts {
    let mut sum = containers(pod, "requests", source);
    let stated = own(pod, "requests");
    for (name, amount) in stated.iter().filter(|(name, _)| is_pod_level(name)) {
        sum.set(name, amount.clone());
    }
    sum.add(&Amounts::from_json(&pod["spec"]["overhead"]));
    sum
}

/// What a Pod may use, its overhead included where there is a limit.
pub fn limits(pod: &Value, source: Source) -> Amounts {
    let mut sum = containers(pod, "limits", source);
    for (name, amount) in own(pod, "limits").iter().filter(|(name, _)| is_pod_level(name)) {
        sum.set(name, amount.clone());
    }
    let overhead = Amounts::from_json(&pod["spec"]["overhead"]);
    let limited = overhead.only(|name| sum.get(name).is_some_and(|limit| !limit.is_zero()));
    sum.add(&limited);
    sum
}

/// What the Pod's containers ask for (`requests`) or may use (`limits`) together.
pub fn containers(pod: &Value, which: &str, source: Source) -> Amounts {
    let mut sum = Amounts::default();
    for container in list(&pod["spec"], "containers") {
        sum.add(&effective(pod, container, which, source));
    }
    let (mut sidecars, mut most) = (Amounts::default(), Amounts::default());
    for container in list(&pod["spec"], "initContainers") {
        if container["restartPolicy"] == "Always" {
            let amounts = effective(pod, container, which, source);
            sum.add(&amounts);
            sidecars.add(&amounts);
            most.raise(&sidecars);
        } else {
            let mut amounts = Amounts::from_json(&container["resources"][which]);
            amounts.add(&sidecars);
            most.raise(&amounts);
        }
    }
    sum.raise(&most);
    sum
}

/// True when the Pod itself states what it asks for or may use.
pub fn states_own(pod: &Value) -> bool {
    ["requests", "limits"].iter().any(|which| own(pod, which).names().any(is_pod_level))
}

fn own(pod: &Value, which: &str) -> Amounts {
    Amounts::from_json(&pod["spec"]["resources"][which])
}

/// What can be stated for a whole Pod (KEP-2837).
fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

fn effective(pod: &Value, container: &Value, which: &str, source: Source) -> Amounts {
    let spec = Amounts::from_json(&container["resources"][which]);
    if source == Source::Spec {
        return spec;
    }
    let statuses = ["containerStatuses", "initContainerStatuses"];
    let mut statuses = statuses.iter().flat_map(|field| list(&pod["status"], field));
    let status = statuses.find(|status| status["name"] == container["name"]);
    let Some(status) = status.filter(|status| status["resources"].is_object()) else { return spec };
    let mut amounts = Amounts::from_json(&status["resources"][which]);
    if which == "requests" {
        amounts.raise(&Amounts::from_json(&status["allocatedResources"]));
    }
    if !is_infeasible(pod) {
        amounts.raise(&spec);
    }
    amounts
}

/// A resize that its node can never fulfil takes nothing.
fn is_infeasible(pod: &Value) -> bool {
    let pending = list(&pod["status"], "conditions").find(|condition| condition["type"] == "PodResizePending");
    pending.is_some_and(|condition| condition["reason"] == "Infeasible")
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value[field].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(name: &str, cpu: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
    }

    #[test]
    fn a_pod_needs_what_its_containers_or_one_init_container_with_sidecars_need() {
        let mut sidecar = container("s", "1");
        sidecar["restartPolicy"] = json!("Always");
        let mut pod = json!({"spec": {
            "containers": [container("a", "1"), container("b", "500m")],
            "initContainers": [container("first", "2"), sidecar, container("last", "3")],
        }});
        assert_eq!(requests(&pod, Source::Spec).listed(), "cpu=4");
        pod["spec"]["initContainers"].as_array_mut().unwrap().pop();
        assert_eq!(requests(&pod, Source::Spec).listed(), "cpu=2500m");
        pod["spec"]["resources"] = json!({"requests": {"cpu": "5", "example.com/x": "1"}});
        pod["spec"]["overhead"] = json!({"cpu": "100m", "memory": "1Mi"});
        assert_eq!(requests(&pod, Source::Spec).listed(), "cpu=5100m,memory=1Mi");
        assert_eq!(limits(&pod, Source::Spec).listed(), "cpu=2600m");
        assert!(states_own(&pod));
    }

    #[test]
    fn what_a_resize_gives_back_is_counted_until_it_is_back() {
        let mut pod = json!({
            "spec": {"containers": [container("a", "1")]},
            "status": {"containerStatuses": [{
                "name": "a", "allocatedResources": {"cpu": "2"},
                "resources": {"requests": {"cpu": "3"}, "limits": {"cpu": "3"}},
            }]},
        });
        assert_eq!(requests(&pod, Source::Status).listed(), "cpu=3");
        assert_eq!(requests(&pod, Source::Spec).listed(), "cpu=1");
        pod["spec"]["containers"][0] = container("a", "9");
        assert_eq!(requests(&pod, Source::Status).listed(), "cpu=9");
        pod["status"]["conditions"] = json!([{"type": "PodResizePending", "reason": "Infeasible"}]);
        assert_eq!(requests(&pod, Source::Status).listed(), "cpu=3");
        assert_eq!(limits(&pod, Source::Status).listed(), "cpu=3");
    }
}
