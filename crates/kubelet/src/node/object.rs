//! The Node object as the agent makes it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use api::cri::{Image, RuntimeHandler};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeFeatures, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::capacity::Capacity;
use crate::config::Config;
use crate::eviction::Pressure;
use crate::status::whole_seconds;

/// Upstream's limit: names of each image on the Node.
const MOST_NAMES: usize = 5;

/// What was seen of the node.
pub(super) struct Facts {
    pub(super) info: NodeSystemInfo,
    pub(super) capacity: Capacity,
    pub(super) pressure: Pressure,
    pub(super) images: Vec<Image>,
    pub(super) handlers: Vec<RuntimeHandler>,
    /// Why pods cannot run here.
    pub(super) unready: Option<String>,
}

/// The object that registers the node, without its status.
pub(super) fn registration(config: &Config, info: &NodeSystemInfo) -> Value {
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", config.hostname.clone()),
        ("kubernetes.io/os", "linux".to_owned()),
        ("kubernetes.io/arch", info.architecture.clone()),
        ("beta.kubernetes.io/os", "linux".to_owned()),
        ("beta.kubernetes.io/arch", info.architecture.clone()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    labels.extend(config.labels.clone());
    let mut annotations = config.annotations.clone();
    // Volumes that a controller attaches have no plugin here yet, but its attaching is what the API promises.
    annotations.insert("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned());
    let mut spec = json!({});
    if !config.taints.is_empty() {
        spec["taints"] = json!(config.taints);
    }
    if let Some(id) = &config.provider_id {
        spec["providerID"] = json!(id);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": config.node_name, "labels": labels, "annotations": annotations},
        "spec": spec,
    })
}

/// The node's status. What others have put into `old` (extended resources, attached volumes, conditions) stays.
pub(super) fn status(config: &Config, old: Option<&NodeStatus>, facts: &Facts, now: Timestamp) -> NodeStatus {
    let old = old.cloned().unwrap_or_default();
    let (own_capacity, own_allocatable) = facts.capacity.lists();
    let mut capacity = old.capacity.clone().unwrap_or_default();
    capacity.extend(own_capacity);
    // An extended resource that somebody announced is there to be used.
    let mut allocatable = capacity.clone();
    allocatable.extend(own_allocatable);
    let info = NodeSystemInfo { kubelet_version: config.version.clone(), ..facts.info.clone() };
    NodeStatus {
        addresses: Some(addresses(config)),
        capacity: Some(capacity),
        allocatable: Some(allocatable),
        conditions: Some(conditions(&old, facts, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.port) }),
        }),
        features: Some(NodeFeatures { supplemental_groups_policy: Some(true) }),
        images: Some(images(&facts.images, config.status_images)),
        node_info: Some(info),
        runtime_handlers: Some(handlers(&facts.handlers)).filter(|list| !list.is_empty()),
        ..old
    }
}

/// Whether two statuses differ in more than the times at which they were looked at.
pub(super) fn differs(old: Option<&NodeStatus>, new: &NodeStatus) -> bool {
    let plain = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        serde_json::to_value(status).unwrap_or_default()
    };
    old.is_none_or(|old| plain(old) != plain(new))
}

fn addresses(config: &Config) -> Vec<NodeAddress> {
    let address = |type_: &str, address: String| NodeAddress { type_: type_.to_owned(), address };
    let internal = config.node_ips.iter().map(|ip| address("InternalIP", ip.to_string()));
    let external = config.external_ips.iter().map(|ip| address("ExternalIP", ip.to_string()));
    internal.chain(external).chain([address("Hostname", config.hostname.clone())]).collect()
}

