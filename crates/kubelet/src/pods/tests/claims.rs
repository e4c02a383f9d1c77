//! Pods whose data outlives them.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use super::lives::container;
use crate::testing::TestNode;

#[tokio::test]
async fn a_pod_waits_for_its_claim_to_be_bound_and_gets_the_volume() {
    let node = TestNode::start().await;
    let data = node.dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let (claims, volumes) =
        (client::typed::resource_of::<PersistentVolumeClaim>(), client::typed::resource_of::<PersistentVolume>());
    let claim = |phase: &str, volume: &str| {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim",
               "metadata": {"namespace": "shop", "name": "data", "uid": "c1"},
               "spec": {"volumeName": volume}, "status": {"phase": phase}})
    };
    node.cluster.put(&claims, claim("Pending", ""));
    let mut mounting = container("c");
    mounting["volumeMounts"] = json!([{"name": "v", "mountPath": "/data"}]);
    let volume = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data", "readOnly": true}}]);
    node.create("web", json!({"containers": [mounting], "volumes": volume}));
    let told = "Warning FailedMount Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], \
                failed to process volumes=[v]: error processing PVC shop/data: PVC is not bound";
    node.until("told", |node| node.events().iter().any(|it| it == told)).await;
    let waiting = node.pod("web").unwrap()["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    assert_eq!(waiting["reason"], "ContainerCreating");

    node.cluster.put(
        &volumes,
        json!({"apiVersion": "v1", "kind": "PersistentVolume",
               "metadata": {"name": "pv", "annotations": {"pv.beta.kubernetes.io/gid": "1234"}},
               "spec": {"hostPath": {"path": data}, "claimRef": {"namespace": "shop", "name": "data", "uid": "c1"}}}),
    );
    node.cluster.put(&claims, claim("Bound", "pv"));
    node.advance(10);
    node.until_ready("web", true).await;
    let config = node.runtime.config("c").unwrap();
    let mount = config.mounts.iter().find(|mount| mount.container_path == "/data").unwrap();
    assert_eq!((mount.host_path.as_str(), mount.readonly), (&*data.to_string_lossy(), true));
    let groups = config.linux.unwrap().security_context.unwrap().supplemental_groups;
    assert_eq!(groups, [1234]);

    linux::files::write_atomic(&data.join("file"), b"kept", 0o644).unwrap();
    node.delete("web", 0);
    node.until("gone", |node| node.pod("web").is_none() && node.runtime.is_empty()).await;
    assert_eq!(std::fs::read_to_string(data.join("file")).unwrap(), "kept");
}
