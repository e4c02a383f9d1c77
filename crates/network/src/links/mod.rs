//! Links, addresses, routes and neighbours over rtnetlink.
//!
//! [`message`] says what to change, as values; [`Links`] sends any number of them with one call and reads what there is.
//! A handle speaks to the network namespace in which it was opened, from wherever it is used.

pub mod message;
mod read;

#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ipnet::IpNet;
use linux::netlink::{self, Message, Protocol, Socket};

/// The routing protocol number by which routes of ours are told from others', in `ip route` as `proto 107`.
pub const OURS: u8 = 107;

/// A hardware address.
pub type Mac = [u8; 6];

/// Why links could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot enter the network namespace: {0}")]
    Namespace(#[from] io::Error),
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    #[error("there is no link {0}")]
    NoLink(String),
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `veth`, `vxlan`, `bridge`, ...; empty for hardware.
    pub kind: String,
    /// The text that whoever made it attached to it.
    pub alias: String,
    pub mtu: u32,
    pub up: bool,
    pub mac: Option<Mac>,
    /// The index of the other end of a veth, in its own namespace.
    pub peer: Option<u32>,
    /// What the kind has of its own, of a vxlan.
    pub vxlan: Option<message::Vxlan>,
}

/// A route in the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub to: IpNet,
    pub via: Via,
    /// Who made it: [`OURS`], or another number.
    pub protocol: u8,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// Directly out of this link.
    Link(u32),
    /// To this gateway. `onlink`: it is taken to be reachable by this link, whatever the routes say.
    Gateway { gateway: IpAddr, link: u32, onlink: bool },
    /// Nowhere: senders are told that the host is unreachable.
    Nowhere,
}

/// A permanent neighbour entry, or of a vxlan link (`forwarding`) where frames to a hardware address go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    pub link: u32,
    pub address: IpAddr,
    pub mac: Mac,
    pub forwarding: bool,
}

/// The links of one network namespace.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
}

impl Links {
    /// Those of the calling thread's network namespace.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }

    /// Those of `netns`.
    pub fn open_in(netns: BorrowedFd<'_>) -> Result<Self, Error> {
        linux::netns::enter(netns, Self::open)?
    }

    /// Applies all of `changes` in order; the first refusal is the result, those behind it were tried too.
    pub fn apply(&mut self, changes: &[Message]) -> Result<(), netlink::Error> {
        self.socket.request(changes)
    }

    /// All links.
    pub fn list(&mut self) -> Result<Vec<Link>, Error> {
        let mut links = Vec::new();
        self.socket.dump(message::list_links(), |_, payload| links.extend(read::link(payload)))?;
        Ok(links)
    }

    /// The link of this name.
    pub fn get(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut found = None;
        match self.socket.get(message::get_link(name), |_, payload| found = read::link(payload)) {
            Err(error) if error.not_found() => Ok(None),
            other => Ok(other.map(|()| found)?),
        }
    }

    /// The link of this name, whose absence is an error.
    pub fn require(&mut self, name: &str) -> Result<Link, Error> {
        self.get(name)?.ok_or_else(|| Error::NoLink(name.to_owned()))
    }

    /// All addresses, with the index of their link.
    pub fn addresses(&mut self) -> Result<Vec<(u32, IpNet)>, Error> {
        let mut addresses = Vec::new();
        self.socket.dump(message::list_addresses(), |_, payload| addresses.extend(read::address(payload)))?;
        Ok(addresses)
    }

    /// The routes of the main table, of both families.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        self.socket.dump(message::list_routes(), |_, payload| routes.extend(read::route(payload)))?;
        Ok(routes)
    }

    /// The permanent neighbours and vxlan forwarding entries of a link.
    pub fn neighbours(&mut self, link: u32) -> Result<Vec<Neighbour>, Error> {
        let mut neighbours = Vec::new();
        for forwarding in [false, true] {
            self.socket.dump(message::list_neighbours(forwarding), |_, payload| {
                neighbours.extend(read::neighbour(payload).filter(|neighbour| neighbour.link == link));
            })?;
        }
        Ok(neighbours)
    }

    /// The index of the link by which the default route of IPv4, else of IPv6, leaves, with the gateway.
    pub fn default_route(&mut self) -> Result<Option<(u32, IpAddr)>, Error> {
        let routes = self.routes()?;
        Ok(routes.into_iter().filter(|route| route.to.prefix_len() == 0).find_map(|route| match route.via {
            Via::Gateway { gateway, link, .. } => Some((link, gateway)),
            _ => None,
        }))
    }
}