fn conditions(old: &NodeStatus, facts: &Facts, now: Timestamp) -> Vec<NodeCondition> {
    let pressure = facts.pressure;
    let ready = match &facts.unready {
        None => ("Ready", true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        Some(why) => ("Ready", false, "KubeletNotReady", why.clone()),
    };
    let about = |kind, short: bool, bad: (&'static str, &str), good: (&'static str, &str)| {
        let (reason, message) = if short { bad } else { good };
        (kind, short, reason, message.to_owned())
    };
    let found = [
        about(
            "MemoryPressure",
            pressure.memory,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        about(
            "DiskPressure",
            pressure.disk,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        about(
            "PIDPressure",
            pressure.pids,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        ready,
    ];
    let known = old.conditions.as_deref().unwrap_or_default();
    let now = Time(whole_seconds(now));
    let mut all: Vec<NodeCondition> =
        known.iter().filter(|condition| !found.iter().any(|(kind, ..)| *kind == condition.type_)).cloned().collect();
    all.extend(found.into_iter().map(|(kind, status, reason, message)| {
        let status = if status { "True" } else { "False" };
        let before = known.iter().find(|condition| condition.type_ == kind && condition.status == status);
        NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: before.and_then(|it| it.last_transition_time.clone()).or(Some(now.clone())),
        }
    }));
    all
}

/// The largest images, by all their names.
fn images(all: &[Image], most: Option<usize>) -> Vec<ContainerImage> {
    let mut images: Vec<&Image> = all.iter().collect();
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    images
        .into_iter()
        .take(most.unwrap_or(usize::MAX))
        .map(|image| {
            let names: BTreeSet<&String> = image.repo_digests.iter().chain(&image.repo_tags).collect();
            ContainerImage {
                names: Some(names.into_iter().take(MOST_NAMES).cloned().collect()),
                size_bytes: i64::try_from(image.size).ok(),
            }
        })
        .collect()
}

fn handlers(all: &[RuntimeHandler]) -> Vec<NodeRuntimeHandler> {
    all.iter()
        .map(|handler| NodeRuntimeHandler {
            name: Some(handler.name.clone()),
            features: handler.features.as_ref().map(|it| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(it.recursive_read_only_mounts),
                user_namespaces: Some(it.user_namespaces),
            }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            info: NodeSystemInfo { architecture: "amd64".to_owned(), ..NodeSystemInfo::default() },
            capacity: Capacity { cpu_milli: 2000, memory: 1 << 30, disk: 1 << 30, pods: 110, reserved: (0, 0, 0) },
            pressure: Pressure::default(),
            images: Vec::new(),
            handlers: Vec::new(),
            unready: None,
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_node_at_rest_differs_only_in_when_it_was_looked_at() {
        let config = Config::new("n1");
        let first = status(&config, None, &facts(), at(100));
        let second = status(&config, Some(&first), &facts(), at(200));
        assert!(!differs(Some(&first), &second));
        assert_ne!(first, second, "heartbeats move");

        let broken = Facts { unready: Some("container runtime is down".to_owned()), ..facts() };
        let third = status(&config, Some(&second), &broken, at(300));
        assert!(differs(Some(&second), &third));
        let ready = third.conditions.unwrap().into_iter().find(|it| it.type_ == "Ready").unwrap();
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("KubeletNotReady")));
        assert_eq!(ready.last_transition_time.unwrap().0, at(300));
    }

    #[test]
    fn the_largest_images_are_named_up_to_the_number_that_is_set() {
        let image = |id: &str, size: u64| Image { id: id.to_owned(), size, ..Image::default() };
        let all = [image("a", 1), image("b", 3), image("c", 2)];
        let sizes = |most: Option<usize>| images(&all, most).iter().filter_map(|it| it.size_bytes).collect::<Vec<_>>();
        assert_eq!((sizes(Some(2)), sizes(Some(0)), sizes(None)), (vec![3, 2], vec![], vec![3, 2, 1]));
    }

    #[test]
    fn what_others_announce_stays_and_is_allocatable() {
        let config = Config::new("n1");
        let old: NodeStatus = serde_json::from_value(json!({
            "capacity": {"example.com/gpu": "3", "cpu": "1"},
            "conditions": [{"type": "NetworkUnavailable", "status": "False"}],
        }))
        .unwrap();
        let new = status(&config, Some(&old), &facts(), at(1));
        assert_eq!(new.allocatable.unwrap()["example.com/gpu"].0, "3");
        assert_eq!(new.capacity.unwrap()["cpu"].0, "2");
        assert_eq!(new.conditions.unwrap()[0].type_, "NetworkUnavailable");
    }
}
