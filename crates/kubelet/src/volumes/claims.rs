//! From a pod's claim to the volume that it is bound to. Both are read from the API server, and each must name the other:
//! a claim that is new under an old name must not get the old one's data.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, PodSpec, Volume};

use crate::pods::spec;

/// Kept on a claim while pods use it; one that is being deleted without it is as good as gone.
const PROTECTION: &str = "kubernetes.io/pvc-protection";

/// Where claims and volumes of the cluster come from, and what the node is.
pub(crate) trait Storage: Send + Sync {
    fn claim<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<PersistentVolumeClaim, String>>;

    fn volume<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<PersistentVolume, String>>;

    /// The labels of the node that the pods run on.
    fn node_labels(&self) -> BoxFuture<'_, Result<BTreeMap<String, String>, String>>;
}

/// A volume of the cluster, and how the pod asks for it.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) volume: PersistentVolume,
    pub(super) read_only: bool,
}

/// The names of the volumes that a pod's containers mount, and of those that they use as devices. Others are not made.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Used {
    mounts: BTreeSet<String>,
    devices: BTreeSet<String>,
}

impl Used {
    pub(crate) fn by(spec: &PodSpec) -> Self {
        let containers = spec::containers(spec);
        let mounts = containers.iter().flat_map(|(_, it)| it.volume_mounts.iter().flatten());
        let devices = containers.iter().flat_map(|(_, it)| it.volume_devices.iter().flatten());
        Self {
            mounts: mounts.map(|it| it.name.clone()).collect(),
            devices: devices.map(|it| it.name.clone()).collect(),
        }
    }

    pub(super) fn contains(&self, volume: &str) -> bool {
        self.mounts.contains(volume) || self.devices.contains(volume)
    }
}

/// The claim that a pod's volume names, or that is made for it.
pub(crate) fn claim_of(pod: &Pod, volume: &Volume) -> Option<String> {
    match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some(source.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name)),
        (None, None) => None,
    }
}

/// The volume of the cluster that a pod's volume stands for; `None` where it stands for itself.
pub(super) async fn resolve(
    storage: &dyn Storage,
    pod: &Pod,
    volume: &Volume,
    used: &Used,
) -> Result<Option<Claimed>, String> {
    let Some(name) = claim_of(pod, volume) else { return Ok(None) };
    let stated = volume.persistent_volume_claim.as_ref();
    let read_only = stated.is_some_and(|source| source.read_only == Some(true));
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let failed = |why: String| format!("error processing PVC {namespace}/{name}: {why}");
    let claim = bound_claim(storage, namespace, &name).await.map_err(failed)?;
    if stated.is_none() {
        made_for(pod, &claim)?;
    }
    let found = volume_of(storage, &claim).await.map_err(failed)?;
    check_mode(&found, &volume.name, used)?;
    Ok(Some(Claimed { volume: found, read_only }))
}

async fn bound_claim(storage: &dyn Storage, namespace: &str, name: &str) -> Result<PersistentVolumeClaim, String> {
    let read = storage.claim(namespace, name).await;
    let claim = read.map_err(|why| format!("failed to fetch PVC from API server: {why}"))?;
    let held = claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == PROTECTION);
    if claim.metadata.deletion_timestamp.is_some() && !held {
        return Err("PVC is being deleted".to_owned());
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        return Err("PVC is not bound".to_owned());
    }
    if volume_name(&claim).is_empty() {
        return Err("PVC has empty pvc.Spec.VolumeName".to_owned());
    }
    Ok(claim)
}

async fn volume_of(storage: &dyn Storage, claim: &PersistentVolumeClaim) -> Result<PersistentVolume, String> {
    let name = volume_name(claim);
    let read = storage.volume(name).await;
    let volume = read.map_err(|why| format!("failed to fetch PV {name} from API server: {why}"))?;
    let Some(reference) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else {
        return Err(format!(
            "found PV object {name} but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
        ));
    };
    let (named, uid) =
        (reference.uid.as_deref().unwrap_or_default(), claim.metadata.uid.as_deref().unwrap_or_default());
    if named != uid {
        return Err(format!(
            "found PV object {name} but its pv.Spec.ClaimRef.UID {named} does not point to claim.UID {uid}"
        ));
    }
    Ok(volume)
}

fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

/// A claim that happens to have the name of a pod's own is somebody else's data.
fn made_for(pod: &Pod, claim: &PersistentVolumeClaim) -> Result<(), String> {
    let owners = claim.metadata.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    if controllers.any(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref()) {
        return Ok(());
    }
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (claim, pod) = (&claim.metadata, &pod.metadata);
    Err(format!(
        "PVC {}/{} was not created for pod {}/{} (pod is not owner)",
        text(&claim.namespace),
        text(&claim.name),
        text(&pod.namespace),
        text(&pod.name)
    ))
}

fn check_mode(found: &PersistentVolume, name: &str, used: &Used) -> Result<(), String> {
    let mode = found.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()).unwrap_or("Filesystem");
    if used.mounts.contains(name) && mode != "Filesystem" {
        return Err(format!("volume {name} has volumeMode {mode}, but is specified in volumeMounts"));
    }
    if used.devices.contains(name) && mode != "Block" {
        return Err(format!("volume {name} has volumeMode {mode}, but is specified in volumeDevices"));
    }
    if mode != "Filesystem" {
        return Err(format!(
            "volume {name} is a block device, which this node cannot give to pods; use volumeMode Filesystem"
        ));
    }
    Ok(())
}
