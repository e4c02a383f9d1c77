//! Pods of other nodes are reached by routes, over a vxlan or the nodes' own network.
//!
//! ```text
//! vxlan:    10.42.1.0/24 via 10.42.1.0 dev flannel.1 onlink     route: to the other node's end of the tunnel
//!           10.42.1.0 is 0a:58:0a:2a:01:00 on flannel.1         neighbour: which is this hardware address
//!           0a:58:0a:2a:01:00 dst 192.0.2.2                     forwarding: to be sent to that node
//! host-gw:  10.42.1.0/24 via 192.0.2.2                          the nodes share a link
//! ```
//!
//! The number, port and name are flannel's. The hardware address of a node's end is made of its pod range, so that all
//! there is to know of a node is in its Node object: nothing is announced, and nothing is learned from packets.

mod apply;
pub mod observe;
pub mod plan;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use client::informer::Informers;
use linux::netlink::{self, Listener, Protocol};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::links;
use observe::Observer;

/// How packets get to the pods of other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Vxlan,
    /// All nodes are on one link.
    HostGateway,
    /// Somebody else sees to it.
    None,
}

/// The way out of this node.
#[derive(Clone, Debug)]
pub struct Config {
    pub backend: Backend,
    pub node: String,
    /// The address by which other nodes reach this one.
    pub node_ip: IpAddr,
}

/// The link to other nodes' pods.
pub const LINK: &str = "flannel.1";
pub const VNI: u32 = 1;
pub const PORT: u16 = 8472;

/// How long after a failure it is tried again, unless something changes before.
const RETRY: Duration = Duration::from_secs(5);

/// Why other nodes' pods are not reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no link of this node has the address {0}; give the node's own with --node-ip")]
    NoUplink(IpAddr),
    #[error("cannot set up the way to other nodes' pods: {0}")]
    Links(#[from] links::Error),
    #[error("cannot hear of changes of links and routes: {0}")]
    Listen(#[source] netlink::Error),
}

/// What fits into one packet from pod to pod.
pub fn mtu(config: &Config) -> Result<u32, Error> {
    let mut links = links::Links::open()?;
    let uplink = apply::uplink(&mut links, config.node_ip)?;
    Ok(plan::mtu(config, uplink.mtu))
}

/// Keeps the routes to all nodes until `token` is cancelled. They stay then: pods outlive this process.
pub async fn run(informers: Arc<dyn Informers>, config: Config, token: CancellationToken) -> Result<(), Error> {
    if config.backend == Backend::None {
        return Ok(());
    }
    let mut observer = Observer::new(&*informers);
    let mut removed = Removals::listen()?;
    let mut applier = apply::Applier::open()?;
    let mut retry = None;
    loop {
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            () = observer.changed() => {}
            heard = removed.next() => heard?,
            () = at(retry) => {}
        }
        if !observer.synced() {
            continue;
        }
        retry = None;
        if let Err(error) = applier.apply(&config, &observer.observed()) {
            tracing::error!(%error, "routes to other nodes not set, to be tried again");
            retry = Some(Instant::now() + RETRY);
        }
    }
}

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Hears when links and routes go.
struct Removals(Listener);

impl Removals {
    fn listen() -> Result<Self, Error> {
        let groups = libc::RTMGRP_LINK | libc::RTMGRP_IPV4_ROUTE | libc::RTMGRP_IPV6_ROUTE;
        Ok(Self(Listener::join(Protocol::Route, groups.cast_unsigned()).map_err(Error::Listen)?))
    }

    async fn next(&mut self) -> Result<(), Error> {
        loop {
            let mut gone = false;
            let complete = self.0.hear(|kind, _, _| gone |= matches!(kind, libc::RTM_DELLINK | libc::RTM_DELROUTE));
            if !complete.await.map_err(Error::Listen)? || gone {
                return Ok(());
            }
        }
    }
}
