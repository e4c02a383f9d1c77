//! How much is left of what Services are given.

use std::collections::BTreeSet;
use std::net::IpAddr;

use client::metrics::Family as Figures;
use ipnet::IpNet;

use super::ranges::ready;
use super::{cluster_ips, node_ports};
use crate::cache::{Filter, ResourceCache};
use crate::server::ApiServer;

static HELD_IPS: Figures = Figures::gauge(
    "kube_apiserver_clusterip_allocator_allocated_ips",
    "[ALPHA] Addresses that Services hold, by range",
    &["cidr"],
);
static FREE_IPS: Figures = Figures::gauge(
    "kube_apiserver_clusterip_allocator_available_ips",
    "[ALPHA] Addresses that Services may still be given, by range",
    &["cidr"],
);
static HELD_PORTS: Figures =
    Figures::gauge("kube_apiserver_nodeport_allocator_allocated_ports", "[ALPHA] Node ports that Services hold", &[]);
static FREE_PORTS: Figures = Figures::gauge(
    "kube_apiserver_nodeport_allocator_available_ports",
    "[ALPHA] Node ports that Services may still be given",
    &[],
);

pub(crate) static FAMILIES: [&Figures; 4] = [&HELD_IPS, &FREE_IPS, &HELD_PORTS, &FREE_PORTS];

/// Counts what the stored Services hold.
pub(crate) fn tell(server: &ApiServer) {
    let entries = |group: &str, plural: &str| {
        let served = server.registry.catalogue.preferred(group, plural);
        let cache = served.as_ref().and_then(|served| served.cache.as_deref());
        cache.map(|cache: &ResourceCache| cache.list(&Filter::default()).entries).unwrap_or_default()
    };
    let (mut ips, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for entry in entries("", "services") {
        let service = entry.to_value();
        ips.extend(cluster_ips(&service["spec"]));
        ports.extend(node_ports(&service["spec"]).into_iter().filter(|port| server.node_ports.contains(port)));
    }
    HELD_IPS.reset();
    FREE_IPS.reset();
    let mut ranges: BTreeSet<IpNet> = server.service_cidrs.iter().copied().collect();
    ranges.extend(entries("networking.k8s.io", "servicecidrs").iter().flat_map(|entry| ready(&entry.to_value())));
    for range in ranges {
        let held = ips.iter().filter(|ip| range.contains(*ip)).count();
        HELD_IPS.set(&[&range.to_string()], held as f64);
        FREE_IPS.set(&[&range.to_string()], size(&range) - held as f64);
    }
    HELD_PORTS.set(&[], ports.len() as f64);
    FREE_PORTS.set(&[], (server.node_ports.len() - ports.len()) as f64);
}

/// How many addresses a range gives: neither the network's own nor IPv4's broadcast.
fn size(range: &IpNet) -> f64 {
    let bits = range.max_prefix_len() - range.prefix_len();
    let kept = if matches!(range.network(), IpAddr::V4(_)) { 2.0 } else { 1.0 };
    (f64::from(bits).exp2() - kept).max(0.0)
}
