//! Making and removing one pod's veth.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ipnet::IpNet;

use super::{Config, Error, GATEWAY_MAC, GATEWAY_V4, GATEWAY_V6, Pod, State, addresses};
use crate::links::message::{self, NewLink};
use crate::links::{self, Link, Links, Mac, Neighbour, OURS, Via};

const POD_LINK: &str = "eth0";

impl State {
    pub(super) fn setup(&mut self, config: &Config, netns: BorrowedFd<'_>, pod: Pod<'_>) -> Result<Vec<IpAddr>, Error> {
        let fail = |action| move |source| Error::Links { action, pod: label(pod), source };
        let mut inside = Links::open_in(netns).map_err(fail("enter the network namespace"))?;
        let host = self.links.get(&host_name(pod.uid)).map_err(fail("look for the link"))?;
        if let Some(host) = host {
            let found = existing(&mut inside, &host, config).map_err(fail("read the addresses"))?;
            if !found.is_empty() {
                return Ok(found);
            }
            // Of an older sandbox of this pod, or left half-made by a predecessor.
            self.delete(&host).map_err(fail("remove the old link"))?;
        }
        let given = self.choose(config, pod)?;
        let made = self.make(config, netns, pod, &given, &mut inside);
        if made.is_err() {
            // The first error tells more than one from cleaning up.
            let _ = self.teardown(pod.uid);
        }
        made.map_err(fail("set up the network"))?;
        self.last = given.iter().copied().map(Some).collect();
        Ok(given)
    }

    pub(super) fn teardown(&mut self, uid: &str) -> Result<(), Error> {
        let fail = |source| Error::Links { action: "remove the network", pod: uid.to_owned(), source };
        match self.links.get(&host_name(uid)).map_err(fail)? {
            Some(host) => self.delete(&host).map_err(fail),
            None => Ok(()),
        }
    }

    pub(super) fn addresses(&mut self, config: &Config, uid: &str) -> Result<Vec<IpAddr>, Error> {
        let fail = |source| Error::Links { action: "read the addresses", pod: uid.to_owned(), source };
        let Some(host) = self.links.get(&host_name(uid)).map_err(fail)? else { return Ok(Vec::new()) };
        let routes = self.links.routes().map_err(fail)?;
        let found = routes.into_iter().filter(|route| route.via == Via::Link(host.index) && route.protocol == OURS);
        Ok(in_order(config, found.map(|route| route.to.addr()).collect()))
    }

    /// One free address of each range.
    fn choose(&mut self, config: &Config, pod: Pod<'_>) -> Result<Vec<IpAddr>, Error> {
        let used = addresses::used(&mut self.links, &config.pod_cidrs).map_err(Error::Node)?;
        let avoided: BTreeSet<IpAddr> = used.iter().chain(pod.awaited).copied().collect();
        let choose = |range: IpNet, last| {
            let former = pod.former.iter().copied().find(|it| range.contains(it) && !used.contains(it));
            former.or_else(|| addresses::next(range, &avoided, last)).or_else(|| addresses::next(range, &used, last))
        };
        let ranges = config.pod_cidrs.iter().zip(&self.last);
        ranges.map(|(range, last)| choose(*range, *last).ok_or(Error::Exhausted(*range))).collect()
    }

