//! From a Service and its pods to slices, changing as few as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::Entry;
use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use serde_json::{Value, json};

use super::{MANAGED_BY, MANAGER, SERVICE_NAME};
use crate::common::{pods, services};

/// Endpoints in one slice; upstream's `--max-endpoints-per-slice`.
const SLICE: usize = 100;
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(super) struct Observed {
    pub(super) service: Service,
    pub(super) pods: Vec<Pod>,
    /// Node names to zones.
    pub(super) zones: BTreeMap<String, String>,
    /// The Service's slices that are ours.
    pub(super) existing: Vec<(Arc<Entry>, EndpointSlice)>,
}

pub(super) enum Step {
    Create(Value),
    Change(Arc<Entry>, Value),
    Delete(Arc<Entry>),
}

/// What all endpoints of a slice have in common.
pub(super) struct Group {
    pub(super) family: String,
    pub(super) ports: Vec<EndpointPort>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// What all slices of a Service have in common.
pub(super) struct Common {
    pub(super) namespace: String,
    pub(super) generate_name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) owner: Value,
}

pub(super) fn plan(observed: &Observed) -> Vec<Step> {
    let service = &observed.service;
    let mut labels: BTreeMap<String, String> = service.metadata.labels.clone().unwrap_or_default();
    // A Service's own labels of these names would say something wrong of the slice.
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.to_owned(), pods::name(&service.metadata).to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if services::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    let common = Common {
        namespace: pods::namespace(&service.metadata).to_owned(),
        generate_name: pods::generate_name(pods::name(&service.metadata)),
        labels,
        annotations: BTreeMap::new(),
        owner: pods::controller_reference::<Service>(&service.metadata),
    };
    arrange(&common, groups(observed), &observed.existing)
}

/// The Service's endpoints by family and port numbers; one empty group for a family without any.
fn groups(observed: &Observed) -> Vec<Group> {
    let spec = observed.service.spec.as_ref();
    let families = spec.and_then(|spec| spec.ip_families.clone()).filter(|families| !families.is_empty());
    let families = families.unwrap_or_else(|| vec!["IPv4".to_owned()]);
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut groups = Vec::new();
    for family in families {
        let first = groups.len();
        for pod in &observed.pods {
            let wanted = |address: &&&str| address.contains(':') == (family == "IPv6");
            let Some(address) = services::addresses(pod).iter().find(wanted).map(|address| (*address).to_owned())
            else {
                continue;
            };
            let numbers = ports_of(pod, ports);
            let endpoint = endpoint(observed, pod, address);
            match groups[first..].iter_mut().find(|group: &&mut Group| group.ports == numbers) {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group { family: family.clone(), ports: numbers, endpoints: vec![endpoint] }),
            }
        }
        if groups.len() == first {
            groups.push(Group { family, ports: Vec::new(), endpoints: Vec::new() });
        }
    }
    groups
}

fn ports_of(pod: &Pod, ports: &[ServicePort]) -> Vec<EndpointPort> {
    let numbered = ports.iter().filter_map(|port| {
        Some(EndpointPort {
            app_protocol: port.app_protocol.clone(),
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(services::target_port(pod, port)?),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        })
    });
    numbered.collect()
}

fn endpoint(observed: &Observed, pod: &Pod, address: String) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let ready = services::publishes_not_ready(&observed.service) || (serving && !terminating);
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let zone = node.as_ref().and_then(|node| observed.zones.get(node).cloned());
    let spec = observed.service.spec.as_ref();
    let distribution = spec.and_then(|spec| spec.traffic_distribution.as_deref()).unwrap_or_default();
    let hints = hints(distribution, ready, node.as_deref(), zone.as_deref());
    Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        deprecated_topology: None,
        hints,
        hostname: services::hostname(pod, &observed.service),
        node_name: node,
        target_ref: Some(services::reference(pod)),
        zone,
    }
}

/// Whom an endpoint should serve first (`spec.trafficDistribution`, KEP-4444 and KEP-3015).
fn hints(distribution: &str, ready: bool, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    if !ready || !matches!(distribution, "PreferClose" | "PreferSameZone" | "PreferSameNode") {
        return None;
    }
    let for_nodes =
        node.filter(|_| distribution == "PreferSameNode").map(|node| vec![ForNode { name: node.to_owned() }]);
    let for_zones = zone.map(|zone| vec![ForZone { name: zone.to_owned() }]);
    (for_nodes.is_some() || for_zones.is_some()).then_some(EndpointHints { for_nodes, for_zones })
}

