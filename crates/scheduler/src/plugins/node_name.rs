//! A pod that names its node goes there only. A scheduler meets such pods when it simulates: they are bound already.

use super::{Filter, Plugin, Rejection, Verdict};
use crate::snapshot::{NodeInfo, PodInfo};

pub struct NodeName<'a> {
    wanted: Option<&'a str>,
}

impl<'a> NodeName<'a> {
    pub fn new(pod: &'a PodInfo) -> Self {
        Self { wanted: pod.node.as_deref() }
    }
}

impl Filter for NodeName<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if self.wanted.is_some_and(|wanted| wanted != node.name) {
            return Err(Rejection::unresolvable(Plugin::NodeName, "node(s) didn't match the requested node name"));
        }
        Ok(())
    }
}
