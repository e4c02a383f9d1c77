//! Connection tracking entries: listing those of UDP, deleting the stale ones.
//!
//! A UDP client that goes on sending from one port never makes a new connection, so a translation to an endpoint that
//! is gone would swallow its packets for as long as it tries.

use std::net::{IpAddr, SocketAddr};

use linux::netlink::{Attributes, Error, Message, Socket};

use super::rule::Family;
use super::wire::*;

/// One tracked UDP flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sent the first packet.
    pub source: SocketAddr,
    /// Where it was sent to, before any translation.
    pub destination: SocketAddr,
    /// From where answers come: the endpoint, if the destination was translated.
    pub answers_from: SocketAddr,
}

/// The connection tracking of the network namespace in which this was opened.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

const UDP: u8 = 17;

impl Conntrack {
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(linux::netlink::Protocol::Netfilter)? })
    }

    /// All tracked UDP flows of `family`.
    pub fn udp_flows(&mut self, family: Family) -> Result<Vec<Flow>, Error> {
        let kind = kind(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET);
        let mut flows = Vec::new();
        self.socket.dump(Message::new(kind, 0, &header(number(family), 0)), |_, payload| {
            flows.extend(flow(&Attributes(payload.get(4..).unwrap_or_default())));
        })?;
        Ok(flows)
    }

    /// Deletes the entry of `flow`; no error if it is gone already.
    pub fn delete(&mut self, flow: &Flow) -> Result<(), Error> {
        let kind = kind(NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE);
        let mut message = Message::new(kind, 0, &header(number(Family::of(flow.source.ip())), 0));
        message.nest(CTA_TUPLE_ORIG, |out| tuple(flow.source, flow.destination, out));
        match self.socket.request(&[message]) {
            Err(error) if error.not_found() => Ok(()),
            other => other,
        }
    }
}

fn number(family: Family) -> u8 {
    match family {
        Family::V4 => NFPROTO_IPV4,
        Family::V6 => NFPROTO_IPV6,
    }
}

fn tuple(source: SocketAddr, destination: SocketAddr, out: &mut Message) {
    out.nest(CTA_TUPLE_IP, |out| {
        address(CTA_IP_V4_SRC, CTA_IP_V6_SRC, source.ip(), out);
        address(CTA_IP_V4_DST, CTA_IP_V6_DST, destination.ip(), out);
    });
    out.nest(CTA_TUPLE_PROTO, |out| {
        out.attr(CTA_PROTO_NUM, &[UDP]);
        out.attr(CTA_PROTO_SRC_PORT, &source.port().to_be_bytes());
        out.attr(CTA_PROTO_DST_PORT, &destination.port().to_be_bytes());
    });
}

fn address(v4: u16, v6: u16, address: IpAddr, out: &mut Message) {
    match address {
        IpAddr::V4(address) => out.attr(v4, &address.octets()),
        IpAddr::V6(address) => out.attr(v6, &address.octets()),
    };
}

fn flow(attributes: &Attributes<'_>) -> Option<Flow> {
    let (source, destination) = read_tuple(&Attributes(attributes.get(CTA_TUPLE_ORIG)?))?;
    let (answers_from, _) = read_tuple(&Attributes(attributes.get(CTA_TUPLE_REPLY)?))?;
    Some(Flow { source, destination, answers_from })
}

/// The source and destination of a UDP tuple.
fn read_tuple(tuple: &Attributes<'_>) -> Option<(SocketAddr, SocketAddr)> {
    let ip = Attributes(tuple.get(CTA_TUPLE_IP)?);
    let proto = Attributes(tuple.get(CTA_TUPLE_PROTO)?);
    if proto.get(CTA_PROTO_NUM)? != [UDP] {
        return None;
    }
    let port = |attribute| Some(u16::from_be_bytes(proto.get(attribute)?.try_into().ok()?));
    let ip_of = |v4, v6| match (ip.get(v4), ip.get(v6)) {
        (Some(bytes), _) => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        (None, Some(bytes)) => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        (None, None) => None,
    };
    Some((
        SocketAddr::new(ip_of(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?, port(CTA_PROTO_SRC_PORT)?),
        SocketAddr::new(ip_of(CTA_IP_V4_DST, CTA_IP_V6_DST)?, port(CTA_PROTO_DST_PORT)?),
    ))
}
