//! Changes of links, addresses, routes and neighbours, as rtnetlink messages.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use linux::netlink::{CREATE, EXCLUSIVE, Message, REPLACE};

use super::{Mac, Neighbour, OURS, Route, Via};

const VETH_INFO_PEER: u16 = 1;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_INET_CONF: u16 = 1;
const IPV4_DEVCONF_PROXY_ARP: u16 = 3;
const IFA_F_NODAD: u32 = 2;
const RTNH_F_ONLINK: u32 = 4;

/// A link to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewLink<'a> {
    pub name: &'a str,
    pub mac: Option<Mac>,
    /// The kernel's default if none.
    pub mtu: Option<u32>,
}

/// What a vxlan link is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    pub vni: u32,
    pub port: u16,
    /// The address from which packets are sent.
    pub local: IpAddr,
    /// The link by which they are sent.
    pub uplink: u32,
}

/// A pair of connected links; `peer` appears in `netns`.
pub fn add_veth(host: &NewLink<'_>, peer: &NewLink<'_>, netns: BorrowedFd<'_>) -> Message {
    new_link(host, "veth", |out| {
        out.nest(VETH_INFO_PEER, |out| {
            out.raw(&link_header(0, 0, 0));
            properties(peer, out);
            out.ne32(libc::IFLA_NET_NS_FD, netns.as_raw_fd().cast_unsigned());
        });
    })
}

/// A vxlan link without learning: whoever makes it says where each hardware address is.
pub fn add_vxlan(link: &NewLink<'_>, vxlan: &Vxlan) -> Message {
    new_link(link, "vxlan", |out| {
        out.ne32(IFLA_VXLAN_ID, vxlan.vni);
        out.ne32(IFLA_VXLAN_LINK, vxlan.uplink);
        match vxlan.local {
            IpAddr::V4(local) => out.attr(IFLA_VXLAN_LOCAL, &local.octets()),
            IpAddr::V6(local) => out.attr(IFLA_VXLAN_LOCAL6, &local.octets()),
        };
        out.attr(IFLA_VXLAN_PORT, &vxlan.port.to_be_bytes());
        out.attr(IFLA_VXLAN_LEARNING, &[0]);
    })
}

/// A bridge.
pub fn add_bridge(link: &NewLink<'_>) -> Message {
    new_link(link, "bridge", |_| {})
}

fn new_link(link: &NewLink<'_>, kind: &str, data: impl FnOnce(&mut Message)) -> Message {
    let mut message = Message::new(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &link_header(0, 0, 0));
    properties(link, &mut message);
    message.nest(libc::IFLA_LINKINFO, |out| {
        out.text(libc::IFLA_INFO_KIND, kind);
        out.nest(libc::IFLA_INFO_DATA, data);
    });
    message
}

fn properties(link: &NewLink<'_>, out: &mut Message) {
    out.text(libc::IFLA_IFNAME, link.name);
    if let Some(mac) = &link.mac {
        out.attr(libc::IFLA_ADDRESS, mac);
    }
    if let Some(mtu) = link.mtu {
        out.ne32(libc::IFLA_MTU, mtu);
    }
}

/// Names a link's purpose, for `ip link` and for its maker's successor. (The kernel ignores it when a link is made.)
pub fn set_alias(link: u32, alias: &str) -> Message {
    let mut message = Message::new(libc::RTM_SETLINK, 0, &link_header(link, 0, 0));
    message.attr(libc::IFLA_IFALIAS, alias.as_bytes());
    message
}

pub fn set_up(link: u32) -> Message {
    Message::new(libc::RTM_SETLINK, 0, &link_header(link, libc::IFF_UP as u32, libc::IFF_UP as u32))
}

/// Makes `link` a port of the bridge `master`.
pub fn set_master(link: u32, master: u32) -> Message {
    let mut message = Message::new(libc::RTM_SETLINK, 0, &link_header(link, 0, 0));
    message.ne32(libc::IFLA_MASTER, master);
    message
}

/// Makes the node answer ARP requests that come by this link for whatever it routes elsewhere.
pub fn set_proxy_arp(link: u32) -> Message {
    let mut message = Message::new(libc::RTM_SETLINK, 0, &link_header(link, 0, 0));
    message.nest(libc::IFLA_AF_SPEC, |out| {
        out.nest(libc::AF_INET as u16, |out| {
            out.nest(IFLA_INET_CONF, |out| {
                out.ne32(IPV4_DEVCONF_PROXY_ARP, 1);
            });
        });
    });
    message
}

pub fn delete_link(link: u32) -> Message {
    Message::new(libc::RTM_DELLINK, 0, &link_header(link, 0, 0))
}

pub(super) fn list_links() -> Message {
    Message::new(libc::RTM_GETLINK, 0, &link_header(0, 0, 0))
}

