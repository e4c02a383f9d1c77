//! Whether the node takes a pod: what the scheduler has checked, checked once more against what is really here. Pure.
//!
//! Reasons and messages are upstream's (`pkg/kubelet/lifecycle`): they end in the status of a Failed pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec};

use crate::pods::spec::{self, Role};
use crate::quantity;
use crate::status::Verdict;

/// Refuses a pod that does not fit beside the `others`.
pub(crate) fn admit(
    pod: &Pod,
    others: &[Arc<Pod>],
    allocatable: &BTreeMap<String, f64>,
    node: Option<&Node>,
) -> Result<(), Verdict> {
    let running: Vec<&Arc<Pod>> = others.iter().filter(|other| !spec::has_ended(other)).collect();
    fits(pod, &running, allocatable, node)?;
    let spec = spec::spec(pod);
    if let Some(node) = node {
        selected(&spec, node)?;
    }
    ports_free(&spec, &running)?;
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return Err(verdict("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"));
    }
    Ok(())
}

fn verdict(reason: &str, message: impl Into<String>) -> Verdict {
    Verdict::new(reason, message)
}

fn fits(
    pod: &Pod,
    running: &[&Arc<Pod>],
    allocatable: &BTreeMap<String, f64>,
    node: Option<&Node>,
) -> Result<(), Verdict> {
    let most = allocatable.get("pods").copied().unwrap_or(f64::INFINITY);
    if running.len() as f64 + 1.0 > most {
        return Err(out_of("pods", 1.0, running.len() as f64, most));
    }
    // What others announce on the Node (extended resources) counts as they say.
    let announced = node.and_then(|node| node.status.as_ref()?.allocatable.as_ref());
    let spec = spec::spec(pod);
    for (name, wanted) in requests(&spec) {
        if wanted == 0.0 {
            continue;
        }
        let has = match allocatable.get(&name) {
            Some(own) => *own,
            None => quantity::of(announced, &name).unwrap_or(0.0),
        };
        let used: f64 =
            running.iter().map(|other| requests(&spec::spec(other)).get(&name).copied().unwrap_or(0.0)).sum();
        if used + wanted > has * (1.0 + 1e-9) {
            return Err(out_of(&name, wanted, used, has));
        }
    }
    Ok(())
}

fn out_of(name: &str, wanted: f64, used: f64, has: f64) -> Verdict {
    let unit = if name == "cpu" { 1000.0 } else { 1.0 };
    let number = |value: f64| (value * unit).round() as i64;
    let message = format!(
        "Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {}",
        number(wanted),
        number(used),
        number(has)
    );
    verdict(&format!("OutOf{name}"), message)
}

/// What a pod asks for, as scheduling counts: what runs together, or what runs before it if that is more.
pub(crate) fn requests(spec: &PodSpec) -> BTreeMap<String, f64> {
    let of = |container: &Container| -> BTreeMap<String, f64> {
        let resources = container.resources.clone().unwrap_or_default();
        let mut wanted = resources.limits.unwrap_or_default();
        wanted.extend(resources.requests.unwrap_or_default());
        wanted.into_iter().filter_map(|(name, value)| Some((name, quantity::parse(&value.0)?))).collect()
    };
    let add = |sum: &mut BTreeMap<String, f64>, more: &BTreeMap<String, f64>| {
        for (name, value) in more {
            *sum.entry(name.clone()).or_default() += value;
        }
    };
    let (mut sidecars, mut before) = (BTreeMap::new(), BTreeMap::<String, f64>::new());
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        let mut at_once = sidecars.clone();
        add(&mut at_once, &own);
        if spec::init_role(container) == Role::Sidecar {
            sidecars.clone_from(&at_once);
        }
        for (name, value) in at_once {
            let most = before.entry(name).or_default();
            *most = most.max(value);
        }
    }
    let mut together = sidecars;
    for container in &spec.containers {
        add(&mut together, &of(container));
    }
    for (name, value) in before {
        let most = together.entry(name).or_default();
        *most = most.max(value);
    }
    if let Some(pod_level) = spec.resources.as_ref().and_then(|it| it.requests.as_ref()) {
        together.extend(pod_level.iter().filter_map(|(name, it)| Some((name.clone(), quantity::parse(&it.0)?))));
    }
    let overhead = spec.overhead.clone().unwrap_or_default();
    add(
        &mut together,
        &overhead.iter().filter_map(|(name, it)| Some((name.clone(), quantity::parse(&it.0)?))).collect(),
    );
    together
}

/// The node's labels against nodeSelector and required node affinity.
fn selected(spec: &PodSpec, node: &Node) -> Result<(), Verdict> {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let plain = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|it| it.node_affinity.as_ref());
    let required = affinity.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let terms = required.is_none_or(|it| it.node_selector_terms.iter().any(|term| matches(term, &labels, name)));
    if plain && terms {
        return Ok(());
    }
    Err(verdict("NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"))
}

