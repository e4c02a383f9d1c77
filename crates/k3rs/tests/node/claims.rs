//! Data that outlives its pods: a folder of the node that is claimed by name, and one that the scheduler finds for its pod.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::world::{NODE, World, gone, until};
use crate::{object, phase, pod};

const GROUP: u32 = 2000;

/// The UIDs of the pods that were.
pub(crate) async fn data_outlives_its_pods(world: &World, pods: &Api<Pod>, directory: &Path) -> Vec<String> {
    let (disk, folder) = (directory.join("disk"), directory.join("folder"));
    fs::create_dir(&disk).unwrap();
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(world.client.clone());
    let volumes: Api<PersistentVolume> = Api::all(world.client.clone());
    let class = json!({"metadata": {"name": "disks"}, "provisioner": "kubernetes.io/no-provisioner",
                       "volumeBindingMode": "WaitForFirstConsumer"});
    let classes: Api<StorageClass> = Api::all(world.client.clone());
    classes.create(&Default::default(), &object(class)).await.unwrap();
    let here = json!({"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}]}]}});
    let specs = [
        ("disk", "disks", json!({"local": {"path": disk}, "nodeAffinity": here})),
        ("folder", "", json!({"hostPath": {"path": folder}})),
    ];
    for (name, class, mut spec) in specs {
        spec["capacity"] = json!({"storage": "1Gi"});
        spec["accessModes"] = json!(["ReadWriteOnce"]);
        spec["storageClassName"] = json!(class);
        let volume = json!({"metadata": {"name": name}, "spec": spec});
        volumes.create(&Default::default(), &object(volume)).await.unwrap();
        let claim = json!({"metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": class}});
        claims.create(&Default::default(), &object(claim)).await.unwrap();
    }
    let is_bound = |claim: &PersistentVolumeClaim| claim_phase(claim) == "Bound";
    until(&claims, "folder", "bound", is_bound).await;
    until(&claims, "disk", "waiting for its pod", |claim| claim_phase(claim) == "Pending").await;

    let mut uids = vec![write(pods, "one", json!({}), "one; one").await];
    until(&claims, "disk", "bound", is_bound).await;
    assert_eq!(fs::read_to_string(disk.join("file")).unwrap(), "one");
    uids.push(write(pods, "two", json!({"fsGroup": GROUP}), "onetwo; onetwo").await);
    for (path, group) in [(&disk, GROUP), (&folder, 0)] {
        let file = path.join("file");
        assert_eq!(fs::read_to_string(&file).unwrap(), "onetwo");
        assert_eq!(fs::metadata(&file).unwrap().gid(), group, "what is not made for pods keeps its group");
    }
    for name in ["disk", "folder"] {
        claims.delete(name, &DeleteParams::default()).await.unwrap();
        let released =
            |it: &PersistentVolume| it.status.as_ref().is_some_and(|it| it.phase.as_deref() == Some("Released"));
        until(&volumes, name, "released", released).await;
        assert_eq!(fs::read_to_string(directory.join(name).join("file")).unwrap(), "onetwo");
    }
    uids
}

/// A pod that adds its name to a file of each volume, and is deleted when it has. It leaves what is in the files then.
async fn write(pods: &Api<Pod>, name: &str, security: Value, expected: &str) -> String {
    let mut writer = serde_json::to_value(pod(name, &["append", name, "/disk/file", "/folder/file"])).unwrap();
    let spec = &mut writer["spec"];
    spec.as_object_mut().unwrap().remove("nodeName");
    // The disk of the machine that tests run on may be near full.
    spec["tolerations"] = json!([{"operator": "Exists"}]);
    spec["securityContext"] = security;
    let claimed = |name: &str| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    spec["volumes"] = json!([claimed("disk"), claimed("folder")]);
    spec["containers"][0]["volumeMounts"] =
        json!([{"name": "disk", "mountPath": "/disk"}, {"name": "folder", "mountPath": "/folder"}]);
    pods.create(&Default::default(), &object(writer)).await.unwrap();
    let done = until(pods, name, "finished", |it| matches!(phase(it), "Succeeded" | "Failed")).await;
    let status = serde_json::to_value(&done.status).unwrap();
    let message = &status["containerStatuses"][0]["state"]["terminated"]["message"];
    assert_eq!((phase(&done), message), ("Succeeded", &json!(expected)), "{status}");
    let uid = done.metadata.uid.unwrap();
    pods.delete(name, &DeleteParams::default().grace_period(1)).await.unwrap();
    gone(pods, name, &uid).await;
    uid
}

fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|it| it.phase.as_deref()).unwrap_or_default()
}