pub(super) fn get_link(name: &str) -> Message {
    let mut message = Message::new(libc::RTM_GETLINK, 0, &link_header(0, 0, 0));
    message.text(libc::IFLA_IFNAME, name);
    message
}

/// A struct ifinfomsg.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// Gives `link` an address with its prefix; no error if it has it. Duplicate detection is left out: pod and overlay
/// addresses are ours to give.
pub fn add_address(link: u32, address: IpNet) -> Message {
    address_message(libc::RTM_NEWADDR, CREATE | REPLACE, link, address)
}

pub fn delete_address(link: u32, address: IpNet) -> Message {
    address_message(libc::RTM_DELADDR, 0, link, address)
}

fn address_message(kind: u16, flags: u16, link: u32, address: IpNet) -> Message {
    let mut header = [family(address.addr()), address.prefix_len(), 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    let mut message = Message::new(kind, flags, &header);
    let bytes = octets(address.addr());
    message.attr(libc::IFA_LOCAL, &bytes).attr(libc::IFA_ADDRESS, &bytes);
    if address.addr().is_ipv6() {
        message.ne32(libc::IFA_FLAGS, IFA_F_NODAD);
    }
    message
}

pub(super) fn list_addresses() -> Message {
    Message::new(libc::RTM_GETADDR, 0, &[0; 8])
}

/// Adds a route of ours. With `replace`, in the place of one to the same destination; else there must be none.
pub fn add_route(route: &Route, replace: bool) -> Message {
    let flags = if replace { CREATE | REPLACE } else { CREATE | EXCLUSIVE };
    route_message(libc::RTM_NEWROUTE, flags, route)
}

pub fn delete_route(route: &Route) -> Message {
    route_message(libc::RTM_DELROUTE, 0, route)
}

fn route_message(kind: u16, flags: u16, route: &Route) -> Message {
    let (scope, type_, onlink) = match route.via {
        Via::Link(_) => (libc::RT_SCOPE_LINK, libc::RTN_UNICAST, false),
        Via::Gateway { onlink, .. } => (libc::RT_SCOPE_UNIVERSE, libc::RTN_UNICAST, onlink),
        Via::Nowhere => (libc::RT_SCOPE_UNIVERSE, libc::RTN_UNREACHABLE, false),
    };
    let mut header = [0; 12];
    header[0] = family(route.to.addr());
    header[1] = route.to.prefix_len();
    header[4] = libc::RT_TABLE_MAIN;
    header[5] = route.protocol;
    header[6] = scope;
    header[7] = type_;
    if onlink {
        header[8..12].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    let mut message = Message::new(kind, flags, &header);
    if route.to.prefix_len() > 0 {
        message.attr(libc::RTA_DST, &octets(route.to.network()));
    }
    match route.via {
        Via::Link(link) => {
            message.ne32(libc::RTA_OIF, link);
        }
        Via::Gateway { gateway, link, .. } => {
            message.attr(libc::RTA_GATEWAY, &octets(gateway)).ne32(libc::RTA_OIF, link);
        }
        Via::Nowhere => {}
    }
    message
}

pub(super) fn list_routes() -> Message {
    Message::new(libc::RTM_GETROUTE, 0, &[0; 12])
}

/// Adds a permanent entry, or replaces the one of that address.
pub fn set_neighbour(neighbour: &Neighbour) -> Message {
    neighbour_message(libc::RTM_NEWNEIGH, CREATE | REPLACE, neighbour)
}

pub fn delete_neighbour(neighbour: &Neighbour) -> Message {
    neighbour_message(libc::RTM_DELNEIGH, 0, neighbour)
}

fn neighbour_message(kind: u16, flags: u16, neighbour: &Neighbour) -> Message {
    let (family, entry_flags) = match neighbour.forwarding {
        true => (libc::AF_BRIDGE as u8, libc::NTF_SELF),
        false => (family(neighbour.address), 0),
    };
    let mut header = [0; 12];
    header[0] = family;
    header[4..8].copy_from_slice(&neighbour.link.to_ne_bytes());
    header[8..10].copy_from_slice(&libc::NUD_PERMANENT.to_ne_bytes());
    header[10] = entry_flags;
    let mut message = Message::new(kind, flags, &header);
    message.attr(libc::NDA_DST, &octets(neighbour.address)).attr(libc::NDA_LLADDR, &neighbour.mac);
    message
}

pub(super) fn list_neighbours(forwarding: bool) -> Message {
    let mut header = [0; 12];
    if forwarding {
        header[0] = libc::AF_BRIDGE as u8;
    }
    Message::new(libc::RTM_GETNEIGH, 0, &header)
}

/// A route of ours to `to`.
pub fn route(to: IpNet, via: Via) -> Route {
    Route { to, via, protocol: OURS }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}