    fn make(
        &mut self,
        config: &Config,
        netns: BorrowedFd<'_>,
        pod: Pod<'_>,
        given: &[IpAddr],
        inside: &mut Links,
    ) -> Result<(), links::Error> {
        let name = host_name(pod.uid);
        let mac = pod_mac(given);
        let host = NewLink { name: &name, mac: Some(GATEWAY_MAC), mtu: Some(config.mtu) };
        let peer = NewLink { name: POD_LINK, mac: Some(mac), mtu: Some(config.mtu) };
        self.links.apply(&[message::add_veth(&host, &peer, netns)])?;
        let host = self.links.require(&name)?.index;
        let inner = inside.require(POD_LINK)?.index;
        let loopback = inside.require("lo")?.index;

        let mut outer_changes =
            vec![message::set_alias(host, &label(pod)), message::set_proxy_arp(host), message::set_up(host)];
        let mut inner_changes = vec![message::set_up(loopback), message::set_up(inner)];
        for address in given {
            let own = IpNet::from(*address);
            let gateway = if address.is_ipv4() { GATEWAY_V4 } else { GATEWAY_V6 };
            let neighbour = |link, address, mac| Neighbour { link, address, mac, forwarding: false };
            let default = IpNet::new_assert(if address.is_ipv4() { unspecified_v4() } else { unspecified_v6() }, 0);
            let out = Via::Gateway { gateway, link: inner, onlink: true };
            outer_changes.push(message::set_neighbour(&neighbour(host, *address, mac)));
            // Not replacing: if somebody else took the address meanwhile, this pod must not take it away.
            outer_changes.push(message::add_route(&message::route(own, Via::Link(host)), false));
            inner_changes.push(message::add_address(inner, own));
            inner_changes.push(message::set_neighbour(&neighbour(inner, gateway, GATEWAY_MAC)));
            inner_changes.push(message::add_route(&message::route(IpNet::from(gateway), Via::Link(inner)), false));
            inner_changes.push(message::add_route(&message::route(default, out), false));
        }
        self.links.apply(&outer_changes)?;
        inside.apply(&inner_changes)?;
        Ok(())
    }

    /// Both ends, the routes and the neighbour entries go with the link.
    fn delete(&mut self, host: &Link) -> Result<(), links::Error> {
        match self.links.apply(&[message::delete_link(host.index)]) {
            Err(error) if error.not_found() => Ok(()),
            other => Ok(other?),
        }
    }
}

/// The pod's addresses, if it has a complete network whose other end is `host`.
fn existing(inside: &mut Links, host: &Link, config: &Config) -> Result<Vec<IpAddr>, links::Error> {
    let Some(inner) = inside.get(POD_LINK)?.filter(|inner| inner.up && inner.peer == Some(host.index)) else {
        return Ok(Vec::new());
    };
    let defaults = inside.routes()?.iter().filter(|route| route.to.prefix_len() == 0).count();
    let addresses = inside.addresses()?.into_iter().filter(|(link, _)| *link == inner.index);
    let found = in_order(config, addresses.map(|(_, address)| address.addr()).collect());
    let complete = found.len() == config.pod_cidrs.len() && defaults == found.len() && host.up;
    Ok(if complete { found } else { Vec::new() })
}

/// Those of `found` that are in the node's ranges, in the order of these.
fn in_order(config: &Config, found: Vec<IpAddr>) -> Vec<IpAddr> {
    config.pod_cidrs.iter().filter_map(|range| found.iter().find(|address| range.contains(*address)).copied()).collect()
}

/// The name of the node's end; a name holds 15 bytes, a pod's UID more.
fn host_name(uid: &str) -> String {
    // The keys of this hasher are fixed, and a change of it would cost a pod no more than its link's name.
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    format!("veth{:011x}", hasher.finish() >> 20)
}

fn label(pod: Pod<'_>) -> String {
    format!("{}/{} {}", pod.namespace, pod.name, pod.uid)
}

/// A locally administered address that tells the pod's own, as CNI's plugins make it.
fn pod_mac(given: &[IpAddr]) -> Mac {
    match given.first() {
        Some(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            [0x0a, 0x58, a, b, c, d]
        }
        Some(IpAddr::V6(address)) => {
            let octets = address.octets();
            [0x0a, 0x58, octets[12], octets[13], octets[14], octets[15]]
        }
        None => [0x0a, 0x58, 0, 0, 0, 1],
    }
}

fn unspecified_v4() -> IpAddr {
    std::net::Ipv4Addr::UNSPECIFIED.into()
}

fn unspecified_v6() -> IpAddr {
    std::net::Ipv6Addr::UNSPECIFIED.into()
}
