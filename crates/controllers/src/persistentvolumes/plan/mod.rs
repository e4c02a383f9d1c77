//! What is to be done for a claim or a volume. Pure; the steps are in the order in which they are safe to be cut short.

mod claims;
pub(super) mod matching;
#[cfg(test)]
mod tests;
mod volumes;

use api::object::ObjectKey;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeStatus, Pod,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

pub(super) use claims::of_claim;
pub(super) use volumes::{emptied_by, emptier_of, of_volume};

/// A claim and what it may get.
#[derive(Debug, Default)]
pub(super) struct SeenClaim {
    pub(super) claim: PersistentVolumeClaim,
    /// Those that name the claim, the one that it names, and those of its class that nobody has.
    pub(super) volumes: Vec<PersistentVolume>,
    pub(super) classes: Vec<StorageClass>,
    /// The names of the pods that use it and have no node yet.
    pub(super) waiting: Vec<String>,
}

/// A volume and the claim that it names.
#[derive(Debug)]
pub(super) struct SeenVolume {
    pub(super) volume: PersistentVolume,
    /// The claim with the UID that the volume names; none where that is gone.
    pub(super) claim: Option<PersistentVolumeClaim>,
    /// There is a claim of the name, perhaps another.
    pub(super) claim_known: bool,
    /// The pods that use a claim of the name.
    pub(super) users: Vec<String>,
    /// The pod that empties the volume.
    pub(super) emptier: Option<Pod>,
    /// It is the one that was made for that.
    pub(super) emptier_is_ours: bool,
}

/// One write or word. Changes are merge patches of what is there when the step comes.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    EditVolume {
        name: String,
        change: Value,
    },
    VolumePhase {
        name: String,
        phase: &'static str,
        message: String,
    },
    EditClaim {
        key: ObjectKey,
        change: Value,
    },
    ClaimStatus {
        key: ObjectKey,
        status: Box<PersistentVolumeClaimStatus>,
    },
    /// An event about what the plan is for; a warning unless it is normal.
    Tell {
        normal: bool,
        reason: &'static str,
        message: String,
    },
    /// A warning about a volume's claim.
    TellClaim {
        claim: Box<ObjectMeta>,
        reason: &'static str,
        message: String,
    },
    CreatePod(Value),
    DeletePod {
        key: ObjectKey,
        uid: String,
    },
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// What is wrong, and is looked at again later.
    pub(super) failure: Option<String>,
}

impl Plan {
    fn warn(&mut self, reason: &'static str, message: impl Into<String>) {
        self.steps.push(Step::Tell { normal: false, reason, message: message.into() });
    }

    fn tell(&mut self, reason: &'static str, message: impl Into<String>) {
        self.steps.push(Step::Tell { normal: true, reason, message: message.into() });
    }

    /// Sets the phase of a volume, unless it has it.
    fn phase(&mut self, volume: &PersistentVolume, phase: &'static str, message: &str) -> bool {
        let new = phase_of(volume) != phase;
        if new {
            let (name, message) = (name_of(&volume.metadata).to_owned(), message.to_owned());
            self.steps.push(Step::VolumePhase { name, phase, message });
        }
        new
    }

    /// Sets a phase that is bad news, and tells it once.
    fn bad_phase(&mut self, volume: &PersistentVolume, reason: &'static str, message: &str) {
        if self.phase(volume, "Failed", message) {
            self.warn(reason, message);
        }
    }
}

/// The in-tree plugins that CSI drivers stand in for (KEP-625), with the drivers' names.
const MIGRATED: [(&str, &str); 7] = [
    ("kubernetes.io/aws-ebs", "ebs.csi.aws.com"),
    ("kubernetes.io/azure-disk", "disk.csi.azure.com"),
    ("kubernetes.io/azure-file", "file.csi.azure.com"),
    ("kubernetes.io/cinder", "cinder.csi.openstack.org"),
    ("kubernetes.io/gce-pd", "pd.csi.storage.gke.io"),
    ("kubernetes.io/portworx-volume", "pxd.portworx.com"),
    ("kubernetes.io/vsphere-volume", "csi.vsphere.vmware.com"),
];

/// The driver that stands in for a plugin.
fn driver_for(plugin: &str) -> Option<&'static str> {
    MIGRATED.iter().find(|(known, _)| *known == plugin).map(|(_, driver)| *driver)
}

/// What the annotation of the driver is to become where it is wrong: `Some(None)` takes it away.
fn migration(metadata: &ObjectMeta, provisioner: Option<&str>) -> Option<Option<&'static str>> {
    let wanted = driver_for(provisioner?);
    let has = annotation(metadata, super::MIGRATED_TO).filter(|driver| !driver.is_empty());
    (has != wanted).then_some(wanted)
}

fn annotation<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    crate::common::pods::annotation(metadata, name)
}

fn name_of(metadata: &ObjectMeta) -> &str {
    crate::common::pods::name(metadata)
}

fn phase_of(volume: &PersistentVolume) -> &str {
    let status: Option<&PersistentVolumeStatus> = volume.status.as_ref();
    status.and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn key_of(claim: &PersistentVolumeClaim) -> ObjectKey {
    let metadata = &claim.metadata;
    ObjectKey::new(crate::common::pods::namespace(metadata), name_of(metadata))
}

/// The volume that a claim names; empty while it names none.
fn named_by(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}