/// Whether a node of these labels and this name is one that the term selects.
pub(crate) fn matches(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term that says nothing selects nothing.
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|it| holds(it, labels.get(&it.key).map(String::as_str)))
        && fields.iter().all(|it| it.key == "metadata.name" && holds(it, Some(name)))
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|it| it == value));
    let compare = |test: fn(&i64, &i64) -> bool| {
        let number = |text: &str| text.parse::<i64>().ok();
        let (have, limit) = (value.and_then(number), values.first().and_then(|it| number(it)));
        have.zip(limit).is_some_and(|(have, limit)| test(&have, &limit))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

/// Two pods cannot hold the same port of the host.
fn ports_free(spec: &PodSpec, running: &[&Arc<Pod>]) -> Result<(), Verdict> {
    let own = host_ports(spec);
    let taken = running.iter().any(|other| {
        let theirs = host_ports(&spec::spec(other));
        own.iter().any(|mine| theirs.iter().any(|it| collide(mine, it)))
    });
    if taken {
        let message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return Err(verdict("NodePorts", message));
    }
    Ok(())
}

/// Address, protocol, port.
type HostPort = (String, String, i32);

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let ports = all.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let ip = port.host_ip.clone().filter(|ip| !ip.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
            Some((ip, port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), number))
        })
        .collect()
}

fn collide(a: &HostPort, b: &HostPort) -> bool {
    let any = |ip: &str| ip == "0.0.0.0" || ip == "::";
    a.1 == b.1 && a.2 == b.2 && (a.0 == b.0 || any(&a.0) || any(&b.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Arc<Pod> {
        let mut spec = spec;
        if spec["containers"].is_null() {
            spec["containers"] = json!([{"name": "c"}]);
        }
        Arc::new(serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap())
    }

    fn check(new: Value, others: &[Value], expect: &str) {
        let others: Vec<Arc<Pod>> = others.iter().cloned().map(pod).collect();
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"zone": "a", "size": "4"}},
            "status": {"allocatable": {"example.com/gpu": "1"}},
        }))
        .unwrap();
        let allocatable = [("cpu", 1.0), ("memory", 1e9), ("pods", 3.0)].map(|(name, it)| (name.to_owned(), it)).into();
        let got = admit(&pod(new), &others, &allocatable, Some(&node));
        let text = got.err().map(|it| format!("{}: {}", it.reason, it.message)).unwrap_or_default();
        assert_eq!(text, expect);
    }

    fn cpu(request: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": request}}}]})
    }

    #[test]
    fn resources_are_counted_beside_the_other_pods() {
        check(cpu("400m"), &[cpu("600m")], "");
        check(
            cpu("500m"),
            &[cpu("600m")],
            "OutOfcpu: Node didn't have enough resource: cpu, requested: 500, used: 600, capacity: 1000",
        );
        check(
            json!({}),
            &[json!({}), json!({}), json!({})],
            "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3",
        );
        check(
            json!({"containers": [{"name": "c", "resources": {"limits": {"example.com/gpu": "2"}}}]}),
            &[],
            "OutOfexample.com/gpu: Node didn't have enough resource: example.com/gpu, requested: 2, used: 0, capacity: 1",
        );
    }

    #[test]
    fn the_larger_of_init_and_run_counts_and_sidecars_count_in_both() {
        let spec: PodSpec = serde_json::from_value(json!({
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "1"}}},
            ],
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "300m", "memory": "1k"}}}],
        }))
        .unwrap();
        let requests = requests(&spec);
        assert!((requests["cpu"] - 1.1).abs() < 1e-9, "{requests:?}");
        assert!((requests["memory"] - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn labels_must_match() {
        let refused = "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        check(json!({"nodeSelector": {"zone": "a"}}), &[], "");
        check(json!({"nodeSelector": {"zone": "b"}}), &[], refused);
        let affinity = |operator: &str, value: &str| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "size", "operator": operator, "values": [value]}]},
            ]}}}})
        };
        check(affinity("Gt", "3"), &[], "");
        check(affinity("Lt", "3"), &[], refused);
        check(affinity("NotIn", "5"), &[], "");
    }

    #[test]
    fn a_port_of_the_host_is_held_by_one_pod() {
        let port = |ip: &str, protocol: &str| {
            json!({"containers": [{"name": "c", "ports":
                [{"containerPort": 80, "hostPort": 8080, "hostIP": ip, "protocol": protocol}]}]})
        };
        let refused =
            "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        check(port("127.0.0.1", "TCP"), &[port("10.0.0.1", "TCP")], "");
        check(port("127.0.0.1", "TCP"), &[port("127.0.0.1", "UDP")], "");
        check(port("127.0.0.1", "TCP"), &[port("", "TCP")], refused);
    }
}
