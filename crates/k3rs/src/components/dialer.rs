//! How the API server reaches kubelets: TLS as `kube-apiserver`, through the node's tunnel or else to its address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use apiserver::streaming::{NodeDialer, Stream};
use futures::future::BoxFuture;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tracing::debug;

use crate::tunnel::Tunnels;

const CONNECT: Duration = Duration::from_secs(10);
const DEFAULT_PORT: u16 = 10250;

/// Connects to kubelets.
pub struct KubeletDialer {
    tls: TlsConnector,
    tunnels: Arc<Tunnels>,
}

impl KubeletDialer {
    /// With a configuration that trusts kubelets and shows them who we are.
    pub fn new(tls: ClientConfig, tunnels: Arc<Tunnels>) -> Self {
        Self { tls: TlsConnector::from(Arc::new(tls)), tunnels }
    }

    /// The way to port `port` of a node: its tunnel, where it has one that works.
    async fn open(&self, node: &str, address: Option<IpAddr>, port: u16) -> io::Result<Box<dyn Stream>> {
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
        match (self.tunnels.dial(node, &local).await, address) {
            (Some(Ok(stream)), _) => return Ok(Box::new(stream)),
            (Some(Err(why)), None) => return Err(why),
            (Some(Err(why)), Some(_)) => debug!(node, %why, "no way through the node's tunnel"),
            (None, _) => {}
        }
        let address = address.ok_or_else(|| io::Error::other("it has neither a tunnel nor an InternalIP"))?;
        let socket = TcpStream::connect((address, port)).await?;
        socket.set_nodelay(true)?;
        Ok(Box::new(socket))
    }
}

impl NodeDialer for KubeletDialer {
    fn dial<'a>(&'a self, node: &'a Value) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let name = node["metadata"]["name"].as_str().unwrap_or_default();
            // By name: an address may be claimed by any node, a name by one.
            let proven = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
            let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
            let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(DEFAULT_PORT);
            let connected = timeout(CONNECT, async {
                self.tls.connect(proven, self.open(name, internal_ip(node), port).await?).await
            });
            let stream = connected.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn connect<'a>(&'a self, _: Option<&'a Value>, address: SocketAddr) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let connected = timeout(CONNECT, TcpStream::connect(address));
            let socket = connected.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            socket.set_nodelay(true)?;
            Ok(Box::new(socket) as Box<dyn Stream>)
        })
    }

    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(network::dns::host_addresses(host))
    }
}

fn internal_ip(node: &Value) -> Option<IpAddr> {
    let mut addresses = node["status"]["addresses"].as_array()?.iter();
    addresses.find(|address| address["type"] == "InternalIP")?["address"].as_str()?.parse().ok()
}
