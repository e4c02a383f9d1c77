//! What rtnetlink answers, read. An answer that doesn't parse is passed over: it is none of ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use linux::netlink::Attributes;

use super::message::Vxlan;
use super::{Link, Neighbour, Route, Via};

const RTNH_F_ONLINK: u32 = 4;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

pub(super) fn link(payload: &[u8]) -> Option<Link> {
    let attributes = Attributes(payload.get(16..)?);
    let info = Attributes(attributes.get(libc::IFLA_LINKINFO).unwrap_or_default());
    let kind = info.get_text(libc::IFLA_INFO_KIND).unwrap_or_default().to_owned();
    let data = info.get(libc::IFLA_INFO_DATA).filter(|_| kind == "vxlan");
    Some(Link {
        index: word(payload, 4)?,
        up: word(payload, 8)? & libc::IFF_UP as u32 != 0,
        name: attributes.get_text(libc::IFLA_IFNAME)?.to_owned(),
        alias: attributes.get_text(libc::IFLA_IFALIAS).unwrap_or_default().to_owned(),
        mtu: attributes.get_ne32(libc::IFLA_MTU).unwrap_or_default(),
        mac: attributes.get(libc::IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
        peer: attributes.get_ne32(libc::IFLA_LINK).filter(|_| kind == "veth"),
        vxlan: data.and_then(|data| vxlan(&Attributes(data))),
        kind,
    })
}

fn vxlan(data: &Attributes<'_>) -> Option<Vxlan> {
    const ID: u16 = 1;
    const LINK: u16 = 3;
    const LOCAL: u16 = 4;
    const PORT: u16 = 15;
    const LOCAL6: u16 = 17;
    Some(Vxlan {
        vni: data.get_ne32(ID)?,
        port: u16::from_be_bytes(data.get(PORT)?.try_into().ok()?),
        local: ip(data.get(LOCAL).or_else(|| data.get(LOCAL6))?)?,
        uplink: data.get_ne32(LINK)?,
    })
}

pub(super) fn address(payload: &[u8]) -> Option<(u32, IpNet)> {
    let attributes = Attributes(payload.get(8..)?);
    let address = ip(attributes.get(libc::IFA_LOCAL).or_else(|| attributes.get(libc::IFA_ADDRESS))?)?;
    Some((word(payload, 4)?, IpNet::new(address, payload[1]).ok()?))
}

pub(super) fn route(payload: &[u8]) -> Option<Route> {
    let header = payload.get(..12)?;
    let attributes = Attributes(&payload[12..]);
    let table = attributes.get_ne32(libc::RTA_TABLE).unwrap_or_else(|| header[4].into());
    if table != u32::from(libc::RT_TABLE_MAIN) {
        return None;
    }
    let any = match i32::from(header[0]) {
        libc::AF_INET => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        libc::AF_INET6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let to = attributes.get(libc::RTA_DST).map_or(Some(any), ip)?;
    let gateway = attributes.get(libc::RTA_GATEWAY).and_then(ip);
    let via = match (header[7], gateway, attributes.get_ne32(libc::RTA_OIF)) {
        (libc::RTN_UNREACHABLE, ..) => Via::Nowhere,
        (libc::RTN_UNICAST, None, Some(link)) => Via::Link(link),
        (libc::RTN_UNICAST, Some(gateway), Some(link)) => {
            Via::Gateway { gateway, link, onlink: word(header, 8)? & RTNH_F_ONLINK != 0 }
        }
        _ => return None,
    };
    Some(Route { to: IpNet::new(to, header[1]).ok()?, via, protocol: header[5] })
}

pub(super) fn neighbour(payload: &[u8]) -> Option<Neighbour> {
    let header = payload.get(..12)?;
    let attributes = Attributes(&payload[12..]);
    let state = u16::from_ne_bytes([header[8], header[9]]);
    if state & libc::NUD_PERMANENT == 0 {
        return None;
    }
    Some(Neighbour {
        link: word(header, 4)?,
        address: attributes.get(libc::NDA_DST).and_then(ip)?,
        mac: attributes.get(libc::NDA_LLADDR)?.try_into().ok()?,
        forwarding: i32::from(header[0]) == libc::AF_BRIDGE,
    })
}
