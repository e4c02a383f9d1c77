//! A pod's network: a routed veth with an address of its own, and nothing shared with other pods.
//!
//! ```text
//!  pod's namespace                         node's namespace
//!  eth0 10.42.0.5/32  ------ veth ------   veth3f2a... (no address)
//!  default via 169.254.1.1 dev eth0        10.42.0.5 dev veth3f2a...
//!  169.254.1.1 is ee:ee:ee:ee:ee:ee        10.42.0.5 is 0a:58:0a:2a:00:05
//! ```
//!
//! There is no bridge: every packet, also between two pods of one node, passes the node's IP layer, where services and
//! policies are. The gateway exists in no namespace; its neighbour entry is permanent, so no packet waits for ARP (for
//! who asks all the same, the link answers as an ARP proxy).
//!
//! The kernel's routes **are** the record of addresses in use: an address is taken when its route is there, and the
//! route goes with the link, which goes with the pod's namespace. No file can be older than what it describes.

mod addresses;
mod setup;

#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use ipnet::IpNet;
use parking_lot::Mutex;

use crate::links::{self, Links, Via, message};

/// Where the pod sends what is not for itself.
const GATEWAY_V4: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 1, 1));
const GATEWAY_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
/// The hardware address of the node's end of each veth; each is alone on its link, so they may be equal.
const GATEWAY_MAC: links::Mac = [0xee; 6];

/// What the pods of a node share.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's pod ranges: one, or one of each family, the primary first.
    pub pod_cidrs: Vec<IpNet>,
    /// What fits through the way to other nodes.
    pub mtu: u32,
}

/// Whose network it is.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'a> {
    pub uid: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// What it had before its node was restarted: it gets these again where they are free.
    pub former: &'a [IpAddr],
    /// What others had before the node was restarted: left to them as long as others are free.
    pub awaited: &'a [IpAddr],
}

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} for pod {pod}: {source}")]
    Links { action: &'static str, pod: String, source: links::Error },
    #[error("no address of {0} is free for another pod; the node needs a larger pod range")]
    Exhausted(IpNet),
    #[error("cannot prepare the node for pods: {0}")]
    Node(#[source] links::Error),
    #[error("cannot set {path} to {value}: {source}; pods need it, so set it on the host")]
    Sysctl { path: &'static str, value: &'static str, source: io::Error },
}

/// The pod network of one node.
///
/// Calls take about a millisecond, block, and follow one another: the kernel has one lock for links anyway.
#[derive(Debug)]
pub struct PodNetwork {
    config: Config,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    links: Links,
    /// For each range the address given last: addresses are reused as late as possible.
    last: Vec<Option<IpAddr>>,
}

impl PodNetwork {
    /// Prepares the network namespace of the calling thread, the node's: forwarding is on, and what no pod has is
    /// unreachable instead of sent to the default gateway.
    pub fn open(config: Config) -> Result<Self, Error> {
        forward(&config)?;
        let mut links = Links::open().map_err(Error::Node)?;
        let ranges: Vec<_> = config
            .pod_cidrs
            .iter()
            .map(|range| message::add_route(&message::route(*range, Via::Nowhere), true))
            .collect();
        links.apply(&ranges).map_err(|e| Error::Node(e.into()))?;
        let used = addresses::used(&mut links, &config.pod_cidrs).map_err(Error::Node)?;
        let last = config.pod_cidrs.iter().map(|range| used.iter().filter(|ip| range.contains(*ip)).max().copied());
        let last = last.collect();
        Ok(Self { config, state: Mutex::new(State { links, last }) })
    }

    /// Gives the pod whose namespace is `netns` its network and returns its addresses, the primary first.
    ///
    /// A second call returns the same. If the pod has a new namespace, the network of the old one goes. After an error
    /// nothing is left.
    pub fn setup(&self, netns: BorrowedFd<'_>, pod: Pod<'_>) -> Result<Vec<IpAddr>, Error> {
        self.state.lock().setup(&self.config, netns, pod)
    }

    /// Takes the pod's network away; no error if it has none.
    pub fn teardown(&self, uid: &str) -> Result<(), Error> {
        self.state.lock().teardown(uid)
    }

    /// The addresses of a pod that has a network, the primary first; empty if it has none.
    pub fn addresses(&self, uid: &str) -> Result<Vec<IpAddr>, Error> {
        self.state.lock().addresses(&self.config, uid)
    }
}

/// Lets the node forward packets. In some containers `/proc/sys` is read-only: then it must have been set from outside.
fn forward(config: &Config) -> Result<(), Error> {
    let mut wanted = Vec::new();
    if config.pod_cidrs.iter().any(|range| range.addr().is_ipv4()) {
        wanted.push("/proc/sys/net/ipv4/ip_forward");
    }
    if config.pod_cidrs.iter().any(|range| range.addr().is_ipv6()) {
        wanted.push("/proc/sys/net/ipv6/conf/all/forwarding");
    }
    wanted
        .into_iter()
        .try_for_each(|path| set_sysctl(path, "1").map_err(|source| Error::Sysctl { path, value: "1", source }))
}

fn set_sysctl(path: &str, value: &str) -> io::Result<()> {
    use std::io::Write;
    if std::fs::read_to_string(path)?.trim() == value {
        return Ok(());
    }
    std::fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}
