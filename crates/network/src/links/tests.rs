//! Links, routes and neighbours against the kernel: what is made is what is read.

use std::os::fd::AsFd;

use super::message::{NewLink, Vxlan};
use super::*;
use crate::testing::{Namespace, root};

fn named(name: &str) -> NewLink<'_> {
    NewLink { name, mac: Some([2, 0, 0, 0, 0, 1]), mtu: Some(1400) }
}

#[test]
fn what_is_made_is_what_is_read() {
    let Some((near, far)) = root().then(|| (Namespace::new(), Namespace::new())) else { return };
    let mut links = Links::open_in(near.0.as_fd()).unwrap();
    let peer = NewLink { name: "eth0", mac: None, mtu: None };
    links.apply(&[message::add_veth(&named("host"), &peer, far.0.as_fd())]).unwrap();
    let host = links.require("host").unwrap();
    links.apply(&[message::set_alias(host.index, "for a test")]).unwrap();
    let host = links.require(&host.name).unwrap();
    assert_eq!((host.kind.as_str(), host.alias.as_str(), host.mtu, host.up), ("veth", "for a test", 1400, false));
    assert!(Links::open_in(far.0.as_fd()).unwrap().get("eth0").unwrap().is_some());
    assert!(links.get("eth0").unwrap().is_none());

    let via_link = message::route("10.42.0.5/32".parse().unwrap(), Via::Link(host.index));
    let gateway = Via::Gateway { gateway: "10.42.1.0".parse().unwrap(), link: host.index, onlink: true };
    let via_gateway = message::route("10.42.1.0/24".parse().unwrap(), gateway);
    let nowhere = message::route("10.42.0.0/24".parse().unwrap(), Via::Nowhere);
    links
        .apply(&[
            message::set_up(host.index),
            message::set_proxy_arp(host.index),
            message::add_address(host.index, "192.0.2.1/32".parse().unwrap()),
            message::add_route(&via_link, false),
            message::add_route(&via_gateway, false),
            message::add_route(&nowhere, false),
        ])
        .unwrap();
    let routes = links.routes().unwrap();
    for route in [&via_link, &via_gateway, &nowhere] {
        assert!(routes.contains(route), "{route:?} in {routes:?}");
    }
    assert!(links.addresses().unwrap().contains(&(host.index, "192.0.2.1/32".parse().unwrap())));
    let again = links.apply(&[message::add_route(&via_link, false)]).unwrap_err();
    assert!(again.exists(), "{again}");

    links.apply(&[message::delete_route(&via_gateway), message::delete_link(host.index)]).unwrap();
    assert_eq!(links.routes().unwrap(), [nowhere]);
    assert!(Links::open_in(far.0.as_fd()).unwrap().get("eth0").unwrap().is_none(), "a veth goes with its peer");
}

#[test]
fn a_vxlan_forwards_where_it_is_told() {
    let Some(near) = root().then(Namespace::new) else { return };
    let mut links = Links::open_in(near.0.as_fd()).unwrap();
    let uplink = links.require("lo").unwrap().index;
    let vxlan = Vxlan { vni: 1, port: 8472, local: "127.0.0.1".parse().unwrap(), uplink };
    links.apply(&[message::set_up(uplink), message::add_vxlan(&named("flannel.1"), &vxlan)]).unwrap();
    let link = links.require("flannel.1").unwrap();
    assert_eq!(link.vxlan, Some(vxlan));

    let entry = |address: &str, forwarding| Neighbour {
        link: link.index,
        address: address.parse().unwrap(),
        mac: [2, 0, 0, 0, 0, 9],
        forwarding,
    };
    let wanted = [entry("10.42.1.0", false), entry("192.0.2.7", true)];
    links.apply(&[message::set_up(link.index)]).unwrap();
    links.apply(&wanted.iter().map(message::set_neighbour).collect::<Vec<_>>()).unwrap();
    assert_eq!(links.neighbours(link.index).unwrap(), wanted);
    links.apply(&wanted.iter().map(message::delete_neighbour).collect::<Vec<_>>()).unwrap();
    assert_eq!(links.neighbours(link.index).unwrap(), []);
}
