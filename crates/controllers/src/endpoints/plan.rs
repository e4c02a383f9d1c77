//! From a Service and its pods to subsets.

use std::collections::BTreeMap;

use api::object::Entry;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use serde_json::{Value, json};

use crate::common::{pods, services};

/// Addresses in one Endpoints object; readers of more are few, and writing it costs every watcher all of it.
const CAPACITY: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(super) fn is_managed(entry: &Entry) -> bool {
    entry.labels.get(MANAGED_BY).is_some_and(|by| by == MANAGER)
}

pub(super) fn create(service: &Service, selected: &[Pod]) -> Value {
    let (subsets, truncated) = subsets(service, selected);
    let mut endpoints = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": service.metadata.name, "namespace": service.metadata.namespace, "labels": labels(service)},
    });
    if !subsets.is_empty() {
        endpoints["subsets"] = json!(subsets);
    }
    if truncated {
        endpoints["metadata"]["annotations"][OVER_CAPACITY] = json!("truncated");
    }
    endpoints
}

/// What turns `old` into the Service's endpoints; `None` if it is that.
pub(super) fn change(service: &Service, selected: &[Pod], old: &Endpoints) -> Option<Value> {
    let (subsets, truncated) = subsets(service, selected);
    let labels = labels(service);
    let old_labels = old.metadata.labels.clone().unwrap_or_default();
    let was_truncated = pods::annotation(&old.metadata, OVER_CAPACITY).is_some();
    let same = old.subsets.as_deref().unwrap_or_default() == subsets && old_labels == labels;
    if same && was_truncated == truncated {
        return None;
    }
    let mut wanted: BTreeMap<String, Value> = old_labels.into_keys().map(|label| (label, Value::Null)).collect();
    wanted.extend(labels.into_iter().map(|(label, value)| (label, json!(value))));
    let subsets = if subsets.is_empty() { Value::Null } else { json!(subsets) };
    let annotation = if truncated { json!("truncated") } else { Value::Null };
    Some(json!({"metadata": {"labels": wanted, "annotations": {OVER_CAPACITY: annotation}}, "subsets": subsets}))
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if services::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

/// The subsets, and whether there were too many addresses for them.
fn subsets(service: &Service, selected: &[Pod]) -> (Vec<EndpointSubset>, bool) {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let v6 =
        spec.and_then(|spec| spec.ip_families.as_ref()).and_then(|all| all.first()).is_some_and(|one| one == "IPv6");
    let unready_too = services::publishes_not_ready(service);
    let mut groups: Vec<(Vec<EndpointPort>, Vec<EndpointAddress>, Vec<EndpointAddress>)> = Vec::new();
    for pod in selected.iter().filter(|pod| unready_too || pod.metadata.deletion_timestamp.is_none()) {
        let Some(ip) = services::addresses(pod).into_iter().find(|address| address.contains(':') == v6) else {
            continue;
        };
        let numbers: Vec<EndpointPort> = ports
            .iter()
            .filter_map(|port| {
                Some(EndpointPort {
                    app_protocol: port.app_protocol.clone(),
                    name: port.name.clone().filter(|name| !name.is_empty()),
                    port: services::target_port(pod, port)?,
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                })
            })
            .collect();
        // A Service with ports none of which the pod has does not reach it.
        if numbers.is_empty() && !ports.is_empty() {
            continue;
        }
        let address = EndpointAddress {
            hostname: services::hostname(pod, service),
            ip: ip.to_owned(),
            node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            target_ref: Some(services::reference(pod)),
        };
        let at = groups.iter().position(|(known, ..)| *known == numbers).unwrap_or_else(|| {
            groups.push((numbers, Vec::new(), Vec::new()));
            groups.len() - 1
        });
        let (_, ready, unready) = &mut groups[at];
        if unready_too || pods::is_ready(pod) { ready.push(address) } else { unready.push(address) }
    }
    groups.sort_by(|(a, ..), (b, ..)| format!("{a:?}").cmp(&format!("{b:?}")));
    let total: usize = groups.iter().map(|(_, ready, unready)| ready.len() + unready.len()).sum();
    let mut room = CAPACITY;
    let subsets = groups
        .into_iter()
        .map(|(ports, mut ready, mut unready)| {
            for list in [&mut ready, &mut unready] {
                list.sort_by(|a, b| a.ip.cmp(&b.ip));
                list.truncate(room);
                room -= list.len();
            }
            let some = |list: Vec<EndpointAddress>| (!list.is_empty()).then_some(list);
            let ports = (!ports.is_empty()).then_some(ports);
            EndpointSubset { addresses: some(ready), not_ready_addresses: some(unready), ports }
        })
        .filter(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some())
        .collect();
    (subsets, total > CAPACITY)
}
