//! Cordoned nodes take no pods but those that tolerate it.

use k8s_openapi::api::core::v1::Taint;

use super::{Filter, Plugin, Rejection, Verdict, taints};
use crate::snapshot::{NodeInfo, PodInfo};

pub struct NodeUnschedulable {
    tolerated: bool,
}

impl NodeUnschedulable {
    pub fn new(pod: &PodInfo) -> Self {
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        Self { tolerated: taints::tolerated(&pod.needs.tolerations, &taint) }
    }
}

impl Filter for NodeUnschedulable {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if node.spec.unschedulable && !self.tolerated {
            return Err(Rejection::unresolvable(Plugin::NodeUnschedulable, "node(s) were unschedulable"));
        }
        Ok(())
    }
}
