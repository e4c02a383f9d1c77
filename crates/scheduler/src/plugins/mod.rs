//! What decides for and against nodes, one file for each of upstream's plugins
//! (`k8s.io/kubernetes/pkg/scheduler/framework/plugins`).
//!
//! A plugin looks at the pod and the snapshot once, then filters or scores node by node; it is pure. Reasons are
//! upstream's words, because they are what users read in `FailedScheduling`.

pub mod balanced;
pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources;
pub mod node_unschedulable;
pub mod preemption;
pub mod taints;
pub mod topology_spread;
pub mod volume_binding;
pub mod volume_restrictions;
pub mod volume_zone;

use std::collections::BTreeSet;

use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

/// The best score of a plugin.
pub const MOST: i64 = 100;

/// Who refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plugin {
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeRestrictions,
    VolumeBinding,
    VolumeZone,
    PodTopologySpread,
    InterPodAffinity,
}

/// Why a node is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub plugin: Plugin,
    pub reasons: Vec<String>,
    /// Removing pods from the node would not help.
    pub unresolvable: bool,
}

/// What a filter says of a node.
pub type Verdict = Result<(), Rejection>;

/// Refuses nodes.
pub trait Filter {
    fn filter(&self, node: &NodeInfo) -> Verdict;
}

/// Ranks the nodes that no filter refused.
pub trait Score {
    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings the scores of all nodes into 0..=100; the default has them there already.
    fn normalize(&self, _scores: &mut [i64]) {}
}

impl Rejection {
    /// Other pods are in the way.
    pub fn resolvable(plugin: Plugin, reason: impl Into<String>) -> Self {
        Self { plugin, reasons: vec![reason.into()], unresolvable: false }
    }

    /// The node itself does not suit.
    pub fn unresolvable(plugin: Plugin, reason: impl Into<String>) -> Self {
        Self { plugin, reasons: vec![reason.into()], unresolvable: true }
    }
}

/// The filters in upstream's order: the first that refuses a node is the one that is told of.
///
/// # Errors
/// When no node can do, whatever it is: the reason, which is told once and not per node.
pub fn filters<'a>(pod: &'a PodInfo, snapshot: &'a Snapshot) -> Result<Vec<Box<dyn Filter + 'a>>, Rejection> {
    Ok(vec![
        Box::new(node_unschedulable::NodeUnschedulable::new(pod)),
        Box::new(node_name::NodeName::new(pod)),
        Box::new(taints::TaintToleration::new(pod)),
        Box::new(node_affinity::NodeAffinity::new(pod)),
        Box::new(node_ports::NodePorts::new(pod)),
        Box::new(node_resources::Fit::new(pod)),
        Box::new(volume_restrictions::VolumeRestrictions::new(pod, snapshot)?),
        Box::new(volume_binding::VolumeBinding::new(pod, snapshot)?),
        Box::new(volume_zone::VolumeZone::new(pod, snapshot)?),
        Box::new(topology_spread::Filtering::new(pod, snapshot)),
        Box::new(inter_pod_affinity::Filtering::new(pod, snapshot)),
    ])
}

/// The scores and their weights. `feasible` are the names of the nodes that passed the filters.
pub fn scores<'a>(
    pod: &'a PodInfo,
    snapshot: &'a Snapshot,
    feasible: &BTreeSet<&str>,
) -> Vec<(i64, Box<dyn Score + 'a>)> {
    vec![
        (3, Box::new(taints::TaintToleration::new(pod))),
        (2, Box::new(node_affinity::NodeAffinity::new(pod))),
        (2, Box::new(topology_spread::Scoring::new(pod, snapshot, feasible))),
        (2, Box::new(inter_pod_affinity::Scoring::new(pod, snapshot))),
        (1, Box::new(node_resources::LeastAllocated::new(pod))),
        (1, Box::new(balanced::BalancedAllocation::new(pod))),
        (1, Box::new(image_locality::ImageLocality::new(pod, snapshot))),
    ]
}

/// Scales scores so that the highest becomes 100; with `reverse`, the highest becomes 0.
pub(crate) fn scale(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or_default();
    for score in scores {
        let scaled = if highest == 0 { 0 } else { *score * MOST / highest };
        *score = if reverse { MOST - scaled } else { scaled };
    }
}
