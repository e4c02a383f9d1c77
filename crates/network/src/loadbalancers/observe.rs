//! Load balancers, the nodes that may serve them, and where their endpoints are; the only reader of the API here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::object::{Entry, ObjectKey};
use client::informer::Informers;
use client::typed::{decode, scope_of};
use k8s_openapi::api::core::v1::{Node as ApiNode, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::watched::Watched;

const ENABLED: &str = "svccontroller.k3s.cattle.io/enablelb";
const POOL: &str = "svccontroller.k3s.cattle.io/lbpool";
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// A Service that has, had or should have a load balancer of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancer {
    pub uid: String,
    /// It is to have one.
    pub wanted: bool,
    pub created: String,
    /// IPv4 is wanted, IPv6 is, in the order of preference.
    pub families: Vec<String>,
    pub ports: Vec<(String, i32)>,
    /// Only nodes with ready endpoints serve it.
    pub local: bool,
    pub pool: Option<String>,
    pub addresses: Vec<IpAddr>,
}

/// A node that may serve load balancers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub internal: Vec<IpAddr>,
    pub external: Vec<IpAddr>,
    pub enabled: bool,
    pub pool: Option<String>,
}

/// The nodes on which a Service has ready endpoints, by one of its slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    pub service: String,
    pub nodes: BTreeSet<String>,
}

/// All that the plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub balancers: BTreeMap<ObjectKey, Balancer>,
    pub nodes: BTreeMap<String, Node>,
    pub places: BTreeMap<ObjectKey, Places>,
}

pub(crate) struct Observer {
    balancers: Watched<Balancer>,
    nodes: Watched<Node>,
    places: Watched<Places>,
}

impl Observer {
    pub(crate) fn new(informers: &dyn Informers) -> Self {
        Self {
            balancers: Watched::new(informers, scope_of::<Service>(), balancer),
            nodes: Watched::new(informers, scope_of::<ApiNode>(), node),
            places: Watched::new(informers, scope_of::<EndpointSlice>(), places),
        }
    }

    /// Waits until something has changed. May be dropped while it waits.
    pub(crate) async fn changed(&mut self) {
        let mut changed = false;
        while !changed {
            changed = tokio::select! {
                changed = self.balancers.changed() => changed,
                changed = self.nodes.changed() => changed,
                changed = self.places.changed() => changed,
            };
        }
    }

    pub(crate) fn synced(&self) -> bool {
        self.balancers.synced() && self.nodes.synced() && self.places.synced()
    }

    pub(crate) fn observed(&self) -> Observed {
        Observed {
            balancers: self.balancers.items().clone(),
            nodes: self.nodes.items().iter().map(|(key, node)| (key.name.clone(), node.clone())).collect(),
            places: self.places.items().clone(),
        }
    }
}

/// Reads a Service; none if it neither is nor has a load balancer of ours.
pub fn balancer(entry: &Entry) -> Option<Balancer> {
    let service: Service = decode(entry)?;
    let spec = service.spec?;
    if spec.load_balancer_class.is_some() {
        return None;
    }
    let wanted = spec.type_.as_deref() == Some("LoadBalancer") && service.metadata.deletion_timestamp.is_none();
    let status = service.status.and_then(|status| status.load_balancer).and_then(|status| status.ingress);
    let addresses: Vec<_> = status.iter().flatten().filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect();
    if !wanted && addresses.is_empty() {
        return None;
    }
    let ports = spec.ports.iter().flatten();
    let ports = ports.map(|port| (port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()), port.port));
    Some(Balancer {
        uid: service.metadata.uid.unwrap_or_default(),
        wanted,
        created: service.metadata.creation_timestamp.map(|time| time.0.to_string()).unwrap_or_default(),
        families: spec.ip_families.filter(|families| !families.is_empty()).unwrap_or_else(|| vec!["IPv4".to_owned()]),
        ports: ports.collect(),
        local: spec.external_traffic_policy.as_deref() == Some("Local"),
        pool: entry.labels.get(POOL).map(str::to_owned),
        addresses,
    })
}

/// Reads a Node; none if it is not ready, or is kept out.
pub fn node(entry: &Entry) -> Option<Node> {
    if entry.labels.contains_key(EXCLUDED) {
        return None;
    }
    let status = decode::<ApiNode>(entry)?.status?;
    let ready =
        status.conditions.iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let of_type = |wanted: &str| {
        let found = status.addresses.iter().flatten().filter(|address| address.type_ == wanted);
        found.filter_map(|address| address.address.parse().ok()).collect()
    };
    ready.then(|| Node {
        internal: of_type("InternalIP"),
        external: of_type("ExternalIP"),
        enabled: entry.labels.get(ENABLED).is_some_and(|value| value == "true"),
        pool: entry.labels.get(POOL).map(str::to_owned),
    })
}

/// Reads an EndpointSlice; none if it belongs to no Service.
pub fn places(entry: &Entry) -> Option<Places> {
    let service = entry.labels.get("kubernetes.io/service-name")?.to_owned();
    let slice: EndpointSlice = decode(entry)?;
    let ready = slice
        .endpoints
        .iter()
        .flatten()
        .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true));
    Some(Places { service, nodes: ready.filter_map(|endpoint| endpoint.node_name.clone()).collect() })
}
