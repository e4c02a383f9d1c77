//! How the API server reaches kubelets: TLS to the node's address, as `kube-apiserver`.

use std::io;
use std::net::{IpAddr, SocketAddr};
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

const CONNECT: Duration = Duration::from_secs(10);
const DEFAULT_PORT: u16 = 10250;

/// Connects straight to the node's address.
pub struct DirectDialer {
    tls: TlsConnector,
}

impl DirectDialer {
    /// With a configuration that trusts kubelets and shows them who we are.
    pub fn new(tls: ClientConfig) -> Self {
        Self { tls: TlsConnector::from(Arc::new(tls)) }
    }
}

impl NodeDialer for DirectDialer {
    fn dial<'a>(&'a self, node: &'a Value) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let address = internal_ip(node).ok_or_else(|| io::Error::other("it has no InternalIP"))?;
            let name = node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            // By name: an address may be claimed by any node, a name by one.
            let name = ServerName::try_from(name).map_err(io::Error::other)?;
            let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
            let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(DEFAULT_PORT);
            let connected = timeout(CONNECT, async {
                let socket = TcpStream::connect((address, port)).await?;
                socket.set_nodelay(true)?;
                self.tls.connect(name, socket).await
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
}

fn internal_ip(node: &Value) -> Option<IpAddr> {
    let mut addresses = node["status"]["addresses"].as_array()?.iter();
    addresses.find(|address| address["type"] == "InternalIP")?["address"].as_str()?.parse().ok()
}
