//! What of Services, EndpointSlices and pods matters to rules; the only reader of the API here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::object::{Entry, ObjectKey};
use client::informer::{Informers, Scope};
use client::typed::{decode, scope_of};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Pod, Service as ApiService, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};

use crate::nftables::Protocol;
use crate::watched::Watched;

/// A Service that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub cluster_ips: Vec<IpAddr>,
    /// External IPs: anybody may use them.
    pub external_ips: Vec<IpAddr>,
    /// The load balancer's addresses: only `source_ranges` may use them, if there are any.
    pub balancer_ips: Vec<IpAddr>,
    pub source_ranges: Vec<IpNet>,
    pub ports: Vec<Port>,
    /// Seconds for which a client stays with its endpoint.
    pub affinity: Option<u32>,
    pub internal_local: bool,
    pub external_local: bool,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// By which EndpointSlices refer to it; empty if it is the only one.
    pub name: String,
    pub protocol: Protocol,
    pub port: u16,
    pub node_port: Option<u16>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The name of its Service, in its own namespace.
    pub service: String,
    pub ports: Vec<(String, Protocol, u16)>,
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint, without its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub ready: bool,
    /// It still serves, though it is terminating.
    pub draining: bool,
    pub node: Option<String>,
    /// Whom it is meant for; empty: everybody.
    pub for_zones: Vec<String>,
    pub for_nodes: Vec<String>,
}

/// The host ports of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPorts {
    pub pod_ips: Vec<IpAddr>,
    pub ports: Vec<HostPort>,
}

/// One port of the node that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Only by this address of the node.
    pub address: Option<IpAddr>,
    pub protocol: Protocol,
    pub host_port: u16,
    pub container_port: u16,
}

/// All that the plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub node: String,
    pub zone: Option<String>,
    pub services: BTreeMap<ObjectKey, Service>,
    pub slices: BTreeMap<ObjectKey, Slice>,
    pub host_ports: BTreeMap<ObjectKey, HostPorts>,
}

/// Follows the API.
pub(crate) struct Observer {
    node: String,
    zone: Watched<Option<String>>,
    services: Watched<Service>,
    slices: Watched<Slice>,
    pods: Watched<HostPorts>,
}

impl Observer {
    pub(crate) fn new(informers: &dyn Informers, node: &str) -> Self {
        let of_node = Scope::all("", "v1", "pods").with_fields(&format!("spec.nodeName={node}"));
        let this_node = scope_of::<Node>().with_fields(&format!("metadata.name={node}"));
        Self {
            node: node.to_owned(),
            zone: Watched::new(informers, this_node, |entry| {
                Some(entry.labels.get("topology.kubernetes.io/zone").map(str::to_owned))
            }),
            services: Watched::new(informers, scope_of::<ApiService>(), service),
            slices: Watched::new(informers, scope_of::<EndpointSlice>(), slice),
            pods: Watched::new(informers, of_node, host_ports),
        }
    }

    /// Waits until something may have changed that the plan depends on. May be dropped while it waits.
    pub(crate) async fn changed(&mut self) {
        loop {
            let changed = tokio::select! {
                changed = self.zone.changed() => changed,
                changed = self.services.changed() => changed,
                changed = self.slices.changed() => changed,
                changed = self.pods.changed() => changed,
            };
            if changed && self.synced() {
                return;
            }
        }
    }

    /// Whether everything has been seen once: rules made before would cut off what serves already.
    pub(crate) fn synced(&self) -> bool {
        self.zone.synced() && self.services.synced() && self.slices.synced() && self.pods.synced()
    }

    pub(crate) fn observed(&self) -> Observed {
        Observed {
            node: self.node.clone(),
            zone: self.zone.items().get(&ObjectKey::new("", &self.node)).cloned().flatten(),
            services: self.services.items().clone(),
            slices: self.slices.items().clone(),
            host_ports: self.pods.items().clone(),
        }
    }
}

