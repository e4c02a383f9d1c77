//! How a Service's pods become endpoints: common to EndpointSlices and Endpoints.

use api::object::ObjectKey;
use api::selector::label::LabelSelector;
use client::informer::{Change, Informer};
use client::reconcile::changed;
use client::typed::decode;
use client::view::View;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::pods;

/// The Services whose selector chooses a pod, as it is or was.
pub(crate) fn services_of(services: &View, change: &Change) -> Vec<ObjectKey> {
    let Some(pod) = changed(change) else { return Vec::new() };
    let old = match change {
        Change::Applied { old, .. } => old.as_ref().map(|old| &old.labels),
        _ => None,
    };
    let mut keys = Vec::new();
    for entry in services.list(Some(&pod.key.namespace)) {
        let Some(selector) = decode::<Service>(&entry).and_then(|service| selector_of(&service)) else { continue };
        if selector.matches(&pod.labels) || old.is_some_and(|old| selector.matches(old)) {
            keys.push(entry.key.clone());
        }
    }
    keys
}

/// What a Service selects; `None` if others make its endpoints.
pub(crate) fn selector_of(service: &Service) -> Option<LabelSelector> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let labels = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    Some(LabelSelector::from_labels(labels))
}

/// The pods that a Service selects, finished ones and those without an address left out.
pub(crate) fn selected_pods(view: &View, namespace: &str, selector: &LabelSelector) -> Vec<Pod> {
    let chosen = view.list(Some(namespace)).into_iter().filter(|entry| selector.matches(&entry.labels));
    chosen
        .filter_map(|entry| decode::<Pod>(&entry))
        .filter(|pod| !pods::is_finished(pod) && !addresses(pod).is_empty())
        .collect()
}

/// All addresses of a pod.
pub(crate) fn addresses(pod: &Pod) -> Vec<&str> {
    let status = pod.status.as_ref();
    let all: Vec<&str> = status
        .and_then(|status| status.pod_ips.as_ref())
        .into_iter()
        .flatten()
        .map(|address| address.ip.as_str())
        .filter(|address| !address.is_empty())
        .collect();
    if all.is_empty() {
        return status.and_then(|status| status.pod_ip.as_deref()).filter(|ip| !ip.is_empty()).into_iter().collect();
    }
    all
}

/// The number that a Service's port has in a pod; `None` if the pod has no port of that name.
pub(crate) fn target_port(pod: &Pod, port: &ServicePort) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let spec = pod.spec.as_ref()?;
            let sidecars = spec.init_containers.iter().flatten();
            let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
            let mut ports =
                spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
            let found = ports.find(|candidate| {
                candidate.name.as_deref() == Some(name) && candidate.protocol.as_deref().unwrap_or("TCP") == protocol
            });
            found.map(|port| port.container_port)
        }
    }
}

/// The name by which DNS tells the pod from others of a headless Service.
pub(crate) fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let hostname = spec.hostname.clone().filter(|hostname| !hostname.is_empty())?;
    (spec.subdomain == service.metadata.name).then_some(hostname)
}

pub(crate) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

pub(crate) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
}

pub(crate) fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or_default()
}