/// Puts endpoints into slices: into those they are in, then where there is room, then into new ones.
pub(super) fn arrange(common: &Common, groups: Vec<Group>, existing: &[(Arc<Entry>, EndpointSlice)]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut left: Vec<&(Arc<Entry>, EndpointSlice)> = existing.iter().collect();
    for group in groups {
        let same = |slice: &EndpointSlice| {
            let ports = slice.ports.as_deref().unwrap_or_default();
            slice.address_type == group.family && (ports == group.ports.as_slice() || group.endpoints.is_empty())
        };
        let (mine, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|(_, slice)| same(slice));
        left = others;
        arrange_group(common, group, &mine, &mut steps);
    }
    steps.extend(left.into_iter().map(|(entry, _)| Step::Delete(entry.clone())));
    steps
}

fn arrange_group(common: &Common, group: Group, mine: &[&(Arc<Entry>, EndpointSlice)], steps: &mut Vec<Step>) {
    let mut wanted = group.endpoints;
    let mut contents: Vec<Vec<Endpoint>> = Vec::new();
    for (_, slice) in mine {
        let mut kept = Vec::new();
        for old in slice.endpoints.iter().flatten() {
            if let Some(at) = wanted.iter().position(|new| is_same_endpoint(old, new)) {
                kept.push(wanted.swap_remove(at));
            }
        }
        contents.push(kept);
    }
    wanted.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    let mut wanted = wanted.into_iter().peekable();
    for content in contents.iter_mut().filter(|content| !content.is_empty()) {
        content.extend(wanted.by_ref().take(SLICE.saturating_sub(content.len())));
    }
    // Slices that have become empty are filled again before any is made; the last one stays, empty or not, so that a
    // Service without endpoints can be told from one that nobody has looked at.
    let any = contents.iter().any(|content| !content.is_empty());
    let mut placeholder = !any && wanted.peek().is_none();
    for (content, (entry, slice)) in contents.into_iter().zip(mine) {
        let content = if content.is_empty() { wanted.by_ref().take(SLICE).collect() } else { content };
        if content.is_empty() && !std::mem::take(&mut placeholder) {
            steps.push(Step::Delete(entry.clone()));
            continue;
        }
        if let Some(change) = change(common, slice, &group.ports, &content) {
            steps.push(Step::Change(entry.clone(), change));
        }
    }
    while wanted.peek().is_some() || placeholder {
        placeholder = false;
        let content: Vec<Endpoint> = wanted.by_ref().take(SLICE).collect();
        steps.push(Step::Create(create(common, &group.family, &group.ports, &content)));
    }
}

/// An endpoint is the same while it stands for the same pod at the same address.
fn is_same_endpoint(old: &Endpoint, new: &Endpoint) -> bool {
    let uid = |endpoint: &Endpoint| endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    old.addresses == new.addresses && uid(old) == uid(new)
}

fn change(common: &Common, slice: &EndpointSlice, ports: &[EndpointPort], content: &[Endpoint]) -> Option<Value> {
    let labels = slice.metadata.labels.clone().unwrap_or_default();
    let annotations = slice.metadata.annotations.clone().unwrap_or_default();
    let same = slice.endpoints.as_deref().unwrap_or_default() == content
        && slice.ports.as_deref().unwrap_or_default() == ports
        && labels == common.labels
        && common.annotations.iter().all(|(name, value)| annotations.get(name) == Some(value));
    if same {
        return None;
    }
    let mut wanted: BTreeMap<String, Value> = labels.into_keys().map(|label| (label, Value::Null)).collect();
    wanted.extend(common.labels.iter().map(|(label, value)| (label.clone(), json!(value))));
    let mut change = json!({"metadata": {"labels": wanted}, "endpoints": content, "ports": ports});
    if !common.annotations.is_empty() {
        change["metadata"]["annotations"] = json!(common.annotations);
    }
    Some(change)
}

fn create(common: &Common, family: &str, ports: &[EndpointPort], content: &[Endpoint]) -> Value {
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": common.namespace,
            "generateName": common.generate_name,
            "labels": common.labels,
            "ownerReferences": [common.owner],
        },
        "addressType": family,
        "endpoints": content,
        "ports": ports,
    });
    if !common.annotations.is_empty() {
        slice["metadata"]["annotations"] = json!(common.annotations);
    }
    slice
}
