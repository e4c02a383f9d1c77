//! Where the nodes are -> links, routes and neighbours of this one. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::observe::{Node, Observed};
use super::{Backend, Config, PORT, VNI};
use crate::links::message::{self, Vxlan};
use crate::links::{Mac, Neighbour, Route, Via};

/// What a vxlan adds to a packet over IPv4: Ethernet 14, IP 20, UDP 8, vxlan 8; IPv6's header is 20 longer.
const VXLAN_OVERHEAD: u32 = 50;
const IPV6_OVERHEAD: u32 = 20;

/// The end of the tunnel on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub vxlan: Vxlan,
    pub mac: Mac,
    pub mtu: u32,
    pub addresses: Vec<IpNet>,
}

/// The ways to other nodes' pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    pub routes: Vec<Route>,
    pub neighbours: Vec<Neighbour>,
}

/// What fits into one packet from pod to pod, where `uplink` fits into one from node to node.
pub fn mtu(config: &Config, uplink: u32) -> u32 {
    let overhead = match config.backend {
        Backend::Vxlan if config.node_ip.is_ipv6() => VXLAN_OVERHEAD + IPV6_OVERHEAD,
        Backend::Vxlan => VXLAN_OVERHEAD,
        Backend::HostGateway | Backend::None => 0,
    };
    uplink.saturating_sub(overhead)
}

/// The tunnel's end here; none without a tunnel, or while this node has no pod range.
pub fn tunnel(config: &Config, observed: &Observed, uplink: u32, uplink_mtu: u32) -> Option<Tunnel> {
    let own = observed.get(&config.node).filter(|_| config.backend == Backend::Vxlan)?;
    Some(Tunnel {
        vxlan: Vxlan { vni: VNI, port: PORT, local: config.node_ip, uplink },
        mac: mac(own)?,
        mtu: mtu(config, uplink_mtu),
        addresses: own.pod_cidrs.iter().map(|range| IpNet::from(range.network())).collect(),
    })
}

/// The ways out of `link`, the tunnel's or the uplink.
pub fn ways(config: &Config, observed: &Observed, link: u32) -> Ways {
    let mut ways = Ways::default();
    for (_, node) in observed.iter().filter(|(name, _)| **name != config.node) {
        match config.backend {
            Backend::Vxlan => through_tunnel(config, node, link, &mut ways),
            Backend::HostGateway => through_node(node, link, &mut ways),
            Backend::None => {}
        }
    }
    ways
}

fn through_tunnel(config: &Config, node: &Node, link: u32, ways: &mut Ways) {
    let reached = node.addresses.iter().find(|address| address.is_ipv4() == config.node_ip.is_ipv4());
    let (Some(address), Some(mac)) = (reached, mac(node)) else { return };
    ways.neighbours.push(Neighbour { link, address: *address, mac, forwarding: true });
    for range in &node.pod_cidrs {
        let gateway = range.network();
        ways.routes.push(message::route(*range, Via::Gateway { gateway, link, onlink: true }));
        ways.neighbours.push(Neighbour { link, address: gateway, mac, forwarding: false });
    }
}

fn through_node(node: &Node, link: u32, ways: &mut Ways) {
    for range in &node.pod_cidrs {
        let gateway = node.addresses.iter().find(|address| address.is_ipv4() == range.addr().is_ipv4());
        if let Some(gateway) = gateway {
            ways.routes.push(message::route(*range, Via::Gateway { gateway: *gateway, link, onlink: false }));
        }
    }
}

/// The hardware address of a node's end: locally administered, and as distinct as pod ranges are.
fn mac(node: &Node) -> Option<Mac> {
    match node.pod_cidrs.first()?.network() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            Some([0x0a, 0x58, a, b, c, d])
        }
        // Ranges of a cluster differ in the last bits of the first half.
        IpAddr::V6(address) => {
            let octets = address.octets();
            Some([0x0a, 0x58, octets[4], octets[5], octets[6], octets[7]])
        }
    }
}
