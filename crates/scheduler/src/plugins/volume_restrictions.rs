//! Volumes that only one pod may have: claims of the access mode ReadWriteOncePod in the whole cluster, and disks that
//! pods name themselves on one node.

use std::collections::BTreeSet;

use super::{Filter, Plugin, Rejection, Verdict};
use crate::snapshot::{Disk, NodeInfo, PodInfo, Snapshot};
use api::object::ObjectKey;

pub struct VolumeRestrictions<'a> {
    disks: &'a [Disk],
    /// Another pod has one of the pod's claims that are for one alone.
    in_use: bool,
}

impl<'a> VolumeRestrictions<'a> {
    /// # Errors
    /// When a claim is missing.
    pub fn new(pod: &'a PodInfo, snapshot: &Snapshot) -> Result<Self, Rejection> {
        let mut alone = BTreeSet::new();
        for (name, _) in pod.needs.claims.iter().filter(|(_, ephemeral)| !ephemeral) {
            let Some(claim) = snapshot.claims.get(&ObjectKey::new(&pod.key.namespace, name)) else {
                let reason = format!("persistentvolumeclaim \"{name}\" not found");
                return Err(Rejection::unresolvable(Plugin::VolumeRestrictions, reason));
            };
            let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
            if modes.into_iter().flatten().any(|mode| mode == "ReadWriteOncePod") {
                alone.insert(name.as_str());
            }
        }
        let uses = |other: &PodInfo| {
            other.uid != pod.uid
                && other.key.namespace == pod.key.namespace
                && other.needs.claims.iter().any(|(name, ephemeral)| !ephemeral && alone.contains(name.as_str()))
        };
        let in_use = !alone.is_empty() && snapshot.nodes().any(|node| node.pods.values().any(|other| uses(other)));
        Ok(Self { disks: &pod.needs.disks, in_use })
    }
}

impl Filter for VolumeRestrictions<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let mut others = node.pods.values().flat_map(|pod| &pod.needs.disks);
        if !self.disks.is_empty() && others.any(|other| self.disks.iter().any(|disk| disk.excludes(other))) {
            return Err(Rejection::resolvable(Plugin::VolumeRestrictions, "node(s) had no available disk"));
        }
        if self.in_use {
            let reason = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already \
                          in-use by another pod";
            return Err(Rejection::resolvable(Plugin::VolumeRestrictions, reason));
        }
        Ok(())
    }
}
