//! The plan -> the kernel's links, routes and neighbours. What is there already is left alone.

use std::net::IpAddr;

use super::observe::Observed;
use super::plan::{self, Tunnel, Ways};
use super::{Backend, Config, Error, LINK};
use crate::links::message::{self, NewLink};
use crate::links::{self, Link, Links, OURS, Route, Via};

/// The links of the network namespace in which this was opened.
#[derive(Debug)]
pub(super) struct Applier {
    links: Links,
}

/// The link that has the node's address.
pub(super) fn uplink(links: &mut Links, node_ip: IpAddr) -> Result<Link, Error> {
    let addresses = links.addresses()?;
    let index = addresses.iter().find(|(_, net)| net.addr() == node_ip).map(|(index, _)| *index);
    let found = links.list()?.into_iter().find(|link| Some(link.index) == index);
    found.ok_or(Error::NoUplink(node_ip))
}

impl Applier {
    pub(super) fn open() -> Result<Self, Error> {
        Ok(Self { links: Links::open()? })
    }

    /// Brings the kernel to the plan for what was observed.
    pub(super) fn apply(&mut self, config: &Config, observed: &Observed) -> Result<(), Error> {
        let uplink = uplink(&mut self.links, config.node_ip)?;
        let link = match plan::tunnel(config, observed, uplink.index, uplink.mtu) {
            Some(tunnel) => self.tunnel(&tunnel)?,
            None if config.backend == Backend::HostGateway => uplink.index,
            // This node has no pod range yet: it comes with the next change.
            None => return Ok(()),
        };
        let ways = plan::ways(config, observed, link);
        self.set(link, &ways)
    }

    /// The index of the tunnel's link, which is made, or made anew if it is another.
    fn tunnel(&mut self, tunnel: &Tunnel) -> Result<u32, Error> {
        if let Some(found) = self.links.get(LINK)? {
            if found.vxlan.as_ref() == Some(&tunnel.vxlan) && found.mac == Some(tunnel.mac) && found.mtu == tunnel.mtu {
                return self.finish(&found, tunnel);
            }
            self.change(&[message::delete_link(found.index)])?;
        }
        let link = NewLink { name: LINK, mac: Some(tunnel.mac), mtu: Some(tunnel.mtu) };
        self.change(&[message::add_vxlan(&link, &tunnel.vxlan)])?;
        let made = self.links.require(LINK)?;
        self.finish(&made, tunnel)
    }

    fn finish(&mut self, link: &Link, tunnel: &Tunnel) -> Result<u32, Error> {
        let there = self.links.addresses()?;
        let missing = tunnel.addresses.iter().filter(|address| !there.contains(&(link.index, **address)));
        let mut changes: Vec<_> = missing.map(|address| message::add_address(link.index, *address)).collect();
        if !link.up {
            changes.push(message::set_up(link.index));
        }
        self.change(&changes)?;
        Ok(link.index)
    }

    /// Makes the routes of ours by gateways out of `link`, and its neighbours, those of `ways`.
    fn set(&mut self, link: u32, ways: &Ways) -> Result<(), Error> {
        let ours = |route: &Route| {
            let out_of_link = matches!(route.via, Via::Gateway { link: out, .. } if out == link);
            route.protocol == OURS && out_of_link
        };
        let routes: Vec<_> = self.links.routes()?.into_iter().filter(ours).collect();
        let mut changes = Vec::new();
        // A neighbour before the route that needs it; a route away before its neighbour.
        changes.extend(routes.iter().filter(|route| !ways.routes.contains(route)).map(message::delete_route));
        // Of the uplink the neighbours are others'.
        if self.links.get(LINK)?.is_some_and(|tunnel| tunnel.index == link) {
            let there = self.links.neighbours(link)?;
            changes
                .extend(there.iter().filter(|entry| !ways.neighbours.contains(entry)).map(message::delete_neighbour));
            changes.extend(ways.neighbours.iter().filter(|entry| !there.contains(entry)).map(message::set_neighbour));
        }
        let missing = ways.routes.iter().filter(|route| !routes.contains(route));
        changes.extend(missing.map(|route| message::add_route(route, true)));
        self.change(&changes)
    }

    fn change(&mut self, changes: &[linux::netlink::Message]) -> Result<(), Error> {
        Ok(self.links.apply(changes).map_err(links::Error::from)?)
    }
}
