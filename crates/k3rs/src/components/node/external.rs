//! A node whose containers another runtime runs, such as containerd or CRI-O: it is waited for, and told by a CNI
//! configuration which addresses the node's pods have.
//!
//! The configuration lies where k3s has its own, and names plugins that every distribution packages: `ptp` gives each pod
//! a link of its own with a route to it, as the node's own runtime does, so that every packet passes the node's rules.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::cri::{RuntimeService, VersionRequest};
use client::backoff::Backoff;
use ipnet::IpNet;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::sandbox_network::NodeNetwork;

/// The runtime's folder of configurations must be this one, or have a link to the file.
const CONFLIST: &str = "etc/cni/net.d/10-flannel.conflist";
/// A runtime tells nobody that it has started; k3s asks as seldom.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// The sockets of a runtime that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    pub runtime: PathBuf,
    /// Where that is another.
    pub images: Option<PathBuf>,
}

/// Returns when the runtime answers; `None` when `stop` came first.
pub(super) async fn answering(runtime: &dyn RuntimeService, stop: &CancellationToken) -> Option<()> {
    let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
    let asking = async {
        let mut told = false;
        while let Err(why) = runtime.version(VersionRequest::default()).await {
            if !std::mem::replace(&mut told, true) {
                warn!(%why, "the node waits for its container runtime");
            }
            sleep_until(Instant::now() + backoff.fail()).await;
        }
    };
    stop.run_until_cancelled(asking).await
}

/// Writes the CNI configuration below `agent` as soon as the node has ranges.
pub(super) async fn configure(network: Arc<NodeNetwork>, agent: PathBuf, stop: CancellationToken) {
    let Some(ranges) = network.awaited_ranges(&stop).await else { return };
    let path = agent.join(CONFLIST);
    let written = network.mtu().and_then(|mtu| write(&path, &ranges, mtu).map_err(|why| why.to_string()));
    match written {
        Ok(()) => info!(path = %path.display(), "pods' addresses are told to the container runtime"),
        Err(why) => error!(path = %path.display(), why, "pods have no network"),
    }
}

fn write(path: &Path, ranges: &[IpNet], mtu: u32) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let text = format!("{:#}\n", conflist(ranges, mtu));
    linux::files::write_atomic(path, text.as_bytes(), 0o600)
}

fn conflist(ranges: &[IpNet], mtu: u32) -> Value {
    let subnets: Vec<Value> = ranges.iter().map(|range| json!([{"subnet": range.to_string()}])).collect();
    let everywhere = |range: &IpNet| match range {
        IpNet::V4(_) => json!({"dst": "0.0.0.0/0"}),
        IpNet::V6(_) => json!({"dst": "::/0"}),
    };
    let routes: Vec<Value> = ranges.iter().map(everywhere).collect();
    json!({
        "name": "cbr0",
        "cniVersion": "0.4.0",
        "plugins": [
            {
                "type": "ptp",
                "mtu": mtu,
                // Who leaves the cluster is given the node's address by the node's own rules.
                "ipMasq": false,
                "ipam": {"type": "host-local", "ranges": subnets, "routes": routes},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_range_of_the_node_is_the_pods_and_has_a_way_out() {
        let found = conflist(&["10.42.3.0/24".parse().unwrap(), "fd00:42:3::/64".parse().unwrap()], 1450);
        let pods = &found["plugins"][0];
        assert_eq!(pods["mtu"], 1450);
        assert_eq!(pods["ipam"]["ranges"], json!([[{"subnet": "10.42.3.0/24"}], [{"subnet": "fd00:42:3::/64"}]]));
        assert_eq!(pods["ipam"]["routes"], json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]));
    }
}
