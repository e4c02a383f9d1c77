//! A volume: free, bound, or to be reclaimed because its claim is gone.

use api::object::ObjectKey;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, Pod};
use serde_json::{Value, json};

use super::super::{BOUND_BY_CONTROLLER, MIGRATED_TO, PROVISIONED_BY};
use super::{Plan, SeenVolume, Step, annotation, driver_for, matching, migration, name_of, named_by, phase_of};
use crate::common::pods;

/// Keeps a volume of an in-tree plugin until its storage is deleted (KEP-2644).
const OF_PLUGIN: &str = "kubernetes.io/pv-controller";
/// The same, of drivers.
const OF_DRIVER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
const HOST_PATH: &str = "kubernetes.io/host-path";
/// Where pods run that empty volumes, and what they are called before the volume's name.
const NAMESPACE: &str = "default";
const EMPTIER: &str = "recycler-for-";
/// What they run.
const IMAGE: &str = "registry.k8s.io/build-image/debian-base:bookworm-v1.0.6";
const EMPTY: &str = "test -e /scrub && find /scrub -mindepth 1 -delete && test -z \"$(ls -A /scrub)\" || exit 1";
/// For how many seconds at most: so many for each GiB, and no fewer than these, where the data is on the node or not.
const PER_GIB: i64 = 30;
const NEAR: i64 = 60;
const FAR: i64 = 300;

/// The pod that empties a volume.
pub(in super::super) fn emptier_of(volume: &str) -> ObjectKey {
    ObjectKey::new(NAMESPACE, format!("{EMPTIER}{volume}"))
}

/// The volume that a pod of this name empties.
pub(in super::super) fn emptied_by(pod: &ObjectKey) -> Option<&str> {
    pod.name.strip_prefix(EMPTIER).filter(|_| pod.namespace == NAMESPACE)
}

pub(in super::super) fn of_volume(seen: &SeenVolume) -> Plan {
    let volume = &seen.volume;
    let mut plan = Plan::default();
    keep_or_free(&mut plan, volume);
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if reference.is_none_or(|reference| reference.uid.as_deref().unwrap_or_default().is_empty()) {
        // Free, or kept for a claim that has not been bound to it.
        plan.phase(volume, "Available", "");
        return plan;
    }
    let Some(claim) = &seen.claim else {
        release(&mut plan, seen);
        return plan;
    };
    match named_by(claim) {
        "" if !matching::same_mode(volume, claim) => {
            let (volume, claim_name) = (name_of(&volume.metadata), name_of(&claim.metadata));
            plan.warn("VolumeMismatch", format!(
                "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{claim_name}\" due to incompatible volumeMode."
            ));
            let message = format!(
                "Cannot bind PersistentVolume \"{volume}\" to requested PersistentVolumeClaim due to incompatible volumeMode."
            );
            let claim = Box::new(claim.metadata.clone());
            plan.steps.push(Step::TellClaim { claim, reason: "VolumeMismatch", message });
        }
        // The claim's own run completes it.
        "" => {}
        name if name == name_of(&volume.metadata) => drop(plan.phase(volume, "Bound", "")),
        // The claim is bound to another. What was made for it alone goes; else it is free again.
        _ if annotation(&volume.metadata, PROVISIONED_BY).is_some() && policy(volume) == "Delete" => {
            release(&mut plan, seen);
        }
        _ => unbind(&mut plan, volume),
    }
    plan
}

/// Brings the finalizers and the driver's name in line with who deletes the volume's storage.
fn keep_or_free(plan: &mut Plan, volume: &PersistentVolume) {
    let Some(provisioner) = annotation(&volume.metadata, PROVISIONED_BY) else { return };
    let had = volume.metadata.finalizers.clone().unwrap_or_default();
    let mut finalizers = had.clone();
    if driver_for(provisioner).is_some() {
        finalizers.retain(|it| it != OF_PLUGIN);
    } else if provisioner.starts_with("kubernetes.io/") {
        let has = finalizers.iter().any(|it| it == OF_PLUGIN);
        match policy(volume) {
            "Delete" if !has => finalizers.push(OF_PLUGIN.to_owned()),
            "Retain" | "Recycle" => finalizers.retain(|it| it != OF_PLUGIN),
            _ => {}
        }
        finalizers.retain(|it| it != OF_DRIVER);
    }
    let mut metadata = json!({});
    if finalizers != had {
        metadata["finalizers"] = json!(finalizers);
    }
    if let Some(driver) = migration(&volume.metadata, Some(provisioner)) {
        metadata["annotations"] = json!({MIGRATED_TO: driver});
    }
    if metadata != json!({}) {
        let name = name_of(&volume.metadata).to_owned();
        plan.steps.push(Step::EditVolume { name, change: json!({"metadata": metadata}) });
    }
}

