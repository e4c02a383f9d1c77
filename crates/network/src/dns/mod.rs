//! The cluster's DNS, served by each node for its own pods (CoreDNS's job).
//!
//! The cluster DNS address is an address of every node's loopback link: a pod's query ends on its own node, without
//! translation, tracking or a hop. Names come from informers; everything else is asked of the node's resolvers.
//!
//! ```text
//! query -> answer (pure) -> zone (pure)  -> reply, in the receive loop
//!                        -> forward      -> reply, later
//! ```

mod answer;
mod forward;
mod lookup;
pub mod observe;
mod server;
pub mod zone;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use client::informer::Informers;
use ipnet::IpNet;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use forward::upstreams;
pub use lookup::host_addresses;

use crate::links::{self, Links, message};
use observe::Observer;
use server::{Service, Sockets};
use zone::Zone;

/// What is served where.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster domain, such as `cluster.local`.
    pub domain: String,
    /// The cluster DNS addresses; they are given to the loopback link.
    pub addresses: Vec<IpAddr>,
    /// 53.
    pub port: u16,
    /// The resolvers for all other names, as [`upstreams`] reads them.
    pub upstreams: Vec<SocketAddr>,
}

/// Why names are not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot give the cluster DNS address to the loopback link: {0}")]
    Address(#[from] links::Error),
    #[error("cannot serve DNS on {address}: {source}; is another DNS server there?")]
    Bind { address: SocketAddr, source: io::Error },
}

/// Serves names until `token` is cancelled.
pub async fn run(informers: Arc<dyn Informers>, config: Config, token: CancellationToken) -> Result<(), Error> {
    own_addresses(&config.addresses)?;
    let sockets = bind(&config).await?;
    serve(informers, &config, sockets, token).await;
    Ok(())
}

/// Gives the loopback link the addresses on which pods ask.
fn own_addresses(addresses: &[IpAddr]) -> Result<(), links::Error> {
    let mut links = Links::open()?;
    let loopback = links.require("lo")?.index;
    let own: Vec<_> = addresses
        .iter()
        .filter(|address| !address.is_loopback())
        .map(|address| message::add_address(loopback, IpNet::from(*address)))
        .collect();
    links.apply(&own)?;
    Ok(())
}

async fn bind(config: &Config) -> Result<Vec<Sockets>, Error> {
    let mut sockets = Vec::new();
    for address in server::at_port(&config.addresses, config.port) {
        sockets.push(Sockets::bind(address).await.map_err(|source| Error::Bind { address, source })?);
    }
    Ok(sockets)
}

async fn serve(informers: Arc<dyn Informers>, config: &Config, sockets: Vec<Sockets>, token: CancellationToken) {
    let forwarder = forward::Forwarder::new(&config.upstreams);
    let service = Arc::new(Service { zone: RwLock::new(None), forwarder });
    let tasks = TaskTracker::new();
    for sockets in sockets {
        if let Ok(address) = sockets.address() {
            tracing::info!(%address, domain = config.domain, "DNS is served");
        }
        sockets.serve(&service, &tasks, &token);
    }
    let mut observer = Observer::new(&*informers);
    let follow = async {
        loop {
            observer.changed().await;
            if observer.synced() {
                let zone = Zone::new(&config.domain, &config.addresses, &observer.observed());
                *service.zone.write() = Some(Arc::new(zone));
            }
        }
    };
    let _: Option<std::convert::Infallible> = token.run_until_cancelled(follow).await;
    tasks.close();
    tasks.wait().await;
}
