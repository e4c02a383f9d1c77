//! What pulls need of the host: addresses of registries, and whom it believes.

use std::io;
use std::net::IpAddr;

use containers::Outside;
use futures::future::BoxFuture;
use rustls::ClientConfig;

/// The host as it is.
pub(super) struct HostOutside;

impl Outside for HostOutside {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(network::dns::host_addresses(host))
    }

    /// Read anew for each pull: authorities come and go, and an idle node holds none of them.
    fn tls(&self) -> Result<ClientConfig, String> {
        let config = apiserver::outbound::client_config(&[], None);
        config.map(|it| (*it).clone()).map_err(|_| {
            "this host believes no authority: install its ca-certificates, or name a ca_file in registries.yaml"
                .to_owned()
        })
    }
}