/// Reads a Service; none if it has no address, or is another proxy's.
pub fn service(entry: &Entry) -> Option<Service> {
    if entry.labels.contains_key("service.kubernetes.io/service-proxy-name") {
        return None;
    }
    let service: ApiService = decode(entry)?;
    let spec = service.spec?;
    let mut cluster_ips = addresses(spec.cluster_ips.iter().flatten());
    if cluster_ips.is_empty() {
        cluster_ips = addresses(&spec.cluster_ip);
    }
    // Also of ExternalName ("") and headless ("None") Services.
    if cluster_ips.is_empty() {
        return None;
    }
    let ingress = service.status.and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
    let balancer_ips = ingress
        .iter()
        .flatten()
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok());
    let balanced = spec.type_.as_deref() == Some("LoadBalancer");
    Some(Service {
        cluster_ips,
        external_ips: addresses(spec.external_ips.iter().flatten()),
        balancer_ips: if balanced { balancer_ips.collect() } else { Vec::new() },
        source_ranges: spec.load_balancer_source_ranges.iter().flatten().filter_map(|net| network(net)).collect(),
        affinity: affinity(&spec),
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        ports: spec.ports.iter().flatten().filter_map(port).collect(),
    })
}

fn addresses<'a>(texts: impl IntoIterator<Item = &'a String>) -> Vec<IpAddr> {
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}

fn network(text: &str) -> Option<IpNet> {
    text.trim().parse().ok().map(|net: IpNet| net.trunc())
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    const DEFAULT: i32 = 10_800;
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    u32::try_from(config.and_then(|config| config.timeout_seconds).unwrap_or(DEFAULT)).ok().filter(|secs| *secs > 0)
}

fn port(port: &k8s_openapi::api::core::v1::ServicePort) -> Option<Port> {
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol: Protocol::parse(port.protocol.as_deref().unwrap_or_default())?,
        port: u16::try_from(port.port).ok()?,
        node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
    })
}

/// Reads an EndpointSlice; none if it holds names, or belongs to no Service.
pub fn slice(entry: &Entry) -> Option<Slice> {
    let service = entry.labels.get("kubernetes.io/service-name")?.to_owned();
    let slice: EndpointSlice = decode(entry)?;
    if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
        return None;
    }
    let ports = slice.ports.iter().flatten().filter_map(|port| {
        let protocol = Protocol::parse(port.protocol.as_deref().unwrap_or_default())?;
        Some((port.name.clone().unwrap_or_default(), protocol, u16::try_from(port.port?).ok()?))
    });
    let endpoints = slice.endpoints.iter().flatten().filter_map(endpoint);
    Some(Slice { service, ports: ports.collect(), endpoints: endpoints.collect() })
}

fn endpoint(endpoint: &ApiEndpoint) -> Option<Endpoint> {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let hints = endpoint.hints.clone().unwrap_or_default();
    Some(Endpoint {
        address: endpoint.addresses.first()?.parse().ok().filter(|address| reachable(*address))?,
        ready,
        draining: conditions.serving.unwrap_or(ready) && conditions.terminating.unwrap_or(false),
        node: endpoint.node_name.clone(),
        for_zones: hints.for_zones.into_iter().flatten().map(|zone| zone.name).collect(),
        for_nodes: hints.for_nodes.into_iter().flatten().map(|node| node.name).collect(),
    })
}

/// An endpoint on the loopback or of a link would turn a Service into a way to the node's own secrets (CVE-2021-25737).
fn reachable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || link_local)
}

/// Reads the host ports of a pod that runs in a network of its own; none if it has none.
pub fn host_ports(entry: &Entry) -> Option<HostPorts> {
    let pod: Pod = decode(entry)?;
    let (spec, status) = (pod.spec?, pod.status?);
    if spec.host_network == Some(true) || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let ports: Vec<_> =
        containers.flat_map(|container| container.ports.iter().flatten()).filter_map(host_port).collect();
    let pod_ips = addresses(status.pod_ips.iter().flatten().map(|ip| &ip.ip));
    (!ports.is_empty() && !pod_ips.is_empty()).then_some(HostPorts { pod_ips, ports })
}

fn host_port(port: &k8s_openapi::api::core::v1::ContainerPort) -> Option<HostPort> {
    let address = port.host_ip.as_ref().and_then(|ip| ip.parse::<IpAddr>().ok());
    Some(HostPort {
        address: address.filter(|address| !address.is_unspecified()),
        protocol: Protocol::parse(port.protocol.as_deref().unwrap_or_default())?,
        host_port: u16::try_from(port.host_port?).ok().filter(|port| *port > 0)?,
        container_port: u16::try_from(port.container_port).ok()?,
    })
}
