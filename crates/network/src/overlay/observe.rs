//! Where the nodes and their pods are; the only reader of the API here.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::object::Entry;
use client::informer::Informers;
use client::typed::{decode, scope_of};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as ApiNode;

use crate::watched::Watched;

/// By this annotation a node is reached by another address than its InternalIP, as with flannel.
const OVERWRITE: &str = "flannel.alpha.coreos.com/public-ip-overwrite";

/// What the way to a node depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub addresses: Vec<IpAddr>,
    pub pod_cidrs: Vec<IpNet>,
}

/// All nodes by name.
pub type Observed = BTreeMap<String, Node>;

pub(crate) struct Observer {
    nodes: Watched<Node>,
}

impl Observer {
    pub(crate) fn new(informers: &dyn Informers) -> Self {
        Self { nodes: Watched::new(informers, scope_of::<ApiNode>(), node) }
    }

    /// Waits until something has changed. May be dropped while it waits.
    pub(crate) async fn changed(&mut self) {
        while !self.nodes.changed().await {}
    }

    pub(crate) fn synced(&self) -> bool {
        self.nodes.synced()
    }

    pub(crate) fn observed(&self) -> Observed {
        self.nodes.items().iter().map(|(key, node)| (key.name.clone(), node.clone())).collect()
    }
}

/// Reads a Node; none if it has no pod range yet.
pub fn node(entry: &Entry) -> Option<Node> {
    let node: ApiNode = decode(entry)?;
    let spec = node.spec?;
    let ranges = spec.pod_cidrs.filter(|ranges| !ranges.is_empty()).or_else(|| Some(vec![spec.pod_cidr?]))?;
    let pod_cidrs: Vec<IpNet> =
        ranges.iter().filter_map(|range| range.parse().ok()).map(|net: IpNet| net.trunc()).collect();
    let overwrite = node.metadata.annotations.and_then(|annotations| annotations.get(OVERWRITE)?.parse().ok());
    let status = node.status.unwrap_or_default();
    let internal = status.addresses.iter().flatten().filter(|address| address.type_ == "InternalIP");
    let addresses = overwrite.into_iter().chain(internal.filter_map(|address| address.address.parse().ok()));
    Some(Node { addresses: addresses.collect(), pod_cidrs }).filter(|node| !node.pod_cidrs.is_empty())
}
