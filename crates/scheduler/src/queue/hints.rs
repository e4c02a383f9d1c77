//! Which changes in the cluster could make a plugin think again (KEP-4247).

use crate::plugins::Plugin;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    NodeAdded,
    NodeAllocatable,
    NodeLabels,
    /// Taints, or whether the node is cordoned.
    NodeTaints,
    /// A pod came to a node, or one there changed its labels.
    PodPlaced,
    /// A pod left its node or ended.
    PodGone,
    /// A claim, volume or class.
    Storage,
    Namespace,
}

/// Whether the event may help a pod that the plugin refused.
pub fn helps(event: Event, plugin: Plugin) -> bool {
    use Event as E;
    match plugin {
        Plugin::NodeName => event == E::NodeAdded,
        Plugin::NodeUnschedulable | Plugin::TaintToleration => matches!(event, E::NodeAdded | E::NodeTaints),
        Plugin::NodeAffinity => matches!(event, E::NodeAdded | E::NodeLabels),
        Plugin::NodePorts => matches!(event, E::NodeAdded | E::PodGone),
        Plugin::NodeResourcesFit => matches!(event, E::NodeAdded | E::NodeAllocatable | E::PodGone),
        Plugin::VolumeRestrictions => matches!(event, E::NodeAdded | E::PodGone | E::Storage),
        Plugin::VolumeBinding | Plugin::VolumeZone => matches!(event, E::NodeAdded | E::NodeLabels | E::Storage),
        Plugin::PodTopologySpread => {
            matches!(event, E::NodeAdded | E::NodeLabels | E::NodeTaints | E::PodPlaced | E::PodGone)
        }
        Plugin::InterPodAffinity => {
            matches!(event, E::NodeAdded | E::NodeLabels | E::PodPlaced | E::PodGone | E::Namespace)
        }
    }
}
