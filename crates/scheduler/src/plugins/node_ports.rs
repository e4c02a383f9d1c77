//! Two pods cannot take the same port of a node.

use super::{Filter, Plugin, Rejection, Verdict};
use crate::snapshot::{HostPort, NodeInfo, PodInfo};

pub struct NodePorts<'a> {
    wanted: &'a [HostPort],
}

impl<'a> NodePorts<'a> {
    pub fn new(pod: &'a PodInfo) -> Self {
        Self { wanted: &pod.needs.ports }
    }
}

impl Filter for NodePorts<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let mut taken = node.pods.values().flat_map(|pod| &pod.needs.ports);
        if !self.wanted.is_empty() && taken.any(|taken| self.wanted.iter().any(|wanted| collide(wanted, taken))) {
            let reason = "node(s) didn't have free ports for the requested pod ports";
            return Err(Rejection::resolvable(Plugin::NodePorts, reason));
        }
        Ok(())
    }
}

fn collide(one: &HostPort, other: &HostPort) -> bool {
    let everywhere = |port: &HostPort| matches!(port.ip.as_str(), "" | "0.0.0.0");
    one.port == other.port
        && one.protocol == other.protocol
        && (one.ip == other.ip || everywhere(one) || everywhere(other))
}
