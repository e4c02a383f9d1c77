//! Gives a cluster its nodes, addresses and ports: pure, from what is meant and what the host has free.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use super::filters::Role;
use super::ports::Transport;
use super::spec::ClusterSpec;
use super::state::{ClusterState, Phase};
use crate::runtime::{NodeSpec, Publish, RuntimeKind};

/// Where the API listens in a server.
pub(crate) const API_PORT: u16 = 6443;
/// Clusters' networks are the /24s of this /16; k3s's own ranges, 10.42 and 10.43, are elsewhere.
const POOL: [u8; 2] = [10, 89];
const FIRST_NODE: u8 = 2;
/// Nodes share the host's disk, and nearly full is how developers' disks are: that makes no node unusable, as in kind's
/// clusters. Memory keeps its threshold.
const EVICTION: &str = "--kubelet-arg=eviction-hard=memory.available<100Mi,nodefs.available<0%,nodefs.inodesFree<0%,\
                        imagefs.available<0%,imagefs.inodesFree<0%";
/// Nor are images removed for it.
const IMAGES: &str = "--kubelet-arg=image-gc-high-threshold=100";

/// What only the host can tell, found out before.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) runtime: RuntimeKind,
    /// The third bytes of the pool's networks that are in use.
    pub(crate) taken: Vec<u8>,
    /// Free ports, one for each mapping that named none.
    pub(crate) free_ports: Vec<u16>,
    /// RFC 3339.
    pub(crate) now: String,
    /// The name of the node image in the runtime.
    pub(crate) image: String,
    /// The secret with which nodes join, with the authority's fingerprint.
    pub(crate) token: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum LayoutError {
    #[error("all 256 cluster networks of 10.89.0.0/16 are in use on this host")]
    Networks,
    #[error("this host has no free port left")]
    Ports,
}

/// What a cluster made from `spec` consists of.
pub(crate) fn lay_out(spec: &ClusterSpec, facts: &Facts) -> Result<ClusterState, LayoutError> {
    let third = free_network(&spec.name, &facts.taken).ok_or(LayoutError::Networks)?;
    let mut free = facts.free_ports.iter().copied();
    let mut port = |wanted: Option<u16>| wanted.or_else(|| free.next()).ok_or(LayoutError::Ports);
    let api = SocketAddr::new(spec.api.0, port(spec.api.1)?);
    let mut nodes: Vec<NodeSpec> = spec
        .nodes()
        .zip(FIRST_NODE..)
        .map(|((role, index), last)| node(spec, facts, role, index, third, last))
        .collect();
    let server_address = nodes[0].address;
    nodes[0].ports.push(Publish { host: api, port: API_PORT, transport: Transport::Tcp });
    nodes[0].command.extend(sans(api));
    for agent in nodes.iter_mut().filter(|it| it.role == Role::Agent) {
        agent.environment.insert("K3S_URL".to_owned(), format!("https://{server_address}:{API_PORT}"));
    }
    for (node, (role, index)) in nodes.iter_mut().zip(spec.nodes()) {
        let mine = spec.arguments.iter().filter(|it| match &it.filter {
            Some(filter) => filter.selects(role, index),
            None => role == Role::Server,
        });
        node.command.extend(mine.map(|it| it.text.clone()));
    }
    for mapping in &spec.ports {
        let chosen = match &mapping.filter {
            Some(filter) => spec.nodes().position(|(role, index)| filter.selects(role, index)),
            None => Some(0),
        };
        // The spec was checked to have a node for each; any node passes on what any other serves.
        let publish = Publish {
            host: SocketAddr::new(mapping.host, port(mapping.host_port)?),
            port: mapping.node_port,
            transport: mapping.transport,
        };
        nodes[chosen.unwrap_or(0)].ports.push(publish);
    }
    Ok(ClusterState {
        name: spec.name.clone(),
        runtime: facts.runtime,
        phase: Phase::Creating,
        created: facts.now.clone(),
        image: facts.image.clone(),
        network: third,
        api,
        token: facts.token.clone(),
        nodes,
        previous_context: None,
        kubeconfig: None,
    })
}

/// How many ports [`lay_out`] will need that nobody named.
pub(crate) fn unnamed_ports(spec: &ClusterSpec) -> usize {
    usize::from(spec.api.1.is_none()) + spec.ports.iter().filter(|it| it.host_port.is_none()).count()
}

/// The network of a cluster.
pub(crate) fn subnet(third: u8) -> ipnet::Ipv4Net {
    ipnet::Ipv4Net::new(Ipv4Addr::new(POOL[0], POOL[1], third, 0), 24).expect("24 is a prefix length")
}

/// The host's address in the network of a cluster, which is its nodes' way out.
pub(crate) fn gateway(third: u8) -> Ipv4Addr {
    Ipv4Addr::new(POOL[0], POOL[1], third, 1)
}

/// Which of the pool's networks an address or a network of the host lies in.
pub(crate) fn pool_index(address: Ipv4Addr) -> Option<u8> {
    let [a, b, third, _] = address.octets();
    ([a, b] == POOL).then_some(third)
}

/// A cluster gets the same network again where it can: the search begins where its name says.
fn free_network(name: &str, taken: &[u8]) -> Option<u8> {
    let start = name.bytes().fold(0u8, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte));
    (0..=255u8).map(|step| start.wrapping_add(step)).find(|third| !taken.contains(third))
}

fn node(spec: &ClusterSpec, facts: &Facts, role: Role, index: u32, third: u8, last: u8) -> NodeSpec {
    let name = format!("k3rs-{}-{role}-{index}", spec.name);
    let address = Ipv4Addr::new(POOL[0], POOL[1], third, last);
    let (role_name, address_text) = (role.to_string(), address.to_string());
    let command = ["/bin/k3rs", "init", &role_name, "--node-name", &name, "--node-ip", &address_text, EVICTION, IMAGES];
    NodeSpec {
        cluster: spec.name.clone(),
        role,
        address,
        network: third,
        image: facts.image.clone(),
        command: command.map(str::to_owned).into(),
        environment: BTreeMap::from([("K3S_TOKEN".to_owned(), facts.token.clone())]),
        ports: Vec::new(),
        name,
    }
}

/// What the server's certificate must say beside the usual, for clients that come by the host's address.
fn sans(api: SocketAddr) -> Vec<String> {
    match api.ip() {
        ip if ip.is_loopback() || ip.is_unspecified() => Vec::new(),
        ip => vec!["--tls-san".to_owned(), ip.to_string()],
    }
}
