//! What only the host can tell: which ports and networks are free, and who has those that are not.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use network::links::Links;

use super::layout;
use super::ports::{LOOPBACK, Transport};
use super::state::ClusterState;
use crate::runtime::NodeSpec;

#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    #[error("host port {address}/{transport} is in use{}", by(holder.as_deref()))]
    PortInUse { address: SocketAddr, transport: Transport, holder: Option<String> },
    #[error("host port {address}/{transport}: {source}")]
    Port { address: SocketAddr, transport: Transport, source: io::Error },
    #[error("the host's network: {0}")]
    Links(#[from] network::links::Error),
}

fn by(holder: Option<&str>) -> String {
    holder.map(|it| format!(" by {it}")).unwrap_or_default()
}

impl From<HostError> for crate::failure::Failure {
    fn from(error: HostError) -> Self {
        use crate::failure::{Code, Failure};
        let message = error.to_string();
        match error {
            HostError::PortInUse { .. } => {
                Failure::new(Code::HostUnable, message).remedy("take another port, or 0 for any that is free")
            }
            HostError::Port { .. } => Failure::new(Code::HostUnable, message)
                .remedy("take an address that this host has, and a port you may use"),
            HostError::Links(_) => Failure::new(Code::Failure, message),
        }
    }
}

/// As many free TCP ports of this machine, all different, and none that another cluster has, even a stopped one.
pub(crate) fn free_ports(count: usize, others: &[ClusterState]) -> Result<Vec<u16>, HostError> {
    let address = SocketAddr::new(LOOPBACK, 0);
    let failed = |source| HostError::Port { address, transport: Transport::Tcp, source };
    let theirs: Vec<u16> = published(others).map(|(_, it)| it.host.port()).collect();
    // All are held until all are found.
    let (mut held, mut ports) = (Vec::new(), Vec::new());
    while ports.len() < count {
        let listener = TcpListener::bind(address).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        held.push(listener);
        if !theirs.contains(&port) {
            ports.push(port);
        }
    }
    Ok(ports)
}

fn published(clusters: &[ClusterState]) -> impl Iterator<Item = (&ClusterState, &crate::runtime::Publish)> {
    clusters
        .iter()
        .flat_map(|cluster| cluster.nodes.iter().flat_map(|it| &it.ports).map(move |publish| (cluster, publish)))
}

/// Fails if a port that `nodes` are to have cannot be had.
pub(crate) fn check_ports(nodes: &[NodeSpec], others: &[ClusterState]) -> Result<(), HostError> {
    for publish in nodes.iter().flat_map(|it| &it.ports) {
        let (address, transport) = (publish.host, publish.transport);
        let bound = match transport {
            Transport::Tcp => TcpListener::bind(address).map(drop),
            Transport::Udp => UdpSocket::bind(address).map(drop),
        };
        let holder = || {
            let mut theirs = published(others).filter(|(cluster, _)| nodes.iter().all(|it| it.cluster != cluster.name));
            let cluster = theirs.find(|(_, it)| it.host.port() == address.port() && it.transport == transport);
            let cluster = cluster.map(|(cluster, _)| format!("cluster {}", cluster.name));
            cluster.or_else(|| linux::listeners::holder(&transport.to_string(), address.port()))
        };
        bound.map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => HostError::PortInUse { address, transport, holder: holder() },
            _ => HostError::Port { address, transport, source },
        })?;
    }
    Ok(())
}

/// The networks of the pool that an address or a route of the host, or another cluster, has.
pub(crate) fn taken_networks(clusters: &[ClusterState]) -> Result<Vec<u8>, HostError> {
    let mut links = Links::open()?;
    let addresses = links.addresses()?.into_iter().map(|(_, net)| net.addr());
    let routes = links.routes()?.into_iter().map(|it| it.to.network());
    let of_host = addresses.chain(routes).filter_map(|it| match it {
        IpAddr::V4(address) => layout::pool_index(address),
        IpAddr::V6(_) => None,
    });
    let mut taken: Vec<u8> = of_host.chain(clusters.iter().map(|it| it.network)).collect();
    taken.sort_unstable();
    taken.dedup();
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ() {
        let mut ports = free_ports(8, &[]).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 8);
    }
}
