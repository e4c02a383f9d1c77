//! Nodes and load balancers -> whose addresses must change. Pure.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use api::object::ObjectKey;

use super::Change;
use super::observe::{Balancer, Node, Observed};

/// The Services whose addresses are not what they should be.
///
/// A port of a node serves one Service: the older has it, and the younger waits without an address.
pub fn plan(observed: &Observed) -> Vec<Change> {
    let mut by_age: Vec<_> = observed.balancers.iter().collect();
    by_age.sort_by_key(|(key, balancer)| (balancer.created.as_str(), *key));
    let mut taken = HashSet::new();
    let mut changes = Vec::new();
    for (key, balancer) in by_age {
        let free = balancer.wanted && balancer.ports.iter().all(|port| !taken.contains(port));
        let addresses = if free { addresses(key, balancer, observed) } else { Vec::new() };
        if free {
            taken.extend(balancer.ports.iter());
        }
        if addresses != balancer.addresses {
            changes.push(Change { service: key.clone(), uid: balancer.uid.clone(), addresses });
        }
    }
    changes
}

fn addresses(key: &ObjectKey, balancer: &Balancer, observed: &Observed) -> Vec<IpAddr> {
    let some_enabled = observed.nodes.values().any(|node| node.enabled);
    let serving = served_by(key, observed);
    let nodes: Vec<&Node> = observed
        .nodes
        .iter()
        .filter(|(name, _)| !balancer.local || serving.contains(name.as_str()))
        .map(|(_, node)| node)
        .filter(|node| node.enabled || !some_enabled)
        .filter(|node| balancer.pool.is_none() || node.pool == balancer.pool)
        .collect();
    let external = nodes.iter().any(|node| !node.external.is_empty());
    let of_node = |node: &&Node| if external { node.external.clone() } else { node.internal.clone() };
    let all: BTreeSet<IpAddr> = nodes.iter().flat_map(of_node).collect();
    let of_family = |family: &String| {
        let v6 = family == "IPv6";
        all.iter().filter(move |ip| ip.is_ipv6() == v6)
    };
    balancer.families.iter().flat_map(of_family).copied().collect()
}

/// The nodes on which a Service has ready endpoints.
fn served_by<'a>(key: &ObjectKey, observed: &'a Observed) -> BTreeSet<&'a str> {
    let of_service =
        observed.places.iter().filter(|(slice, places)| slice.namespace == key.namespace && places.service == key.name);
    of_service.flat_map(|(_, places)| places.nodes.iter().map(String::as_str)).collect()
}
