//! What of Services, EndpointSlices, namespaces and nodes has a name; the only reader of the API here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::object::{Entry, ObjectKey};
use client::informer::Informers;
use client::typed::{decode, scope_of};
use k8s_openapi::api::core::v1::{Namespace, Node, Service as ApiService};
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::watched::Watched;

/// A Service as DNS sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// It has addresses of its own.
    Addressed { addresses: Vec<IpAddr>, ports: Vec<Port> },
    /// Its name stands for its endpoints.
    Headless,
    /// Its name stands for another.
    External(String),
}

/// A named port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    pub name: String,
    /// Lower case, as in names.
    pub protocol: String,
    pub number: u16,
}

/// An EndpointSlice as DNS sees it: only what is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub service: String,
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
}

/// A ready endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    /// The pod's hostname, if it has its Service as subdomain.
    pub hostname: Option<String>,
}

/// All that has a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub namespaces: Vec<String>,
    pub services: BTreeMap<ObjectKey, Service>,
    pub slices: BTreeMap<ObjectKey, Slice>,
    pub nodes: BTreeMap<String, Vec<IpAddr>>,
}

/// Follows the API.
pub(crate) struct Observer {
    namespaces: Watched<()>,
    services: Watched<Service>,
    slices: Watched<Slice>,
    nodes: Watched<Vec<IpAddr>>,
}

impl Observer {
    pub(crate) fn new(informers: &dyn Informers) -> Self {
        Self {
            namespaces: Watched::new(informers, scope_of::<Namespace>(), |_| Some(())),
            services: Watched::new(informers, scope_of::<ApiService>(), service),
            slices: Watched::new(informers, scope_of::<EndpointSlice>(), slice),
            nodes: Watched::new(informers, scope_of::<Node>(), node),
        }
    }

    /// Waits until something has changed. May be dropped while it waits.
    pub(crate) async fn changed(&mut self) {
        let mut changed = false;
        while !changed {
            changed = tokio::select! {
                changed = self.namespaces.changed() => changed,
                changed = self.services.changed() => changed,
                changed = self.slices.changed() => changed,
                changed = self.nodes.changed() => changed,
            };
        }
    }

    /// Whether everything has been seen once: before, a name that is not known may exist all the same.
    pub(crate) fn synced(&self) -> bool {
        self.namespaces.synced() && self.services.synced() && self.slices.synced() && self.nodes.synced()
    }

    pub(crate) fn observed(&self) -> Observed {
        Observed {
            namespaces: self.namespaces.items().keys().map(|key| key.name.clone()).collect(),
            services: self.services.items().clone(),
            slices: self.slices.items().clone(),
            nodes: self.nodes.items().iter().map(|(key, ips)| (key.name.clone(), ips.clone())).collect(),
        }
    }
}

/// Reads a Service.
pub fn service(entry: &Entry) -> Option<Service> {
    let spec = decode::<ApiService>(entry)?.spec?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return Some(Service::External(spec.external_name?.trim_end_matches('.').to_ascii_lowercase()));
    }
    let mut addresses: Vec<_> = spec.cluster_ips.iter().flatten().filter_map(|ip| ip.parse().ok()).collect();
    if addresses.is_empty() {
        addresses.extend(spec.cluster_ip.iter().filter_map(|ip| ip.parse::<IpAddr>().ok()));
    }
    if addresses.is_empty() {
        return (spec.cluster_ip.as_deref() == Some("None")).then_some(Service::Headless);
    }
    let ports = spec.ports.iter().flatten().filter_map(|port| named_port(&port.name, &port.protocol, Some(port.port)));
    Some(Service::Addressed { addresses, ports: ports.collect() })
}

fn named_port(name: &Option<String>, protocol: &Option<String>, number: Option<i32>) -> Option<Port> {
    Some(Port {
        name: name.clone().unwrap_or_default(),
        protocol: protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase(),
        number: u16::try_from(number?).ok()?,
    })
}

/// Reads an EndpointSlice; none if it belongs to no Service.
pub fn slice(entry: &Entry) -> Option<Slice> {
    let service = entry.labels.get("kubernetes.io/service-name")?.to_owned();
    let slice: EndpointSlice = decode(entry)?;
    let ports = slice.ports.iter().flatten().filter_map(|port| named_port(&port.name, &port.protocol, port.port));
    let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
        let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
        let address = endpoint.addresses.first()?.parse().ok()?;
        ready.then(|| Endpoint { address, hostname: endpoint.hostname.clone() })
    });
    Some(Slice { service, ports: ports.collect(), endpoints: endpoints.collect() })
}

fn node(entry: &Entry) -> Option<Vec<IpAddr>> {
    let status = decode::<Node>(entry)?.status?;
    let internal = status.addresses.iter().flatten().filter(|address| address.type_ == "InternalIP");
    Some(internal.filter_map(|address| address.address.parse().ok()).collect())
}