/// Its claim is gone: what becomes of it its policy says. A failure stays to be seen.
fn release(plan: &mut Plan, seen: &SeenVolume) {
    let volume = &seen.volume;
    if !matches!(phase_of(volume), "Released" | "Failed") {
        plan.phase(volume, "Released", "");
    }
    if annotation(&volume.metadata, MIGRATED_TO).is_some_and(|driver| !driver.is_empty()) {
        return;
    }
    match policy(volume) {
        "Retain" => {}
        "Recycle" => recycle(plan, seen),
        "Delete" => {
            if let Err(why) = deleter(volume) {
                plan.bad_phase(volume, "VolumeFailedDelete", &why);
            }
        }
        _ => {
            let message = "Volume has unrecognized PersistentVolumeReclaimPolicy";
            plan.bad_phase(volume, "VolumeUnknownReclaimPolicy", message);
        }
    }
}

/// Whether somebody outside deletes the storage, who watches for released volumes. This controller runs on one node and
/// deletes nothing: a folder's data may be another node's.
fn deleter(volume: &PersistentVolume) -> Result<(), String> {
    let name = name_of(&volume.metadata);
    let spec = volume.spec.clone().unwrap_or_default();
    match annotation(&volume.metadata, PROVISIONED_BY).filter(|by| !by.is_empty()) {
        Some(by) if !by.starts_with("kubernetes.io/") => return Ok(()),
        Some(HOST_PATH) | None => {}
        Some(by) => return Err(format!("no volume plugin matched name: {by}")),
    }
    match spec {
        PersistentVolumeSpec { csi: Some(_), .. } => Ok(()),
        PersistentVolumeSpec { host_path: Some(source), .. } if !source.path.contains("/tmp/") => {
            Err(format!("host_path deleter only supports /tmp/.+ but received provided {}", source.path))
        }
        _ => {
            Err(format!("error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched"))
        }
    }
}

/// Empties the volume with a pod and gives it free. Of what failed once the administrator has heard; it is not tried again
/// before the phase changes.
fn recycle(plan: &mut Plan, seen: &SeenVolume) {
    let volume = &seen.volume;
    if !seen.users.is_empty() && !seen.claim_known {
        return plan.tell("VolumeFailedRecycle", format!("Volume is used by pods: {}", seen.users.join(",")));
    }
    let Some(source) = recyclable(volume) else {
        return plan.bad_phase(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!");
    };
    let Some(pod) = &seen.emptier else {
        if phase_of(volume) != "Failed" {
            plan.steps.push(Step::CreatePod(emptier(volume, source)));
        }
        return;
    };
    let status = pod.status.clone().unwrap_or_default();
    match status.phase.as_deref() {
        _ if pod.metadata.deletion_timestamp.is_some() => return,
        // It is in the way; the next look finds it gone.
        _ if !seen.emptier_is_ours => {}
        Some("Succeeded") => {
            plan.tell("VolumeRecycled", "Volume recycled");
            unbind(plan, volume);
        }
        Some("Failed") => {
            let why = status.message.filter(|message| !message.is_empty());
            let why = why.unwrap_or_else(|| "pod failed, pod.Status.Message unknown".to_owned());
            let message = format!("Recycle failed: failed to recycle volume: {why}");
            plan.bad_phase(volume, "VolumeFailedRecycle", &message);
        }
        _ => return,
    }
    plan.steps.push(Step::DeletePod { key: key_of_pod(pod), uid: pods::uid(&pod.metadata).to_owned() });
}

fn key_of_pod(pod: &Pod) -> ObjectKey {
    ObjectKey::new(pods::namespace(&pod.metadata), name_of(&pod.metadata))
}

/// What a pod mounts to empty the volume.
fn recyclable(volume: &PersistentVolume) -> Option<Value> {
    let spec = volume.spec.clone()?;
    if let Some(source) = spec.host_path {
        return Some(json!({"hostPath": {"path": source.path}}));
    }
    let source = spec.nfs?;
    Some(json!({"nfs": {"server": source.server, "path": source.path}}))
}

fn emptier(volume: &PersistentVolume, source: Value) -> Value {
    let key = emptier_of(name_of(&volume.metadata));
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()).and_then(|list| list.get("storage"));
    let bytes = capacity.and_then(|text| text.0.parse::<api::quantity::Quantity>().ok()).map_or(0, |size| size.value());
    let shortest = if source["nfs"].is_null() { NEAR } else { FAR };
    let mut mounted = source;
    mounted["name"] = json!("vol");
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {
            "activeDeadlineSeconds": (bytes / (1 << 30) * PER_GIB).max(shortest),
            "restartPolicy": "Never",
            "volumes": [mounted],
            "containers": [{
                "name": "pv-recycler",
                "image": IMAGE,
                "command": ["/bin/sh"],
                "args": ["-c", EMPTY],
                "volumeMounts": [{"name": "vol", "mountPath": "/scrub"}],
            }],
        },
    })
}

/// Takes back a binding. One that its author made stays his wish.
fn unbind(plan: &mut Plan, volume: &PersistentVolume) {
    let change = match annotation(&volume.metadata, BOUND_BY_CONTROLLER) {
        Some(_) => json!({"metadata": {"annotations": {BOUND_BY_CONTROLLER: null}}, "spec": {"claimRef": null}}),
        None => json!({"spec": {"claimRef": {"uid": null}}}),
    };
    plan.steps.push(Step::EditVolume { name: name_of(&volume.metadata).to_owned(), change });
    plan.phase(volume, "Available", "");
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}
